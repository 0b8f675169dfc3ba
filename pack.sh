set -euo pipefail
source "$1/hpc/lib/common.sh"
source "$1/hpc/job_submitter/snapshot.sh"
snapshot::pack "${@:2}"
