#!/usr/bin/env bash
# tests/benchmarks/run.sh [--rounds N] [--base FOLDER] [--against COMMIT] [NAME]...
#
# Measures the kit beside its peers on its own pocket cluster and prints a table for each benchmark: the median and the spread of each
# command, and its ratio to a peer. Each round runs every command once, so that other load on the machine affects all of them; a ratio is
# the median of the ratios of the rounds. Run by people. It needs what the pocket cluster needs, and the network once, for submitit.
#
# --against COMMIT also runs each command of the kit as it was at COMMIT, in turn with today's, and prints the ratios: today's time divided
# by the other's in the same round. A row that the other build cannot do is omitted with a message. (controller measures only today's kit.
# Of those that need no cluster, data, cifar, step and interruptions print COMMIT's own table below today's.)
#
#   submission   wall time of job_submitter.sh, of submitit and of plain sbatch, for the same job (20 rounds)
#   startup      from the start of the batch script to the program's first line, 2 nodes with 2 ranks each:
#                the kit, and a batch script as people write it (7 rounds)
#   here         from the command to the program's first line: through the empty queue, and in an allocation of salloc (7 rounds)
#   containers   the same in a container and in the virtual environment (10 rounds); needs root, or Apptainer
#   staging      data to the nodes' own disks: packing, and staging on 1, 2 and 4 nodes (3 rounds; about
#                15 minutes and 25 GB of disk): staging.sh
#   interruptions  the cost of a checkpoint and of the check at each step for a training (3 rounds; needs no cluster)
#   arrays       1,000 tasks with MaxArraySize 100: repeats, points of a sweep, --only-missing (10 rounds)
#   report       a report of 100,000 lines of metrics, as text and as a page; the sampler of a node (5 rounds; needs no cluster)
#   experiments  the table of 2,000 experiments (10 rounds)
#   files        what 100 ended runs leave on disk; nothing is timed
#   data         samples per second of train/data, beside readers like torchvision's (3 rounds; needs no cluster)
#   cifar        an epoch of CIFAR-10 with batches of 4: the kit, and PyTorch's tutorial (5 rounds; needs no cluster)
#   step         a step of the kit's loop beside a bare DDP loop's, 2 ranks (7 rounds; needs no cluster)
#   recovery     from a notice to the exit, and from there to the next step; steps lost (5 rounds, 4 minutes). With --base FOLDER,
#                another build of the kit: from the second start of a training to its first step, by both
#   controller   requests of a job of 40 s (with --rounds, of 3 minutes too) to the controller: the kit, and sbatch with squeue
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
checkout=${here%/tests/benchmarks}
source "$checkout/hpc/lib/common.sh"
source "$checkout/hpc/lib/help.sh"
source "$here/against.bash"
source "$here/arrays.bash"
source "$here/containers.bash"
source "$here/controller.bash"
source "$here/experiments.bash"
source "$here/files.bash"
source "$here/here.bash"
source "$here/interruptions.bash"
source "$here/recovery.bash"
source "$here/report.bash"
source "$here/staging.sh"
source "$here/training.bash"

rounds='' base='' against='' other='' # other: the folder of the build of COMMIT
on_a_cluster=(submission startup here containers staging recovery controller arrays experiments files)
without=(interruptions report data cifar step)
work=$(mktemp -d)
results=$work/results # lines of NAME SECONDS, the rounds one after the other
project=$work/project

main() {
  local -a benchmarks=()
  local benchmark
  help::answer "$checkout" "$here/run.sh" "$@"
  while (($# > 0)); do
    case $1 in
      --rounds)
        [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || common::die_usage "--rounds needs a whole number"
        rounds=$2
        shift
        ;;
      --base)
        [[ -d ${2:-}/hpc ]] || common::die_usage "--base needs a folder with a build of the kit"
        base=$2
        shift
        ;;
      --against)
        against=$(git -C "$checkout" rev-parse --verify --quiet --short "${2:-}^{commit}") || common::die_usage "--against needs a commit of this repository"
        shift
        ;;
      *)
        [[ " ${on_a_cluster[*]} ${without[*]} " == *" $1 "* ]] ||
          common::die_usage "unknown benchmark ${1@Q}: ${on_a_cluster[*]} ${without[*]}"
        benchmarks+=("$1")
        ;;
    esac
    shift
  done
  if ((${#benchmarks[@]} == 0)); then benchmarks=("${on_a_cluster[@]}" "${without[@]}"); fi
  if [[ -n $against ]]; then against::prepare; fi

  for benchmark in "${benchmarks[@]}"; do
    if [[ " ${on_a_cluster[*]} " == *" $benchmark "* && ! -d $project ]]; then bench::prepare; fi
    : >"$results"
    "bench::$benchmark"
  done
}

bench::prepare() {
  bash "$checkout/venv/create.sh" cpu >/dev/null
  export POCKET_CLUSTER_DIR=$work/pocket
  bash "$checkout/hpc/pocket_cluster.sh" up
  # shellcheck source=/dev/null
  source <(bash "$checkout/hpc/pocket_cluster.sh" env)
  mkdir -- "$project"
  cp -R -- "$checkout"/{hpc,venv,train} "$project/"
  ln -s -- "$checkout/.venv" "$project/.venv"
}

bench::submission() {
  local -r peers=$checkout/.venv/benchmarks-submitit-1.5.4
  local -r kit=(bash "$project/hpc/job_submitter.sh" --num-nodes 2 --gpus 2 --begin now+1hour)
  local round build
  if [[ ! -x $peers/bin/python ]]; then
    python3 -m venv "$peers.partial"
    "$peers.partial/bin/python" -m pip install --quiet --disable-pip-version-check submitit==1.5.4
    mv -T -- "$peers.partial" "$peers" # its python still finds its packages: it looks for them beside itself
  fi
  for build in "$project" ${other:+"$other"}; do
    bench::make_project_of 1000 "$build"
    echo 'python -m train' >"$build/experiment_configurations.txt"
    git -C "$build" add .
    git -C "$build" -c user.name=benchmark -c user.email='' commit --quiet --message=benchmark
  done

  for ((round = 0; round < ${rounds:-20}; round++)); do
    bench::time sbatch sbatch --parsable --nodes=2 --ntasks-per-node=1 --cpus-per-task=4 --mem=20480M \
      --gpus-per-node=2 --time=60 --begin=now+1hour --output=/dev/null "$here/handwritten.sh"
    bench::time kit "${kit[@]}" --no-snapshot --no-preflight
    bench::time submitit "$peers/bin/python" "$here/submit_with_submitit.py" "$work/submitit"
    printf 'submitit_call %s\n' "$(<"$work/output")" >>"$results"
    for build in "$project" ${other:+"$other"}; do echo "# round $round" >>"$build/files/1/1.py"; done
    bench::time kit_first_snapshot "${kit[@]}"
    bench::time kit_same_snapshot "${kit[@]}"
    scancel --user="$(id -un)"
  done
  python3 "$here/table.py" 'submission (milliseconds)' 1000 submitit "$results" \
    'sbatch=bare sbatch of a script' \
    'kit=job_submitter.sh --no-snapshot --no-preflight' \
    'kit_first_snapshot=job_submitter.sh, new snapshot of 1,000 files' \
    'kit_same_snapshot=job_submitter.sh, unchanged sources' \
    'submitit=submitit 1.5.4, a Python process: import and submit' \
    'submitit_call=submitit 1.5.4, submit() alone, imported before'
}

# bench::make_project_of N PROJECT   Makes a repository of N files of 4 kB in folders of 50; the kit's own files are among them.
bench::make_project_of() {
  local -i i have
  git -C "$2" init --quiet
  printf '/.venv\n' >"$2/.gitignore"
  have=$(find "$2" \( -name .git -o -name .venv \) -prune -o -type f -print | wc -l)
  for ((i = have; i < $1 - 1; i++)); do # one more is the configuration file
    mkdir -p -- "$2/files/$((i / 50))"
    printf '# %4093d\n' "$i" >"$2/files/$((i / 50))/$i.py"
  done
  mkdir -p -- "$2/files/1"
  touch -- "$2/files/1/1.py"
}

# bench::time NAME COMMAND...   With --against, also times the other build's command, as NAME@other.
bench::time() {
  if [[ -n $other ]]; then against::time "$@"; else bench::time_one "$@"; fi
}

# bench::time_one NAME COMMAND...   Status 1, with a message, when the other build's command fails.
bench::time_one() {
  local -r name=$1
  local begun ended
  shift
  begun=${EPOCHREALTIME/[.,]/}
  if ! "$@" >"$work/output" 2>"$work/error"; then
    [[ $name == *@other ]] || bench::die_of "$*"
    common::note "$against cannot do this: $(tail -n 1 -- "$work/error")"
    return 1
  fi
  ended=${EPOCHREALTIME/[.,]/}
  printf '%s %d.%06d\n' "$name" $(((ended - begun) / 1000000)) $(((ended - begun) % 1000000)) >>"$results"
}

bench::die_of() {
  cat -- "$work/error" >&2
  common::die "this failed: $1"
}

bench::startup() {
  local -r run=$work/handwritten
  local round log job environment build name
  environment=$(bash "$checkout/venv/create.sh" cpu)
  for build in "$project" ${other:+"$other"}; do
    cp -- "$here/first_line.py" "$build/"
    echo 'python first_line.py' >"$build/experiment_configurations.txt"
  done
  mkdir -- "$run"
  for ((round = 0; round < ${rounds:-7}; round++)); do
    for build in "$project" ${other:+"$other"}; do
      name=kit
      if [[ $build == "$other" ]]; then name=kit@other; fi
      job=$(bash "$build/hpc/job_submitter.sh" --num-nodes 2 --gpus 2 --time 10 --mem-per-gpu 2G 2>"$work/error") ||
        bench::die_of job_submitter.sh
      log=$(scontrol --oneliner show job "$job" | sed -E 's/.* StdOut=([^ ]+).*/\1/')
      bench::read_start "$name" "$job" "$log"
    done

    log=$run/$round.txt
    job=$(sbatch --parsable --nodes=2 --ntasks-per-node=1 --cpus-per-task=4 --mem=4096M --gpus-per-node=2 --time=10 \
      --chdir="$project" --output="$log" "$here/handwritten.sh" "$environment" first_line.py)
    bench::read_start handwritten "$job" "$log"
  done
  python3 "$here/table.py" 'start-up (seconds)' 1 handwritten "$results" \
    'kit=the kit: snapshot, rendezvous, torchrun' \
    'handwritten=srun torchrun, as in handwritten.sh'
}

# bench::read_start NAME JOB LOG   The batch script starts when Slurm makes its log; rank 0 prints the time.
bench::read_start() {
  local -r name=$1 job=$2 log=$3
  local begun first
  until [[ $(scontrol --oneliner show job "$job") =~ JobState=(COMPLETED|FAILED|CANCELLED|TIMEOUT|OUT_OF_MEMORY) ]]; do sleep 0.3; done
  first=$(sed -n 's/^FIRST LINE //p' "$log") begun=$(stat --format=%.6W -- "$log")
  [[ -n $first && $begun != 0* ]] || {
    cat -- "$log" >&2
    common::die "job $job has not told its times (is there a file system that keeps times of birth?)"
  }
  printf '%s %s\n' "$name" "$(awk "BEGIN { print $first - $begun }")" >>"$results"
}

bench::interruptions() {
  local environment
  environment=$(bash "$checkout/venv/create.sh" cpu)
  against::each "$environment/bin/python" "$here/interruptions.py" --rounds "${rounds:-3}" --folder "$work"
}

bench::data() {
  local -r pillow=$checkout/.venv/benchmarks-pillow
  local environment
  environment=$(bash "$checkout/venv/create.sh" cpu)
  if [[ ! -d $pillow ]]; then
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$pillow.partial" pillow
    mv -T -- "$pillow.partial" "$pillow"
  fi
  PYTHONPATH=$pillow against::each "$environment/bin/python" "$here/data.py" --rounds "${rounds:-3}" --folder "$work"
}

bench::leave() {
  trap '' INT TERM
  if [[ -n ${POCKET_CLUSTER_DIR:-} ]]; then bash "$checkout/hpc/pocket_cluster.sh" down; fi
  rm -rf -- "$work"
}

trap bench::leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
main "$@"
