# shellcheck shell=bash
# Reads the project's .env as data: nothing in it is executed or expanded.

# dotenv::each FILE COMMAND   Calls COMMAND NAME VALUE for each line NAME=VALUE. A value may be quoted, and ends on its line. If a shell
# or another reader of such files would read a line differently, the warning names only the number of the line, because the value
# may be a secret. (COMMAND sees the local variables of this function, so their names are ones that no file uses.)
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
      common::warn "$dotenv_file, line $dotenv_number is not NAME=VALUE: it is ignored"
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
        common::warn "$dotenv_file, line $dotenv_number: the value does not end with the quote that it begins with: the line is ignored; put quotes around the whole value, and use no quote of that kind inside"
      else
        common::warn "$dotenv_file, lines $dotenv_number to $dotenv_end: a quoted value spans several lines: these lines are ignored; write the value in one line, or into a separate file"
      fi
      dotenv_number=dotenv_end
      continue
    else
      dotenv_value=${dotenv_value%%[[:blank:]]#*}
      dotenv_value=${dotenv_value%"${dotenv_value##*[![:blank:]]}"}
    fi
    if [[ $dotenv_quote != "'" && $dotenv_value =~ \$[A-Za-z_{\(]|\` || $dotenv_quote == '"' && $dotenv_value == *\\* ]]; then
      common::warn "$dotenv_file, line $dotenv_number: \$NAME, \`…\` and \\ are not expanded in a value: it is used as written; write the value out, or put it in single quotes if it is meant literally"
    fi
    "$dotenv_command" "$dotenv_name" "$dotenv_value"
  done
}

# Finds the line that ends a quoted value which began on this line, and sets dotenv_end to it. dotenv_end stays unchanged if no line
# ends the value.
dotenv::find_end() {
  local -i dotenv_next
  for ((dotenv_next = dotenv_number; dotenv_next < ${#dotenv_lines[@]}; dotenv_next++)); do
    if [[ ${dotenv_lines[dotenv_next]} == *"$dotenv_quote"* ]]; then
      dotenv_end=$((dotenv_next + 1))
      return
    fi
  done
}
