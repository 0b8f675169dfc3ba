# shellcheck shell=bash
# Removes the unpacked sources of ended runs below hpc_outputs: nobody needs them, and they are hundreds of files of the user's
# quota. source.tar stays, and a job that is restarted unpacks it again (job/lib/sources.sh).

declare -gi pruning_seconds=10 # the time that a submission may spend on it; the next one continues

# pruning::prune OUTPUTS   Runs at most once an hour, after a submission has sent its job. It never fails a submission.
pruning::prune() {
  local -r outputs=$1 stamp=$1/.pruned
  local -r deadline=$((SECONDS + pruning_seconds))
  local now last=''
  local -a runs=()
  local run
  local -i removed=0
  printf -v now '%(%s)T' -1
  if [[ -r $stamp ]]; then read -r last <"$stamp" || true; fi
  if [[ $last =~ ^[1-9][0-9]*$ ]] && ((now - last < 3600)); then return; fi
  if ! { printf '%s\n' "$now" >"$stamp"; } 2>/dev/null; then return; fi
  pruning::forget_archives "$outputs/.sources"
  pruning::list runs "$outputs"
  if ((${#runs[@]} == 0)) || ! run_directory::ask_live "${runs[@]}"; then return; fi
  for run in "${runs[@]}"; do
    if ((SECONDS >= deadline)); then
      rm -f -- "$stamp"
      break
    fi
    if ! run_directory::lives "$run" && pruning::remove "$run"; then removed+=1; fi
  done
  if ((removed > 0)); then common::note "removed the unpacked sources of $removed runs that have ended; each keeps its source.tar"; fi
}

# pruning::list ARRAY OUTPUTS   Sets ARRAY to the user's own runs whose sources can be unpacked again, and whose tasks have not
# changed their state for an hour. Runs of older kits are skipped: files that their programs wrote there cannot be recognized.
pruning::list() {
  local -n list_runs=$1
  local list_run list_folder
  for list_run in "$2"/*/; do
    list_run=${list_run%/}
    for list_folder in "$list_run"/source{,.*}; do
      if [[ -d $list_folder && ! -L $list_folder && -O $list_run && -e $list_run/source.tar && -e $list_run/unpacked && ! -e $list_run/source.kept &&
        -z $(find "$list_run" -maxdepth 2 -name state -mmin -60 -print -quit 2>&1) ]]; then
        list_runs+=("$list_run")
        break
      fi
    done
  done
}

# pruning::remove RUN   Status 1: the program has written there, so the sources stay. The folder is renamed first: a job that starts
# at this moment does not find it, and unpacks again.
pruning::remove() {
  local -r run=$1
  local folder changed
  changed=$(pruning::count_changes "$run")
  if ((changed > 0)); then
    common::note "kept $run/source: the program has written $changed files there (write files that you want to keep into OUTPUT_PATH or CHECKPOINT_DIRECTORY)"
    { : >"$run/source.kept"; } 2>/dev/null
    return 1
  fi
  for folder in "$run"/source{,.*}; do
    if [[ ! -d $folder ]]; then continue; fi
    if [[ $folder == "$run/source" ]]; then
      mv -T -- "$folder" "$run/source.removed" 2>/dev/null || return
      folder=$run/source.removed
    fi
    chmod -R u+rwx -- "$folder" 2>/dev/null
    rm -rf -- "$folder" 2>/dev/null
  done
}

# pruning::count_changes RUN   Prints how many files the program has written into its unpacked sources: those newer than `unpacked`
# (job/lib/sources.sh). Python's compiled files do not count.
pruning::count_changes() {
  if [[ ! -d $1/source ]]; then echo 0 && return; fi
  find "$1/source" -name __pycache__ -prune -o -type f ! -name '*.pyc' -cnewer "$1/unpacked" -printf . | wc -c
}

# pruning::forget_archives STORE   Removes archives that no run has a link to and no submission has used for a day. If the file system
# has no hard links, it removes all of that age; they are packed again when needed.
pruning::forget_archives() {
  find "$1" -maxdepth 1 -type f -user "$(id -u)" -links 1 -cmin +1440 -name '*.tar*' -delete 2>/dev/null
}
