#!/usr/bin/env bash
# sync_wandb.sh [--running] [RUN_DIRECTORY|EXPERIMENT...]
#
# Uploads to W&B what programs have recorded offline (WANDB_MODE=offline), for these runs or for all runs of the project.
#
# Run by people, or by cron, on a machine that reaches W&B. What was uploaded is not sent again; several attempts of a task become one
# history. The recording of a task that is running is sent when its attempt has ended, because W&B's client sends a recording as a whole.
#
# --running: also send what a running task has recorded so far
# It is sent from its start again the next time, and W&B may then show those steps twice.
#
# Exit status: 0, 1 if something could not be uploaded, 2 if the request is wrong.
#
# See also: sweep.sh; README.md
set -euo pipefail
shopt -s inherit_errexit nullglob

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
project=${here%/*}
source "$here/lib/common.sh"
source "$here/lib/help.sh"
source "$here/lib/files.sh"
source "$here/lib/dotenv.sh"
source "$here/lib/secrets.sh"
source "$here/lib/site.sh"
source "$here/lib/slurm.sh"
source "$here/lib/wandb_client.sh"

declare -a recordings=()   # files to send, those of a task in the order of its attempts
declare -A unfinished=()   # of these, those that are being written
outputs=''                 # the folder of the run directories
declare -i before=0 open=0 # sent before; being written, and left
declare -A fact=()

main() {
  local argument running='' task lock
  local -a named=() runs=()
  help::answer "$project" "${BASH_SOURCE[0]}" "$@"
  while (($# > 0)); do
    case $1 in
      --running) running=1 ;;
      -*) common::die_usage "unknown option ${1@Q}: sync_wandb.sh [--running] [RUN_DIRECTORY|EXPERIMENT...]" ;;
      *) named+=("$1") ;;
    esac
    shift
  done
  sync_wandb::find_runs "${named[@]}"
  files::lock lock "$outputs/.sync_wandb.lock" try || common::die "another sync_wandb.sh is at work"
  for argument in "${runs[@]}"; do
    for task in "$argument"/task_*; do sync_wandb::look "$task"; done
  done
  sync_wandb::send
  exec {lock}>&-
}

# sync_wandb::find_runs [NAME...]   Sets the caller's runs.
sync_wandb::find_runs() {
  local name
  local -a found
  site::outputs outputs "$project"
  [[ -d $outputs ]] || common::die "no runs of this project: there is no ${outputs@Q} (SCRATCH)"
  if (($# == 0)); then runs=("$outputs"/*/); fi
  for name in "$@"; do
    found=("$name/facts")
    if [[ ! -e ${found[0]} ]]; then
      mapfile -t found < <(grep -lxF -- "fact[exp_name]=${name@Q}" "$outputs"/*/facts </dev/null)
    fi
    ((${#found[@]} > 0)) || common::die_usage "${name@Q} is neither a run directory nor an experiment of $outputs"
    runs+=("${found[@]%/facts}")
  done
}

# sync_wandb::look TASK_DIRECTORY   Adds what is to be sent. A recording is being written when it is the last one, and its attempt
# has no cause of its end.
sync_wandb::look() {
  local -a files=("$1"/wandb/offline-run-*/*.wandb)
  local -i attempt=0 index
  local file
  if ((${#files[@]} == 0)); then return; fi
  while [[ -d $1/attempt_$((attempt + 1)) ]]; do attempt+=1; done
  for index in "${!files[@]}"; do
    file=${files[index]}
    if [[ -e $file.synced ]]; then
      before+=1
    elif ((index == ${#files[@]} - 1)) && [[ ! -e $1/attempt_$attempt/cause ]]; then
      if [[ -z $running ]] || sync_wandb::is_empty "$file"; then
        open+=1
      else
        unfinished[$file]=1
        recordings+=("$file")
      fi
    elif ! sync_wandb::is_empty "$file"; then
      recordings+=("$file")
    fi
  done
}

# The first bytes alone: nothing more is in the file yet, or the program was killed before there was.
sync_wandb::is_empty() {
  (($(stat --format=%s -- "$1") < 8))
}

# sync_wandb::environment RUN_DIRECTORY   That of the run, which has W&B's client; nothing where it is gone, or in a container.
sync_wandb::environment() {
  # shellcheck source=/dev/null
  if [[ -r $1/facts ]]; then source "$1/facts"; fi
  if [[ -x ${fact[environment]:-}/bin/python ]]; then printf '%s\n' "${fact[environment]}"; fi
}

# In slices, as a command line has an end.
sync_wandb::send() {
  local -i first sent=0 failed=0
  local file log
  folder=$(mktemp -d)
  trap 'rm -rf -- "$folder"' EXIT
  if ((${#recordings[@]} > 0)); then fact[environment]=$(sync_wandb::environment "${recordings[-1]%/task_*}"); fi
  # `wandb sync` waits for a server without an end.
  if ((${#recordings[@]} > 0)); then wandb_client::run "$project" python "$here/sweep/sweep.py" ping; fi
  for ((first = 0; first < ${#recordings[@]}; first += 100)); do
    log=$folder/log.txt
    wandb_client::run "$project" env WANDB_MODE=online WANDB_DIR="$folder" \
      python -m wandb sync "${recordings[@]:first:100}" >"$log" 2>&1 </dev/null || true
    for file in "${recordings[@]:first:100}"; do
      # It ends in the middle of a record, as it is still being written, or as the program was killed: all before was sent.
      if grep 'incomplete record' "$log" | grep -cF -- "$(basename -- "${file%/*}")" >/dev/null; then : >"$file.synced"; fi
      if [[ ! -e $file.synced ]]; then
        common::note "not uploaded: $file"
        failed+=1
        continue
      fi
      sent+=1
      if [[ -n ${unfinished[$file]:-} ]]; then rm -f -- "$file.synced"; fi
    done
    # Its status tells nothing, and of many runs it prints much.
    if ((failed > 0)); then grep -iE 'error|not authenticated|no module' "$log" >&2 || cat -- "$log" >&2; fi
  done
  common::note "uploaded $sent, before that $before, failed $failed; still being written $open"
  ((failed == 0))
}

main "$@"
