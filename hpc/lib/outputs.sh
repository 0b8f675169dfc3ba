# shellcheck shell=bash
# Where the runs of the project are, for tools that read them.

# outputs::find PROJECT   Sets outputs, the folder of the run directories, by the SCRATCH of the environment, else of the
# project's .env, else of the site's profile, as the submitter does.
outputs::find() {
  dotenv::each "$1/.env" outputs::take_setting
  site::load "$1/hpc" "${HPC_CLUSTER:-}"
  local -r scratch=${SCRATCH:-${site[scratch]}}
  [[ -n $scratch ]] || common::die "SCRATCH is not set: export it, or write it into the project's .env; a run directory can be named without it"
  # shellcheck disable=SC2034 # the caller's
  outputs=${scratch%/}/${1##*/}/hpc_outputs
}

outputs::take_setting() {
  if [[ $1 == @(SCRATCH|HPC_CLUSTER) ]]; then secrets::export_unless_set "$@"; fi
}
