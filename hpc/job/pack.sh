#!/usr/bin/env bash
# pack.sh RUN_DIRECTORY
#
# The batch script of --pack-in-job. It packs the data that the run directory names, on any node, and writes the
# plan for the job that waits for this one. Slurm runs a copy of this file.
set -euo pipefail
shopt -s inherit_errexit

run_directory=$1
declare -A fact
# shellcheck source=/dev/null
source "$run_directory/facts"
here=$run_directory/kit/hpc
source "$here/lib/common.sh"
source "$here/lib/files.sh"
source "$here/lib/slurm.sh"
source "$here/lib/run_directory.sh"
source "$here/lib/packing.sh"
source "$here/lib/staging.sh"

if [[ $run_directory == *[%\\]* ]]; then exec >>"$run_directory/pack_log.txt" 2>&1; fi
printf '== job %s packs, on %s, %s\n' "$SLURM_JOB_ID" "$(common::node)" "$(date '+%F %T %Z')"
if [[ -e $run_directory/data ]]; then mapfile -d '' staging_paths <"$run_directory/data"; fi
staging::prepare
staging::write "$run_directory/staging"
