# shellcheck shell=bash
# batch.sh inside an allocation that the user holds (--here): what a batch job has from sbatch, and here from nobody else: its
# environment, its log, the warning before the end. The allocation itself is never ended or put back into the queue.

declare -gA fact+=()
declare -ga allocation_nodes+=() allocation_gpus+=() # options for srun: not all of the allocation need be the run's
declare -g allocation_writer=''
declare -gi allocation_seconds_before=15 # before the end of the allocation: the nodes are left clean

# allocation::enter TASK_DIRECTORY   What Slurm has set for the shell of the user, and for the step of this script, would bind the steps
# that it starts. What is printed goes to the terminal, and into the log; to the log alone once the terminal has gone.
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

# allocation::watch PROCESS TASK_DIRECTORY   Sends PROCESS USR1 when it is time to save, and RTMIN+2 when it must end: its time is over, or
# TASK_DIRECTORY/cancel is there. Slurm is asked when the allocation ends, and once more before the warning, as its owner may change that.
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

# allocation::end VARIABLE   VARIABLE becomes the time, in seconds, at which the nodes must be left. It stays where Slurm does not tell.
allocation::end() {
  local shown
  printf -v "$1" '%d' "$((${!1} > 0 ? ${!1} : 1 << 40))"
  if slurm::ask shown 20 scontrol --oneliner show job "$SLURM_JOB_ID" && shown=$(slurm::field EndTime "$shown") &&
    shown=$(date --date="$shown" +%s 2>/dev/null); then
    printf -v "$1" '%d' "$((shown - allocation_seconds_before))"
  fi
}

# allocation::leave   When all has been printed; Slurm kills what is still there.
allocation::leave() {
  local -i try
  if [[ -z $allocation_writer ]]; then return; fi
  exec >/dev/null 2>&1
  for ((try = 0; try < 200; try++)); do
    if ! kill -0 "$allocation_writer" 2>/dev/null; then return 0; fi
    sleep 0.01
  done
}
