#!/usr/bin/env bash
# sweep.sh FILE [OPTION...]
#
# Creates the W&B sweep of FILE on W&B's server and submits its runs as an array job. hpc/sweeper.yml is a template.
#
# The OPTIONs are those of job_submitter.sh, including --gpus and --num-nodes for trials of several processes. Run by people, on a login node
# that reaches W&B. The key comes from WANDB_API_KEY, .env, ~/wandb_credentials.txt or netrc.
#
# Exit status: as for job_submitter.sh, which also writes the standard output.
#
# See also: job_submitter.sh, sync_wandb.sh; README.md
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
project=${here%/*}
source "$here/lib/common.sh"
source "$here/lib/help.sh"
source "$here/lib/dotenv.sh"
source "$here/lib/secrets.sh"
source "$here/lib/slurm.sh"
source "$here/lib/site.sh"
source "$here/lib/wandb_client.sh"

declare -A fact=()

main() {
  local sweep
  help::answer "$project" "${BASH_SOURCE[0]}" "$@"
  [[ ${1:-} == [!-]* ]] || common::die_usage "${1:+${1@Q} where the file should be: }sweep.sh FILE [OPTION of job_submitter.sh...]"
  sweep::choose_environment "${@:2}"
  sweep=$(wandb_client::run "$project" python "$here/sweep/sweep.py" create "$1")
  common::note "sweep $sweep; to submit for it again: job_submitter.sh --wandb-sweepid $sweep"
  exec bash "$here/job_submitter.sh" --wandb-sweepid "$sweep" "${@:2}"
}

# That of the jobs, in the submitter's order: the option, the environment or .env, the site's profile.
sweep::choose_environment() {
  local word before=''
  dotenv::each "$project/.env" secrets::take_setting
  fact[environment]=${HPC_ENVIRONMENT:-}
  for word in "$@"; do
    if [[ $before == --environment ]]; then fact[environment]=$word; fi
    if [[ $word == --environment=* ]]; then fact[environment]=${word#*=}; fi
    before=$word
  done
  if [[ -n ${fact[environment]} ]] || ! common::has_command sbatch || ! site::query word; then return 0; fi
  site::load "$here" "${HPC_CLUSTER:-}"
  fact[environment]=${site[environment]}
}

main "$@"
