#!/usr/bin/env bats
# From the configuration file to the program's arguments (hpc/job_submitter/experiments_file.sh and command.sh).

source "$BATS_TEST_DIRNAME/../helpers.bash"

declare -ga experiment_words experiment_lengths experiment_lines experiment_operators

setup() {
  use_libraries common command experiments_file
  cd -- "$BATS_TEST_TMPDIR" || return
  config=$BATS_TEST_TMPDIR/"it's a file"
}

# read_file TEXT   Reads a file with this text.
read_file() {
  printf '%s' "$1" >"$config"
  experiment_words=() experiment_lengths=()
  experiments_file::read "$config"
}

# words_are WORD...   The program of the one experiment must get these words in this environment.
words_are() {
  [[ ${#experiment_lengths[@]} == 1 ]]
  local -a got
  command::write "$BATS_TEST_TMPDIR/command" "${experiment_words[@]}"
  command::read "$BATS_TEST_TMPDIR/command" got
  local -a wanted=("$@")
  if [[ ${got[*]@Q} != "${wanted[*]@Q}" ]]; then
    printf 'got     %s\nwanted  %s\n' "${got[*]@Q}" "${wanted[*]@Q}" >&2
    return 1
  fi
}

@test "words, blanks, comments and empty lines" {
  read_file $'# a comment\n\n  \t\n  python  -m\ttrain   # and another\n   # end\n'
  words_are python -m train
  read_file 'run a#b #c'
  words_are run 'a#b'
  read_file "run '#a' \\#b \"#\" ''#c # d"
  words_are run '#a' '#b' '#' '#c'
}

@test "quotes are the shell's" {
  read_file "run 'a  b' \"c  d\" e\\ f '' \"\" a'b'\"c\"d \"it's\" '\"' \\' \\\""
  words_are run 'a  b' 'c  d' 'e f' '' '' abcd "it's" '"' "'" '"'
  read_file 'run "a\"b\\c\n\$d\`e" '\''a\"b\\c\n\$d'\'' a\\b\nc'
  words_are run 'a"b\c\n$d`e' 'a\"b\\c\n\$d' 'a\bnc'
}

@test "nothing is executed, matched or replaced" {
  read_file 'run $(touch canary) `touch canary` * ~ {a,b} [a-z] "$(touch canary)" "`touch canary`" !! <x >y'
  words_are run '$(touch' 'canary)' '`touch' 'canary`' '*' '~' '{a,b}' '[a-z]' '$(touch canary)' '`touch canary`' '!!' \
    '<x' '>y'
  [[ ! -e canary && ! -e y ]]
}

@test "a line continues after a backslash, and so does the word" {
  read_file $'run a \\\n  b\\\nc \'d\\\ne\' "f\\\ng"\n'
  words_are run a bc $'d\\\ne' fg
  read_file $'run a\\\\\n'
  words_are run "a\\"
  fails_with 2 'line 2: a backslash at the end of the file' read_file $'one\nrun \\'
  fails_with 2 'line 2: a backslash at the end of the file' read_file $'one\nrun \\\n'
}

@test "a quote may hold several lines" {
  read_file $'run \'a\nb  # c\n\' "d\n\n\\"e" f'
  words_are run $'a\nb  # c\n' $'d\n\n"e' f
}

@test "a quote that is never closed is reported with the number of its first line" {
  fails_with 2 "line 2: a quote \('\) that is never closed" read_file $'one\nrun \'a\nb\nc\n'
  fails_with 2 'line 3: a quote \("\) that is never closed' read_file $'one\ntwo\nrun "a\\"\nb'
  fails_with 2 'never closed' read_file "it's"
}

@test "several experiments" {
  read_file $'a 1\n\nb \'2\n3\' \\\n 4\n# c\nd\n'
  [[ ${experiment_lengths[*]} == '2 3 1' ]]
  [[ ${experiment_words[*]@Q} == "'a' '1' 'b' "*" '4' 'd'" ]]
}

@test "files with Windows line ends, and no line end at the end of the file" {
  read_file $'run a \\\r\n  "b\r\nc"\r\n'
  words_are run a $'b\nc'
  read_file $'run a'
  words_are run a
}

@test "a quoted carriage return of the user's stays" {
  read_file $'run \\\n\'a\r\nb\' "c\r\nd\r\n" \'e\r\' "f\\\r\n" \r\n'
  words_are run $'a\r\nb' $'c\r\nd\r\n' $'e\r' $'f\\\r\n'
}

@test "a name in braces is replaced once, from the node's environment" {
  export NAME='two  words $(id) ${OTHER} $$ *' OTHER=x EMPTY=
  read_file 'run --dir=${NAME}/datasets "${NAME}" ${NAME}${OTHER} ${EMPTY} a${EMPTY}b'
  words_are run "--dir=$NAME/datasets" "$NAME" "${NAME}x" '' ab
}

@test "a dollar that is quoted or has no name is text" {
  export NAME=x
  read_file "run '\${NAME}' \\\${NAME} \"\\\${NAME}\" \$\$ '\$\$' \$ \$5 \${} \${1} \${NAME:-y} \${NA ME} a\$ \"\$\" \"\$'\""
  words_are run '${NAME}' '${NAME}' '${NAME}' '$$' '$$' '$' '$5' '${}' '${1}' '${NAME:-y}' '${NA' 'ME}' 'a$' '$' "\$'"
}

@test "a name without braces is text, with a warning" {
  run --separate-stderr read_file 'run $HOME'
  [[ $status == 0 && $stderr == *'line 1: $HOME stays text: write ${HOME} to have it replaced' ]]
  read_file 'run $HOME/a'
  words_are run '$HOME/a'
}

@test "a name that is not set on the node is an error that names it" {
  read_file 'run ${NOT_SET_ANYWHERE}'
  command::write "$BATS_TEST_TMPDIR/command" "${experiment_words[@]}"
  local -a got
  fails_with 1 '\$\{NOT_SET_ANYWHERE\}, and NOT_SET_ANYWHERE is not set on ' command::read "$BATS_TEST_TMPDIR/command" got
}

@test "only names of the environment, also names that the kit's scripts use themselves" {
  export name=a value=b file=c word=d text=e encoded=f status=g LC_ALL=C.UTF-8 command_words=h
  read_file 'run ${name} ${value} ${file} ${word} ${text} ${encoded} ${status} ${LC_ALL} ${command_words}'
  words_are run a b c d e f g C.UTF-8 h
  local _not_exported=1
  for name in _not_exported BASHPID IFS SECONDS BASH_VERSION; do
    read_file "run \${$name}"
    command::write "$BATS_TEST_TMPDIR/command" "${experiment_words[@]}"
    local -a got
    fails_with 1 "$name is not set on " command::read "$BATS_TEST_TMPDIR/command" got
  done
}

@test "{nodes}, {gpus} and {processes} have the job's values, but not in single quotes" {
  export NNODES=3 N_PROC=4 N_PROCESSES=12
  read_file "run --num_nodes {nodes} --gpus={gpus} --all {processes} \"{nodes}x{gpus}\" '{nodes}' \\{nodes} {node} \\\${nodes}"
  words_are run --num_nodes 3 --gpus=4 --all 12 3x4 '{nodes}' '{nodes}' '{node}' '${nodes}'
}

@test "settings in front of a command are passed with env" {
  read_file $'SEED=1 NAME=\'two words\' python -m train'
  words_are env SEED=1 'NAME=two words' python -m train
  read_file 'run SEED=1'
  words_are run SEED=1
}

@test "shell operators are found anywhere in a word; in quotes they are text" {
  local line
  while IFS='|' read -r line index; do
    read_file "$line"
    [[ ${experiment_operators[0]} == "$index" ]] || { echo "$line: ${experiment_operators[0]@Q}" >&2 && return 1; }
  done < <(printf '%s\n' 'run a && b|2' 'run a; b|1' 'a & b|1' 'run a >b|2' 'run a 2>&1|2' 'run x<y c|1' "run 'a && b' \"c;d\" e\\;f '>' g|" 'run a "b" | tee|3' | sed 's/ | tee|/ \&\& tee|/')
  read_file $'one\n\nrun a \\\n| b\n# c\ntwo "x\ny"\nthree'
  [[ ${experiment_operators[*]@Q} == "'' '2' '' ''" && ${experiment_lines[*]} == '1 3 6 8' ]]
  read_file $'# plain\none\n\ntwo'
  [[ ${experiment_operators[*]@Q} == "'' ''" && ${experiment_lines[*]} == '2 4' ]]
}

@test "what a shell would expand is text, with a warning; without a warning in quotes" {
  local line words
  while IFS='#' read -r line words; do
    run --separate-stderr read_file "$line"
    [[ $status == 0 && $stderr == *"line 1: $words" ]] || { echo "$line: $stderr" >&2 && return 1; }
  done < <(printf '%s\n' 'run ~/data#~ stays text: write ${HOME} for your home directory' 'run ~ a#~ stays text: write ${HOME} for your home directory' \
    'run data/*.bin#data/*.bin stays text: no shell puts names of files in its place' 'run a?#a? stays text: no shell puts names of files in its place' \
    'run --n=$(nproc)#$( stays text: nothing is executed' 'run `nproc`#`nproc` stays text: nothing is executed')
  for line in "run '~/a' \"*.py\" \\* '\$(x)' \\~ a~b lr=[1,2] ~user" 'run --x=1'; do
    run --separate-stderr read_file "$line"
    [[ $status == 0 && -z $stderr ]] || { echo "$line: $stderr" >&2 && return 1; }
  done
}

@test "no file, no text file, no experiment" {
  fails_with 2 'no configuration file .*make it, or name another with --configs' experiments_file::read "$config"
  fails_with 2 'is not a file that you can read' experiments_file::read "$BATS_TEST_TMPDIR"
  fails_with 2 'no experiment in ' read_file ''
  fails_with 2 'no experiment in ' read_file $'# only\n \n'
  printf 'run a\0b\n' >"$config"
  fails_with 2 'is not a text file: it has a NUL byte' experiments_file::read "$config"
}

@test "every byte but NUL arrives, in each kind of quotes" {
  local byte character all=''
  for byte in {1..255}; do
    printf -v character '%b' "\\x$(printf %x "$byte")"
    all+=$character
  done
  read_file "run '${all//\'/\'\\\'\'}'"
  words_are run "$all"
  local escaped=${all//\\/\\\\}
  escaped=${escaped//\"/\\\"}
  escaped=${escaped//\$/\\\$}
  read_file "run \"$escaped\""
  words_are run "$all"
  # half a character at the end of a word
  read_file $'run \'a\xc3\' \'\xc2\xa0b\' \xe9\\\n "\xe9\\\\n]\\$]" c'
  words_are run $'a\xc3' $'\xc2\xa0b' $'\xe9' $'\xe9\\n]$]' c
}

@test "the same in a locale of bytes" {
  LC_ALL=C
  read_file $'run \'ü $(é)\' "ü" ü \'\xff\xfe\' \xe9\\\\ "\xe9\\\\"'
  words_are run 'ü $(é)' ü ü $'\xff\xfe' $'\xe9\\' $'\xe9\\'
}

@test "a file of a megabyte" {
  local word # one at a time its letters would take minutes
  printf -v word "'%010000d'" 7
  local -i i
  for ((i = 0; i < 100; i++)); do printf 'run %s\n' "$word"; done >"$config"
  experiments_file::read "$config"
  ((${#experiment_words[@]} == 200))
}
