#!/usr/bin/env bats
# tests/device/run.sh on a CPU, and its messages where it cannot run.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup() {
  export OUT=$BATS_TEST_TMPDIR/out TMPDIR=$BATS_TEST_TMPDIR/tmp
  mkdir -- "$TMPDIR"
  unset PYTHON
}

device() {
  run "$@" --separate-stderr bash "$BATS_TEST_DIRNAME/../device/run.sh" "${arguments[@]}"
}

@test "on a CPU: DDP and checkpoints pass, checks that need a GPU are skipped and counted, the table is written" {
  arguments=(--device cpu --small --seconds 9999 --only 'nccl,ddp,checkpoint') # the machine may be busy
  device -0
  [[ ${lines[-1]} == '13 passed, 0 failed, 1 skipped' ]]
  [[ $output == *'| nccl | NCCL, one rank | skipped | NCCL needs a GPU |'* ]]
  [[ $(<"$OUT/device.md") == *'| checkpoint | fsdp, one rank in a group, killed: resumed, the bits of a run in one piece | ok | resumed at step '* ]]
  [[ -z $(find "$TMPDIR" -mindepth 1) ]]
}

@test "without a compiler: the loop is measured uncompiled, checks that need one are skipped" {
  arguments=(--device cpu --small --seconds 9999 --only 'resnet,compile')
  PATH=$(path_without g++ c++ clang++) device -0
  [[ ${lines[-1]} == '1 passed, 0 failed, 3 skipped' ]]
  [[ $output == *'| compile | compiled: python -m train --compile | skipped | torch.compile needs a compiler: none of g++, c++, clang++ is here |'* ]]
}

@test "a check that takes too long is killed and fails; the checks after it fail, too (with a stub of Python that sleeps)" {
  cat >"$BATS_TEST_TMPDIR/python" <<'STUB'
#!/bin/sh
case "$*" in
  *probe*) echo 'a stub' ;;
  -I*) exit 0 ;;
  *) exec sleep 60 ;;
esac
STUB
  chmod +x -- "$BATS_TEST_TMPDIR/python"
  arguments=(--seconds 8 --only 'nccl,usage')
  PYTHON=$BATS_TEST_TMPDIR/python device -1
  [[ ${lines[-1]} == '0 passed, 2 failed, 0 skipped' ]]
  [[ $output == *'failed: nccl: in time: ended after '[1-8]' s'*'failed: usage: not run: the 8 s of all checks are over'* ]]
  [[ -z $(find "$TMPDIR" -mindepth 1) ]]
}

@test "no suitable Python: the message says what each lacks; an unknown name is refused" {
  mkdir -- "$BATS_TEST_TMPDIR/bare"
  python3 -m venv --without-pip "$BATS_TEST_TMPDIR/bare"
  arguments=(--device cpu)
  PYTHON=$BATS_TEST_TMPDIR/bare/bin/python device -1
  [[ $stderr == *"no Python here can run the checks on the device 'cpu'"*'bare/bin/python'*'has no torch and no numpy' ]]
  arguments=(--only 'ddp,nothing')
  device -2
  [[ $stderr == *"no check 'nothing': they are channels_last checkpoint compile ddp fsdp interruption nccl resnet usage" ]]
}
