# shellcheck shell=bash
# Questions to Slurm's controller. One that is silent, slow or just starting has not said no: it is asked again, with
# growing pauses, until it answers or the time is over.

# slurm::ask VARIABLE SECONDS COMMAND...   VARIABLE becomes what COMMAND prints. Status 1 when Slurm refuses, 2 when it
# has not answered for SECONDS: VARIABLE then has the last line of its error. SECONDS 0 asks once, for 20 s at most.
# (A nameref finds the nearest variable of its name: the locals have names that no caller uses.)
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
    if ((ask_status == 0)); then return 0; fi # a bare return in a trap has the status from before the trap
    slurm_answer=${ask_words##*$'\n'}
    if ! slurm::is_silence "$ask_status" "$ask_words"; then return 1; fi
    slurm_answer=${slurm_answer:-no answer for $ask_limit s}
    if ((SECONDS + ask_pause >= ask_deadline)); then return 2; fi
    sleep "$ask_pause"
    ask_pause=$((ask_pause < 8 ? 2 * ask_pause : 15))
  done
}

# slurm::call ANSWER ERRORS SECONDS COMMAND...   Calls it once. The variables ANSWER and ERRORS become what it prints on its
# two outputs; the status is its own, or 124 after SECONDS.
slurm::call() {
  local -n call_errors=$2
  local -a call_parts=()
  # Its errors, then its answer and status, each behind a NUL. (No `IFS= read`: a trap that comes in it would see that IFS.)
  mapfile -d '' -t call_parts < <({ printf '\0%s\0%d\0' "$(timeout "$3" "${@:4}")" "$?" >&2; } 2>&1)
  call_errors=${call_parts[0]:-}
  call_errors=${call_errors%$'\n'}
  printf -v "$1" '%s' "${call_parts[1]:-}"
  return "${call_parts[2]:-137}"
}

# slurm::is_silence STATUS WORDS   Whether a command of Slurm that failed has got no answer, rather than a refusal.
# (124, 137: timeout has ended it.)
slurm::is_silence() {
  [[ $1 == @(124|137) || $2 == *@(Unable to contact slurm controller|Socket timed out|onnection refused|onnection failure|Zero Bytes|standby mode|temporarily unable|esource temporarily unavailable|nexpected message received|essage receive failure|ransport endpoint|onnection reset|onnection timed out|nable to establish con)* ]]
}

# slurm::ask_live ARRAY   ARRAY gets the ids of the user's jobs that have not ended, and their folders. Status 1 when Slurm does not
# answer.
slurm::ask_live() {
  local -n live_jobs=$1
  local live_answer live_id live_folder
  slurm::ask live_answer 30 squeue --all --noheader --user="$(id -u)" --format='%F %Z' || return 1
  while read -r live_id live_folder; do
    if [[ -n $live_id ]]; then live_jobs+=(["$live_id"]=1 ["${live_folder:-none}"]=1); fi
  done <<<"$live_answer"
}

# slurm::ask_live_among ARRAY ID...   ARRAY also gets those of these jobs that have not ended, whoever's they are. Status 1 when Slurm
# does not answer.
slurm::ask_live_among() {
  local -n live_among=$1
  local among_answer among_id among_status=0 among_ids
  printf -v among_ids '%s,' "${@:2}"
  slurm::ask among_answer 30 squeue --all --noheader --jobs="${among_ids%,}" --format=%F || among_status=$?
  if ((among_status != 0)); then
    [[ $among_answer == *'Invalid job id'* ]] # of one that it has forgotten
    return
  fi
  for among_id in $among_answer; do live_among+=(["$among_id"]=1); done
}

# slurm::cancel SECONDS ARGUMENT...   Of scancel. Status 1, after a warning that tells the command, when it fails.
slurm::cancel() {
  local said
  slurm::ask said "$1" scancel --quiet "${@:2}" || { common::warn "not cancelled ($said): try  scancel ${*:2}" && return 1; }
}

# slurm::job_id TEXT [VARIABLE]   Prints, or gives to VARIABLE, the id in what sbatch has printed: the line `N`, `N;CLUSTER` or "Submitted batch job N",
# whatever banner or table the site prints around it. Status 1 when there is none, or when several lines may be it.
slurm::job_id() {
  local id_line id_found='' id_several=''
  local -r id_number='^[[:blank:]]*(Submitted batch job )?([1-9][0-9]*)(;.+| on cluster .+)?[[:space:]]*$'
  while IFS= read -r id_line; do
    if [[ ! $id_line =~ $id_number ]]; then continue; fi
    # A bare number may also be of the table.
    id_several+=${id_found:+1} id_found=${BASH_REMATCH[2]}
    if [[ -n ${BASH_REMATCH[1]}${BASH_REMATCH[3]} ]]; then id_several='' && break; fi
  done <<<"$1"
  [[ -n $id_found && -z $id_several ]] && common::give "$id_found" "${2:-}"
}

# slurm::field NAME TEXT   Prints the value in a line of scontrol's, or unknown.
slurm::field() {
  if [[ " $2" =~ [[:space:]]$1=([^[:space:]]*) ]]; then printf '%s\n' "${BASH_REMATCH[1]}"; else echo unknown; fi
}

# slurm::ask_accounts VARIABLE   The user's accounts, with spaces between. Statuses as of slurm::ask.
slurm::ask_accounts() {
  slurm::ask "$1" 10 sacctmgr --noheader --parsable2 show associations where "user=$(id -un)" format=account || return "$?"
  local -n slurm_accounts=$1
  slurm_accounts=$(LC_ALL=C sort -u <<<"$slurm_accounts" | paste -sd ' ')
}
