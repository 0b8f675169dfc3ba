# shellcheck shell=bash
# What a submission decides by its options and writes down, wherever it is sent: for job_submitter.sh and sky.sh.

declare -gA options_value+=() fact+=() site+=() slurm+=()
declare -ga experiment_lengths+=() options_list_collect+=() staging_plan+=() staging_paths+=() tasks_to_send+=()
declare -ga run_links+=()
declare -g run_unfinished

# submission::read_experiments PROJECT   A sweep needs no configuration, and an .isc file is one.
submission::read_experiments() {
  local -r file=${options_value[configs]:-$1/experiment_configurations.txt}
  if [[ -n ${options_value[isc]} ]]; then
    isc::use_command
  elif [[ -n ${options_value[sweep_config]} || -n ${options_value[wandb_sweepid]} && ! -e $file ]]; then
    experiment_lengths=()
  else
    experiments_file::read "$file"
  fi
  fact[experiments]=${#experiment_lengths[@]}
}

# submission::choose_folders PROJECT
submission::choose_folders() {
  local scratch
  site::scratch scratch
  [[ -n $scratch ]] || common::die "SCRATCH is not set: add to ~/.bashrc the folder that all nodes share, such as  export SCRATCH=/scratch/\$USER"
  [[ $scratch == /* && -d $scratch && -w $scratch ]] || common::die "SCRATCH=${scratch@Q} is not a folder in which you can write (it must be an absolute path)"
  fact[project_directory]=$1
  fact[project_name]=${1##*/}
  fact[scratch_dir]=${scratch%/}/${fact[project_name]}
  fact[job_name]=${options_value[exp_name]:-${fact[project_name]}}
  run::name
  # Without a name each run is an experiment of its own, so that no two share checkpoints.
  fact[exp_name]=${options_value[exp_name]:-${fact[run_id]}}
  fact[checkpoint_directory]=${fact[scratch_dir]}/${fact[exp_name]}/checkpoints
  fact[source_dir]=${fact[run_directory]}/source
  if [[ -n ${options_value[no_snapshot]} ]]; then fact[source_dir]=$1; fi
  fact[working_directory]=${options_value[chdir]:-.}
  fact[node_local_directory]=${site[node_local_directory]}
  fact[site]=${site[name]}
  fact[cluster]=${slurm[ClusterName]:-}
  fact[modules]=${site[modules]}
  fact[interface]=${site[interface]}
  fact[head_address]=${site[head_address]}
  fact[requeue]=${site[requeue]}
  fact[sbatch_on_nodes]=${site[sbatch_on_nodes]}
  fact[kill_wait]=${slurm[KillWait]:-30}
  fact[kill_wait]=${fact[kill_wait]%% *}
}

# submission::write PROJECT DESCRIPTOR   The run directory. DESCRIPTOR: where snapshot::commit prints the commit.
submission::write() {
  local -r project=$1 descriptor=$2
  local mode=''
  if [[ -n ${options_value[resume]} ]]; then
    mode=resume
  elif [[ -n ${options_value[exp_name]} ]]; then
    mode=${options_value[fresh]:+fresh}
    mode=${mode:-new}
  fi
  run::begin "$mode"
  if [[ -z ${options_value[no_snapshot]} ]]; then
    snapshot::pack "$project" "${fact[scratch_dir]}/hpc_outputs/.sources" "$run_unfinished/source.tar"
  fi
  read -r 'fact[commit]' <&"$descriptor" || fact[commit]=''
  exec {descriptor}<&-
  tasks::write "$run_unfinished"
  tasks::show "$run_unfinished"
  submission::choose_tasks
  if ((${#staging_plan[@]} > 0)); then staging::write "$run_unfinished/staging"; fi
  if ((${#staging_paths[@]} > 0)); then printf '%s\0' "${staging_paths[@]}" >"$run_unfinished/data"; fi
  if ((${#options_list_collect[@]} > 0)); then printf '%s\0' "${options_list_collect[@]}" >"$run_unfinished/collect"; fi
  if [[ -n ${options_value[output_path]} ]]; then submission::link_output "${options_value[output_path]}"; fi
  run::complete "$mode"
}

submission::choose_tasks() {
  tasks::choose "$run_unfinished"
  if ((${#tasks_to_send[@]} == 0)); then tasks::say_none; fi
  if [[ -n ${options_value[only_missing]} && -z ${fact[sweep]} ]]; then
    common::note "${#tasks_to_send[@]} of ${fact[tasks]} tasks are missing"
  fi
  tasks::divide
  tasks::link_logs "$run_unfinished"
}

# submission::link_output FOLDER   A link to the run directory, where people look for it.
submission::link_output() {
  local -r link=${1%/}/${fact[run_id]}
  mkdir -p -- "$1" || common::die "--output-path ${1@Q} cannot be made: see above"
  run_links+=("$link")
  ln -sT -- "${fact[run_directory]}" "$link" || common::die "--output-path ${1@Q} cannot be written to: see above"
}
