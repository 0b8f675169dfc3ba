# shellcheck shell=bash
# The project's .env, as data: nothing in it is executed or replaced.

# dotenv::each FILE COMMAND   Calls COMMAND NAME VALUE for each line NAME=VALUE. The file is data: nothing
# in it is executed or replaced. Values may be quoted; a line that is neither is told by its number only.
dotenv::each() {
  local -r file=$1 command=$2
  local line name value
  local -i number=0
  if [[ ! -r $file ]]; then return; fi
  while IFS= read -r line || [[ -n $line ]]; do
    number+=1
    line=${line%$'\r'}
    if [[ $line =~ ^[[:blank:]]*(#|$) ]]; then continue; fi
    if [[ ! $line =~ ^[[:blank:]]*(export[[:blank:]]+)?([A-Za-z_][A-Za-z0-9_]*)[[:blank:]]*=[[:blank:]]*(.*)$ ]]; then
      common::warn "$file, line $number is not NAME=VALUE: it is left aside"
      continue
    fi
    name=${BASH_REMATCH[2]}
    value=${BASH_REMATCH[3]}
    if [[ $value =~ ^\'([^\']*)\'[[:blank:]]*(#.*)?$ || $value =~ ^\"([^\"]*)\"[[:blank:]]*(#.*)?$ ]]; then
      value=${BASH_REMATCH[1]}
    else
      value=${value%%[[:blank:]]#*}
      value=${value%"${value##*[![:blank:]]}"}
    fi
    "$command" "$name" "$value"
  done <"$file"
}
