# shellcheck shell=bash
# An experiment's name stands for its checkpoints: two live jobs never share them, and old ones are
# neither used nor lost without a word from the user. Needs common.sh, options.sh and run_directory.sh.

declare -gA options_value fact

# experiment::claim   Waits for other submitters of the same name; status 1 when a live job has it, 2 when
# there are checkpoints and neither --resume nor --fresh was given.
experiment::claim() {
  local -r folder=${fact[checkpoint_directory]%/*}
  local holder state
  fact[resume]=${options_value[resume]}
  # A run without a name has a folder that is new and that nobody else can name.
  if [[ -z ${options_value[exp_name]}${options_value[resume]} ]]; then return; fi
  exec {experiment_lock}>"${fact[scratch_dir]}/hpc_outputs/.${fact[exp_name]}.lock"
  flock "$experiment_lock"
  if [[ -r $folder/.job ]]; then
    holder=$(paste --serial --delimiters=, -- "$folder/.job")
    # A job that Slurm has forgotten is an error to squeue, as is a controller that is away.
    if ! state=$(squeue --noheader --job="$holder" --format=%T 2>&1); then
      [[ $state == *'Invalid job id'* ]] || common::die "cannot tell whether job $holder still has the experiment ${fact[exp_name]@Q}: ${state##*$'\n'}"
    elif [[ -n $state ]]; then
      common::die "the experiment ${fact[exp_name]@Q} belongs to job $holder (${state%%$'\n'*}): wait for it, end it with  scancel ${holder//,/ } , or give another --exp-name"
    fi
  fi
  if ! experiment::has_checkpoints; then
    if [[ -n ${options_value[resume]} ]]; then common::note "note: ${fact[exp_name]} has no checkpoints yet: it begins anew"; fi
  elif [[ -z ${options_value[resume]}${options_value[fresh]} ]]; then
    common::die_usage "the experiment ${fact[exp_name]@Q} has checkpoints in ${fact[checkpoint_directory]@Q}: give --resume to go on from them, --fresh to begin anew (they are moved aside), or another --exp-name"
  fi
}

experiment::has_checkpoints() {
  [[ -d ${fact[checkpoint_directory]} && -n $(find "${fact[checkpoint_directory]}" ! -type d -print -quit) ]]
}

# With --fresh the old folder is moved aside; experiment::put_back undoes all when the job is refused.
experiment::move_aside() {
  local -r folder=${fact[checkpoint_directory]}
  experiment_aside=''
  if [[ -n ${options_value[fresh]} ]] && experiment::has_checkpoints; then
    experiment_made=$folder experiment_aside=$folder.${fact[stamp]}
    mv -T -- "$folder" "$experiment_aside"
    common::note "the old checkpoints are in $experiment_aside"
  fi
  if [[ ! -d $folder ]]; then
    experiment_made=$folder
    mkdir -p -- "$folder"
  fi
}

experiment::put_back() {
  if [[ -z ${experiment_made:-} ]]; then return; fi
  rmdir -- "$experiment_made" 2>/dev/null || true
  if [[ -d $experiment_aside ]]; then
    mv -T -- "$experiment_aside" "$experiment_made"
  else
    rmdir -- "${experiment_made%/*}" 2>/dev/null || true
  fi
}

# From here on others see who has the experiment, and need not wait: this submitter may follow for hours.
experiment::record_jobs() {
  local -r folder=${fact[checkpoint_directory]%/*}
  printf '%s\n' "$@" >"$folder/.job"
  printf '%s\n' "${fact[run_id]}" >>"$folder/runs"
  experiment::release
}

experiment::release() {
  if [[ -n ${experiment_lock:-} ]]; then exec {experiment_lock}>&-; fi
}
