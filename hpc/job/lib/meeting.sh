# shellcheck shell=bash
# Checks whether the ranks of a job know each other (meeting.py). A program that knows nothing of several processes trains separately in
# each, and succeeds. attempt_K/ranks records what is seen while the ranks run; attempt_K/unconnected holds the verdict, if there is one.

declare -gA fact+=()
declare -g meeting_so_far=600 # seconds until the first warning

# meeting::is_wanted   Whether there are several ranks, and the user has not said that they work separately (--independent).
meeting::is_wanted() {
  local -i ranks=$((fact[nodes] * ${fact[processes_per_node]:-1}))
  if [[ ${fact[launcher]:-} == node ]]; then ranks=${fact[nodes]}; fi
  [[ -z ${fact[independent]:-} ]] && ((ranks > 1))
}

# meeting::begin ATTEMPT_DIRECTORY   Call it before the ranks start.
meeting::begin() {
  if meeting::is_wanted; then mkdir -p -- "$1/ranks" 2>/dev/null || true; fi
}

# meeting::watch KIT ATTEMPT_DIRECTORY   Starts one process on each node. It ends with this one, or when all ranks of the node have met.
# It holds nothing that others wait for, and its failure must never fail the job.
meeting::watch() {
  local python
  local -a words=()
  if ((${SLURM_LOCALID:?} != 0)) || [[ ! -d $2/ranks ]]; then return 0; fi
  if ((${SLURM_NODEID:?} == 0)); then words=("$meeting_so_far"); fi
  (
    trap '' TERM INT HUP QUIT USR1 USR2 ABRT
    python=$(meeting::python) || exit 0
    exec nice "$python" -I -S "$1/hpc/job/meeting.py" watch "$2" "$(common::node)" "$$" "${words[@]}"
  ) </dev/null >/dev/null &
}

meeting::python() {
  common::own_python 6 ${fact[environment]:+"${fact[environment]}/bin/python"}
}

# meeting::judge KIT ATTEMPT_DIRECTORY CAUSE   Call it after the ranks have ended. A failed program may have ended before its group formed.
meeting::judge() {
  local python sentence remedy
  if [[ ! -d $2/ranks ]]; then return; fi
  if [[ $3 != @(failed|out_of_memory|cancelled|node_failed)* ]] && python=$(meeting::python) &&
    "$python" -I -S "$1/hpc/job/meeting.py" judge "$2" >"$2/unconnected" && [[ -s $2/unconnected ]]; then
    { IFS= read -r sentence && IFS= read -r remedy; } <"$2/unconnected"
    common::note "warning: job ${SLURM_JOB_ID:?}: $sentence. $remedy"
  else
    rm -f -- "$2/unconnected"
  fi
  rm -rf -- "$2/ranks"
}
