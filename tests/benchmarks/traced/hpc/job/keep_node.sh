#!/usr/bin/env bash
# keep_node.sh RUN_DIRECTORY COUNTS read|sbcast
#
# Replaces the kit's own script where staging_job.sh counts: runs the original under strace.
set -euo pipefail
shopt -s inherit_errexit

declare -A fact
# shellcheck source=/dev/null
source "$1/facts"
source "$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../.." && pwd)/tracing.sh"
tracing::run "$2/${SLURMD_NODENAME:?}" bash "${fact[source_dir]}/hpc/job/keep_node.sh" "$@"
