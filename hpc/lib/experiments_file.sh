# shellcheck shell=bash
# The experiment configuration file: one logical line per experiment, with the shell's comments, quotes
# and backslashes, and none of its actions. Words come out in the form of argv files: `$$` is a dollar,
# `${NAME}` stands for an environment variable of the rank (command.sh replaces it), so a dollar that
# the user quoted stays text.

declare -ga experiment_words=()   # the words of all experiments, one after the other
declare -ga experiment_lengths=() # how many of them belong to each

# experiments_file::read FILE   Ends with status 2 when FILE is missing, is no text, has an open quote or
# no experiment.
experiments_file::read() {
  local -r file=$1
  local -a lines=() words=()
  local -i number=0
  local rest word='' in_word='' chunk

  [[ -e $file ]] || common::die_usage "no configuration file ${file@Q}: make it, or name another with --configs"
  [[ -f $file && -r $file ]] || common::die_usage "${file@Q} is not a file that you can read (--configs)"
  if LC_ALL=C grep -qaP '\x00' -- "$file"; then
    common::die_usage "${file@Q} is not a text file: it has a NUL byte (--configs)"
  fi
  mapfile -t lines <"$file"

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
          experiments_file::until_quote \'
          word+=${rest%%\'*}
          rest=${rest#*\'}
          ;;
        \"*)
          rest=${rest#?}
          experiments_file::double_quoted
          ;;
        \$*) experiments_file::dollar ;;
        *)
          chunk=${rest%%[[:blank:]\\\'\"\$]*}
          word+=$chunk
          rest=${rest:${#chunk}}
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
  ((${#experiment_lengths[@]} > 0)) || common::die_usage "no experiment in ${file@Q}: write its command on a line, such as: python -m train"
}

# The functions below work on the caller's variables: rest, word, in_word, words, lines, number.

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

# Takes further lines into rest until it has an (unescaped, for ") closing QUOTE.
experiments_file::until_quote() {
  local -r quote=$1 opened=$number
  local pattern="^[^']*'"
  if [[ $quote == \" ]]; then pattern='^([^"\\]|\\.)*"'; fi
  until [[ $rest =~ $pattern ]]; do
    if ((number == ${#lines[@]})); then
      common::die_usage "$file, line $opened: a quote ($quote) that is never closed"
    fi
    rest+=$'\n'${lines[number++]%$'\r'}
  done
  if [[ $quote == \' ]]; then
    local -r inside=${rest%%\'*}
    rest=${inside//\$/\$\$}\'${rest#*\'}
  fi
}

experiments_file::double_quoted() {
  experiments_file::until_quote \"
  while [[ $rest != \"* ]]; do
    case $rest in
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
        word+=$chunk
        rest=${rest:${#chunk}}
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
