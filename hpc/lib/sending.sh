# shellcheck shell=bash
# Submits a job as a transaction. Whatever sbatch prints, and whether its answer arrives or not, there are three results: the job id
# is known; or Slurm has refused the job; or it is not known yet whether there is a job, and then nothing is removed. A lost job is
# found by its working directory, which is the run directory. RUN_DIRECTORY/jobs lists each submitted job in a line `ID NAME`.

declare -gi sending_looks=3     # how often to look for a job that may have been submitted, 2 s apart
declare -g sending_interrupt='' # whether a signal came meanwhile (sending::hold_signals)

# sending::hold_signals   From here on HUP, INT and TERM are only noted, in sending_interrupt: a job that was submitted must be recorded.
sending::hold_signals() {
  trap 'sending_interrupt=1' HUP INT TERM
}

sending::was_interrupted() {
  [[ -n $sending_interrupt ]]
}

# sending::send VARIABLE RUN_DIRECTORY NAME ARGV...   NAME: train, pack, cycle or continue. Sets VARIABLE to the job id, or
# to the reason why there is no job. Status 1 if Slurm refuses, 2 if it does not answer whether it has the job.
sending::send() {
  local -n sending_result=$1
  local -r sending_run=$2 sending_name=$3
  local sending_output='' sending_errors='' sending_status=0
  local -i sending_looks=$sending_looks
  if [[ $sending_name == continue ]]; then sending_looks=10; fi # nobody waits for it
  slurm::call sending_output sending_errors 120 "${@:4}" || sending_status=$?
  sending_errors=${sending_errors//sbatch: error: /}
  if ((sending_status != 0)) && ! slurm::is_silence "$sending_status" "$sending_errors"; then
    sending_result=${sending_errors:-${sending_output:-sbatch: exit status $sending_status}}
    sending_result=${sending_result//$'\n'/; }
    return 1
  fi
  if ((sending_status != 0)) || ! slurm::job_id "$sending_output" sending_result; then
    sending::find sending_result "$sending_run" "$(cut -d ' ' -f 1 -- "$sending_run/jobs" 2>/dev/null)" "${@:4}" || {
      sending_result="sbatch did not print a job id (${sending_errors:-${sending_output:-no answer for 120 s}}), and squeue shows no job of $sending_run so far"
      return 2
    }
    sending_result=${sending_result##*$'\n'}
    common::note "sbatch did not print the id of its job; squeue shows it: $sending_result"
  fi
  if [[ -n ${sending_errors//[[:space:]]/} ]]; then common::note "$sending_errors"; fi # messages of the site
  { printf '%s %s\n' "$sending_result" "$sending_name" >>"$sending_run/jobs"; } 2>/dev/null ||
    common::warn "job $sending_result was sent, and cannot be written down: ${sending_run@Q}/jobs (is the disk or the quota full?)"
}

# sending::find VARIABLE RUN_DIRECTORY KNOWN [ARGV...]   Sets VARIABLE to the ids of the user's jobs with this working directory
# that are not in the lines of KNOWN, one per line. If ARGV submits one task of an array, only jobs of that task count, because others may
# be submitted at the same moment. Status 1 if there are none, 2 if Slurm does not answer. A controller that was stopped while
# sbatch called it may accept the job a moment after it answers again, so it is asked several times.
sending::find() {
  local -n sending_found=$1
  local find_answer find_id find_folder find_task find_word find_wanted='*'
  local -i find_try
  sending_found=''
  for find_word in "${@:4}"; do
    if [[ $find_word =~ ^--array=[0-9]+$ ]]; then find_wanted=${find_word#*=}; fi
  done
  for ((find_try = 1; find_try <= sending_looks; find_try++)); do
    slurm::ask find_answer 60 squeue --all --noheader --user="$(id -u)" --states=all --format='%F|%K|%Z' || return 2
    while IFS='|' read -r find_id find_task find_folder; do
      if [[ $find_folder == "$2" && $find_task == @($find_wanted) && $'\n'$3$'\n'$sending_found$'\n' != *$'\n'"$find_id"$'\n'* ]]; then sending_found+=${sending_found:+$'\n'}$find_id; fi
    done < <(LC_ALL=C sort -n <<<"$find_answer")
    if [[ -n $sending_found ]]; then return; fi
    sleep 2
  done
  return 1
}
