# shellcheck shell=bash
# Decides who restarts a job. The kit restarts it after a clean interruption and after a hang; Slurm restarts it after a
# preemption or a node failure. Only the kit's own restarts count for --max-restarts.

declare -gA fact+=()
declare -ga node_environment_names+=()

# restart::is_due TASK_DIRECTORY CAUSE   Whether the kit must restart the task after an attempt that ended with CAUSE.
restart::is_due() {
  local -i restarts=0
  local shown status=0
  case $2 in
    notice* | hung | preempted) ;;
    *) return 1 ;;
  esac
  if [[ -n ${fact[here]:-} && $2 == @(notice time_limit|preempted) ]]; then
    common::note "job $SLURM_JOB_ID: not started again, as the allocation or --time is over; to go on:  bash hpc/experiments.sh resubmit ${fact[run_id]}"
    return 1
  fi
  if [[ -s $1/attempt_$ATTEMPT/stop ]]; then
    common::note "job $SLURM_JOB_ID: not started again, as it was stopped by  experiments.sh stop  (or, with --here, by Ctrl-C)"
    return 1
  fi
  # Slurm already controls a job that is ending. If it does not answer, continue: the requeue itself asks again.
  slurm::ask shown 60 scontrol --oneliner show job "$(interruption::id)" || status=$?
  if ((status == 0)) && [[ " $shown " != *' JobState=RUNNING '* ]]; then return 1; fi
  # The attempt that this restart would start is not counted. Slurm's own restarts are not counted, and only 0 limits them.
  if [[ $2 != preempted ]]; then restarts=$(cat -- "$1"/attempt_*/cause | grep -cxE 'notice (time_limit|signal|request)|hung' || true)-1; fi
  if ((restarts >= fact[max_restarts])); then
    common::note "job $SLURM_JOB_ID: not started again: it was $restarts times, and --max-restarts is ${fact[max_restarts]}"
    return 1
  fi
}

# restart::again RUN_DIRECTORY TASK_DIRECTORY OFFSET   Restarts the job under the same id. If the site forbids that, a new job
# continues it.
restart::again() {
  local answer shown status=0
  common::note "job $SLURM_JOB_ID: to be started again"
  if [[ ${fact[requeue]:-} == continue ]]; then
    restart::continue "$@"
    return
  fi
  slurm::ask answer 600 scontrol requeue "$(interruption::id)" || status=$?
  case $status in
    0)
      rm -f -- "$2"/attempt_*/doubt # the job has run until now
      # Slurm ends this script. Until then it must not fail.
      trap 'exit 143' TERM INT HUP
      common::sleep 120
      return
      ;;
    2)
      common::warn "Slurm has not answered for 600 s ($answer): the job cannot be put back into the queue; when Slurm answers:  bash hpc/experiments.sh resubmit $(interruption::id)"
      return 1
      ;;
  esac
  # Slurm ends all that this script runs, so it may have ended scontrol before its answer.
  if slurm::ask shown 60 scontrol --oneliner show job "$(interruption::id)" && [[ " $shown " != *' JobState=RUNNING '* ]]; then return; fi
  common::note "scontrol requeue: $answer"
  restart::continue "$@"
}

# restart::continue RUN_DIRECTORY TASK_DIRECTORY OFFSET   Continues in another job.
restart::continue() {
  if restart::in_new_job "$1" "$3"; then return; fi
  interruption::set_state "$2" failed
  return 1
}

# restart::in_new_job RUN_DIRECTORY OFFSET   Submits only this task of an array. If a request got no answer, and squeue shows no job
# of it, the request may be lost (Slurm 26.05) or be done later. So it is sent again: only one job can take over the task
# (restart::take_over).
restart::in_new_job() {
  local -r run_directory=$1 offset=$2 intent=${fact[checkpoint_directory]%/*}/.sending
  local -a argv=() words=()
  local word job try status
  mapfile -d '' words <"$run_directory/sbatch_argv$( ((offset == 0)) || echo "_$offset")"
  for word in "${words[@]}"; do
    case $word in
      --dependency=* | --begin=*) continue ;;
      --array=*) word=--array=$SLURM_ARRAY_TASK_ID ;;
      continues=*) continue ;;
    esac
    argv+=("$word")
    if [[ $word == sbatch ]]; then argv+=(--dependency="afterany:$SLURM_JOB_ID"); fi
  done
  argv+=(continues="$ATTEMPT")
  # A submitter that was killed has not recorded this job, which would then count as the new one.
  restart::record_job "$run_directory/jobs" "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID} train"
  for try in 1 2 3; do
    # While this file exists, the next submission of the experiment looks for the job (experiment::settle). Another task may remove it.
    printf '%s\n' "$run_directory" >"$intent"
    status=0
    job=$(
      site::leave_enclosing_job
      unset "${node_environment_names[@]}"
      sending::send job "$run_directory" continue "${argv[@]}" || status=$?
      printf '%s\n' "$job"
      exit "$status"
    ) || status=$?
    if ((status != 2)); then break; fi
    common::note "job $SLURM_JOB_ID: try $try of 3: $job"
  done
  if ((status == 0)); then
    common::note "job $SLURM_JOB_ID: job $job continues it"
    restart::hold_experiment "$run_directory" "$job"
  else
    common::warn "no job continues job $SLURM_JOB_ID: $job; to continue it:  bash hpc/experiments.sh resubmit $(interruption::id)"
  fi
  if ((status != 2)); then rm -f -- "$intent"; fi
  return "$status"
}

# restart::take_over RUN_DIRECTORY TASK_DIRECTORY ATTEMPT   Lets this job continue that attempt; status 1 if another job does.
restart::take_over() {
  local -r taken=$2/attempt_$3/continued_by job=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}
  local status=0
  files::create_once "$taken" <<<"$job" || status=$?
  if ((status == 1)) && [[ $(<"$taken") != "$job" ]]; then # it is this job itself if it was requeued
    common::note "job $SLURM_JOB_ID: job $(<"$taken") has continued this task: nothing is left to do"
    return 1
  fi
  restart::record_job "$1/jobs" "$job continue"
  restart::hold_experiment "$1" "$job"
}

# restart::hold_experiment RUN_DIRECTORY JOB   Records that the run and its experiment now belong to this job.
restart::hold_experiment() {
  local -r holder=${fact[checkpoint_directory]%/*}/.job
  local file
  for file in "$1/job_id" "$holder"; do
    if ((fact[tasks] == 1)); then
      printf '%s\n' "$2" | common::write_atomically "$file"
    else
      restart::record_job "$file" "$2"
    fi
  done
}

# restart::record_job FILE LINE   Adds LINE unless its first word, the job, is in FILE already.
restart::record_job() {
  if ! grep -sqE "^${2%% *}( |$)" -- "$1"; then printf '%s\n' "$2" >>"$1"; fi
}
