#!/usr/bin/env bash
# doctor.sh [OPTIONS]
#
# Looks at the site, once: what Slurm allows, the folders and their room, the keys, and, by one job of a minute, what a
# compute node has. Prints a line for each thing: ok, note (it may hinder some jobs) or problem, with the value and how
# to mend it; the last line is `ready`, or `not ready`. What was found is kept for a week, and job_submitter.sh warns
# of what concerns a request. Run by people, on a login node. Ctrl-C cancels the job. With --profile it
# writes a first profile of the site instead, and sends no job. Exit status: 0 ready, 1 not
# ready, 2 the request is wrong.
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
project=${here%/*}
source "$here/lib/common.sh"
source "$here/lib/checks.sh"
source "$here/lib/options.sh"
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
  options::add json flag '' '--json' 'print it as JSON'
  options::add quick flag '' '--quick' 'send no job: what a compute node has is not looked at'
  options::add wait count 120 '--wait' 'seconds for which that job may wait in the queue'
  options::add profile 'optional name stdout' '' '--profile' 'write a first profile of this site, which none describes: on standard output, or as NAME into ~/.config/hpc_kit/clusters'
  options::add gpu_type text '' '--gpu-type -G' 'type of GPU that your jobs ask for'
  options::add_placement partition account qos cluster
  options::add help flag '' '--help -h' 'print this'
  options::parse_command "${BASH_SOURCE[0]}" "$@"
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
