#!/usr/bin/env bats
# The arguments that sbatch gets for each form of a request: tests/golden/sbatch_argv.txt. To change it, add `$ OPTIONS` lines there or
# change the kit, write it again and review the difference:
#   UPDATE_GOLDEN=1 bats tests/unit/golden.bats && git diff tests/golden

source "$BATS_TEST_DIRNAME/../helpers.bash"

declare -gA options_names options_kind # of options.sh
source "$BATS_TEST_DIRNAME/../golden.bash"

setup() {
  export SCRATCH=$BATS_TEST_TMPDIR/scratch HPC_CLUSTER=default LC_ALL=C.UTF-8
  golden::project
  cd -- "$project" || return
  # This Slurm does not answer, so that no request is compared with a cluster.
  mkdir -- "$BATS_TEST_TMPDIR/bin"
  printf '#!/bin/sh\n: >>"%s"\nexit 1\n' "$BATS_TEST_TMPDIR/sbatch was called" >"$BATS_TEST_TMPDIR/bin/sbatch"
  printf '#!/bin/sh\nexit 1\n' >"$BATS_TEST_TMPDIR/bin/scontrol"
  chmod +x -- "$BATS_TEST_TMPDIR"/bin/*
  PATH=$BATS_TEST_TMPDIR/bin:$PATH
}

# argv OPTIONS   Prints the arguments that a dry run would give to sbatch.
argv() {
  local -a options words
  local line
  golden::words options "$1"
  line=$(env "${golden_settings[@]}" bash "$project/hpc/job_submitter.sh" --dry-run "${options[@]}" 2>"$BATS_TEST_TMPDIR/messages") || {
    printf '%s: %s\n' "$1" "$(<"$BATS_TEST_TMPDIR/messages")" >&2
    return 1
  }
  mapfile -d '' words < <(xargs printf '%s\0' <<<"$line")
  golden::shown "${words[@]}"
}

@test "every request gives the arguments of the golden table" {
  local -r now=$BATS_TEST_TMPDIR/now.txt
  local options
  golden::read
  sed '/^\(\$\|$\)/,$d' "$golden_file" >"$now"
  for options in "${golden_options[@]}"; do
    printf '\n$%s\n' "${options:+ $options}"
    argv "$options"
  done >>"$now"
  if [[ -n ${UPDATE_GOLDEN:-} ]]; then cp -- "$now" "$golden_file"; fi
  diff --unified "$golden_file" "$now"
  [[ ! -e "$BATS_TEST_TMPDIR/sbatch was called" ]]
}

@test "the table has at least 60 requests, none twice, and each option in each spelling and form" {
  use_libraries common checks options option_table
  option_table::define
  golden::read
  ((${#golden_options[@]} >= 60))
  [[ -z $(printf '%s\n' "${golden_options[@]}" | sort | uniq --repeated) ]]

  # These options submit no job, print a job or its id, submit two jobs, need a sweep's file, pack a gigabyte (staging.bats), run in an
  # allocation (here.bats) or belong to SkyPilot (sky.bats).
  local -r without=' help version json dry_run confirm follow here pack_in_job pack_partition pack_time rapid_cycle cycle_partition stage_venv sweep_config backend on_demand disk_size infra secret '
  local name spelling all
  printf -v all ' %s \n' "${golden_options[@]}"
  for name in "${!options_names[@]}"; do
    if [[ $without == *" $name "* ]]; then continue; fi
    for spelling in ${options_names[$name]}; do
      if [[ ${options_kind[$name]} == flag ]]; then
        [[ $all == *" $spelling "* ]]
      elif [[ $spelling == --* ]]; then
        [[ $all == *" $spelling="* ]]
        [[ $name == sbatch_arg || $all == *" $spelling "* ]]
      else
        [[ $all == *" $spelling "* ]]
        [[ $all =~ \ "$spelling"[^\ ] ]]
      fi || { echo "no request has $spelling in all its forms" && return 1; }
    done
  done
}
