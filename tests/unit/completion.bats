#!/usr/bin/env bats
# hpc/completion.bash, called as readline calls it.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup() {
  cd -- "$BATS_TEST_TMPDIR" || return
  source "$checkout/hpc/completion.bash"
}

# complete_last WORD...   The answers for the last WORD, one a line.
complete_last() {
  COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
  local -r registered=$(complete -p -- "${1##*/}")
  [[ $registered =~ -F\ ([^ ]+) ]]
  "${BASH_REMATCH[1]}" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
  printf '%s\n' "${COMPREPLY[@]}"
}

@test "every spelling of the table is offered, and nothing else" {
  use_libraries common checks options option_table
  option_table::define
  diff <(printf '%s\n' "${!options_owner[@]}" | LC_ALL=C sort) <(complete_last job_submitter.sh '')
  diff <(printf '%s\n' "${!options_owner[@]}" | LC_ALL=C sort) <(complete_last bash hpc/job_submitter.sh '')
}

@test "a beginning is completed" {
  [[ $(complete_last bash "$checkout/hpc/job_submitter.sh" --gpus 2 --wan) == --wandb-sweepid ]]
  [[ $(complete_last job_submitter.sh --mem) == --mem$'\n'--mem-per-gpu ]]
  [[ $(complete_last job_submitter.sh --no-snapshot --dry) == --dry-run ]]
  [[ -z $(complete_last job_submitter.sh --nonsense) ]]
}

@test "choices are offered as values, in each form of an option" {
  [[ $(complete_last job_submitter.sh -W l) == lightning ]]
  [[ $(complete_last bash job_submitter.sh --job-type '') == standard$'\n'distributed$'\n'sweep ]]
  [[ $(complete_last job_submitter.sh --which-distributed =) == torchrun$'\n'lightning$'\n'srun$'\n'node$'\n'script ]]
  [[ $(complete_last job_submitter.sh --which-distributed = s) == srun$'\n'script ]]
}

@test "files are offered for paths, and for all values of a list" {
  touch -- 'my configs.txt' mydata other
  [[ $(complete_last job_submitter.sh --configs my | sort) == 'my configs.txt'$'\n'mydata ]]
  [[ $(complete_last job_submitter.sh --data other my | sort) == 'my configs.txt'$'\n'mydata ]]
  [[ $(complete_last job_submitter.sh --configs = oth) == other ]]
}

@test "numbers and names are left to the user" {
  touch -- 5file
  [[ -z $(complete_last job_submitter.sh --gpus '') ]]
  [[ -z $(complete_last job_submitter.sh --time 5) ]]
  [[ $(complete_last job_submitter.sh --gpus 2 '' | head -n 1) == --account ]]
}

@test "experiments.sh: its commands, their options, jobs and names of the newest runs" {
  local -r kit=$checkout/hpc/experiments.sh
  export SCRATCH=$BATS_TEST_TMPDIR/scratch
  local run
  for run in ablation_20260101-000001_1 'two words_20260101-000002_1' digits_20260102-000001_1; do
    mkdir -p -- "$SCRATCH/${checkout##*/}/hpc_outputs/$run"
  done
  printf '1234\n1235\n' >"$SCRATCH/${checkout##*/}/hpc_outputs/digits_20260102-000001_1/job_id"
  [[ $(complete_last bash "$kit" '' | sort | tr '\n' ' ') == 'cancel list logs nodes open report resubmit stop why ' ]]
  [[ $(complete_last experiments.sh wh) == why ]]
  [[ $(complete_last bash "$kit" logs --r) == --rank ]]
  [[ $(complete_last bash "$kit" resubmit --) == --mem$'\n'--time ]]
  [[ $(complete_last bash "$kit" --st) == --state ]]
  [[ $(complete_last bash "$kit" why 123) == 1234$'\n'1235 ]]
  [[ $(complete_last bash "$kit" cancel 1234 a) == ablation ]]
  [[ $(complete_last bash "$kit" stop '' | sort | tr '\n' ' ') == '1234 1235 ablation digits ' ]]
  [[ -z $(complete_last bash "$kit" nodes '') ]]
  SCRATCH='' run complete_last bash "$kit" why ''
  [[ -z $output ]]
}

@test "other scripts of bash's are left alone" {
  [[ -z $(complete_last bash other.sh --g) && -z $(complete_last bash job_sub) && -z $(complete_last bash '') ]]
  [[ $(complete -p bash) == *'-o bashdefault'*'-o default'* ]]
}

@test "the table is that of the submitter on the command line" {
  make_project
  sed -i "s/options::add gpus .*/options::add gpus count 1 '--accelerators' 'x'/" "$project/hpc/job_submitter/option_table.sh"
  [[ $(complete_last bash "$project/hpc/job_submitter.sh" --acce) == --accelerators ]]
  [[ -z $(complete_last bash "$checkout/hpc/job_submitter.sh" --acce) ]]
}

@test "nothing of the kit stays in the interactive shell" {
  run env -i PATH="$PATH" bash --norc -c 'source "$1"; COMP_WORDS=(job_submitter.sh --g) COMP_CWORD=1; hpc_completion::complete
    compgen -A function; compgen -v options_' completion "$checkout/hpc/completion.bash"
  [[ $output == $'hpc_completion::complete\nhpc_completion::experiments\nhpc_completion::option_of_value\nhpc_completion::runs\nhpc_completion::table' ]]
}
