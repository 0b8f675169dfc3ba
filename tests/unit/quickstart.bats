#!/usr/bin/env bats
# hpc/quickstart.sh where something is missing.

source "$BATS_TEST_DIRNAME/../helpers.bash"

# A project whose environment is made in seconds: it requires nothing, and so cannot prepare the digits.
setup() {
  make_project
  rm -- "$project/.venv"
  printf '# nothing\n' >"$project/requirements.txt"
  stub_slurm
  export SCRATCH=$BATS_TEST_TMPDIR/scratch TMPDIR=$BATS_TEST_TMPDIR/tmp PIP_NO_INDEX=1
  mkdir -- "$SCRATCH" "$TMPDIR"
}

quickstart() {
  run -1 --separate-stderr bash "$project/hpc/quickstart.sh"
}

@test "pip that cannot install: one line says so, and nothing stays" {
  quickstart
  [[ -z $output && ${stderr_lines[-1]} == 'quickstart.sh: error: pip could not install scikit-learn, which has the digits: ERROR: No matching'* ]]
  [[ $stderr != *unbound* && -z $(find "$TMPDIR" "$SCRATCH" -mindepth 1) ]]
}

@test "requirements that cannot be met: the last line says that there is no environment, and nothing stays" {
  printf './no-such-package\n' >"$project/requirements.txt"
  quickstart
  [[ -z $output && $stderr == *no-such-package* ]]
  [[ ${stderr_lines[-1]} == 'create.sh: error: the environment was not made, for the reason above' ]]
  [[ -z $(find "$project/.venv" "$TMPDIR" "$SCRATCH" -mindepth 1 ! -name '*.lock') ]]
}
