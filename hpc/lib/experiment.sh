# shellcheck shell=bash
# An experiment's name stands for its checkpoints: two live jobs never share them, and old ones are
# neither used nor lost without a word from the user. Needs common.sh, options.sh and run_directory.sh.

declare -gA options_value fact

# experiment::claim   Waits for other submitters of the same name; status 1 when a live job has it, 2 when
# there are checkpoints and neither --resume nor --fresh was given.
experiment::claim() {
  local -r folder=${fact[checkpoint_directory]%/*}
  local lock holder state
  mkdir -p -- "$folder"
  exec {lock}>"$folder/.lock"
  flock "$lock"
  if [[ -r $folder/.job ]]; then
    holder=$(<"$folder/.job")
    state=$(squeue --noheader --job="$holder" --format=%T 2>/dev/null) || state=''
    if [[ -n $state ]]; then
      common::die "the experiment ${fact[exp_name]@Q} belongs to job $holder (${state%%$'\n'*}): wait for it, end it with  scancel $holder , or give another --exp-name"
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

# With --fresh the old folder is moved aside; experiment::put_back undoes it when the job is refused.
experiment::move_aside() {
  experiment_aside=''
  if [[ -n ${options_value[fresh]} ]] && experiment::has_checkpoints; then
    experiment_aside=${fact[checkpoint_directory]}.${fact[stamp]}
    mv -T -- "${fact[checkpoint_directory]}" "$experiment_aside"
    common::note "the old checkpoints are in $experiment_aside"
  fi
  mkdir -p -- "${fact[checkpoint_directory]}"
}

experiment::put_back() {
  if [[ -n ${experiment_aside:-} ]]; then
    rmdir -- "${fact[checkpoint_directory]}"
    mv -T -- "$experiment_aside" "${fact[checkpoint_directory]}"
  fi
}

experiment::record_job() {
  printf '%s\n' "$1" >"${fact[checkpoint_directory]%/*}/.job"
}
