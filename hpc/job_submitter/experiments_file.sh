# shellcheck shell=bash
# Reads the experiment configuration file: one logical line per experiment, with the shell's comments, quotes and backslashes.
# Nothing is executed. The words have the form of argv files: `$$` is a dollar, `${NAME}` is an environment variable of the rank
# (command.sh replaces it), so a dollar that the user quoted stays text. Outside single quotes, `{nodes}`, `{gpus}`, `{processes}`
# and `{seed}` become the nodes of the job, the processes of a node and of the job, and the seed of the task (--repeat).

declare -ga experiment_words+=()     # the words of all experiments, in order
declare -ga experiment_lengths+=()   # the number of words of each experiment
declare -ga experiment_lines+=()     # the line at which each begins
declare -ga experiment_operators+=() # the index of the first word of each with a shell operator, or nothing

# experiments_file::read FILE   Ends with status 2 if FILE is missing, is not text, has an open quote or has no experiment.
experiments_file::read() {
  local -r file=$1
  [[ -e $file ]] || common::die_usage "no configuration file ${file@Q}: make it, or name another with --configs"
  [[ -f $file && -r $file ]] || common::die_usage "${file@Q} is not a file that you can read (--configs)"
  if LC_ALL=C IFS= read -r -d '' _ <"$file"; then # read succeeds only if it finds a NUL
    common::die_usage "${file@Q} is not a text file: it has a NUL byte (--configs)"
  fi
  experiments_file::read_plain || experiments_file::parse
  ((${#experiment_lengths[@]} > 0)) || common::die_usage "no experiment in ${file@Q}: write its command on a line, such as: python -m train"
}

# The two functions below read the caller's `file`. Most files have only plain words and need no Python. Status 1: this one has more.
experiments_file::read_plain() {
  local line
  local -i number=0
  local -a words
  experiment_words=() experiment_lengths=() experiment_lines=() experiment_operators=()
  while IFS= read -r line || [[ -n $line ]]; do
    number+=1
    if [[ $line =~ ^[[:blank:]]*# ]]; then continue; fi
    if [[ $line == *[!A-Za-z0-9_./=,:@%+[:blank:]-]* ]]; then return 1; fi
    read -ra words <<<"$line"
    if ((${#words[@]} > 0)); then experiment_words+=("${words[@]}") experiment_lengths+=("${#words[@]}") experiment_lines+=("$number") experiment_operators+=(''); fi
  done <"$file"
}

experiments_file::parse() {
  local head line length operator
  local -a answer=() heads=()
  experiment_words=() experiment_lengths=() experiment_lines=() experiment_operators=()
  # LC_ALL=C: a word may end in half a character, and bash must not take the NUL after it for the other half.
  LC_ALL=C mapfile -d '' -t answer < <(python3 -I -S "${BASH_SOURCE[0]%.sh}.py" "$file" "${0##*/}" || printf 'failed %s\0' "$?")
  if [[ ${answer[0]} == 'failed '* ]]; then exit "${answer[0]#failed }"; fi
  read -ra heads <<<"${answer[0]}"
  for head in "${heads[@]}"; do
    IFS=: read -r line length operator <<<"$head"
    experiment_lines+=("$line") experiment_lengths+=("$length") experiment_operators+=("$operator")
  done
  experiment_words=("${answer[@]:1}")
}
