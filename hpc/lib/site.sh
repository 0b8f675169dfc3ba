# shellcheck shell=bash
# What is known of the cluster: the live one, and the profile of the site.

# shellcheck disable=SC2034 # read by the submitter
declare -gA site+=()  # facts of the profile; clusters/default.sh lists them
declare -gA slurm+=() # of `scontrol show config`: what site::query looks for

# The defaults that people keep in SBATCH_ACCOUNT and its like stay theirs: before site::leave_enclosing_job.
site::take_sbatch_defaults() {
  local name theirs ours
  for name in ACCOUNT PARTITION QOS CONSTRAINT RESERVATION; do
    theirs=SBATCH_$name ours=HPC_$name
    if [[ -n ${!theirs:-} && -z ${!ours:-} ]]; then printf -v "$ours" '%s' "${!theirs}"; fi
  done
}

# Removes what Slurm has set for the job that this is called from, if it is: the next job would inherit it.
# And what people have told sinfo and squeue to show: here they must show all.
site::leave_enclosing_job() {
  local name
  for name in "${!SLURM_@}" "${!SBATCH_@}" "${!SRUN_@}" "${!PMI@}" "${!SINFO_@}" "${!SQUEUE_@}"; do
    if [[ $name != SLURM_CONF ]]; then unset "$name"; fi
  done
}

# site::query VARIABLE   Fills slurm. Status 1, with VARIABLE saying why, when the controller does not answer.
site::query() {
  local answer name
  common::has_command sbatch ||
    common::die "no sbatch on this machine: run this on a login node of a Slurm cluster, or start one here: bash hpc/pocket_cluster.sh up"
  if ! slurm::ask answer 10 scontrol show config; then
    printf -v "$1" '%s' "Slurm does not answer${answer:+ ($answer)}: is the cluster up? The pocket cluster tells with  bash hpc/pocket_cluster.sh status"
    return 1
  fi
  for name in ClusterName MaxArraySize AccountingStorageType KillWait JobRequeue PreemptType MaxJobCount SLURM_VERSION; do
    if [[ $answer =~ (^|$'\n')"$name"\ *=\ ([^$'\n']+) ]]; then slurm[$name]=${BASH_REMATCH[2]}; fi
  done
}

# site::load HPC_FOLDER [NAME]   The default profile, then that of this site, which says only what differs:
# NAME, else Slurm's name of the cluster, else the one whose hosts match this one. A profile of the user's
# own comes before the kit's.
site::load() {
  local -r kits=$1/clusters users=${XDG_CONFIG_HOME:-$HOME/.config}/hpc_kit/clusters
  local name=${2:-} profile
  if [[ -z $name ]]; then name=$(site::name "$users" "$kits"); fi
  site[name]=$name
  for profile in "$users/$name.sh" "$kits/$name.sh"; do
    if [[ $name == */* || ! -r $profile ]]; then continue; fi
    site::load_from "$1" "$profile"
    return
  done
  local -a known=("$kits"/*.sh)
  known=("${known[@]##*/}")
  common::die_usage "--cluster ${name@Q}: no such profile: the kit has ${known[*]%.sh}; your own go to $users"
}

# site::load_from HPC_FOLDER PROFILE   The default profile, then this one.
site::load_from() {
  # shellcheck source=../clusters/default.sh
  source "$1/clusters/default.sh"
  # shellcheck source=/dev/null
  source "$2"
}

site::name() {
  local -r cluster=${slurm[ClusterName]:-}
  local host folder profile line pattern
  local -a patterns
  for folder in "$@"; do
    if [[ -n $cluster && -r $folder/$cluster.sh ]]; then
      printf '%s\n' "$cluster"
      return
    fi
  done
  host=$(uname -n)
  for profile in "$1"/*.sh "$2"/*.sh; do
    if [[ ! -r $profile ]]; then continue; fi
    while IFS= read -r line; do
      if [[ $line != '# hosts: '* ]]; then continue; fi
      read -ra patterns <<<"${line#'# hosts: '}"
      for pattern in "${patterns[@]}"; do
        # shellcheck disable=SC2053 # the profile gives a pattern
        if [[ $host == $pattern ]]; then
          profile=${profile##*/}
          printf '%s\n' "${profile%.sh}"
          return
        fi
      done
    done <"$profile"
  done
  echo default
}

# site::outputs VARIABLE PROJECT   VARIABLE becomes the folder of the run directories, by the SCRATCH of the environment, else of the
# project's .env, else of the site's profile, as the submitter does.
site::outputs() {
  dotenv::each "$2/.env" secrets::take_setting
  site::load "$2/hpc" "${HPC_CLUSTER:-}"
  local -r scratch=${SCRATCH:-${site[scratch]}}
  [[ -n $scratch ]] || common::die "SCRATCH is not set: export it, or write it into the project's .env; a run directory can be named without it"
  printf -v "$1" '%s' "${scratch%/}/${2##*/}/hpc_outputs"
}
