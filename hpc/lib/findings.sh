# shellcheck shell=bash
# The findings of doctor.sh: they are printed, kept in the user's own state folder (one file for each cluster and profile), and compared
# with each request at submission.

declare -gA options_value fact site
declare -ga staging_paths
declare -g findings_scope     # the partition that the findings are about, if it matters
declare -ga findings_list+=() # findings of this run: PARTITION NAME LEVEL VALUE FIX, separated by tabs; - for no partition

# findings::file VARIABLE CLUSTER   Sets VARIABLE to the name of the file. A profile that does not have the cluster's
# name (--cluster NAME) has a file of its own, because the findings depend on the profile. The lines are an EPOCH and a row of findings_list.
findings::file() {
  local file_key=${2:-unknown}
  if [[ ${site[name]:-$file_key} != "$file_key" ]]; then file_key+=@${site[name]}; fi
  printf -v "$1" '%s' "${XDG_STATE_HOME:-$HOME/.local/state}/hpc_kit/doctor/$file_key"
}

# findings::about [PARTITION]   All findings added after this call are about PARTITION.
findings::about() {
  findings_scope=${1:-}
}

# findings::add ok|note|problem NAME VALUE [FIX]   A finding with level ok needs no FIX.
findings::add() {
  local -r level=$1 name=$2
  local value=${3//[[:cntrl:]]/ } fix=${4:-}
  if [[ $level == ok ]]; then fix=''; fi
  fix=${fix//[[:cntrl:]]/ }
  findings_list+=("${findings_scope:--}"$'\t'"$name"$'\t'"$level"$'\t'"$value"$'\t'"$fix")
  if [[ -n ${options_value[json]:-} ]]; then return; fi
  printf '%-8s %-15s %s\n' "$level" "${name//_/ }" "$value"
  if [[ -n $fix ]]; then printf '%-24s to fix: %s\n' '' "$fix"; fi
}

# findings::judge GOOD NAME VALUE LEVEL VALUE FIX   Adds ok with the first VALUE; if GOOD is empty or 0, adds the rest instead.
findings::judge() {
  if [[ ${1:-0} != 0 ]]; then findings::add ok "$2" "$3"; else findings::add "$4" "$2" "${@:5}"; fi
}

# findings::count LEVEL
findings::count() {
  printf '%s\n' "${findings_list[@]}" | awk -F '\t' -v level="$1" '$3 == level { n++ } END { print n + 0 }'
}

# findings::save CLUSTER   Keeps earlier findings that this run did not check (--quick, another partition), for a week.
findings::save() {
  local file now
  findings::file file "$1"
  printf -v now '%(%s)T' -1
  if ! mkdir -p -- "${file%/*}" 2>/dev/null || [[ ! -w ${file%/*} ]]; then
    common::note "note: ${file%/*} cannot be written: the findings are not kept for job_submitter.sh"
    return
  fi
  {
    printf -- "$now\t%s\n" "${findings_list[@]}"
    cat -- "$file" 2>/dev/null || true
  } | findings::recent "$now" | common::write_atomically "$file"
}

# findings::recent NOW   Prints the findings of the last week from a file of findings, the first of each name and partition.
findings::recent() {
  awk -F '\t' -v now="$1" '$1 ~ /^[0-9]+$/ && now - $1 < 7 * 86400 && !seen[$2, $3]++'
}

# findings::warn CLUSTER PARTITION   Warns in one line about all findings that concern the request.
findings::warn() {
  local file='' now oldest time scope name level value found=''
  findings::file file "$1"
  if [[ ! -r $file ]]; then return; fi
  printf -v now '%(%s)T' -1
  oldest=$now
  while IFS=$'\t' read -r time scope name level value _; do
    if [[ $level != ok && ($scope == - || ,$2, == *",$scope,"*) ]] && findings::concerns "$name" "$level"; then
      found+="${found:+; }${name//_/ }: $value"
      oldest=$((time < oldest ? time : oldest))
    fi
  done < <(findings::recent "$now" <"$file")
  if [[ -n $found ]]; then
    printf -v oldest '%(%F %H:%M)T' "$oldest"
    common::warn "on $oldest doctor.sh found $found (after fixing it, run  bash hpc/doctor.sh)"
  fi
}

# findings::concerns NAME LEVEL   Whether the finding really concerns the request. The submitter does not repeat what it asks the live
# cluster itself, or what it refuses.
findings::concerns() {
  case $1:$2 in
    requeue:problem | kill_wait:problem | preemption:*) ((fact[max_restarts] > 0)) ;;
    container:*) [[ -n ${fact[container]} ]] ;;
    python:problem) [[ -z ${fact[container]} ]] ;;
    internet:* | wandb_key:note) [[ -n ${fact[sweep]} ]] ;;
    local_disk:* | file_system:note) ((${#staging_paths[@]} > 0)) ;;
    arrays:*) ((fact[tasks] > 1)) ;;
    wandb_key:problem | scratch:problem | file_system:problem | clock:problem | modules:problem | node:problem) ;;
    *) false ;;
  esac
}
