#!/usr/bin/env bash
# doctor.sh [OPTIONS]
#
# Checks a site once: the limits of Slurm, the folders and their free space, the keys, and, in a job of one minute, a compute node.
# Prints a line for each: ok, note (it may affect some jobs) or problem, with the value and the remedy. The last line is ready or not ready.
#
# Run by people, on a login node. Ctrl-C cancels the job. The findings are kept for a week, and job_submitter.sh warns if one concerns
# a request. With --profile it writes a first profile of the site instead, and submits no job.
#
# Files:
#   ~/.local/state/hpc_kit/doctor/    the findings, one file for each cluster and profile
#
# Exit status: 0 ready, 1 not ready, 2 the request is wrong.
#
# See also: job_submitter.sh; hpc/clusters/README.md
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
project=${here%/*}
source "$here/lib/common.sh"
source "$here/lib/checks.sh"
source "$here/lib/options.sh"
source "$here/lib/help.sh"
source "$here/lib/dotenv.sh"
source "$here/lib/secrets.sh"
source "$here/lib/site.sh"
source "$here/lib/slurm.sh"
source "$here/lib/sending.sh"
source "$here/lib/partitions.sh"
source "$here/lib/node_job.sh"
source "$here/lib/findings.sh"
source "$here/doctor/probe_slurm.sh"
source "$here/doctor/probe_login.sh"
source "$here/doctor/probe_node.sh"
source "$here/doctor/probe_profile.sh"
source "$project/venv/environment.sh"

main() {
  local answers='' partition='' one_gpu='' scratch='' silence
  site::take_sbatch_defaults
  site::leave_enclosing_job
  options::add json flag '' '--json' 'print the findings as JSON'
  options::add quick flag '' '--quick' 'submit no job, and check no compute node'
  options::add wait count 120 '--wait' 'seconds that this job may wait in the queue'
  options::add profile 'optional name stdout' '' '--profile' 'write a first profile of a site that has none: to standard output, or as NAME into ~/.config/hpc_kit/clusters'
  options::add gpu_type text '' '--gpu-type -G' 'type of GPU that your jobs ask for'
  options::add_placement partition account qos constraint reservation cluster
  options::add_help
  help::answer "$project" "${BASH_SOURCE[0]}" "$@"
  options::parse "$@"
  dotenv::each "$project/.env" secrets::take_setting
  if ! common::has_command sbatch; then
    findings::add problem slurm 'no sbatch on this machine' 'run this on a login node, or start a cluster here:  bash hpc/pocket_cluster.sh up'
  elif site::query silence; then
    answers=1
  else
    findings::add problem slurm "$silence" 'try again later, or ask the site'
  fi
  site::load "$here" "${options_value[cluster]:-${HPC_CLUSTER:-}}"
  options::complete site
  if [[ -n ${options_value[profile]} ]]; then
    [[ -n $answers ]] || exit 1
    probe_profile::print "$here" "${options_value[profile]/#stdout/}"
    return
  fi
  if [[ -n $answers ]]; then probe_slurm::all partition one_gpu; fi
  probe_login::all scratch "$project"
  if [[ -n $answers ]]; then
    if [[ -n ${options_value[quick]} ]]; then
      probe_slurm::requeue quick
    elif [[ -n $partition ]]; then
      options_value[partition]=$partition
      probe_node::all "$here" "$scratch" "$partition" "$one_gpu"
    fi
    findings::save "${slurm[ClusterName]:-}"
  fi
  doctor::conclude
}

doctor::conclude() {
  local problems
  problems=$(findings::count problem)
  if [[ -n ${options_value[json]} ]]; then
    printf '%s\n' "${findings_list[@]}" | python3 -c '
import json, sys
names = ("partition", "name", "level", "value", "fix")
findings = [dict(zip(names, line.rstrip("\n").split("\t"))) for line in sys.stdin]
for finding in findings:
    finding["partition"] = None if finding["partition"] == "-" else finding["partition"]
print(json.dumps({"cluster": sys.argv[1], "ready": sys.argv[2] == "0", "findings": findings}, indent=1, ensure_ascii=False))
' "${slurm[ClusterName]:-}" "$problems"
  elif ((problems == 0)); then
    echo ready
  else
    printf 'not ready: %s problem%s\n' "$problems" "$( ((problems == 1)) || echo s)"
  fi
  ((problems == 0))
}

main "$@"
