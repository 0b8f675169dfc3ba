# shellcheck shell=bash
# Questions to Slurm's controller. A controller that is silent, slow or just starting has not said no: the question is repeated,
# with growing pauses, until there is an answer or the time is over.

# slurm::ask VARIABLE SECONDS COMMAND...   Sets VARIABLE to what COMMAND prints. Status 1 if Slurm refuses, 2 if it has
# not answered for SECONDS; VARIABLE then holds the last line of its error. With SECONDS 0 it asks once, for at most 20 s.
# (A nameref finds the nearest variable of its name, so the local variables have names that no caller uses.)
slurm::ask() {
  local -n slurm_answer=$1
  local -r ask_deadline=$((SECONDS + $2)) ask_seconds=$2
  local ask_words ask_status ask_pause=1 ask_limit=20
  shift 2
  while :; do
    if ((ask_seconds > 0)); then
      ask_limit=$((ask_deadline - SECONDS))
      ask_limit=$((ask_limit < 1 ? 1 : ask_limit > 20 ? 20 : ask_limit))
    fi
    ask_status=0
    slurm::call slurm_answer ask_words "$ask_limit" "$@" || ask_status=$?
    if ((ask_status == 0)); then return 0; fi # in a trap, a bare return has the status from before the trap
    slurm_answer=${ask_words##*$'\n'}
    if ! slurm::is_silence "$ask_status" "$ask_words"; then return 1; fi
    slurm_answer=${slurm_answer:-no answer for $ask_limit s}
    if ((SECONDS + ask_pause >= ask_deadline)); then return 2; fi
    sleep "$ask_pause"
    ask_pause=$((ask_pause < 8 ? 2 * ask_pause : 15))
  done
}

# slurm::call ANSWER ERRORS SECONDS COMMAND...   Calls COMMAND once. Sets ANSWER to its standard output and ERRORS to its standard
# error. Returns its status, or 124 after SECONDS.
slurm::call() {
  local -n call_errors=$2
  local -a call_parts=()
  # Standard error comes first, then the answer and the status, each after a NUL. (No `IFS= read`: a trap in it would use that IFS.)
  # Ctrl-C in a terminal reaches this part of the shell too, and the answer of sbatch would be lost; timeout and COMMAND have a group
  # of their own.
  mapfile -d '' -t call_parts < <(trap '' HUP INT TERM && { printf '\0%s\0%d\0' "$(timeout "$3" "${@:4}")" "$?" >&2; } 2>&1)
  call_errors=${call_parts[0]:-}
  call_errors=${call_errors%$'\n'}
  printf -v "$1" '%s' "${call_parts[1]:-}"
  return "${call_parts[2]:-137}"
}

# slurm::is_silence STATUS WORDS   Whether a command of Slurm failed because it got no answer, and was not refused.
# (124, 137: timeout has ended it.)
slurm::is_silence() {
  [[ $1 == @(124|137) || $2 == *@(Unable to contact slurm controller|Socket timed out|onnection refused|onnection failure|Zero Bytes|standby mode|temporarily unable|esource temporarily unavailable|nexpected message received|essage receive failure|ransport endpoint|onnection reset|onnection timed out|nable to establish con)* ]]
}

# slurm::ask_live ARRAY   Adds the ids of the user's jobs that have not ended, and their folders, to ARRAY. Status 1 if Slurm does not
# answer.
slurm::ask_live() {
  local -n live_jobs=$1
  local live_answer live_id live_folder
  slurm::ask live_answer 30 squeue --all --noheader --user="$(id -u)" --format='%F %Z' || return 1
  while read -r live_id live_folder; do
    if [[ -n $live_id ]]; then live_jobs+=(["$live_id"]=1 ["${live_folder:-none}"]=1); fi
  done <<<"$live_answer"
}

# slurm::ask_live_among ARRAY ID...   Adds those of these jobs that have not ended to ARRAY, whoever owns them. Status 1 if Slurm
# does not answer.
slurm::ask_live_among() {
  local -n live_among=$1
  local among_answer among_id among_status=0 among_ids
  printf -v among_ids '%s,' "${@:2}"
  slurm::ask among_answer 30 squeue --all --noheader --jobs="${among_ids%,}" --format=%F || among_status=$?
  if ((among_status != 0)); then
    [[ $among_answer == *'Invalid job id'* ]] # Slurm has forgotten a job
    return
  fi
  for among_id in $among_answer; do live_among+=(["$among_id"]=1); done
}

# slurm::cancel SECONDS ARGUMENT...   Calls scancel with ARGUMENT. If it fails: status 1, after a warning that shows the command.
slurm::cancel() {
  local said
  slurm::ask said "$1" scancel --quiet "${@:2}" || { common::warn "not cancelled ($said): try  scancel ${*:2}" && return 1; }
}

# slurm::job_id TEXT [VARIABLE]   Prints the job id in the output of sbatch, or sets VARIABLE to it. The id is in the line `N`,
# `N;CLUSTER` or "Submitted batch job N"; the site may print a banner or a table around it. Status 1 if there is no id, or if
# several lines may be the id.
slurm::job_id() {
  local id_line id_found='' id_several=''
  local -r id_number='^[[:blank:]]*(Submitted batch job )?([1-9][0-9]*)(;.+| on cluster .+)?[[:space:]]*$'
  while IFS= read -r id_line; do
    if [[ ! $id_line =~ $id_number ]]; then continue; fi
    # A line with only a number may also belong to the table.
    id_several+=${id_found:+1} id_found=${BASH_REMATCH[2]}
    if [[ -n ${BASH_REMATCH[1]}${BASH_REMATCH[3]} ]]; then id_several='' && break; fi
  done <<<"$1"
  [[ -n $id_found && -z $id_several ]] && common::give "$id_found" "${2:-}"
}

# slurm::field NAME TEXT   Prints the value of NAME in a line of scontrol's output, or unknown.
slurm::field() {
  if [[ " $2" =~ [[:space:]]$1=([^[:space:]]*) ]]; then printf '%s\n' "${BASH_REMATCH[1]}"; else echo unknown; fi
}

# slurm::ask_accounts VARIABLE   Sets VARIABLE to the user's accounts, separated by spaces. Statuses are those of slurm::ask.
slurm::ask_accounts() {
  slurm::ask "$1" 10 sacctmgr --noheader --parsable2 show associations where "user=$(id -un)" format=account || return "$?"
  local -n slurm_accounts=$1
  slurm_accounts=$(LC_ALL=C sort -u <<<"$slurm_accounts" | paste -sd ' ')
}
