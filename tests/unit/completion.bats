#!/usr/bin/env bats
# hpc/completion.bash, called as readline calls it; completion.zsh and completion.fish in their own shells.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup() {
  cd -- "$BATS_TEST_TMPDIR" || return
  source "$checkout/hpc/completion.bash"
}

# complete_last WORD...   Prints the completions of the last WORD, one a line.
complete_last() {
  COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
  local -r registered=$(complete -p -- "${1##*/}")
  [[ $registered =~ -F\ ([^ ]+) ]]
  "${BASH_REMATCH[1]}" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
  printf '%s\n' "${COMPREPLY[@]}"
}

@test "it offers every spelling of the option table, and nothing else" {
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
  [[ $(complete_last job_submitter.sh --help S) == Slurm$'\n'Sweeps && $(complete_last job_submitter.sh -h a) == all ]]
  [[ $(complete_last bash job_submitter.sh --job-type '') == distributed$'\n'standard$'\n'sweep ]]
  [[ $(complete_last job_submitter.sh --which-distributed =) == lightning$'\n'node$'\n'script$'\n'srun$'\n'torchrun ]]
  [[ $(complete_last job_submitter.sh --which-distributed = s) == script$'\n'srun ]]
}

@test "files are offered for paths, and for all values of a list" {
  touch -- 'my configs.txt' mydata other
  [[ $(complete_last job_submitter.sh --configs my | sort) == 'my configs.txt'$'\n'mydata ]]
  [[ $(complete_last job_submitter.sh --data other my | sort) == 'my configs.txt'$'\n'mydata ]]
  [[ $(complete_last job_submitter.sh --configs = oth) == other ]]
}

@test "numbers and names are not completed" {
  touch -- 5file
  [[ -z $(complete_last job_submitter.sh --gpus '') ]]
  [[ -z $(complete_last job_submitter.sh --time 5) ]]
  [[ $(complete_last job_submitter.sh --gpus 2 '' | head -n 1) == --account ]]
}

@test "experiments.sh: its commands, their options, jobs and names of the newest runs; --exp-name offers the names, too" {
  local -r kit=$checkout/hpc/experiments.sh
  export SCRATCH=$BATS_TEST_TMPDIR/scratch
  local run
  for run in ablation_20260101-000001_1 'two words_20260101-000002_1' '$(touch canary)_20260101-000003_1' digits_20260102-000001_1; do
    mkdir -p -- "$SCRATCH/${checkout##*/}/hpc_outputs/$run"
  done
  printf '1234\n1235\n' >"$SCRATCH/${checkout##*/}/hpc_outputs/digits_20260102-000001_1/job_id"
  [[ $(complete_last bash "$kit" '' | sort | tr '\n' ' ') == 'cancel list logs nodes open remove report resubmit stop why ' ]]
  [[ $(complete_last experiments.sh wh) == why ]]
  [[ $(complete_last bash "$kit" logs --r) == --rank ]]
  [[ $(complete_last bash "$kit" resubmit --) == --mem$'\n'--time ]]
  [[ $(complete_last bash "$kit" remove --) == --dry-run && $(complete_last bash "$kit" remove --dry-run dig) == digits ]]
  [[ $(complete_last bash "$kit" --st) == --state ]]
  [[ $(complete_last bash "$kit" why 123) == 1234$'\n'1235 ]]
  [[ $(complete_last bash "$kit" cancel 1234 a) == ablation ]]
  [[ $(complete_last bash "$kit" stop '' | sort | tr '\n' ' ') == '1234 1235 ablation digits ' ]]
  [[ -z $(complete_last bash "$kit" nodes '') && ! -e canary ]]
  [[ $(complete_last bash "$checkout/hpc/job_submitter.sh" -e '') == ablation$'\n'digits && $(complete_last job_submitter.sh --exp-name = d) == digits ]]
  SCRATCH='' run complete_last bash "$kit" why ''
  [[ -z $output ]]
}

@test "the completion of other scripts does not change" {
  [[ -z $(complete_last bash other.sh --g) && -z $(complete_last bash job_sub) && -z $(complete_last bash '') ]]
  [[ $(complete -p bash) == *'-o bashdefault'*'-o default'* ]]
}

@test "the options are those of the submitter on the command line" {
  make_project
  sed -i "s/options::add gpus .*/options::add gpus count 1 '--accelerators' 'x'/" "$project/hpc/job_submitter/option_table.sh"
  [[ $(complete_last bash "$project/hpc/job_submitter.sh" --acce) == --accelerators ]]
  [[ -z $(complete_last bash "$checkout/hpc/job_submitter.sh" --acce) ]]
}

@test "the interactive shell keeps no variable of the kit" {
  run env -i PATH="$PATH" bash --norc -c 'source "$1"; COMP_WORDS=(job_submitter.sh --g) COMP_CWORD=1; hpc_completion::complete
    compgen -A function; compgen -v options_' completion "$checkout/hpc/completion.bash"
  [[ $output == $'hpc_completion::complete\nhpc_completion::experiments\nhpc_completion::find\nhpc_completion::option_of_value\nhpc_completion::print\nhpc_completion::runs\nhpc_completion::table' ]]
}

# other_shell fish|zsh LINE...   Prints what that shell offers at the end of each LINE: "= LINE", then the words, one a line.
other_shell() {
  local line
  local -r shell=$1
  common::has_command "$shell" || skip "no $shell on this machine"
  shift
  if [[ $shell == zsh ]]; then
    zsh -f "$BATS_TEST_DIRNAME/complete.zsh" "$BATS_TEST_TMPDIR" "$checkout" "$@" 3>&- 4>&-
    return
  fi
  for line in "$@"; do
    printf '= %s\n' "$line"
    # shellcheck disable=SC2016 # for fish
    HOME=$BATS_TEST_TMPDIR fish --no-config -c 'source $argv[1]/hpc/completion.fish; complete -C $argv[2]' "$checkout" "$line" | cut -f 1 | LC_ALL=C sort
  done
}

# offers_the_same SHELL   It must offer the same as bash: options, choices, files, commands and jobs.
offers_the_same() {
  local -r kit=${checkout// /\\ } # as it is typed
  export SCRATCH=$BATS_TEST_TMPDIR/scratch
  use_libraries common
  mkdir -p -- "$SCRATCH/${checkout##*/}/hpc_outputs/ablation_20260101-000001_1"
  echo 4711 >"$SCRATCH/${checkout##*/}/hpc_outputs/ablation_20260101-000001_1/job_id"
  touch -- settings.txt
  other_shell "$1" 'job_submitter.sh --wan' "bash $kit/hpc/job_submitter.sh --gpus 2 --dry" 'job_submitter.sh --mem' \
    'job_submitter.sh -W s' 'job_submitter.sh --configs sett' 'job_submitter.sh --configs=sett' 'job_submitter.sh --gpus ' \
    "bash $kit/hpc/experiments.sh lo" "bash $kit/hpc/experiments.sh why " "bash $kit/hpc/experiments.sh resubmit 1 --m" 'bash sett' >offers
  diff - <(sed 's/^--configs=//' offers) <<OFFERS
= job_submitter.sh --wan
--wandb-sweepid
= bash $kit/hpc/job_submitter.sh --gpus 2 --dry
--dry-run
= job_submitter.sh --mem
--mem
--mem-per-gpu
= job_submitter.sh -W s
script
srun
= job_submitter.sh --configs sett
settings.txt
= job_submitter.sh --configs=sett
settings.txt
= job_submitter.sh --gpus 
= bash $kit/hpc/experiments.sh lo
logs
= bash $kit/hpc/experiments.sh why 
4711
ablation
= bash $kit/hpc/experiments.sh resubmit 1 --m
--mem
= bash sett
settings.txt
OFFERS
}

@test "fish offers the same" {
  offers_the_same fish
}

@test "zsh offers the same" {
  offers_the_same zsh
}

@test "a zsh without compinit says which line is missing, once" {
  use_libraries common
  common::has_command zsh || skip 'no zsh on this machine'
  run -1 --separate-stderr zsh -f -c 'source "$1"' zsh "$checkout/hpc/completion.zsh"
  [[ -z $output && $stderr == "completion.zsh: zsh's completion is not on: "*'autoload -Uz compinit && compinit' ]]
}

@test "for other shells: a word and its help; the status says that a file is expected" {
  [[ $(bash "$checkout/hpc/completion.bash" job_submitter.sh --dry) == --dry-run$'\t''print the sbatch command and submit nothing' ]]
  [[ $(bash "$checkout/hpc/completion.bash" experiments.sh wh) == why$'\t''how a job ended'* ]]
  run -3 bash "$checkout/hpc/completion.bash" job_submitter.sh --data ''
  run -3 bash "$checkout/hpc/completion.bash" bash other.sh ''
  run -0 bash "$checkout/hpc/completion.bash" job_submitter.sh --gpus ''
  [[ -z $output ]]
}
