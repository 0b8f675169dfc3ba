# shellcheck shell=bash
# Finds the project's environments, and the one that fits its requirements. create.sh, run.sh and the submitter
# source it.

# environment::requirements PROJECT [VARIABLE]   Gives the file with the requirements.
environment::requirements() {
  local requirements_file
  for requirements_file in "$1/Pipfile" "$1/requirements.txt" "$1/venv/requirements.txt"; do
    if [[ -f $requirements_file ]]; then
      common::give "$requirements_file" "${2:-}"
      return
    fi
  done
  common::die "no Pipfile, requirements.txt or venv/requirements.txt in $1"
}

# environment::path PROJECT cpu|gpu [VARIABLE]   Gives the folder of the environment for the current requirements, and for machines like
# this one: a home may be shared with Arm nodes, or with another release of the system.
environment::path() {
  local path_machine
  environment::machine path_machine
  environment::folder "$1" "$2" "$path_machine" "${3:-}"
}

# environment::machine [VARIABLE]   Gives the properties of the machine that compiled packages depend on.
environment::machine() {
  local machine_kind machine_libc
  machine_kind=$(uname -m)
  machine_libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || machine_libc='another libc'
  common::give "$machine_kind, $machine_libc" "${1:-}"
}

# environment::folder PROJECT cpu|gpu MACHINE [VARIABLE]
environment::folder() {
  local folder_file folder_key
  environment::requirements "$1" folder_file
  local -a folder_content=("$folder_file")
  if [[ -f $folder_file.lock ]]; then folder_content+=("$folder_file.lock"); fi
  if [[ $2 == cpu ]]; then folder_content+=("$1/venv/constraints-cpu.txt"); fi
  folder_key=$(exec sha256sum < <(cat -- "${folder_content[@]}" && printf '%s' "$3"))
  common::give "$1/.venv/$2-${folder_key:0:12}" "${4:-}"
}

# environment::made PROJECT cpu|gpu   Prints the folder of the existing environment. An environment of an earlier kit, which did not
# distinguish machines, counts if it works on this one. Status 1 if there is none.
environment::made() {
  local path
  environment::path "$1" "$2" path
  if [[ ! -x $path/bin/python ]]; then
    environment::folder "$1" "$2" '' path
    environment::works "$path" || return
  fi
  printf '%s\n' "$path"
}

# environment::works PATH   Whether its python starts here, and still has the version of its installed packages.
environment::works() {
  local version
  version=$("$1/bin/python" -I -S -c 'import sys; print("python%d.%d" % sys.version_info[:2])' 2>/dev/null) && [[ -d $1/lib/$version/site-packages ]]
}

# environment::pip_setting PYTHON NAME   Prints a setting of pip: for the NAME index-url, PIP_INDEX_URL, else the value in pip's files,
# else nothing.
environment::pip_setting() {
  local variable=PIP_${2^^}
  variable=${variable//-/_}
  printf '%s\n' "${!variable:-$("$1" -m pip config get "global.$2" 2>/dev/null || true)}"
}

# environment::find PROJECT   Prints the existing environment; the one for GPUs comes first. Status 1 if there is none.
environment::find() {
  local flavour
  local -a folders
  for flavour in gpu cpu; do
    folders=("$1/.venv/$flavour"-*)
    if [[ ! -e ${folders[0]} ]]; then continue; fi # there is none of this kind
    if environment::made "$1" "$flavour"; then return; fi
  done
  return 1
}

# environment::activate DIRECTORY   Does the work of the environment's activate script, which changes the prompt and expects an interactive
# shell.
environment::activate() {
  unset PYTHONHOME
  if [[ -d $1/conda-meta ]]; then
    environment::activate_conda "$1"
  else
    export VIRTUAL_ENV=$1 PATH=$1/bin:$PATH
  fi
}

# environment::activate_conda PREFIX   Has the result of `conda activate`, and replaces an environment that the login shell has activated.
# It sets the environment's variables, then sources the scripts of its packages, which are written for shells without -e and -u.
# (They see the local variables of this function.) It disables the user's own packages (~/.local), which belong to another python.
environment::activate_conda() {
  local environment_name environment_path=:$PATH:
  local -a environment_words=()
  if [[ -n ${CONDA_PREFIX:-} ]]; then environment_path=${environment_path//":$CONDA_PREFIX/bin:"/:}; fi
  environment_path=${environment_path#:}
  environment_path=${environment_path%:}
  for environment_name in VIRTUAL_ENV CONDA_PROMPT_MODIFIER "${!CONDA_PREFIX_@}" "${!CONDA_STACKED_@}"; do unset -v "$environment_name"; done
  environment_name=$1
  if [[ -d $1/condabin ]]; then environment_name=base; elif [[ ${1%/*} == */envs ]]; then environment_name=${1##*/}; fi
  export PATH=$1/bin:$environment_path CONDA_PREFIX=$1 CONDA_DEFAULT_ENV=$environment_name CONDA_SHLVL=1 PYTHONNOUSERSITE=${PYTHONNOUSERSITE-1}
  mapfile -d '' environment_words < <(environment::conda_variables "$1")
  wait "$!" || common::warn "the variables of ${1@Q} (conda env config vars) cannot be read; why is said above"
  for environment_name in "${environment_words[@]}"; do export "${environment_name?}"; done
  for environment_name in "$1"/etc/conda/activate.d/*.sh; do
    if [[ -r $environment_name ]]; then environment::source "$environment_name"; fi
  done
}

# environment::conda_variables PREFIX   Prints NAME=VALUE, each with a NUL: the variables of its packages, and of
# `conda env config vars set`.
environment::conda_variables() {
  "$1/bin/python" -I -S -c '
import glob, json, sys
found = {}
for file in sorted(glob.glob(glob.escape(sys.argv[1]) + "/etc/conda/env_vars.d/*.json")):
    with open(file, "rb") as text:
        found.update(json.loads(text.read().decode("utf-8")))
for file in glob.glob(glob.escape(sys.argv[1]) + "/conda-meta/state"):
    with open(file, "rb") as text:
        found.update(json.loads(text.read().decode("utf-8")).get("env_vars", {}))
for name, value in found.items():
    if value != "***unset***":
        sys.stdout.buffer.write(("%s=%s" % (name, value)).encode("utf-8", "surrogateescape") + b"\0")
' "$1"
}

# environment::source SCRIPT   Sources SCRIPT without arguments. Its output goes to standard error, not into the command's output.
environment::source() {
  local -r environment_script=$1
  set --
  set +euo pipefail
  # shellcheck source=/dev/null
  source "$environment_script" >&2
  set -euo pipefail
}
