#!/usr/bin/env bash
# doctor_node.sh HPC_FOLDER SITE MODULES LOCAL_DIRECTORY REPORT
#
# The job of doctor.sh on one compute node. It writes its findings into REPORT, one line `NAME<TAB>VALUE` each, and does not judge
# them.
set -euo pipefail
shopt -s inherit_errexit

hpc=$1 report=$5
declare -A fact=([site]=$2 [modules]=$3 [node_local_directory]=$4)
if [[ ! -r $hpc/lib/common.sh ]]; then
  exec printf 'node\t%s\nproject\t%s\n' "${SLURMD_NODENAME:-$(uname -n)}" "${hpc%/*}" >"$report"
fi
source "$hpc/lib/common.sh"
source "$hpc/lib/site.sh"
source "$hpc/job/lib/node_setup.sh"
source "$hpc/job/lib/local_disk.sh"
source "$hpc/lib/container_runtime.sh"

main() {
  local -r server=${WANDB_BASE_URL:-https://api.wandb.ai}
  local message name version=''
  doctor_node::say time "$(date +%s)"
  doctor_node::say node "$(common::node)"
  if message=$(node_setup::run "$hpc" 2>&1); then
    node_setup::run "$hpc" >/dev/null 2>&1
    doctor_node::say modules_loaded yes
  else
    doctor_node::say modules "$message"
  fi
  doctor_node::local_disk
  doctor_node::say python "$(python3 -c 'import sys; assert sys.version_info >= (3, 6); print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null || true)"
  if name=$(container_runtime::find); then
    version=$(timeout 15 "$name" --version 2>/dev/null) || version="$name that does not run"
  fi
  doctor_node::say container "$version"
  doctor_node::say server "$server"
  doctor_node::say internet "$(doctor_node::reaches "$server" 2>/dev/null || true)"
}

doctor_node::say() {
  printf '%s\t%s\n' "$1" "${2//[[:cntrl:]]/ }"
}

# Reports PATH|MEGABYTES_FREE|MEGABYTES|KIND; without the numbers if the folder is not writable.
doctor_node::local_disk() {
  local folder free='' size='' kind=''
  site::expand folder "${fact[node_local_directory]}"
  if ! local_disk::choose; then folder=$SLURM_TMPDIR; fi
  if [[ -d $folder && -w $folder ]]; then
    read -r free size kind < <(timeout 15 df --block-size=1M --output=avail,size,fstype -- "$folder" 2>/dev/null | sed 1d) || true
  fi
  doctor_node::say local_disk "$folder|$free|$size|$kind"
}

# Any answer counts, even an error of the server. The site's proxy is used.
doctor_node::reaches() {
  timeout 10 python3 - "$1" <<'PYTHON'
import sys, urllib.error, urllib.request
try:
    urllib.request.urlopen(sys.argv[1], timeout=5)
except urllib.error.HTTPError:
    pass
print("yes")
PYTHON
}

main | common::write_atomically "$report"
