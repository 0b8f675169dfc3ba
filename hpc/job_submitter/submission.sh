# shellcheck shell=bash
# The parts of a submission that do not depend on where it is sent, for job_submitter.sh and sky.sh.

declare -gA options_value+=() fact+=() site+=() slurm+=()
declare -ga experiment_words+=() experiment_lengths+=() experiment_lines+=() experiment_operators+=() options_list_collect+=() staging_plan+=() staging_paths+=() tasks_to_send+=()
declare -ga run_links+=() line_words+=() line_left_out+=()
declare -g line_refusal line_module
declare -gA submission_modules+=() # modules of python -m that the project does not have -> where they are named
declare -g run_unfinished

# submission::read_experiments PROJECT   Reads the configuration file. A sweep needs none, and an .isc file replaces it.
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
  submission::understand_lines "$1"
}

# submission::understand_lines PROJECT   Turns each line into a command that a job can run, or refuses it.
submission::understand_lines() {
  local -r folder=${options_value[chdir]:-.}
  local -a words=("${experiment_words[@]}")
  local -i i offset=0 length
  local where path said='' starter=${options_value[launcher]}
  # A script that runs only once may start any program.
  if ((10#${options_value[num_nodes]} == 1 && 10#${options_value[gpus]} <= 1)); then starter=node; fi
  experiment_words=()
  for ((i = 0; i < ${#experiment_lengths[@]}; i++)); do
    length=${experiment_lengths[i]}
    where="line ${experiment_lines[i]:-}"
    if [[ -n ${options_value[isc]} ]]; then where="the command of ${options_value[isc]@Q}"; fi
    submission::understand "$where" "${experiment_operators[i]:-}" "${words[@]:offset:length}"
    offset+=length
    line::check_program "$starter" "$1" "$folder"
    [[ -z $line_refusal ]] || common::die_usage "$where: $line_refusal"
    if [[ -n $line_module ]]; then submission_modules[$line_module]=$where; fi
    if [[ -z ${options_value[no_snapshot]} && $folder != /* && "${line_words[*]}" == *..* ]]; then
      while IFS= read -r path; do
        common::warn "$where: ${path@Q} leads out of the project, and the job runs in a copy of it: write  $(realpath -m -- "$1/$folder/$path")"
      done < <(line::list_outside "$folder")
    fi
    experiment_words+=("${line_words[@]}")
    experiment_lengths[i]=${#line_words[@]}
  done
}

# submission::understand WHERE OPERATOR WORD...   Sets line_words. Removed words are reported once, because all lines of an array have
# the same ones. `said` is the caller's.
submission::understand() {
  line::read "${options_value[launcher]/script/torchrun}" "$((10#${options_value[num_nodes]}))" "${@:2}"
  [[ -z $line_refusal ]] || common::die_usage "$1: $line_refusal"
  if ((${#line_left_out[@]} > 0)) && [[ ${line_left_out[*]} != "$said" ]]; then
    said=${line_left_out[*]}
    common::note "note: $1: left out, as the job starts the processes itself (--gpus, --num-nodes; -W node keeps it):  $said  ; what each process runs:  ${line_words[*]}"
  fi
}

# submission::understand_points DIRECTORY   Does the same for the commands of a sweep's points (sweep.py).
submission::understand_points() {
  local -a words
  local -i task
  local said=''
  for ((task = 1; task <= fact[tasks]; task++)); do
    mapfile -d '' -t words <"$1/task_$task/command"
    submission::understand "the command of ${fact[sweep_config]@Q}" '' "${words[@]}"
    if ((${#line_left_out[@]} > 0)); then command::write "$1/task_$task/command" "${line_words[@]}"; fi
  done
}

# submission::check_modules   Warns about modules of python -m that neither the project nor the environment has.
submission::check_modules() {
  local module
  if [[ -n ${fact[container]} ]]; then return; fi
  for module in "${!submission_modules[@]}"; do
    # A module may be in pip's folder, an egg link or the standard library: only the environment's python can tell.
    if ! "${fact[environment]}/bin/python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)' "${module%%.*}" 2>/dev/null; then
      common::warn "${submission_modules[$module]}: python -m $module: neither the project nor the environment ${fact[environment]@Q} has a module ${module%%.*}"
    fi
  done
}

# submission::choose_folders PROJECT
submission::choose_folders() {
  local scratch why
  site::scratch scratch
  if [[ -z $scratch ]]; then
    site::no_scratch why
    common::die "$why"
  fi
  [[ $scratch == /* && -d $scratch && -w $scratch ]] || common::die "SCRATCH=${scratch@Q} is not a folder in which you can write (it must be an absolute path)"
  fact[project_directory]=$1
  fact[project_name]=${1##*/}
  fact[scratch_dir]=${scratch%/}/${fact[project_name]}
  if [[ -n ${options_value[resume]} && -z ${options_value[exp_name]} ]]; then submission::refuse_resume; fi
  fact[job_name]=${options_value[exp_name]:-${fact[project_name]}}
  run::name
  # Without a name each run is a separate experiment, so that no two runs share checkpoints.
  fact[exp_name]=${options_value[exp_name]:-${fact[run_id]}}
  fact[checkpoint_directory]=${fact[scratch_dir]}/${fact[exp_name]}/checkpoints
  run::check_folders
  fact[source_dir]=${fact[run_directory]}/source
  if [[ -n ${options_value[no_snapshot]} ]]; then fact[source_dir]=$1; fi
  fact[working_directory]=${options_value[chdir]:-.}
  submission::choose_kept_folders
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

# Without a name the run would be an experiment of its own, and start from the beginning.
submission::refuse_resume() {
  local -a saved=("${fact[scratch_dir]}/${fact[project_name]}"_2*-*_*)
  local -i i
  local newest=''
  for ((i = ${#saved[@]} - 1; i >= 0; i--)); do
    fact[checkpoint_directory]=${saved[i]}/checkpoints
    if experiment::has_checkpoints; then
      newest=${saved[i]##*/}
      newest=". The newest of these that has checkpoints:  --exp-name ${newest@Q} --resume"
      break
    fi
  done
  common::die_usage "--resume needs --exp-name NAME, the experiment to continue: a run without a name has that of its run directory (bash hpc/experiments.sh  lists them)$newest"
}

submission::choose_kept_folders() {
  local -r given=${options_value[keep_folders]}
  local name
  local -a names=()
  fact[keep_folders]=$given
  if [[ -z $given ]]; then return; fi
  if [[ -n ${options_value[no_snapshot]} ]]; then common::die_usage "--keep-folders and --no-snapshot contradict each other: without a copy the program writes into the project itself, where the next run finds its files"; fi
  [[ ${fact[working_directory]} != /* ]] || common::die_usage "--keep-folders: the program runs in ${fact[working_directory]@Q} (--chdir), which is not a copy, so its files stay"
  IFS=, read -ra names <<<"$given"
  for name in "${names[@]}"; do
    [[ -n ${name//[.\/]/} && /$name/ != */../* && $name != /* ]] ||
      common::die_usage "--keep-folders ${given@Q}: ${name@Q} is not a folder below the one in which the command runs: write  out,checkpoints"
  done
  if ((fact[tasks] > 1)); then common::warn "--keep-folders: all of the ${fact[tasks]} tasks write into the same folders: let each have a name of its own, such as  --out_dir out/{seed}"; fi
}

# submission::write PROJECT DESCRIPTOR   Writes the run directory. DESCRIPTOR: where snapshot::commit prints the commit.
submission::write() {
  local -r project=$1 descriptor=$2
  local mode
  local -a given=()
  submission::choose_mode mode
  run::begin "$mode"
  if [[ -n ${fact[here]:-} ]]; then here::start; fi
  if [[ -z ${options_value[no_snapshot]} ]]; then
    snapshot::pack "$project" "${fact[scratch_dir]}/hpc_outputs/.sources" "$run_unfinished/source.tar"
  fi
  read -r 'fact[commit]' <&"$descriptor" || fact[commit]=''
  exec {descriptor}<&-
  tasks::write "$run_unfinished"
  if [[ -n ${fact[sweep_config]} ]]; then submission::understand_points "$run_unfinished"; fi
  tasks::show "$run_unfinished"
  submission::choose_tasks
  if ((${#staging_plan[@]} > 0)); then staging::write "$run_unfinished/staging"; fi
  if ((${#staging_paths[@]} > 0)); then printf '%s\0' "${staging_paths[@]}" >"$run_unfinished/data"; fi
  if ((${#options_list_collect[@]} > 0)); then printf '%s\0' "${options_list_collect[@]}" >"$run_unfinished/collect"; fi
  if [[ -n ${options_value[output_path]} ]]; then submission::link_output "${options_value[output_path]}"; fi
  options::given given 'exp_name|resume|fresh|only_missing|dependency|begin|confirm|follow|json'
  run_directory::write_words "$run_unfinished/options" "${given[@]}"
  run::complete "$mode" "${fact[commit]}"
}

# submission::choose_mode VARIABLE   Sets it to resume, fresh or new; empty for a run without a name.
submission::choose_mode() {
  local chosen=''
  if [[ -n ${options_value[exp_name]} ]]; then
    chosen=${options_value[resume]:+resume}
    chosen=${chosen:-${options_value[fresh]:+fresh}}
    chosen=${chosen:-new}
  fi
  printf -v "$1" '%s' "$chosen"
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

# submission::link_output FOLDER   Makes a link to the run directory in FOLDER, where people look for it.
submission::link_output() {
  local -r link=${1%/}/${fact[run_id]}
  mkdir -p -- "$1" || common::die "--output-path ${1@Q} cannot be made: see above"
  run_links+=("$link")
  ln -sT -- "${fact[run_directory]}" "$link" || common::die "--output-path ${1@Q} cannot be written to: see above"
}
