# shellcheck shell=bash
# The experiment configuration file: one logical line per experiment, with the shell's comments, quotes
# and backslashes, and none of its actions. Words come out in the form of argv files: `$$` is a dollar,
# `${NAME}` stands for an environment variable of the rank (command.sh replaces it), so a dollar that
# the user quoted stays text. `{nodes}`, `{gpus}`, `{processes}` and `{seed}` outside of single quotes are the nodes of the job,
# the processes of a node and of the job, and the seed of the task (--repeat).

declare -ga experiment_words+=()     # the words of all experiments, one after the other
declare -ga experiment_lengths+=()   # how many of them belong to each
declare -ga experiment_lines+=()     # where each begins in the file
declare -ga experiment_operators+=() # index of the first word of each that has an operator of the shell, or nothing

# experiments_file::read FILE   Ends with status 2 when FILE is missing, is no text, has an open quote or
# no experiment.
experiments_file::read() {
  local -r file=$1
  [[ -e $file ]] || common::die_usage "no configuration file ${file@Q}: make it, or name another with --configs"
  [[ -f $file && -r $file ]] || common::die_usage "${file@Q} is not a file that you can read (--configs)"
  if LC_ALL=C IFS= read -r -d '' _ <"$file"; then # it ends well at a NUL only
    common::die_usage "${file@Q} is not a text file: it has a NUL byte (--configs)"
  fi
  experiments_file::read_plain || experiments_file::parse
  ((${#experiment_lengths[@]} > 0)) || common::die_usage "no experiment in ${file@Q}: write its command on a line, such as: python -m train"
}

# The two below read the caller's file. Most files have plain words alone, and need no Python; status 1 when this one has others.
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
  # Bytes: a word may end in half a character, and the NUL behind it is not the other half.
  LC_ALL=C mapfile -d '' -t answer < <(python3 -I -S "${BASH_SOURCE[0]%.sh}.py" "$file" "${0##*/}" || printf 'failed %s\0' "$?")
  if [[ ${answer[0]} == 'failed '* ]]; then exit "${answer[0]#failed }"; fi
  read -ra heads <<<"${answer[0]}"
  for head in "${heads[@]}"; do
    IFS=: read -r line length operator <<<"$head"
    experiment_lines+=("$line") experiment_lengths+=("$length") experiment_operators+=("$operator")
  done
  experiment_words=("${answer[@]:1}")
}
