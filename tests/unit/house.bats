#!/usr/bin/env bats
# The rules of the house. house.py checks the files; here it runs on a small house with one fault each and on the real one. bash also
# sources all libraries of a side twice, forwards and backwards.

source "$BATS_TEST_DIRNAME/../helpers.bash"

# Make a small house without a fault: a command with its private part, a library, and a job with its part.
setup() {
  house=$BATS_TEST_TMPDIR/house
  mkdir -p -- "$house"/hpc/{lib,greet,clusters,job/lib} "$house"/{venv,singularity}
  write hpc/greet.sh '#!/usr/bin/env bash' 'source "$here/lib/common.sh"' 'source "$here/greet/words.sh"' 'main() {' '  words::print # not other::print' '}' 'main "$@"'
  write hpc/greet/words.sh '# shellcheck shell=bash' 'words::print() {' '  common::note hello' '}'
  write hpc/lib/common.sh '# shellcheck shell=bash' 'common::note() {' '  printf "%s\n" "$*"' '}'
  write hpc/job/batch.sh '#!/usr/bin/env bash' 'source "$kit/hpc/lib/common.sh"' 'source "$kit/hpc/job/lib/disk.sh"' 'common::note "$disk_size"'
  write hpc/job/lib/disk.sh '# shellcheck shell=bash' 'disk_size=1'
  write venv/environment.sh '# shellcheck shell=bash'
  write hpc/clusters/here.sh '# shellcheck shell=bash' 'node_setup() {' '  true' '}'
}

# write FILE LINE...
write() {
  printf '%s\n' "${@:2}" >"$house/$1"
}

# add FILE LINE...   Adds the lines at the end.
add() {
  printf '%s\n' "${@:2}" >>"$house/$1"
}

# finds LINE...   house.py must print these lines and no others.
finds() {
  local wanted=''
  if (($# > 0)); then printf -v wanted '%s\n' "$@"; fi
  run python3 "$BATS_TEST_DIRNAME/house.py" "$house"
  diff <(printf '%s' "$wanted") <(printf '%s' "${output:+$output$'\n'}")
  [[ $status == $(($# > 0)) ]]
}

@test "a house without a fault" {
  finds
}

@test "a cycle between modules, also through a third one" {
  write hpc/lib/a.sh '# shellcheck shell=bash' 'a::do() {' '  b::do' '}'
  write hpc/lib/b.sh '# shellcheck shell=bash' 'b::do() {' '  c::do' '}'
  write hpc/lib/c.sh '# shellcheck shell=bash' 'c::do() {' '  [[ -z $1 ]] || a::do' '}'
  finds 'hpc/lib/a.sh:3: a cycle: it calls b::do of hpc/lib/b.sh, which calls back' \
    'hpc/lib/b.sh:3: a cycle: it calls c::do of hpc/lib/c.sh, which calls back' \
    'hpc/lib/c.sh:3: a cycle: it calls a::do of hpc/lib/a.sh, which calls back'
}

@test "a call across the sides, and a private file of another command" {
  add hpc/lib/common.sh 'common::greet() {' '  words::print' '}'
  add hpc/greet.sh 'common::greet'
  finds 'hpc/greet/words.sh:3: a cycle: it calls common::note of hpc/lib/common.sh, which calls back' \
    'hpc/lib/common.sh:6: a cycle: it calls words::print of hpc/greet/words.sh, which calls back' \
    'hpc/lib/common.sh:6: words::print of hpc/greet/words.sh is of another side'

  setup
  write hpc/other.sh '#!/usr/bin/env bash' 'bash "$here/greet/words.sh"' 'source "$here/job/lib/disk.sh"' 'disk::free "$disk_size"'
  add hpc/job/lib/disk.sh 'disk::free() {' '  :' '}'
  finds 'hpc/other.sh:2: hpc/greet/words.sh is private to hpc/greet.sh' 'hpc/other.sh:4: disk::free of hpc/job/lib/disk.sh is of another side'

  # What a command runs on nodes may use hpc/job/lib.
  rm -- "$house/hpc/other.sh"
  mkdir -- "$house/hpc/doctor"
  write hpc/doctor.sh '#!/usr/bin/env bash' 'sbatch "$here/doctor/doctor_node.sh"'
  write hpc/doctor/doctor_node.sh '#!/usr/bin/env bash' 'source "$hpc/job/lib/disk.sh"' 'disk::free'
  finds
}

@test "a function that is not defined, one that is not used, one with another file's prefix" {
  add hpc/greet.sh 'words::sing'
  finds 'hpc/greet.sh:8: nobody defines words::sing'
  setup
  add hpc/lib/common.sh 'common::sing() {' '  common::sing' '}'
  finds 'hpc/lib/common.sh:5: nobody uses common::sing'
  setup
  add hpc/greet.sh 'greeting::say() {' '  :' '}' 'help() {' '  :' '}' 'greeting::say' 'help'
  finds 'hpc/greet.sh:8: greeting::say is to be greet::…' 'hpc/greet.sh:11: help is to be greet::…'
  setup
  add hpc/greet.sh 'greet::up() {' '  :' '}' '"greet::$1"' # whichever the user names
  finds
}

@test "a header that lists the required files; too many files; a file that is nothing" {
  write hpc/job/lib/disk.sh '# shellcheck shell=bash' '# Disks. Needs common.sh' '# and no other.' '' 'disk_size=1' '# Needs x.sh'
  finds 'hpc/job/lib/disk.sh:2: the header says what it needs: the files say that already'
  setup
  local number
  for number in {1..17}; do write "hpc/page_$number.md" text; done
  write hpc/notes.txt text
  write hpc/part.sh '# shellcheck shell=bash'
  for number in {1..25}; do write "hpc/lib/empty_$number.sh" '# shellcheck shell=bash'; done
  finds 'hpc:1: 20 files, more than 17' 'hpc/lib:1: 26 files, more than 25' 'hpc/notes.txt:1: no command, completion, template or page' \
    'hpc/part.sh:1: no command, completion, template or page'
}

@test "exceptions of ShellCheck: without a reason, too many, for all files" {
  add hpc/greet.sh '# shellcheck disable=SC2086 # two words' '# It is replaced elsewhere.' '# shellcheck disable=SC2016' 'words::print'
  finds
  add hpc/greet.sh '# shellcheck disable=SC2086' '# shellcheck disable=SC2034' 'words::print'
  write .shellcheckrc 'external-sources=true' 'disable=SC2086'
  finds '.shellcheckrc:1: an exception of ShellCheck for all files' 'hpc/greet.sh:12: an exception of ShellCheck without a reason' \
    'hpc/greet.sh:13: an exception of ShellCheck without a reason'
  setup
  rm -- "$house/.shellcheckrc"
  mkdir -p -- "$house/tests/unit"
  write tests/.shellcheckrc 'disable=SC2016'
  local number
  for number in {1..25}; do add tests/unit/greet.bats '# shellcheck disable=SC2086 # words'; done
  finds '.:1: 25 exceptions of ShellCheck, more than 24'
}

@test "read -d ''" {
  add hpc/greet.sh "LC_ALL=C IFS= read -r -d '' x" "while IFS= read -r -d '' x; do" '  :' 'done'
  finds "hpc/greet.sh:9: read -d '' loses the NUL behind half a character: LC_ALL=C IFS= read"
}

@test "| grep -q; what bash 4.4 lacks; local x=\$( )" {
  add hpc/greet.sh 'ls | grep -q x' 'ls |' '  LC_ALL=C grep -E --quiet x' 'grep -q x file || ls | grep x' 'now=$EPOCHSECONDS' 'wait -n -p pid' 'echo "${x@L}"' \
    'echo "${x@Q}" $EPOCH %Q' 'local x=$(ls)' 'local -r y="${z#w}" x="a$(ls)"' 'local -r n=$((1 + 1)) x=${y:-z}' 'local x # =$(ls)'
  finds 'hpc/greet.sh:8: | grep -q: under pipefail a match may be a failure; grep -c >/dev/null' \
    'hpc/greet.sh:10: | grep -q: under pipefail a match may be a failure; grep -c >/dev/null' \
    'hpc/greet.sh:12: bash 4.4 has no EPOCHSECONDS' 'hpc/greet.sh:13: bash 4.4 has no `wait -n -p`' 'hpc/greet.sh:14: bash 4.4 has no ${…@L}' \
    'hpc/greet.sh:16: a failure of $( ) is lost: declare first, then assign' 'hpc/greet.sh:17: a failure of $( ) is lost: declare first, then assign'
}

@test "readers of pipes; the status of wait; one question to Slurm" {
  mkdir -- "$house/hpc/pocket_cluster"
  write hpc/pocket_cluster/up.sh '#!/usr/bin/env bash' 'squeue --noheader'
  add hpc/job/batch.sh 'ls | head -n 1' 'ls | grep -m 1 x' 'ls | awk "{ exit }"' 'ls | sed 2q' 'head -c 1 file; grep -m 1 x file; ls | sed s/q/x/' \
    'wait "$step" || status=$?' 'wait "$step" || true' 'x=$(squeue -h)' 'if ! scontrol show job 1; then :; fi' 'slurm_ask x 5 squeue' \
    'scontrol show hostnames x' 'echo "scancel it"'
  finds 'hpc/job/batch.sh:5: the reader of a pipe ends before its writer: under pipefail a failure' \
    'hpc/job/batch.sh:6: the reader of a pipe ends before its writer: under pipefail a failure' \
    'hpc/job/batch.sh:7: the reader of a pipe ends before its writer: under pipefail a failure' \
    'hpc/job/batch.sh:8: the reader of a pipe ends before its writer: under pipefail a failure' \
    "hpc/job/batch.sh:10: the status of \`wait\` may be a signal's: common::wait" \
    'hpc/job/batch.sh:12: one silent answer decides: slurm::ask' 'hpc/job/batch.sh:13: one silent answer decides: slurm::ask'
}

@test "a module that is sourced but not used, and one that is used but not sourced" {
  write hpc/lib/spare.sh '# shellcheck shell=bash' 'spare::use() {' '  other::use' '}' 'spare::never() {' '  missing::use' '}'
  write hpc/lib/other.sh '# shellcheck shell=bash' 'other::use() {' '  :' '}'
  write hpc/lib/missing.sh '# shellcheck shell=bash' 'missing::use() {' '  spare_never=1' '}'
  add hpc/job/batch.sh 'source "$kit/hpc/lib/spare.sh"'
  add hpc/greet.sh 'source "$here/lib/spare.sh"' 'spare::use'
  write hpc/whole.sh '#!/usr/bin/env bash' 'for part in spare other missing; do source "$here/lib/$part.sh"; done' 'spare::never'
  finds 'hpc/job/batch.sh:5: batch.sh uses nothing of hpc/lib/spare.sh' \
    'hpc/lib/spare.sh:3: hpc/greet.sh runs it, and does not source hpc/lib/other.sh, which has other::use'
}

# sources_well SHELL FILE...   Sources them in this order and backwards, each twice. Nothing may fail, and no file may empty an array that
# another file has filled.
sources_well() {
  local -r shell=$1
  local -a files=("${@:2}") backwards=()
  local file
  for file in "${files[@]}"; do backwards=("$file" "${backwards[@]}"); done
  sourced_twice "$shell" "${files[@]}" && sourced_twice "$shell" "${backwards[@]}"
}

sourced_twice() {
  "$1" -s -- "${@:2}" <<'SCRIPT'
set -euo pipefail
shopt -s inherit_errexit
trap 'echo "stopped in or after $house_file"' EXIT
for house_file in "$@"; do source "$house_file"; done
house_filled=()
for house_name in $(compgen -A arrayvar | grep -vE '^(BASH|FUNCNAME|GROUPS|DIRSTACK|PIPESTATUS|house_)'); do
  declare -n house_array=$house_name
  if ((${#house_array[@]} == 0)); then
    house_array[1]=filled
    house_filled+=("$house_name")
  fi
  unset -n house_array
done
for house_file in "$@"; do source "$house_file"; done
trap - EXIT
house_wrong=0
for house_name in "${house_filled[@]}"; do
  declare -n house_array=$house_name
  if [[ ${house_array[1]:-} != filled ]]; then
    echo "sourced again, a file empties $house_name"
    house_wrong=1
  fi
  unset -n house_array
done
exit "$house_wrong"
SCRIPT
}

# libraries FOLDER...   Prints the files in them that are no scripts.
libraries() {
  find "${@/#/$checkout/}" -maxdepth 1 -name '*.sh' -type f -exec awk 'FNR == 1 && !/^#!/ { print FILENAME }' {} + | LC_ALL=C sort
}

@test "the check of sourcing finds a constant, an emptied array and a dependence on the order" {
  cd -- "$house/hpc/lib"
  sources_well bash "$PWD/common.sh"
  write hpc/lib/constant.sh 'readonly constant=1'
  run sources_well bash "$PWD/common.sh" "$PWD/constant.sh"
  [[ $status != 0 && $output == *"stopped in or after $PWD/constant.sh" ]]
  write hpc/lib/array.sh 'declare -ga kept' 'declare -gA emptied=()' 'declare -gA table=([a]=1)'
  run sources_well bash "$PWD/array.sh"
  [[ $status == 1 && $output == 'sourced again, a file empties emptied' ]]
  write hpc/lib/first.sh 'first=1'
  write hpc/lib/second.sh 'second=$first'
  run sources_well bash "$PWD/first.sh" "$PWD/second.sh"
  [[ $status != 0 && $output == *"stopped in or after $PWD/second.sh" ]]
}

@test "the libraries of each side are sourced twice, and in either order" {
  local shell wrong=0
  local -a login node container
  mapfile -t login < <(libraries hpc/lib hpc/{adopt,doctor,experiments,job_submitter,pocket_cluster,sweep} venv)
  mapfile -t node < <(libraries hpc/lib hpc/job/lib venv)
  mapfile -t container < <(libraries hpc/lib singularity venv)
  ((${#login[@]} > 30 && ${#node[@]} > ${#container[@]}))
  for shell in "$BASH" /usr/local/bin/bash* /opt/bash*/bin/bash; do # 4.4 and 5.3, where they are
    [[ -x $shell ]] || continue
    sources_well "$shell" "${login[@]}" || wrong=1
    sources_well "$shell" "${node[@]}" || wrong=1
    sources_well "$shell" "${container[@]}" || wrong=1
  done
  ((wrong == 0))
}

@test "the house: no rule is broken" {
  house=$checkout
  finds
}

@test "each squeue also shows hidden partitions: a job there must not look as if it had ended" {
  cd -- "$checkout"
  run -1 bash -c 'grep -rnE "squeue\"?,? \"?--" hpc --include=*.sh --include=*.py | grep -v -- --all'
  [[ -z $output ]]
}
