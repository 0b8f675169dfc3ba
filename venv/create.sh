#!/usr/bin/env bash
# venv/create.sh [cpu|gpu]
#
# Creates the virtual environment for the project's Pipfile, else requirements.txt, else venv/requirements.txt, and prints its
# folder.
#
# It is created once for each content of that file and each kind of machine (processor, C library): after that, the command only
# prints. Without an argument: gpu if this machine or its Slurm has GPUs, else cpu. Uses uv if it is there, else pip.
#
# cpu: limit torch to the version of venv/constraints-cpu.txt
#
# gpu: let torch choose, as the requirements say
#
# Environment: PYTHON is the Python to use, in place of python3 (3.9 or later).
#
# Files:
#   .venv/    the environments, for all checkouts of the project at this path
#
# See also: job_submitter.sh; README.md
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
project=${here%/*}
source "$project/hpc/lib/common.sh"
source "$project/hpc/lib/files.sh"
source "$project/hpc/lib/slurm.sh"
source "$here/environment.sh"

main() {
  local flavour=${1:-}
  if [[ $flavour == -* ]]; then # the build of an image does not have help.sh
    source "$project/hpc/lib/help.sh"
    help::answer "$project" "${BASH_SOURCE[0]}" "$@"
  fi
  if [[ -z $flavour ]]; then flavour=$(create::fitting_flavour); fi
  [[ $flavour == @(cpu|gpu) ]] || common::die_usage "unknown argument ${flavour@Q}: venv/create.sh [cpu|gpu]"
  (($# <= 1)) || common::die_usage "too many arguments: venv/create.sh [cpu|gpu]"

  local link lock old
  if ! link=$(environment::made "$project" "$flavour"); then
    link=$(environment::path "$project" "$flavour")
    old=$(environment::folder "$project" "$flavour" '')
    if [[ -L $old ]]; then common::note "the environment ${old##*/} was made for another machine, or another python: this one gets its own"; fi
    mkdir -p -- "${link%/*}"
    files::lock lock "$link.lock" try || {
      common::note "another create.sh is making this environment: waiting for it"
      flock "$lock"
    }
    if [[ ! -x $link/bin/python ]]; then create::make "$link" "$flavour"; fi
  fi
  printf '%s\n' "$link"
}

# If Slurm does not answer, do not guess: the wrong environment would stay.
create::fitting_flavour() {
  local shown='' status=0
  if ! common::has_command nvidia-smi && [[ -z ${POCKET_CLUSTER_DIR:-} ]] && common::has_command sinfo; then
    slurm::ask shown 10 sinfo --noheader --format=%G || status=$?
    ((status != 2)) || common::die "Slurm does not answer whether it has GPUs ($shown): say which to make, venv/create.sh gpu or venv/create.sh cpu"
  fi
  if common::has_command nvidia-smi || [[ $status == 0 && $shown == *gpu* ]]; then
    echo gpu
  else
    echo cpu
  fi
}

# create::make LINK FLAVOUR
# An environment contains its own path (in the scripts of bin/), so it cannot be renamed. It is made in a folder
# that keeps its name, and the link to it is created last, by rename. An interrupted create.sh leaves a folder that
# nobody uses; the next create.sh that holds the lock removes it.
create::make() {
  local -r link=$1 flavour=$2
  local python requirements
  python=$(create::python)
  requirements=$(environment::requirements "$project")
  common::note "making the $flavour environment for ${requirements#"$project/"} (once; minutes) …"
  rm -rf -- "$link".?????? # left by an interrupted create.sh
  building=$(mktemp -d -- "$link.XXXXXX")
  chmod 755 "$building"
  trap create::remove_unfinished EXIT
  common::end_on_signals

  local -a constraint=() quiet=(--quiet)
  if [[ -t 2 ]]; then quiet=(); fi # pip and uv show their progress on a terminal
  if [[ $flavour == cpu ]]; then constraint=(--constraint "$here/constraints-cpu.txt"); fi
  if [[ $requirements == */Pipfile ]]; then
    create::from_pipfile "$python" "$requirements"
  elif common::has_command uv; then
    create::with_uv "$python" "$requirements"
  else
    "$python" -m venv "$building"
    "$building/bin/python" -m pip install --disable-pip-version-check "${quiet[@]}" "${constraint[@]}" --requirement "$requirements" >&2
  fi

  environment::machine >"$building/.machine"
  local -r name=${building##*/}
  ln -s -- "$name" "$building.link"
  mv -fT -- "$building.link" "$link"
  trap - EXIT
}

create::remove_unfinished() {
  local -r status=$?
  if ((status < 128)); then common::print_error "the environment was not made, for the reason above"; fi
  rm -rf -- "$building" "$building.link" "${constraint_file:-}"
}

create::python() {
  local -r python=${PYTHON:-python3}
  common::has_command "$python" || common::die "no ${python@Q} here: install Python 3.9 or later, or name one in PYTHON"
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' ||
    common::die "${python@Q} is $("$python" -V 2>&1): the kit needs 3.9 or later; name another in PYTHON"
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    common::die "${python@Q} cannot make virtual environments: install Debian's python3-venv, or load a Python module"
  printf '%s\n' "$python"
}

# uv does not read pip's settings, so pass on the addresses of the package indexes.
create::with_uv() {
  local -r python=$1 requirements=$2
  local index extra links
  index=$(environment::pip_setting "$python" index-url)
  extra=$(environment::pip_setting "$python" extra-index-url)
  links=$(environment::pip_setting "$python" find-links)
  if [[ -n $index ]]; then export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}; fi
  if [[ -n $extra ]]; then export UV_INDEX=${UV_INDEX:-$extra}; fi
  if [[ -n $links ]]; then export UV_FIND_LINKS=${UV_FIND_LINKS:-${links// /,}}; fi
  uv venv --quiet --python "$(command -v "$python")" --allow-existing --seed "$building" >&2
  uv pip install "${quiet[@]}" --python "$building/bin/python" "${constraint[@]}" --requirement "$requirements" >&2
}

# Pipenv reads Pipfiles. It is installed in a separate folder, so that the environment holds only what was requested.
create::from_pipfile() {
  local -r python=$1 pipfile=$2
  "$python" -m venv "$building"
  "$python" -m venv "$building/pipenv"
  "$building/pipenv/bin/python" -m pip install --disable-pip-version-check "${quiet[@]}" pipenv >&2
  # Pipenv has no option for constraints, and pip splits this variable at spaces.
  if ((${#constraint[@]} > 0)); then
    constraint_file=$(mktemp)
    cp -- "${constraint[1]}" "$constraint_file"
    export PIP_CONSTRAINT=$constraint_file
  fi
  local -a how=(install --skip-lock)
  if [[ -f $pipfile.lock ]]; then how=(sync); fi
  VIRTUAL_ENV=$building PIPENV_PIPFILE=$pipfile PIPENV_VERBOSITY=-1 \
    "$building/pipenv/bin/python" -m pipenv "${how[@]}" >&2
  rm -rf -- "$building/pipenv" "${constraint_file:-}"
}

main "$@"
