# shellcheck shell=bash
# Implements --against COMMIT for run.sh, which sources this file: measures the kit at COMMIT beside today's kit.

declare -g here checkout work project against base other # run.sh's
declare -g against_first=''                              # which of the two came first in the last pair
declare -gA against_cannot=()                            # names of rows that COMMIT's build cannot do

# Makes the project of the other build; a link gives it today's environment under the name that its own would have.
against::prepare() {
  local environment path
  environment=$(bash "$checkout/venv/create.sh" cpu)
  other=$work/other
  mkdir -p -- "$other/.venv"
  git -C "$checkout" archive "$against" | tar --extract --directory="$other"
  rm -rf -- "$other"/{README.md,.ci,.gitignore} # today's project has only the kit, too
  path=$(bash -c 'source "$1/hpc/lib/common.sh"; source "$1/venv/environment.sh"; environment::path "$1" cpu' - "$other")
  ln -s -- "$(realpath -- "$environment")" "$path"
  mv -- "$other/tests" "$work/other_tests"
  if [[ -z $base ]]; then base=$other; fi
  export AGAINST=$against # table.py
}

# against::time NAME COMMAND...   Runs both builds, in alternating order. A command that is not the kit's runs once.
against::time() {
  local -a theirs=("${@/#"$project/"/"$other/"}")
  theirs=("${theirs[@]/#"$checkout/hpc/"/"$other/hpc/"}")
  if [[ "$*" == "${theirs[*]}" || -n ${against_cannot[$1]:-} ]]; then
    bench::time_one "$@"
    return
  fi
  if [[ $against_first == today ]]; then against_first=theirs; else against_first=today && bench::time_one "$@"; fi
  bench::time_one "$1@other" "${theirs[@]:1}" || against_cannot[$1]=1
  if [[ $against_first == theirs ]]; then bench::time_one "$@"; fi
}

# against::each COMMAND...   Runs a benchmark that prints its own table: today's, then the other build's.
against::each() {
  local -a theirs=("${@/#"$here/"/"$other/tests/benchmarks/"}")
  "$@"
  if [[ -z $other ]]; then return; fi
  if [[ ! -e $other/tests ]]; then mv -- "$work/other_tests" "$other/tests"; fi
  printf '\nThe same at %s:\n' "$against"
  "${theirs[@]}" || common::note "$against cannot do this"
}
