# shellcheck shell=bash
# The project's .env, as data: nothing in it is executed or replaced.

# dotenv::each FILE COMMAND   Calls COMMAND NAME VALUE for each line NAME=VALUE. Values may be quoted; a line that is neither is
# told by its number only. (COMMAND sees the locals here: they have names that no file has.)
dotenv::each() {
  local -r dotenv_file=$1 dotenv_command=$2
  local dotenv_line dotenv_name dotenv_value
  local -i dotenv_number=0
  if [[ ! -r $dotenv_file ]]; then return; fi
  while IFS= read -r dotenv_line || [[ -n $dotenv_line ]]; do
    dotenv_number+=1
    dotenv_line=${dotenv_line%$'\r'}
    if [[ $dotenv_line =~ ^[[:blank:]]*(#|$) ]]; then continue; fi
    if [[ ! $dotenv_line =~ ^[[:blank:]]*(export[[:blank:]]+)?([A-Za-z_][A-Za-z0-9_]*)[[:blank:]]*=[[:blank:]]*(.*)$ ]]; then
      common::warn "$dotenv_file, line $dotenv_number is not NAME=VALUE: it is left aside"
      continue
    fi
    dotenv_name=${BASH_REMATCH[2]}
    dotenv_value=${BASH_REMATCH[3]}
    if [[ $dotenv_value =~ ^\'([^\']*)\'[[:blank:]]*(#.*)?$ || $dotenv_value =~ ^\"([^\"]*)\"[[:blank:]]*(#.*)?$ ]]; then
      dotenv_value=${BASH_REMATCH[1]}
    else
      dotenv_value=${dotenv_value%%[[:blank:]]#*}
      dotenv_value=${dotenv_value%"${dotenv_value##*[![:blank:]]}"}
    fi
    "$dotenv_command" "$dotenv_name" "$dotenv_value"
  done <"$dotenv_file"
}
