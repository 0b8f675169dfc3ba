# shellcheck shell=bash
# An experiment has one live job and one set of checkpoints: a second submission under its name neither runs beside the first nor
# hides its checkpoints. Files in the experiment's folder:
#   .job      the ids of its jobs; with --here the allocation's id and the name of the step
#   .sending  the run directory of a submission that has not recorded its jobs yet
#   runs      the ids of its runs

declare -gA fact+=()
declare -g experiment_lock='' experiment_made='' experiment_aside=''

# experiment::claim new|resume|fresh   Waits for other submissions of this name. Ends with status 1 if a live job has the name, with
# status 2 if there are checkpoints and the submission says neither resume nor fresh.
experiment::claim() {
  local -r mode=$1 folder=${fact[checkpoint_directory]%/*}
  local holder step state status=0
  files::lock experiment_lock "${fact[scratch_dir]}/hpc_outputs/.${fact[exp_name]}.lock"
  experiment::settle "$folder"
  if [[ -r $folder/.job ]]; then
    holder=$(paste --serial --delimiters=, -- "$folder/.job")
    step=${holder#* } holder=${holder%% *}
    if [[ $step == here_* ]]; then
      # The job is the user's own allocation (--here), which may outlive the run: look for the run's step.
      slurm::ask state 60 squeue --all --steps --noheader --jobs="$holder" --format=%j || status=$?
      if ((status == 0)); then state=$(grep -xF -e "$step" <<<"$state" || true); fi
    else
      slurm::ask state 60 squeue --all --noheader --job="$holder" --format=%T || status=$?
    fi
    # Slurm forgets jobs a few minutes after their end.
    if ((status != 0)) && [[ $state != *'Invalid job id'* ]]; then
      common::die "cannot tell whether job $holder still has the experiment ${fact[exp_name]@Q} ($state): submit again when squeue answers"
    elif ((status == 0)) && [[ -n $state ]]; then
      common::die "the experiment ${fact[exp_name]@Q} belongs to job $holder (${state%%$'\n'*}): wait for it, end it with  bash hpc/experiments.sh cancel ${holder//,/ } , or give another --exp-name"
    fi
  fi
  experiment::compare "$mode"
}

# experiment::compare new|resume|fresh|''   The same for checkpoints alone.
experiment::compare() {
  if [[ -z $1 ]]; then return; fi
  if ! experiment::has_checkpoints; then
    if [[ $1 == resume ]]; then common::note "note: ${fact[exp_name]} has no checkpoints yet: it starts from the beginning$(experiment::say_written "${fact[checkpoint_directory]%/*}")"; fi
  elif [[ $1 == new ]]; then
    common::die_usage "the experiment ${fact[exp_name]@Q} has checkpoints in ${fact[checkpoint_directory]@Q}: give --resume to continue from them, --fresh to start from the beginning (they are moved aside), or another --exp-name"
  fi
}

# experiment::settle FOLDER   Cleans up after a submission that was killed, or whose sbatch got no answer: if Slurm has its jobs,
# they become the experiment's jobs.
experiment::settle() {
  local run known found status=0
  if [[ ! -r $1/.sending ]]; then return; fi
  run=$(<"$1/.sending")
  known=$(cut -d ' ' -f 1 -- "$run/jobs" 2>/dev/null) || known=''
  sending::find found "$run" "$known" || status=$?
  ((status != 2)) ||
    common::die "an earlier submission of ${fact[exp_name]@Q} was not finished, and Slurm does not say whether it has a job ($found): submit again when squeue answers"
  printf '%s\n' ${known:+"$known"} ${found:+"$found"} >"$1/.job"
  if [[ -n $found && -d $run ]]; then
    common::note "job ${found//$'\n'/ } of an earlier submission was not recorded: it is now, in $run"
    printf '%s\n' "$found" >>"$run/job_id"
  fi
  rm -f -- "$1/.sending"
}

# experiment::say_written FOLDER   Prints what the last run wrote into its own copy of the sources, where this run will not find it
# (sources::note_written).
experiment::say_written() {
  local run=''
  local -a written=()
  if [[ -r $1/runs ]]; then run=${fact[scratch_dir]}/hpc_outputs/$(tail -n 1 -- "$1/runs"); fi
  if [[ -z $run || ! -r $run/written ]]; then return; fi
  mapfile -d '' -t written <"$run/written"
  printf '. Its last run has written %s files, such as %s, into its own copy of the sources, %s/source: a program that saves beside itself goes on with --keep-folders FOLDER' \
    "${#written[@]}" "${written[0]@Q}" "$run"
}

experiment::has_checkpoints() {
  [[ -d ${fact[checkpoint_directory]} && -n $(find "${fact[checkpoint_directory]}" ! -type d -print -quit) ]]
}

# experiment::begin MODE   Makes the folders; with fresh it moves the old checkpoints aside. If the job is refused,
# experiment::put_back undoes this. From here on other submissions see that this run is being sent.
experiment::begin() {
  local -r folder=${fact[checkpoint_directory]}
  if [[ $1 == fresh ]] && experiment::has_checkpoints; then
    experiment_aside=$folder.${fact[stamp]}
    mv -T -- "$folder" "$experiment_aside"
    experiment_made=$folder
    common::note "the old checkpoints are in $experiment_aside"
  fi
  if [[ ! -d $folder ]]; then
    experiment_made=$folder
    mkdir -p -- "$folder"
  fi
  # Only an experiment with a name can be submitted twice.
  if [[ -n $experiment_lock ]]; then printf '%s\n' "${fact[run_directory]}" >"${folder%/*}/.sending"; fi
}

experiment::put_back() {
  local -r folder=${fact[checkpoint_directory]}
  # If this submission did not reach experiment::begin, the file belongs to another one.
  if [[ $(cat -- "${folder%/*}/.sending" 2>/dev/null) == "${fact[run_directory]}" ]]; then rm -f -- "${folder%/*}/.sending"; fi
  if [[ -z $experiment_made ]]; then return; fi
  rmdir -- "$experiment_made" 2>/dev/null || true
  if [[ -d $experiment_aside ]]; then
    mv -T -- "$experiment_aside" "$experiment_made"
  else
    rmdir -- "${experiment_made%/*}" 2>/dev/null || true
  fi
}

# experiment::record_jobs JOB...   From here on other submissions see which job has the experiment. The lock is released, because
# this submitter may follow its jobs for hours.
experiment::record_jobs() {
  local -r folder=${fact[checkpoint_directory]%/*}
  local status=0
  { printf '%s\n' "$@" >"$folder/.job" && printf '%s\n' "${fact[run_id]}" >>"$folder/runs"; } || status=$?
  if [[ -n $experiment_lock ]] && ((status == 0)); then rm -f -- "$folder/.sending"; fi
  experiment::release
  return "$status"
}

experiment::release() {
  if [[ -n $experiment_lock ]]; then exec {experiment_lock}>&-; fi
  experiment_lock=''
}
