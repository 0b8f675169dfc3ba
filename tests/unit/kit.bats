#!/usr/bin/env bats
# A run keeps the version of the kit that submitted it (hpc/job_submitter/kit.sh).

source "$BATS_TEST_DIRNAME/../helpers.bash"

declare -gA fact+=() # the libraries read it

setup() {
  make_project
  stub_slurm
  export SCRATCH=$BATS_TEST_TMPDIR/scratch
  mkdir -p -- "$SCRATCH" "$project/environment/bin"
  printf '#!/bin/sh\n' >"$project/environment/bin/python"
  chmod +x -- "$project/environment/bin/python"
  cd -- "$project" || return
}

# sent OPTION...   Submits a job; sets run_directory.
sent() {
  local -a runs
  submitter --no-snapshot --environment environment "$@" >/dev/null 2>&1
  mapfile -t runs < <(ls -td -- "$SCRATCH"/*/hpc_outputs/*/)
  run_directory=${runs[0]%/}
}

@test "equal versions are stored once, another version beside them, and a run keeps its own" {
  local first second third
  sent --exp-name one
  first=$(readlink -- "$run_directory/kit")
  [[ $(tr '\0' '\n' <"$run_directory/sbatch_argv" | tail -n 2) == "$run_directory/kit/hpc/job/batch.sh"$'\n'"$run_directory" ]]
  for file in hpc/job/batch.sh hpc/job/lib/restart.sh hpc/lib/common.sh hpc/clusters/default.sh venv/run.sh singularity/run.sh; do
    cmp -- "$project/$file" "$run_directory/kit/$file"
  done
  [[ -x $run_directory/kit/hpc/job/shims/python && ! -e $run_directory/kit/hpc/job_submitter ]]
  sent --exp-name two
  second=$(readlink -- "$run_directory/kit")
  [[ $first == "$second" ]]
  echo '# an upgrade' >>hpc/job/batch.sh
  sent --exp-name three
  third=$(readlink -- "$run_directory/kit")
  [[ $third != "$first" && $(tail -n 1 -- "$run_directory/kit/hpc/job/batch.sh") == '# an upgrade' ]]
  [[ $(grep -c 'an upgrade' -- "${run_directory%/*}"/"${first#../}"/hpc/job/batch.sh) == 0 ]]
  (($(find "$SCRATCH"/*/hpc_outputs/.kits -mindepth 1 -maxdepth 1 -type d | wc -l) == 2))
}

@test "a user's own profile is copied with the run, unchanged" {
  local -r profiles=$XDG_CONFIG_HOME/hpc_kit/clusters
  mkdir -p -- "$profiles"
  printf 'site[scratch]=\nnode_setup() { export MINE=1; }\n' >"$profiles/mine.sh"
  sent --cluster mine
  echo 'site[modules]=changed' >>"$profiles/mine.sh"
  grep -q 'MINE=1' -- "$run_directory/profile.sh"
  [[ $(grep -c changed -- "$run_directory/profile.sh") == 0 ]]
  rm -r -- "$profiles"
  (
    use_libraries common site node_setup
    declare -A fact=([site]=mine [modules]='')
    unset MINE
    node_setup::run "$run_directory/kit/hpc" "$run_directory"
    [[ $MINE == 1 ]]
  )
  # Administrators' profiles may be on login nodes only.
  export XDG_CONFIG_DIRS=$BATS_TEST_TMPDIR/etc
  mkdir -p -- "$XDG_CONFIG_DIRS/hpc_kit/clusters"
  printf 'site[scratch]=\nnode_setup() { export THEIRS=1; }\n' >"$XDG_CONFIG_DIRS/hpc_kit/clusters/ours.sh"
  sent --cluster ours
  grep -q 'THEIRS=1' -- "$run_directory/profile.sh"
  # A profile of this name that the user makes later does not affect a run that uses the kit's profile.
  sent --cluster default
  [[ ! -e $run_directory/profile.sh ]]
}
