#!/usr/bin/env bats
# shellcheck disable=SC2154 # the helpers set them
# --help, --help TOPIC and --version of every command (hpc/lib/help.sh).

source "$BATS_TEST_DIRNAME/../helpers.bash"

# commands   Prints the users' commands, relative to the checkout.
commands() {
  cd -- "$checkout" && printf '%s\n' hpc/*.sh venv/{create,run}.sh singularity/{build,run}.sh tests/run.sh
}

# help_of COMMAND ARGUMENT...   Runs it without Slurm, SCRATCH and a terminal.
help_of() {
  PATH=/usr/bin:/bin env -u SCRATCH bash "$checkout/$1" "${@:2}" </dev/null
}

submitter_help() {
  help_of hpc/job_submitter.sh --help "$@"
}

# define_options   Defines the submitter's options.
define_options() {
  use_libraries common checks options option_table
  option_table::define
}

@test "--help of each command fits a screen, and says how to get more" {
  local command wrong=0
  while read -r command; do
    run -0 --separate-stderr help_of "$command" --help
    if [[ -n $stderr || ${lines[0]} != "Usage: "*"${command##*/}"* || $output != *$'\nMore: --help all'* ]] ||
      ((${#lines[@]} > 30)) || grep -cE '.{81}' <<<"$output" >&2; then
      printf '%s:\n%s\n%s\n' "$command" "$output" "$stderr" >&2
      wrong=1
    fi
    [[ $(help_of "$command" -h) == "$output" ]]
  done < <(commands)
  ((wrong == 0))
  (($(submitter_help | wc -l) <= 24))
}

@test "--help all is a page: sections in their order, each paragraph of the header comment once" {
  local command page words
  while read -r command; do
    page=$(help_of "$command" --help all)
    [[ $(grep -E '^[A-Z ]+$' <<<"$page" | paste -sd ,) =~ ^NAME,SYNOPSIS,DESCRIPTION(,ARGUMENTS)?(,OPTIONS)?(,ENVIRONMENT)?(,FILES)?(,EXIT\ STATUS)?,SEE\ ALSO,VERSION$ ]]
    # Compare all words of the comment, in any order of lines.
    words=" $(tr -s ' \n' ' ' <<<"$page") "
    while read -r words_wanted; do
      if [[ ${words,,} != *" ${words_wanted,,} "* ]]; then
        printf '%s: not in its page: %s\n' "$command" "$words_wanted" >&2
        return 1
      fi
    done < <(awk 'NR > 1 && !/^#/ { exit } NR > 1 { print }' "$checkout/$command" | sed 's/^# *//; s/^[A-Z][a-z]* *[a-z]*: *//; s/^[a-zA-Z|-]*: *//' | grep . | tr -s ' ')
  done < <(commands)
}

@test "the pages and commands of See also exist" {
  local command name
  while read -r command; do
    for name in $(help_of "$command" --help 'see also' | tail -n +2 | tr ',;' '  '); do
      [[ -e $checkout/$name || -e $checkout/hpc/$name ]] || { echo "$command names $name" >&2 && return 1; }
    done
  done < <(commands)
}

@test "a group of options by its name or a unique beginning, in upper or lower case" {
  define_options
  local name heading=''
  local -A wanted=()
  for name in "${options_order[@]}"; do
    if [[ $name == '# '* ]]; then heading=${name#'# '}; else wanted[$heading]+="$(options::shown_names "$name")"$'\n'; fi
  done
  ((${#wanted[@]} == 9))
  for heading in "${!wanted[@]}"; do
    [[ $(submitter_help "$heading" | sed -n 's/^  \(-\)/\1/p')$'\n' == "${wanted[$heading]}" ]]
    [[ $(submitter_help "${heading^^}") == "$(submitter_help "$heading")" ]]
  done
  [[ $(submitter_help dat) == "$(submitter_help Data)" && $(help_of hpc/job_submitter.sh --help=DATA) == "$(submitter_help Data)" ]]
  [[ $(submitter_help sl | head -n 1) == ' Slurm:' ]]
}

@test "one option, by each of its spellings; for an unknown or ambiguous name the groups are listed" {
  define_options
  local spelling
  for spelling in "${!options_owner[@]}"; do
    [[ $(submitter_help "$spelling" | head -n 1) == "  $(options::shown_names "${options_owner[$spelling]}")" ]]
  done
  [[ $(submitter_help mem) == "$(submitter_help --mem)" && $(submitter_help num_nodes) == "$(submitter_help -n)" ]]
  [[ $(submitter_help --dry) == "$(submitter_help --dry-run)" && $(submitter_help --time=10) == "$(submitter_help -t)" ]]
  local word
  for word in nothing s --gpu -x -- "a b" '*' '"' ''\'; do
    fails_with 2 "no help on .*one of: Resources, Experiment, .*, General" submitter_help "$word"
  done
  fails_with 2 "no help on 'x': .*one of: list, why, logs, .*, nodes" help_of hpc/experiments.sh --help x
}

@test "COMMAND --help is --help COMMAND" {
  [[ $(help_of hpc/experiments.sh why --help) == 'Usage: experiments.sh why JOB'*'  why '* ]]
  [[ $(help_of hpc/experiments.sh --help why) == "$(help_of hpc/experiments.sh why -h)" ]]
  [[ $(help_of hpc/experiments.sh list --help) == 'Usage: experiments.sh [list] [--name'* ]]
  [[ $(help_of hpc/pocket_cluster.sh up --help) == *--accounting* ]]
  [[ $(help_of hpc/adopt.sh --help --force) == *upgrade* ]]
}

@test "help ignores wrong options beside it; what stands behind -- belongs to another program" {
  [[ $(help_of hpc/job_submitter.sh --gpus many --nonsense -h) == "$(submitter_help)" ]]
  fails_with 2 "'/nowhere' is not a folder" help_of hpc/adopt.sh /nowhere -- python --help
  fails_with 1 'no environment|.' env VIRTUAL_ENV_DIRECTORY=/nowhere bash "$checkout/venv/run.sh" python --help
}

@test "the environment cannot set help and version" {
  use_libraries common checks options
  options::add_help
  # shellcheck disable=SC2034 # given by name
  local -A nothing=()
  export HPC_HELP=maybe HPC_VERSION=2.1
  options::complete nothing
  [[ -z ${options_value[help]:-}${options_value[version]:-} ]]
  run -0 --separate-stderr options::check_environment
  [[ $stderr == *'HPC_HELP of the environment has no effect'* && $stderr == *'HPC_VERSION of the environment has no effect'* ]]
}

@test "--version: the newest heading of the changelog, and the commit of the checkout, or of the kit that was adopted" {
  local command version
  version=$(sed -n 's/^## \([^ ]*\).*/\1/p' "$checkout/hpc/CHANGELOG.md" | head -n 1)
  [[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]]
  while read -r command; do
    [[ $(help_of "$command" --version) =~ ^"hpc kit $version"(, commit [0-9a-f]{12}(-dirty)?)?$ ]]
  done < <(commands)
  make_project
  [[ $(bash "$project/hpc/doctor.sh" --version) == "hpc kit $version" ]] # it is no repository
  echo '# hpc kit 123456789abc-dirty; hpc/adopt.sh tells by these hashes what you have changed.' >"$project/hpc/.installed"
  [[ $(bash "$project/hpc/doctor.sh" --version) == "hpc kit $version, commit 123456789abc-dirty" ]]
  echo '# hpc kit of no repository; hpc/adopt.sh tells by these hashes what you have changed.' >"$project/hpc/.installed"
  [[ $(bash "$project/hpc/doctor.sh" --version) == "hpc kit $version" ]]
  rm -- "$project/hpc/CHANGELOG.md"
  [[ $(bash "$project/hpc/doctor.sh" --version) == 'hpc kit unknown' ]]
}

@test "no command prints colours" {
  # One command clears a line or the screen, but not in a pipe.
  run -1 git -C "$checkout" grep -nE '(\\e|\\033|\\x1b)\[[0-9;]*m' -- hpc venv singularity ':!*sky.sh'
  [[ -z $output ]]
}
