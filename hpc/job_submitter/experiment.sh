# shellcheck shell=bash
# An experiment has one live job and one set of checkpoints: a second submission of its name neither runs beside the first
# nor hides its checkpoints. In the experiment's folder: `.job`, the ids of its jobs, or of one with --here that of the allocation and its step; `.sending`, the run directory of a
# submission that has not recorded them yet; `runs`, the ids of its runs.

declare -gA fact+=()
declare -g experiment_lock='' experiment_made='' experiment_aside=''

# experiment::claim new|resume|fresh   Waits for other submissions of this name; ends with status 1 when a live job has it, 2
# when there are checkpoints and the submission says neither resume nor fresh.
experiment::claim() {
  local -r mode=$1 folder=${fact[checkpoint_directory]%/*}
  local holder step state status=0
  files::lock experiment_lock "${fact[scratch_dir]}/hpc_outputs/.${fact[exp_name]}.lock"
  experiment::settle "$folder"
  if [[ -r $folder/.job ]]; then
    holder=$(paste --serial --delimiters=, -- "$folder/.job")
    step=${holder#* } holder=${holder%% *}
    if [[ $step == here_* ]]; then
      # The job is an allocation of the user's, which may be there for long after the run (--here).
      slurm::ask state 60 squeue --all --steps --noheader --jobs="$holder" --format=%j || status=$?
      if ((status == 0)); then state=$(grep -xF -e "$step" <<<"$state" || true); fi
    else
      slurm::ask state 60 squeue --all --noheader --job="$holder" --format=%T || status=$?
    fi
    # Slurm forgets jobs that ended some minutes ago.
    if ((status != 0)) && [[ $state != *'Invalid job id'* ]]; then
      common::die "cannot tell whether job $holder still has the experiment ${fact[exp_name]@Q} ($state): submit again when squeue answers"
    elif ((status == 0)) && [[ -n $state ]]; then
      common::die "the experiment ${fact[exp_name]@Q} belongs to job $holder (${state%%$'\n'*}): wait for it, end it with  bash hpc/experiments.sh cancel ${holder//,/ } , or give another --exp-name"
    fi
  fi
  if ! experiment::has_checkpoints; then
    if [[ $mode == resume ]]; then common::note "note: ${fact[exp_name]} has no checkpoints yet: it begins anew$(experiment::say_written "$folder")"; fi
  elif [[ $mode == new ]]; then
    common::die_usage "the experiment ${fact[exp_name]@Q} has checkpoints in ${fact[checkpoint_directory]@Q}: give --resume to go on from them, --fresh to begin anew (they are moved aside), or another --exp-name"
  fi
}

# experiment::settle FOLDER   What a submission has left that was killed, or whose sbatch got no answer: its jobs, if Slurm has
# any, become those of the experiment.
experiment::settle() {
  local run known found status=0
  if [[ ! -r $1/.sending ]]; then return; fi
  run=$(<"$1/.sending")
  known=$(cut -d ' ' -f 1 -- "$run/jobs" 2>/dev/null) || known=''
  sending::find found "$run" "$known" || status=$?
  ((status != 2)) ||
    common::die "an earlier submission of ${fact[exp_name]@Q} was not finished, and Slurm does not answer whether it has a job ($found): submit again when squeue answers"
  printf '%s\n' ${known:+"$known"} ${found:+"$found"} >"$1/.job"
  if [[ -n $found && -d $run ]]; then
    common::note "job ${found//$'\n'/ } of an earlier submission was not recorded: it is now, in $run"
    printf '%s\n' "$found" >>"$run/job_id"
  fi
  rm -f -- "$1/.sending"
}

# experiment::say_written FOLDER   What the last run has written where this one does not look (sources::note_written).
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

# experiment::begin MODE   Makes the folders; with fresh the old checkpoints are moved aside. experiment::put_back undoes it when the
# job is refused. From here on others find the run that is being sent.
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
  # Of a run without a name nobody can submit a second.
  if [[ -n $experiment_lock ]]; then printf '%s\n' "${fact[run_directory]}" >"${folder%/*}/.sending"; fi
}

experiment::put_back() {
  local -r folder=${fact[checkpoint_directory]}
  # Another submission's, if this one did not come to experiment::begin.
  if [[ $(cat -- "${folder%/*}/.sending" 2>/dev/null) == "${fact[run_directory]}" ]]; then rm -f -- "${folder%/*}/.sending"; fi
  if [[ -z $experiment_made ]]; then return; fi
  rmdir -- "$experiment_made" 2>/dev/null || true
  if [[ -d $experiment_aside ]]; then
    mv -T -- "$experiment_aside" "$experiment_made"
  else
    rmdir -- "${experiment_made%/*}" 2>/dev/null || true
  fi
}

# experiment::record_jobs JOB...   From here on others see who has the experiment, and need not wait: this submitter may follow
# its jobs for hours.
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
