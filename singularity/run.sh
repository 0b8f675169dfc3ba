#!/usr/bin/env bash
# singularity/run.sh COMMAND [ARGUMENT...]
#
# Runs COMMAND in the container image CONTAINER_IMAGE, and becomes it.
#
# hpc/job/node.sh calls it on every node, in the environment of the job. People can call it too: they get the project at /code,
# read-only. Needs Apptainer, or SingularityCE 3.9 or later.
#
# Exit status: that of COMMAND.
#
# See also: singularity/build.sh; README.md
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
project=${here%/*}
source "$project/hpc/lib/common.sh"
source "$project/hpc/lib/container_runtime.sh"
source "$project/singularity/container_mounts.sh"
source "$project/singularity/container_environment.sh"
source "$project/hpc/lib/dotenv.sh"
source "$project/hpc/lib/node_environment.sh"

if [[ ${1:-} == -* ]]; then
  source "$project/hpc/lib/help.sh"
  help::answer "$project" "${BASH_SOURCE[0]}" "$@"
fi
(($# > 0)) || common::die_usage "no command: CONTAINER_IMAGE=image.sif bash singularity/run.sh python -m train"
image=${CONTAINER_IMAGE:-}
[[ -n $image ]] || common::die_usage "no image: name one in CONTAINER_IMAGE"
[[ -e $image ]] || common::die "no container image ${image@Q} on $(common::node): must it lie where all nodes see it?"
runtime=$(container_runtime::find) ||
  common::die "no apptainer and no singularity on $(common::node): does a module bring it? Name it in the site's profile, site[modules]"

declare -A fact=([source_dir]=$project [project_directory]=$project)
directory=/code needs='' inside=/code/singularity/inside.sh
if [[ -n ${RUN_DIRECTORY:-} ]]; then
  # shellcheck source=/dev/null
  source "$RUN_DIRECTORY/facts"
  inside=$RUN_DIRECTORY/kit/singularity/inside.sh
  needs=bash # for rank.sh
  if [[ ${fact[launcher]} != @(srun|node) ]]; then needs='bash torch'; fi
  case ${fact[working_directory]} in
    /*) directory=${fact[working_directory]} ;;
    *) directory=/code/${fact[working_directory]} ;;
  esac
fi

# Do not use --contain: it hides the node's /dev, with InfiniBand, and its /dev/shm, through which the ranks of a node in
# separate containers communicate. The mounts that the site configures for all containers stay.
options=(--cleanenv --no-home --no-mount 'cwd,tmp' --writable-tmpfs --pwd /)
if [[ -e /proc/driver/nvidia/version || -e /dev/nvidiactl ]]; then options+=(--nv); fi
if [[ -e /dev/kfd ]]; then options+=(--rocm); fi
container_mounts::add_options
container_environment::export "$runtime"
exec "$runtime" --quiet exec "${options[@]}" "$image" \
  /bin/sh "$inside" "$image" "${HOME:-/}" "$directory" "$needs" "$@"
