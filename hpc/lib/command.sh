# shellcheck shell=bash
# The experiment's command as an argv file: words that each end in a NUL, in which `$$` is a dollar and
# `${NAME}` an environment variable.

# command::write FILE WORD...
command::write() {
  local -r file=$1
  shift
  # NAME=value in front of a command is the shell's way to set a variable for it: env(1) does the same.
  if [[ $1 =~ ^[A-Za-z_][A-Za-z0-9_]*= ]]; then set -- env "$@"; fi
  printf '%s\0' "$@" >"$file"
}

# command::escape VARIABLE WORD   VARIABLE becomes WORD in which each dollar is text, but that of a ${NAME}.
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

# command::read FILE ARRAY   The words, with the environment's values in their places. Status 1 with a
# message when a variable is not set.
command::read() {
  # The environment as it came, before a variable of this function hides one of its own name.
  local -a command_environment
  mapfile -d '' -t command_environment < <(env -0)
  local LC_ALL=C # bytes: in UTF-8, read takes half a character and the NUL behind it for one
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
