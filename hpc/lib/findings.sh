# shellcheck shell=bash
# What doctor.sh has found: said, kept in the user's own state folder (a file for each cluster), and compared with
# each request when it is submitted. Needs common.sh, run_directory.sh and, to warn, tasks.sh and staging.sh.

declare -gA options_value fact
declare -ga staging_paths
declare -g findings_scope='' # the partition that is spoken of, if it matters
declare -ga findings_list=() # of this look: PARTITION NAME LEVEL VALUE FIX, with tabs between; - for no partition

readonly findings_days=7

# findings::set_file CLUSTER   Sets findings_file: lines of EPOCH and what findings_list has. (No subshell: each
# submission comes by here.)
findings::set_file() {
  findings_file=${XDG_STATE_HOME:-$HOME/.local/state}/hpc_kit/doctor/${1:-unknown}
}

# findings::about [PARTITION]   What is added from here on is said of it.
findings::about() {
  findings_scope=${1:-}
}

# findings::add ok|note|problem NAME VALUE [FIX]
findings::add() {
  local -r level=$1 name=$2
  local value=${3//[[:cntrl:]]/ } fix=${4:-}
  fix=${fix//[[:cntrl:]]/ }
  findings_list+=("${findings_scope:--}"$'\t'"$name"$'\t'"$level"$'\t'"$value"$'\t'"$fix")
  if [[ -n ${options_value[json]:-} ]]; then return; fi
  printf '%-8s %-15s %s\n' "$level" "${name//_/ }" "$value"
  if [[ -n $fix ]]; then printf '%-24s to fix: %s\n' '' "$fix"; fi
}

# findings::count LEVEL
findings::count() {
  local finding level
  local -i number=0
  for finding in "${findings_list[@]}"; do
    IFS=$'\t' read -r _ _ level _ <<<"$finding"
    if [[ $level == "$1" ]]; then number+=1; fi
  done
  printf '%s\n' "$number"
}

# findings::save CLUSTER   What was not looked at this time (--quick, another partition) stays as it was.
findings::save() {
  local findings_file finding time scope name rest
  local -A new=()
  findings::set_file "$1"
  for finding in "${findings_list[@]}"; do
    IFS=$'\t' read -r scope name _ <<<"$finding"
    new["$scope $name"]=1
  done
  if ! mkdir -p -- "${findings_file%/*}" 2>/dev/null || [[ ! -w ${findings_file%/*} ]]; then
    common::note "note: ${findings_file%/*} cannot be written: what was found is not kept for job_submitter.sh"
    return
  fi
  {
    for finding in "${findings_list[@]}"; do printf '%s\t%s\n' "$EPOCHSECONDS" "$finding"; done
    if [[ -r $findings_file ]]; then
      while IFS=$'\t' read -r time scope name rest; do
        if [[ -z ${new["$scope $name"]:-} ]] && findings::is_recent "$time"; then
          printf '%s\t%s\t%s\t%s\n' "$time" "$scope" "$name" "$rest"
        fi
      done <"$findings_file"
    fi
  } | common::write_atomically "$findings_file"
}

findings::is_recent() {
  [[ $1 =~ ^[0-9]{1,12}$ ]] && ((EPOCHSECONDS - $1 < findings_days * 86400))
}

# findings::warn CLUSTER PARTITION   In one line, of all that concerns the request. What is older than a week says
# nothing any more.
findings::warn() {
  local findings_file time scope name level value found='' oldest=$EPOCHSECONDS
  findings::set_file "$1"
  if [[ ! -r $findings_file ]]; then return; fi
  while IFS=$'\t' read -r time scope name level value _; do
    if [[ $level != ok && ($scope == - || ,$2, == *",$scope,"*) ]] &&
      findings::is_recent "$time" && findings::concerns "$name" "$level"; then
      found+="${found:+; }${name//_/ }: $value"
      oldest=$((time < oldest ? time : oldest))
    fi
  done <"$findings_file"
  if [[ -n $found ]]; then
    printf -v oldest '%(%F %H:%M)T' "$oldest"
    common::warn "on $oldest doctor.sh found $found (if that is mended:  bash hpc/doctor.sh)"
  fi
}

# findings::concerns NAME LEVEL   Does it concern the request in fact? What the submitter itself asks of the live
# cluster, or refuses, is not said twice.
findings::concerns() {
  case $1:$2 in
    requeue:problem | kill_wait:problem | preemption:*) ((fact[max_restarts] > 0)) ;;
    container:*) [[ -n ${fact[container]} ]] ;;
    python:problem) [[ -z ${fact[container]} ]] ;;
    internet:* | wandb_key:note) [[ -n ${fact[sweep]} ]] ;;
    local_disk:*) ((${#staging_paths[@]} > 0)) ;;
    arrays:*) ((fact[tasks] > 1)) ;;
    wandb_key:problem | scratch:problem | clock:problem | modules:problem | node:problem) ;;
    *) false ;;
  esac
}
