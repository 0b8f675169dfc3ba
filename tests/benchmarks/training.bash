# shellcheck shell=bash disable=SC2154 # run.sh sets work, rounds, checkout and here
# The benchmarks `cifar` and `step` of run.sh. They need no cluster.

bench::cifar() {
  local python
  python=$(bash "$checkout/venv/create.sh" cpu)/bin/python
  mkdir -- "$work/cifar"
  against::each "$python" "$here/cifar.py" --rounds "${rounds:-5}" --folder "$work/cifar"
}

bench::step() {
  local python
  python=$(bash "$checkout/venv/create.sh" cpu)/bin/python
  against::each "$python" -m torch.distributed.run --standalone --nproc-per-node=2 "$here/step.py" --rounds "${rounds:-7}" \
    --folder "$work/step"
}
