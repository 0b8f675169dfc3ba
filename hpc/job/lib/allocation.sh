# shellcheck shell=bash
# batch.sh inside an allocation that the user holds (--here). It provides what a batch job gets from sbatch: the environment, the
# log, and the warning before the end. It never ends the allocation or requeues it.

declare -gA fact+=()
declare -ga allocation_nodes+=() allocation_gpus+=() # options for srun: the run may use only a part of the allocation
declare -g allocation_writer=''
declare -gi allocation_seconds_before=15 # before the end of the allocation, so that the nodes can be cleaned

# allocation::enter TASK_DIRECTORY   Unsets what Slurm has set for the user's shell and for the step of this script, because it would
# bind the steps that this script starts. Output goes to the terminal and into the log; only to the log once the terminal is gone.
allocation::enter() {
  local name
  exec > >(trap '' TERM INT HUP QUIT ABRT ALRM USR1 USR2 && exec tee -a -p -- "$1/log.txt") 2>&1
  allocation_writer=$!
  for name in "${!SLURM_@}" "${!SRUN_@}" "${!PMI@}"; do
    case $name in
      SLURM_CONF | SLURM_CLUSTER_NAME | SLURM_JOB_ID | SLURM_JOB_PARTITION | SLURM_JOB_USER | SLURM_JOB_UID | SLURM_TMPDIR) ;;
      *) unset "$name" ;;
    esac
  done
  export SLURM_JOB_NODELIST=${fact[here_nodes]} SLURM_JOB_NUM_NODES=${fact[nodes]}
  allocation_nodes=(--nodelist="${fact[here_nodes]}")
  if [[ -n ${fact[here_gres]} ]]; then allocation_gpus=(--gres="${fact[here_gres]}"); fi
}

# allocation::watch PROCESS TASK_DIRECTORY   Sends PROCESS USR1 when it is time to save, and RTMIN+2 when it must end: the time is over, or
# TASK_DIRECTORY/cancel exists. It asks Slurm when the allocation ends, and again before the warning, because its owner may change that.
allocation::watch() {
  local -i end=0 now warned=0
  local -ir limit=$((fact[here_began] + fact[here_seconds]))
  trap - EXIT
  allocation::end end
  until [[ -e $2/cancel ]]; do
    common::sleep 1 || return 0
    now=$(common::now)
    if ((!warned && fact[grace_seconds] > 0 && now >= (end < limit ? end : limit) - fact[grace_seconds])); then
      allocation::end end
      if ((now >= (end < limit ? end : limit) - fact[grace_seconds])); then
        warned=1
        kill -s USR1 "$1"
      fi
    elif ((now >= (end < limit ? end : limit))); then
      break
    fi
  done
  kill -s RTMIN+2 "$1"
}

# allocation::end VARIABLE   Sets VARIABLE to the time, in seconds, at which the run must leave the nodes. No change if Slurm is silent.
allocation::end() {
  local shown
  printf -v "$1" '%d' "$((${!1} > 0 ? ${!1} : 1 << 40))"
  if slurm::ask shown 20 scontrol --oneliner show job "$SLURM_JOB_ID" && shown=$(slurm::field EndTime "$shown") &&
    shown=$(date --date="$shown" +%s 2>/dev/null); then
    printf -v "$1" '%d' "$((shown - allocation_seconds_before))"
  fi
}

# allocation::leave   Call it after the last output; Slurm kills the remaining processes.
allocation::leave() {
  local -i try
  if [[ -z $allocation_writer ]]; then return; fi
  exec >/dev/null 2>&1
  for ((try = 0; try < 200; try++)); do
    if ! kill -0 "$allocation_writer" 2>/dev/null; then return 0; fi
    sleep 0.01
  done
}
