# shellcheck shell=bash
# The experiment's command is stored as an argv file: each word ends in a NUL, `$$` stands for a dollar, and `${NAME}` for an
# environment variable.

# command::write FILE WORD...
command::write() {
  local -r file=$1
  shift
  # NAME=value in front of a command is the shell's way to set a variable for it: env(1) does the same.
  if [[ $1 =~ ^[A-Za-z_][A-Za-z0-9_]*= ]]; then set -- env "$@"; fi
  printf '%s\0' "$@" >"$file"
}

# command::escape VARIABLE WORD   Sets VARIABLE to WORD with each dollar escaped, except the dollar of a ${NAME}.
command::escape() {
  local -n escape_result=$1
  local rest=$2
  escape_result=''
  while [[ $rest == *\$* ]]; do
    escape_result+=${rest%%\$*}
    rest=${rest#*\$}
    if [[ $rest =~ ^\{[A-Za-z_][A-Za-z0-9_]*\} ]]; then escape_result+=\$; else escape_result+=\$\$; fi
  done
  escape_result+=$rest
}

# command::read FILE ARRAY   Sets ARRAY to the words, with the environment's values inserted. Status 1 with a message if a variable is
# not set.
command::read() {
  # Take the environment before a local variable of this function hides a variable of the same name.
  local -a command_environment
  mapfile -d '' -t command_environment < <(env -0)
  local LC_ALL=C # bytes: in UTF-8, read would take half a character and the NUL after it as one character
  local -r file=$1
  local -n command_words=$2
  local -A value=()
  local encoded word text name
  for name in "${command_environment[@]}"; do value[${name%%=*}]=${name#*=}; done
  command_words=()
  while LC_ALL=C IFS= read -r -d '' encoded; do
    word=''
    while [[ $encoded == *\$* ]]; do
      text=${encoded%%\$*}
      word+=$text
      encoded=${encoded:${#text}+1}
      if [[ $encoded == \$* ]]; then
        word+=\$
        encoded=${encoded#\$}
        continue
      fi
      name=${encoded%%\}*}
      name=${name#\{}
      if [[ -z ${value[$name]+set} ]]; then
        common::warn "the command uses \${$name}, and $name is not set on $(common::node); hpc/job/README.md lists the names that are set"
        return 1
      fi
      word+=${value[$name]}
      encoded=${encoded#*\}}
    done
    command_words+=("$word$encoded")
  done <"$file"
}
