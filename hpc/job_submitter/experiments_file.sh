# shellcheck shell=bash
# The experiment configuration file: one logical line per experiment, with the shell's comments, quotes
# and backslashes, and none of its actions. Words come out in the form of argv files: `$$` is a dollar,
# `${NAME}` stands for an environment variable of the rank (command.sh replaces it), so a dollar that
# the user quoted stays text. `{nodes}`, `{gpus}` and `{seed}` outside of single quotes are the nodes of the job,
# the processes of a node, and the seed of the task (--repeat).

declare -ga experiment_words+=()   # the words of all experiments, one after the other
declare -ga experiment_lengths+=() # how many of them belong to each

# experiments_file::read FILE   Ends with status 2 when FILE is missing, is no text, has an open quote or
# no experiment.
experiments_file::read() {
  local -r file=$1
  local -a lines=()
  local windows=''

  [[ -e $file ]] || common::die_usage "no configuration file ${file@Q}: make it, or name another with --configs"
  [[ -f $file && -r $file ]] || common::die_usage "${file@Q} is not a file that you can read (--configs)"
  if LC_ALL=C IFS= read -r -d '' _ <"$file"; then # it ends well at a NUL only
    common::die_usage "${file@Q} is not a text file: it has a NUL byte (--configs)"
  fi
  mapfile -t lines <"$file"
  if [[ ${lines[0]:-} == *$'\r' ]]; then windows=1; fi
  experiments_file::parse_lines
  ((${#experiment_lengths[@]} > 0)) || common::die_usage "no experiment in ${file@Q}: write its command on a line, such as: python -m train"
}

# The functions below work on the caller's variables.

experiments_file::parse_lines() {
  local LC_ALL=C # bytes: what is no character of the user's locale is kept, and long lines take no longer
  local -a words=()
  local -i number=0
  local rest word='' in_word='' chunk
  while ((number < ${#lines[@]})); do
    rest=${lines[number++]%$'\r'}
    while [[ -n $rest ]]; do
      case $rest in
        [[:blank:]]*) experiments_file::end_word && rest=${rest#?} && continue ;;
        '#'*) if [[ -z $in_word ]]; then break; fi ;;
      esac
      if [[ $rest == \\ ]]; then # continued on the next line, as in the shell: the word too
        if ((number == ${#lines[@]})); then common::die_usage "$file, line $number: a backslash at the end of the file"; fi
        continue 2
      fi
      in_word=1
      case $rest in
        \\*)
          chunk=${rest:1:1}
          word+=${chunk/\$/\$\$}
          rest=${rest:2}
          ;;
        \'*)
          rest=${rest#?}
          experiments_file::single_quoted
          ;;
        \"*)
          rest=${rest#?}
          experiments_file::double_quoted
          ;;
        \$*) experiments_file::dollar ;;
        *)
          chunk=${rest%%[[:blank:]\\\'\"\$]*}
          rest=${rest:${#chunk}}
          experiments_file::add_text
          ;;
      esac
    done
    experiments_file::end_word
    if ((${#words[@]} > 0)); then
      experiment_words+=("${words[@]}")
      experiment_lengths+=("${#words[@]}")
      words=()
    fi
  done
}

# {nodes} and {gpus}, which system 004 appended for Lightning, and {seed}. Behind a quoted dollar they are text.
experiments_file::add_text() {
  if [[ $word != *\$ ]]; then
    chunk=${chunk//'{nodes}'/"\${NNODES}"}
    chunk=${chunk//'{gpus}'/"\${N_PROC}"}
    chunk=${chunk//'{seed}'/"\${SEED}"}
  fi
  word+=$chunk
}

experiments_file::end_word() {
  if [[ -n $in_word ]]; then
    words+=("$word")
    case $word in
      '&&' | '||' | '|' | ';' | '&' | '<' | '>' | '>>')
        common::warn "$file, line $number: $word is passed to the program as it stands: no shell reads the command"
        ;;
    esac
  fi
  word='' in_word=''
}

# Takes one more line into rest, for a QUOTE that was OPENED on that line.
experiments_file::next_line() {
  local -r quote=$1 opened=$2
  if ((number == ${#lines[@]})); then
    common::die_usage "$file, line $opened: a quote ($quote) that is never closed"
  fi
  # Inside of quotes a carriage return is the user's own, but in a file of Windows.
  if [[ -z $windows && ${lines[number - 1]} == *$'\r' ]]; then rest+=$'\r'; fi
  rest+=$'\n'${lines[number++]%$'\r'}
}

experiments_file::single_quoted() {
  local -r opened=$number
  while [[ $rest != *\'* ]]; do experiments_file::next_line \' "$opened"; done
  chunk=${rest%%\'*}
  rest=${rest:${#chunk}+1}
  word+=${chunk//\$/\$\$}
}

experiments_file::double_quoted() {
  local -r opened=$number
  while [[ $rest != \"* ]]; do
    case $rest in
      '' | \\) experiments_file::next_line \" "$opened" ;;
      \\$'\n'*) rest=${rest:2} ;;
      \\[\$\`\"\\]*)
        chunk=${rest:1:1}
        word+=${chunk/\$/\$\$}
        rest=${rest:2}
        ;;
      \\*)
        word+=\\
        rest=${rest#?}
        ;;
      \$*) experiments_file::dollar ;;
      *)
        chunk=${rest%%[\\\"\$]*}
        rest=${rest:${#chunk}}
        experiments_file::add_text
        ;;
    esac
  done
  rest=${rest#?}
}

experiments_file::dollar() {
  if [[ $rest =~ ^\$\{[A-Za-z_][A-Za-z0-9_]*\} ]]; then
    word+=${BASH_REMATCH[0]}
    rest=${rest:${#BASH_REMATCH[0]}}
    return
  fi
  if [[ $rest =~ ^\$([A-Za-z_][A-Za-z0-9_]*) ]]; then
    common::warn "$file, line $number: \$${BASH_REMATCH[1]} stays text: write \${${BASH_REMATCH[1]}} to have it replaced"
  fi
  word+=\$\$
  rest=${rest#?}
}
