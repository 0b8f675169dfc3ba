#!/usr/bin/env bash
# staging_node.sh METHOD [FOLDER NAME...]
# staging_node.sh trace FILES METHOD [FOLDER NAME...]
#
# One node's part of staging_job.sh: copies FOLDER/NAME… to SLURM_TMPDIR as people do it in job scripts.
#   METHOD   cp: `cp -r`; rsync: `rsync -a`; tar: `tar -xf` of FOLDER/plain/NAME.tar; clear: remove everything there
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
source "$here/tracing.sh"

if [[ $1 == trace ]]; then
  tracing::run "$2/${SLURMD_NODENAME:?}" bash "${BASH_SOURCE[0]}" "${@:3}"
  exit
fi
method=$1 folder=${2:-}
cd -- "${SLURM_TMPDIR:?}"
if [[ $method == clear ]]; then
  find . -mindepth 1 -delete
  exit
fi
for name in "${@:3}"; do
  case $method in
    cp) cp -r -- "$folder/$name" . ;;
    rsync) rsync -a -- "$folder/$name" . ;;
    tar) tar -xf "$folder/plain/$name.tar" ;;
  esac
done
