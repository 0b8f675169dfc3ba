#!/usr/bin/env bash
# job_submitter.sh [OPTIONS]
#
# Sends the experiments of experiment_configurations.txt to the cluster. Run by people, on a login node,
# from any folder; the project is the folder that holds hpc/. Prints the job id, and nothing else, on
# standard output. Each option may also be set in the environment (HPC_GPUS for --gpus), in the project's
# .env, or in the site's profile; the command line comes first. Exit status: 0 submitted (with --follow:
# finished), 1 the site or machine refuses, 2 the request is wrong; with --follow, the job's own.
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
project=${here%/*}
source "$here/lib/common.sh"
source "$here/lib/checks.sh"
source "$here/lib/options.sh"
source "$here/job_submitter/option_table.sh"
source "$here/lib/dotenv.sh"
source "$here/lib/secrets.sh"
source "$here/lib/site.sh"
source "$here/lib/command.sh"
source "$here/job_submitter/experiments_file.sh"
source "$here/lib/run_directory.sh"
source "$here/lib/node_environment.sh"
source "$here/lib/wandb_client.sh"
source "$here/job_submitter/tasks.sh"
source "$here/job_submitter/request.sh"
source "$here/job_submitter/preflight.sh"
source "$here/lib/findings.sh"
source "$here/job_submitter/isc.sh"
source "$here/job_submitter/snapshot.sh"
source "$here/lib/packing.sh"
source "$here/lib/pruning.sh"
source "$here/lib/staging.sh"
source "$here/job_submitter/experiment.sh"
source "$here/job_submitter/sbatch.sh"
source "$here/lib/follow.sh"
source "$here/lib/bad_nodes.sh"
source "$here/lib/container_runtime.sh"
source "$here/job_submitter/container.sh"
source "$here/job_submitter/sky.sh"
source "$project/venv/environment.sh"

main() {
  local -a jobs=()
  local job='' silent='' refused='' commit
  submit::leave_snapshot "$@"
  submit::leave_enclosing_job
  option_table::define
  options::parse "$@"
  if [[ -n ${options_value[help]:-} ]]; then
    common::print_header "${BASH_SOURCE[0]}"
    options::print_help
    return
  fi

  # All that can be wrong is looked at before anything is written.
  dotenv::each "$project/.env" secrets::take_setting
  if sky::is_wanted; then
    exec {commit}< <(snapshot::commit "$project")
    sky::submit "$here" "$project"
    return
  fi
  preflight::begin
  exec {commit}< <(snapshot::commit "$project") # git looks at all files: meanwhile Slurm is asked
  site::query || silent=$site_silence
  site::load "$here" "${options_value[cluster]:-${HPC_CLUSTER:-}}"
  isc::read "$here" "$project"
  options::complete site
  sky::refuse_options_of_it
  submit::read_configuration
  request::find_sweep
  request::resolve
  submit::choose_folders
  submit::choose_environment
  submit::leave_out_bad_nodes
  staging::check
  tasks::count
  tasks::choose_array_size
  mapfile -t tasks_to_send < <(seq "${fact[tasks]}")
  tasks::divide
  if [[ -n $silent ]]; then
    [[ -n ${options_value[dry_run]} ]] || common::die "$silent"
    common::note "note: the request is not compared with the cluster. $silent"
  elif [[ -n ${options_value[no_preflight]} ]]; then
    common::note 'note: the request is not compared with the cluster (--no-preflight)'
  else
    preflight::check
    submit::ask_slurm
  fi

  if [[ -n ${options_value[dry_run]} ]]; then
    if [[ -n ${options_value[only_missing]} ]]; then common::note 'note: what is missing is looked up when it is sent: this is all'; fi
    submit::for_each_job submit::show
    return
  fi
  if [[ -n ${options_value[confirm]} ]]; then submit::confirm; fi
  if [[ -z ${options_value[pack_in_job]} ]] && staging::is_wanted; then staging::prepare; fi
  submit::write_run_directory
  submit::send
  if [[ -n ${options_value[follow]} ]]; then follow::jobs "${fact[run_directory]}" "${jobs[@]}"; fi
  [[ -z $refused ]]
}

# A sweep needs no configuration, and an .isc file is one.
submit::read_configuration() {
  local -r file=${options_value[configs]:-$project/experiment_configurations.txt}
  if [[ -n ${options_value[isc]} ]]; then
    isc::use_command
  elif [[ -n ${options_value[sweep_config]} || -n ${options_value[wandb_sweepid]} && ! -e $file ]]; then
    experiment_lengths=()
  else
    experiments_file::read "$file"
  fi
  fact[experiments]=${#experiment_lengths[@]}
}

# A job runs in a copy of the project; what it submits is the project.
submit::leave_snapshot() {
  if [[ -z ${RUN_DIRECTORY:-} || $project != "$RUN_DIRECTORY/source" ]]; then return; fi
  # shellcheck source=/dev/null
  source "$RUN_DIRECTORY/facts"
  exec bash "${fact[project_directory]}/hpc/job_submitter.sh" "$@"
}

# Inside a job its variables, and ours, would bind the new job to the old one's CPUs, ranks and folders.
submit::leave_enclosing_job() {
  site::take_sbatch_defaults
  site::leave_enclosing_job
  if [[ -n ${RUN_DIRECTORY:-} ]]; then unset OMP_NUM_THREADS "${node_environment_names[@]}"; fi
}

# The names and folders of the run: one rule, used by jobs and tools alike.
submit::choose_folders() {
  local -r scratch=${SCRATCH:-${site[scratch]}}
  [[ -n $scratch ]] || common::die "SCRATCH is not set: add to ~/.bashrc the folder that all nodes share, such as  export SCRATCH=/scratch/\$USER"
  [[ $scratch == /* && -d $scratch && -w $scratch ]] || common::die "SCRATCH=${scratch@Q} is not a folder in which you can write (it must be an absolute path)"
  printf -v 'fact[stamp]' '%(%Y%m%d-%H%M%S)T' -1
  fact[project_directory]=$project
  fact[project_name]=${project##*/}
  fact[scratch_dir]=${scratch%/}/${fact[project_name]}
  fact[job_name]=${options_value[exp_name]:-${fact[project_name]}}
  fact[run_id]=${fact[job_name]}_${fact[stamp]}_$BASHPID
  fact[run_directory]=${fact[scratch_dir]}/hpc_outputs/${fact[run_id]}
  # Without a name each run is an experiment of its own, so that no two share checkpoints.
  fact[exp_name]=${options_value[exp_name]:-${fact[run_id]}}
  fact[checkpoint_directory]=${fact[scratch_dir]}/${fact[exp_name]}/checkpoints
  fact[source_dir]=${fact[run_directory]}/source
  if [[ -n ${options_value[no_snapshot]} ]]; then fact[source_dir]=$project; fi
  fact[working_directory]=${options_value[chdir]:-.}
  fact[node_local_directory]=${site[node_local_directory]}
  fact[site]=${site[name]}
  fact[cluster]=${slurm[ClusterName]:-}
  fact[modules]=${site[modules]}
  fact[kill_wait]=${slurm[KillWait]:-30}
  fact[kill_wait]=${fact[kill_wait]%% *}
}

submit::choose_environment() {
  fact[container]='' fact[environment]=''
  if [[ -n ${options_value[singularity_container]} ]]; then
    container::choose "$project"
    if [[ -z ${options_value[no_preflight]} ]]; then container::ask "$project"; fi
    return
  fi
  container::refuse_options_of_it
  fact[environment]=${options_value[environment]:-$(environment::find "$project" || true)}
  if [[ ${fact[environment]} == [!/]* ]]; then fact[environment]=$PWD/${fact[environment]}; fi
  [[ -n ${fact[environment]} ]] ||
    common::die "no virtual environment for $(environment::requirements "$project"): make it once with  bash ${project@Q}/venv/create.sh"
  [[ -x ${fact[environment]}/bin/python ]] || common::die "no python in the environment ${fact[environment]@Q} $(submit::whose_environment)"
}

submit::whose_environment() {
  case ${options_source[environment]} in
    site) printf 'of the profile %s\n' "${site[name]}" ;;
    file) printf 'of %s\n' "${options_value[isc]}" ;;
    *) printf '(--environment)\n' ;;
  esac
}

# What the user asks for by name stays.
submit::leave_out_bad_nodes() {
  local -a bad=()
  mapfile -t bad < <(bad_nodes::list "${fact[cluster]}")
  if ((${#bad[@]} == 0)); then return; fi
  if [[ -n ${options_value[nodelist]} ]]; then
    common::warn "failed twice within a day: ${bad[*]}; --nodelist decides"
    return
  fi
  common::warn "left out, as your jobs have failed there twice within a day: ${bad[*]}; see  bash hpc/experiments.sh nodes"
  printf -v 'options_value[exclude]' '%s,' ${options_value[exclude]:+"${options_value[exclude]}"} "${bad[@]}"
  options_value[exclude]=${options_value[exclude]%,}
}

submit::confirm() {
  local answer
  submit::for_each_job submit::show >&2
  [[ -t 0 ]] || common::die "--confirm asks on a terminal, and there is none"
  read -rp 'Submit this? [y/N] ' answer
  [[ $answer == [yY]* ]] || common::die "not submitted"
}

# Written beside and renamed: a run directory that has its name is complete.
submit::write_run_directory() {
  unfinished=${fact[run_directory]}.partial
  trap submit::remove_unfinished EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  [[ -d ${fact[scratch_dir]}/hpc_outputs ]] || mkdir -p -- "${fact[scratch_dir]}/hpc_outputs"
  experiment::claim
  run_directory::make "$unfinished"
  if [[ -z ${options_value[no_snapshot]} ]]; then
    snapshot::pack "$project" "${fact[scratch_dir]}/hpc_outputs/.sources" "$unfinished/source.tar"
  fi
  read -r 'fact[commit]' <&"$commit" || fact[commit]=''
  exec {commit}<&-
  run_directory::write_facts "$unfinished"
  tasks::write "$unfinished"
  tasks::show "$unfinished"
  submit::choose_tasks
  if ((${#staging_plan[@]} > 0)); then staging::write "$unfinished/staging"; fi
  if ((${#staging_paths[@]} > 0)); then printf '%s\0' "${staging_paths[@]}" >"$unfinished/data"; fi
  if ((${#options_list_collect[@]} > 0)); then printf '%s\0' "${options_list_collect[@]}" >"$unfinished/collect"; fi
  experiment::move_aside
  if [[ -n ${options_value[output_path]} ]]; then submit::link_output "${options_value[output_path]}"; fi
  mv -T -- "$unfinished" "${fact[run_directory]}"
  unfinished=${fact[run_directory]}
}

# submit::link_output FOLDER   What people look for there is in the run directory.
submit::link_output() {
  mkdir -p -- "$1" || common::die "--output-path ${1@Q} cannot be made: see above"
  output_link=${1%/}/${fact[run_id]}
  ln -sT -- "${fact[run_directory]}" "$output_link" || common::die "--output-path ${1@Q} cannot be written to: see above"
}

submit::choose_tasks() {
  tasks::choose "$unfinished"
  if ((${#tasks_to_send[@]} == 0)); then tasks::say_none; fi
  if [[ -n ${options_value[only_missing]} && -z ${fact[sweep]} ]]; then
    common::note "${#tasks_to_send[@]} of ${fact[tasks]} tasks are missing"
  fi
  tasks::divide
  tasks::link_logs "$unfinished"
}

submit::remove_unfinished() {
  rm -rf -- "$unfinished" ${output_link:+"$output_link"}
  experiment::put_back
}

# Without what they wait for: those jobs are not there yet.
submit::ask_slurm() {
  local -a job_argv=()
  request_array=${tasks_lists[0]} request_offset=0 request_first=()
  request::sbatch_argv job_argv
  preflight::ask_slurm "${job_argv[@]}"
  if [[ -n ${fact[cycles]:-} ]]; then
    request::cycle_argv job_argv
    preflight::ask_slurm "${job_argv[@]}"
  fi
}

# submit::for_each_job COMMAND   Calls COMMAND NAME ARGV... for the jobs of this submission, in their order: each waits for
# those before it that are not of the same name.
submit::for_each_job() {
  local -r command=$1
  local -a job_argv=()
  local -a first=()
  local -i number
  request_first=()
  if [[ -n ${options_value[pack_in_job]} ]]; then
    request::pack_argv job_argv
    "$command" pack "${job_argv[@]}"
    first=("afterok:$job")
  fi
  for ((number = 0; number < ${#tasks_lists[@]}; number++)); do
    request_array=${tasks_lists[number]} request_offset=${tasks_offsets[number]} request_first=("${first[@]}")
    # Arrays at the same time would each have as many tasks running.
    if ((number > 0)) && [[ -n ${options_value[max_parallel]} ]]; then request_first+=("afterany:$job"); fi
    if [[ -n ${fact[cycles]:-} ]]; then
      request::cycle_argv job_argv
      "$command" cycle "${job_argv[@]}"
      # Of an array, each task waits for its own.
      request_first+=("$( ((fact[tasks] > 1)) && echo aftercorr || echo afterok):$job")
    fi
    request::sbatch_argv job_argv
    "$command" train "${job_argv[@]}"
    if [[ -n $refused ]]; then return; fi
  done
}

submit::show() {
  local -a argv=("${@:2}")
  printf '%s\n' "${argv[*]@Q}"
  job=${1^^}_JOB # its id, when it has one
}

# From here to the job id an interrupt could leave a job that nobody knows of: it waits.
submit::send() {
  local answer what=''
  local -A sent=() # the last job of each name
  trap '' INT TERM
  submit::for_each_job submit::send_one
  printf '%s\n' "${jobs[@]}" >"${fact[run_directory]}/job_id"
  experiment::record_jobs "${jobs[@]}"
  trap - EXIT INT TERM
  if [[ $answer == *$'\n'* && -z $refused ]]; then common::note "${answer%$'\n'*}"; fi
  if ((fact[tasks] > 1)); then what="${#tasks_to_send[@]} tasks of "; fi
  common::note "job ${jobs[*]} (${fact[job_name]}): $what${fact[nodes]} x ${fact[processes_per_node]} processes; ${fact[run_directory]}"
  if [[ -n ${sent[pack]:-} ]]; then common::note "job ${sent[pack]} packs the data first; its log: ${fact[run_directory]}/pack_log.txt"; fi
  if [[ -n ${sent[cycle]:-} ]]; then common::note "job ${sent[cycle]} runs ${fact[cycles]} cycles of ${fact[cycle_seconds]} s first, in the same log; to end both:  scancel ${sent[cycle]} ${jobs[*]}"; fi
  if [[ -n $refused ]]; then
    common::print_error "Slurm takes no more of your jobs: $refused. Tasks from $((${tasks_offsets[${#jobs[@]}]} + 1)) on are not sent: later, with --exp-name ${fact[exp_name]@Q} --only-missing"
  fi
  printf '%s\n' "${jobs[@]}"
}

submit::send_one() {
  local -r name=$1
  local -rA whose=([pack]=' that packs' [cycle]=' of the cycles' [train]='')
  local file=sbatch_argv
  if sbatch::call "${@:2}"; then
    sent[$name]=$job
    if [[ $name != train ]]; then return; fi
    jobs+=("$job")
    if ((request_offset > 0)); then file+=_$request_offset; fi
    printf '%s\0' "${@:2}" >"${fact[run_directory]}/$file"
    return
  fi
  refused=$(preflight::tidy "$answer")
  # Arrays that are in stay in.
  if ((${#jobs[@]} > 0)); then return; fi
  if ((${#sent[@]} > 0)); then scancel "${sent[@]}" || true; fi
  common::die "Slurm refused the job${whose[$name]}: $refused"
}

main "$@"
