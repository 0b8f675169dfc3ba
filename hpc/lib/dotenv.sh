# shellcheck shell=bash
# The project's .env, as data: nothing in it is executed or replaced.

# dotenv::each FILE COMMAND   Calls COMMAND NAME VALUE for each line NAME=VALUE. A value may be quoted, and ends on its line. What
# a shell, or another reader of such files, would take otherwise is told by the number of its line only: the value may be a
# secret. (COMMAND sees the locals here: they have names that no file has.)
dotenv::each() {
  local -r dotenv_file=$1 dotenv_command=$2
  local dotenv_line dotenv_name dotenv_value dotenv_quote
  local -a dotenv_lines=()
  local -i dotenv_number dotenv_end
  if [[ ! -r $dotenv_file ]]; then return; fi
  mapfile -t dotenv_lines <"$dotenv_file"
  for ((dotenv_number = 1; dotenv_number <= ${#dotenv_lines[@]}; dotenv_number++)); do
    dotenv_line=${dotenv_lines[dotenv_number - 1]%$'\r'} dotenv_quote=''
    if [[ $dotenv_line =~ ^[[:blank:]]*(#|$) ]]; then continue; fi
    if [[ ! $dotenv_line =~ ^[[:blank:]]*(export[[:blank:]]+)?([A-Za-z_][A-Za-z0-9_]*)[[:blank:]]*=[[:blank:]]*(.*)$ ]]; then
      common::warn "$dotenv_file, line $dotenv_number is not NAME=VALUE: it is left aside"
      continue
    fi
    dotenv_name=${BASH_REMATCH[2]}
    dotenv_value=${BASH_REMATCH[3]}
    if [[ $dotenv_value =~ ^\'([^\']*)\'[[:blank:]]*(#.*)?$ || $dotenv_value =~ ^\"([^\"]*)\"[[:blank:]]*(#.*)?$ ]]; then
      dotenv_quote=${dotenv_value:0:1}
      dotenv_value=${BASH_REMATCH[1]}
    elif [[ $dotenv_value == [\'\"]* ]]; then
      dotenv_quote=${dotenv_value:0:1}
      dotenv_end=dotenv_number
      if [[ ${dotenv_value:1} != *"$dotenv_quote"* ]]; then dotenv::find_end; fi
      if ((dotenv_end == dotenv_number)); then
        common::warn "$dotenv_file, line $dotenv_number: the value does not end with the quote that it begins with: the line is left aside; put quotes around all of it, and none of that kind inside"
      else
        common::warn "$dotenv_file, lines $dotenv_number to $dotenv_end: a value in quotes goes over several lines: they are left aside; write it in one line, or into a file of its own"
      fi
      dotenv_number=dotenv_end
      continue
    else
      dotenv_value=${dotenv_value%%[[:blank:]]#*}
      dotenv_value=${dotenv_value%"${dotenv_value##*[![:blank:]]}"}
    fi
    if [[ $dotenv_quote != "'" && $dotenv_value =~ \$[A-Za-z_{\(]|\` || $dotenv_quote == '"' && $dotenv_value == *\\* ]]; then
      common::warn "$dotenv_file, line $dotenv_number: nothing is replaced in a value, neither \$NAME nor \`…\` nor \\: it is taken as it stands; write out what it is to be, or put it in single quotes if it is meant so"
    fi
    "$dotenv_command" "$dotenv_name" "$dotenv_value"
  done
}

# The line where a value in quotes that began on this one ends: dotenv_end, unchanged where it never does.
dotenv::find_end() {
  local -i dotenv_next
  for ((dotenv_next = dotenv_number; dotenv_next < ${#dotenv_lines[@]}; dotenv_next++)); do
    if [[ ${dotenv_lines[dotenv_next]} == *"$dotenv_quote"* ]]; then
      dotenv_end=$((dotenv_next + 1))
      return
    fi
  done
}
