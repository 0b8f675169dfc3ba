#!/usr/bin/env bash
# singularity/build.sh [cpu|gpu] [--from FOLDER|IMAGE] [--output FILE]
#
# Builds the container image for the project's Pipfile, else requirements.txt, else venv/requirements.txt, and prints its name, for
# job_submitter.sh -s.
#
# It is built once for each content of that file: after that, the command only prints. The image holds Python and the requirements,
# no file of the project and no secret. Needs Apptainer or Singularity, and no root if the machine allows user namespaces.
#
# cpu|gpu: the kind of torch, as for venv/create.sh (default: gpu)
#
# --from: a folder with a Debian inside, or an image, in place of the public Python base
#
# --output: name of the image (default: in .venv/, by its content)
#
# Environment: APPTAINER_MKSQUASHFS_ARGS, of Apptainer, is how the image is compressed; the default here is for a fast start.
#
# See also: job_submitter.sh; README.md
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
project=${here%/*}
source "$project/hpc/lib/common.sh"
source "$project/hpc/lib/help.sh"
source "$project/hpc/lib/container_runtime.sh"
source "$project/venv/environment.sh"

# The files of the project that the build uses.
readonly -a build_files=(hpc/lib/{common,files,slurm}.sh venv/create.sh venv/environment.sh venv/requirements.txt venv/constraints-cpu.txt)
readonly -a build_files_if_there=(requirements.txt Pipfile Pipfile.lock)

main() {
  local flavour='' base=docker://python:3.11-slim output='' runtime
  help::answer "$project" "${BASH_SOURCE[0]}" "$@"
  build::parse "$@"
  if [[ -z $output ]]; then output=$(build::name); fi
  if [[ ! -e $output ]]; then
    runtime=$(container_runtime::find) ||
      common::die "no apptainer and no singularity on $(common::node): load its module, build where it is, or build singularity/Dockerfile on a machine with Docker"
    build::make
  fi
  printf '%s\n' "$output"
}

build::parse() {
  while (($# > 0)); do
    case $1 in
      cpu | gpu)
        [[ -z $flavour ]] || common::die_usage "cpu or gpu once: singularity/build.sh [cpu|gpu] [--from FOLDER|IMAGE] [--output FILE]"
        flavour=$1
        ;;
      --from | --output)
        [[ -n ${2:-} ]] || common::die_usage "$1 needs a value"
        if [[ $1 == --from ]]; then base=$2; else output=$(realpath -m -- "$2"); fi
        shift
        ;;
      *) common::die_usage "unknown argument ${1@Q}: singularity/build.sh [cpu|gpu] [--from FOLDER|IMAGE] [--output FILE]" ;;
    esac
    shift
  done
  flavour=${flavour:-gpu}
  if [[ $base != *://* ]]; then
    [[ -e $base ]] || common::die_usage "--from ${base@Q}: no such folder or image"
    base=$(realpath -- "$base")
    # A definition file has no quotes: the name ends at the end of the line.
    [[ $base != *[[:cntrl:]]* ]] || common::die_usage "--from ${base@Q}: a definition file cannot say this name"
  fi
}

build::name() {
  local key
  key=$({
    cat -- "$here/train.def" "$project/venv/create.sh" "$(environment::requirements "$project")"
    environment::folder "$project" "$flavour" "$(uname -m)"
    printf '%s\n' "$base"
  } | sha256sum)
  printf '%s/.venv/container-%s-%s.sif\n' "$project" "$flavour" "${key:0:12}"
}

# Builds in a separate folder, so that only the listed files can enter. The image gets its name when it is complete.
build::make() {
  local file
  mkdir -p -- "${output%/*}"
  build=$(mktemp -d)
  partial=$(mktemp -- "$output.XXXXXX")
  trap build::remove_unfinished EXIT
  common::end_on_signals
  for file in "${build_files[@]}" "${build_files_if_there[@]}"; do
    if [[ ! -e $project/$file && " ${build_files_if_there[*]} " == *" $file "* ]]; then continue; fi
    mkdir -p -- "$build/environment/$(dirname -- "$file")"
    cp -- "$project/$file" "$build/environment/$file"
  done
  build::write_definition
  build::bring_pip_settings

  # Each start reads torch from the image again, and gzip, the default, is slower at that than zstd.
  export APPTAINER_MKSQUASHFS_ARGS=${APPTAINER_MKSQUASHFS_ARGS:--comp zstd -Xcompression-level 3}
  local -a how=(build --force "${binds[@]}")
  if ((EUID != 0)); then how+=(--fakeroot); fi
  common::note "building the $flavour image from $base (once; minutes) …"
  if ! (cd -- "$build" && "$runtime" "${how[@]}" "$partial" train.def </dev/null >&2); then build::explain_failure; fi
  chmod 644 -- "$partial"
  mv -fT -- "$partial" "$output"
}

build::remove_unfinished() {
  rm -rf -- "$build" "$partial"
}

build::write_definition() {
  local definition bootstrap=localimage
  definition=$(<"$here/train.def")
  if [[ $base == *://* ]]; then bootstrap=${base%%://*}; fi
  definition=${definition/'Bootstrap: BOOTSTRAP'/"Bootstrap: $bootstrap"}
  definition=${definition/'From: BASE'/"From: ${base#*://}"}
  printf '%s\n' "${definition/FLAVOUR/"$flavour"}" >"$build/train.def"
}

# The build does not see this machine's environment. A file passes on the addresses of the package indexes. It exists only
# during the build, because it may hold a password. The public bases have an empty /mnt and /media.
build::bring_pip_settings() {
  local name value
  binds=()
  mkdir -- "$build/pip"
  printf '[global]\n' >"$build/pip/pip.conf"
  for name in index-url extra-index-url find-links cert trusted-host; do
    value=$(environment::pip_setting python3 "$name")
    if [[ -z $value ]]; then continue; fi
    if [[ $name == cert ]]; then
      cp -- "$value" "$build/pip/cert.pem"
      value=/mnt/cert.pem
    elif [[ $name == find-links && -d $value ]]; then
      build::bind "$(realpath -- "$value")" /media
      value=/media
    fi
    printf '%s = %s\n' "$name" "$value" >>"$build/pip/pip.conf"
  done
  build::bind "$build/pip" /mnt
}

build::bind() {
  binds+=(--mount "type=bind,\"source=${1//\"/\"\"}\",destination=$2")
}

build::explain_failure() {
  local reason="$runtime could not build the image; its own words are above."
  if ((EUID == 0)); then
    common::die "$reason If it wants a capability that root does not have here, build as an ordinary user"
  fi
  common::die "$reason Where users may not build (no namespaces, or no lines of /etc/subuid): run  bash singularity/build.sh $flavour  on a machine of your own, as any user that may, and copy the image here; or there  docker build --file singularity/Dockerfile --tag train .  and  docker save train --output train.tar , and here  $runtime build train.sif docker-archive:train.tar"
}

main "$@"
