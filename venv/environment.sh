# shellcheck shell=bash
# Where the project's environments lie and which one fits its requirements. Sourced by create.sh, run.sh
# and the submitter.

# environment::requirements PROJECT   The file that says what is needed.
environment::requirements() {
  local -r project=$1
  local file
  for file in "$project/Pipfile" "$project/requirements.txt" "$project/venv/requirements.txt"; do
    if [[ -f $file ]]; then
      printf '%s\n' "$file"
      return
    fi
  done
  common::die "no Pipfile, requirements.txt or venv/requirements.txt in $project"
}

# environment::path PROJECT cpu|gpu   The folder of the environment for the requirements as they are now.
environment::path() {
  local -r project=$1 flavour=$2
  local file key
  file=$(environment::requirements "$project")
  local -a content=("$file")
  if [[ -f $file.lock ]]; then content+=("$file.lock"); fi
  if [[ $flavour == cpu ]]; then content+=("$project/venv/constraints-cpu.txt"); fi
  key=$(cat -- "${content[@]}" | sha256sum)
  printf '%s/.venv/%s-%s\n' "$project" "$flavour" "${key:0:12}"
}

# environment::pip_setting PYTHON NAME   What PIP_INDEX_URL says, else pip's files, for the NAME index-url; nothing if none does.
environment::pip_setting() {
  local variable=PIP_${2^^}
  variable=${variable//-/_}
  printf '%s\n' "${!variable:-$("$1" -m pip config get "global.$2" 2>/dev/null || true)}"
}

# environment::find PROJECT   The environment that is there, the one for GPUs first. Status 1 when none is.
environment::find() {
  local flavour path
  local -a made
  for flavour in gpu cpu; do
    made=("$1/.venv/$flavour"-*)
    if [[ ! -e ${made[0]} ]]; then continue; fi # nothing to compute its name for
    path=$(environment::path "$1" "$flavour")
    if [[ -x $path/bin/python ]]; then
      printf '%s\n' "$path"
      return
    fi
  done
  return 1
}
