#!/usr/bin/env bats
# hpc/quickstart.sh when something is missing.

source "$BATS_TEST_DIRNAME/../helpers.bash"

# A project whose environment takes seconds: it requires no packages, so the digits cannot be prepared.
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

@test "pip that cannot install: a message of one line, and no files stay" {
  quickstart
  [[ -z $output && ${stderr_lines[-1]} == 'quickstart.sh: error: pip could not install scikit-learn, which has the digits: ERROR: No matching'* ]]
  [[ $stderr != *unbound* && -z $(find "$TMPDIR" "$SCRATCH" -mindepth 1) ]]
}

@test "requirements that cannot be met: the last line says that there is no environment, and no files stay" {
  printf './no-such-package\n' >"$project/requirements.txt"
  quickstart
  [[ -z $output && $stderr == *no-such-package* ]]
  [[ ${stderr_lines[-1]} == 'create.sh: error: the environment was not made, for the reason above' ]]
  [[ -z $(find "$project/.venv" "$TMPDIR" "$SCRATCH" -mindepth 1 ! -name '*.lock') ]]
}
