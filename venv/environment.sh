# shellcheck shell=bash
# Where the project's environments lie and which one fits its requirements. Sourced by create.sh, run.sh
# and the submitter.

# environment::requirements PROJECT [VARIABLE]   The file that says what is needed.
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

# environment::path PROJECT cpu|gpu [VARIABLE]   The folder of the environment for the requirements as they are now, and for machines like this
# one: a home may be shared with Arm nodes, or with another release of the system.
environment::path() {
  local path_machine
  environment::machine path_machine
  environment::folder "$1" "$2" "$path_machine" "${3:-}"
}

# environment::machine [VARIABLE]   What compiled packages depend on.
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
  folder_key=$({ cat -- "${folder_content[@]}" && printf '%s' "$3"; } | sha256sum)
  common::give "$1/.venv/$2-${folder_key:0:12}" "${4:-}"
}

# environment::made PROJECT cpu|gpu   Prints the folder of the one that is there: also of an earlier kit, which knew of no machines, where
# it works on this one. Status 1 when there is none.
environment::made() {
  local path
  environment::path "$1" "$2" path
  if [[ ! -x $path/bin/python ]]; then
    environment::folder "$1" "$2" '' path
    environment::works "$path" || return
  fi
  printf '%s\n' "$path"
}

# environment::works PATH   Whether its python starts here, and is still of the version whose packages it has.
environment::works() {
  local version
  version=$("$1/bin/python" -I -S -c 'import sys; print("python%d.%d" % sys.version_info[:2])' 2>/dev/null) && [[ -d $1/lib/$version/site-packages ]]
}

# environment::pip_setting PYTHON NAME   What PIP_INDEX_URL says, else pip's files, for the NAME index-url; nothing if none does.
environment::pip_setting() {
  local variable=PIP_${2^^}
  variable=${variable//-/_}
  printf '%s\n' "${!variable:-$("$1" -m pip config get "global.$2" 2>/dev/null || true)}"
}

# environment::find PROJECT   The environment that is there, the one for GPUs first. Status 1 when none is.
environment::find() {
  local flavour
  local -a folders
  for flavour in gpu cpu; do
    folders=("$1/.venv/$flavour"-*)
    if [[ ! -e ${folders[0]} ]]; then continue; fi # nothing to compute its name for
    if environment::made "$1" "$flavour"; then return; fi
  done
  return 1
}

# environment::activate DIRECTORY   What its own activate does, without sourcing a script that prompts and knows only interactive shells.
environment::activate() {
  unset PYTHONHOME
  if [[ -d $1/conda-meta ]]; then
    environment::activate_conda "$1"
  else
    export VIRTUAL_ENV=$1 PATH=$1/bin:$PATH
  fi
}

# environment::activate_conda PREFIX   As `conda activate` leaves it, in place of the one that the login shell may have had active:
# its variables, then the scripts of its packages, which are written for shells without -e and -u. (They see the locals here.)
# Without the user's own packages (~/.local), which are of another python.
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

# environment::conda_variables PREFIX   Prints NAME=VALUE, each with a NUL: of its packages, and of `conda env config vars set`.
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

# environment::source SCRIPT   Without arguments. What it prints is none of the command's output.
environment::source() {
  local -r environment_script=$1
  set --
  set +euo pipefail
  # shellcheck source=/dev/null
  source "$environment_script" >&2
  set -euo pipefail
}
