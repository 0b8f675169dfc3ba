# shellcheck shell=bash
# Questions to Slurm's controller. One that is silent, slow or just starting has not said no: it is asked again, with
# growing pauses, until it answers or the time is over.

# slurm::ask VARIABLE SECONDS COMMAND...   VARIABLE becomes what COMMAND prints. Status 1 when Slurm refuses, 2 when it
# has not answered for SECONDS: VARIABLE then has the last line of its error. SECONDS 0 asks once, for 20 s at most.
slurm::ask() {
  local -n slurm_answer=$1
  local -r deadline=$((SECONDS + $2)) seconds=$2
  local words status pause=1 limit=20
  shift 2
  while :; do
    if ((seconds > 0)); then
      limit=$((deadline - SECONDS))
      limit=$((limit < 1 ? 1 : limit > 20 ? 20 : limit))
    fi
    # Its errors, then its answer and status, each behind a NUL.
    {
      IFS= read -r -d '' words
      IFS= read -r -d '' slurm_answer
      IFS= read -r -d '' status
    } < <({ printf '\0%s\0%d\0' "$(timeout "$limit" "$@")" "$?" >&2; } 2>&1) || true
    if ((status == 0)); then return; fi
    words=${words%$'\n'}
    slurm_answer=${words##*$'\n'}
    if ! slurm::is_silence "$status" "$words"; then return 1; fi
    slurm_answer=${slurm_answer:-no answer for $limit s}
    if ((SECONDS + pause >= deadline)); then return 2; fi
    sleep "$pause"
    pause=$((pause < 8 ? 2 * pause : 15))
  done
}

# slurm::is_silence STATUS WORDS   Whether a command of Slurm that failed has got no answer, rather than a refusal.
# (124, 137: timeout has ended it.)
slurm::is_silence() {
  [[ $1 == @(124|137) || $2 == *@(Unable to contact slurm controller|Socket timed out|onnection refused|onnection failure|Zero Bytes|standby mode|temporarily unable|esource temporarily unavailable|nexpected message received|essage receive failure|ransport endpoint|onnection reset|onnection timed out|nable to establish con)* ]]
}
