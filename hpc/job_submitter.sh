#!/usr/bin/env bash
# job_submitter.sh [OPTIONS]
#
# Submits the experiments of experiment_configurations.txt to Slurm, and prints the job id. Nothing else goes to standard output.
#
# Run by people, on a login node, from any folder; the project is the folder that holds hpc/. Each option can also be set in the
# environment (HPC_GPUS for --gpus), in the project's .env, or in the site's profile; the command line takes precedence.
#
# Files:
#   experiment_configurations.txt    the commands, one experiment a line
#   .env                             settings and secrets of the project
#   hpc/clusters/, ~/.config/hpc_kit/clusters/    profiles of sites
#   $SCRATCH/PROJECT/hpc_outputs/    a run directory for each submission
#   $SCRATCH/PROJECT/EXPERIMENT/checkpoints/      what the program saves
#
# Exit status: 0 submitted (with --follow: finished), 1 the site or the machine refuses, 2 the request is wrong; with --follow, the
# exit status of the job.
#
# See also: experiments.sh, doctor.sh, drill.sh, sweep.sh; README.md
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "${BASH_SOURCE[0]%job_submitter.sh}." && pwd)
project=${here%/*}
source "$here/lib/common.sh"
source "$here/lib/checks.sh"
source "$here/lib/options.sh"
source "$here/job_submitter/option_table.sh"
option_table::define
# Help needs none of the other files, and a submission does not need help.
if [[ " $* " == *' '@(-h|--help|--help=*|--version)' '* ]]; then
  source "$here/lib/help.sh"
  help::answer "$project" "${BASH_SOURCE[0]}" "$@"
fi
source "$here/lib/slurm.sh"
source "$here/lib/dotenv.sh"
source "$here/lib/secrets.sh"
source "$here/lib/site.sh"
source "$here/lib/partitions.sh"
source "$here/lib/node_environment.sh"
source "$here/job_submitter/snapshot.sh"
source "$project/venv/environment.sh"

bad_nodes_excluded='' users_exclude='' # whether bad nodes are excluded; the user's own --exclude
room_refusal=''                        # why Slurm takes no more of the user's jobs
enclosing_job=''                       # the job of this shell, if there is one

main() {
  local silent='' run_here='' commit environment mode
  job_submitter::leave_snapshot "$@"
  job_submitter::leave_enclosing_job
  options_hint=job_submitter::name_sbatch_options
  options::parse "$@"
  [[ -z ${options_value[json]:-} || -z ${options_value[dry_run]:-} ]] || common::die_usage "--json and --dry-run contradict each other: a dry run has no job"

  # Check everything before anything is written.
  dotenv::each "$project/.env" secrets::take_setting
  options::check_environment
  # Files that few submissions need are sourced where they are used, because sourcing takes a tenth of the time of a submission.
  if [[ ${options_value[backend]:-${HPC_BACKEND:-slurm}} == sky ]]; then
    job_submitter::source_rest
    source "$here/job_submitter/sky.sh"
    exec {commit}< <(snapshot::commit "$project")
    sky::submit "$here" "$project" "$commit"
    return
  fi
  if [[ -n ${options_value[here]:-${HPC_HERE:-}} ]]; then
    source "$here/job_submitter/here.sh"
    run_here=1
  elif [[ -z ${options_value[no_preflight]:-} ]]; then
    source "$here/job_submitter/limits.sh"
    source "$here/job_submitter/preflight.sh"
    source "$here/lib/findings.sh"
    preflight::begin
  fi
  # These run while Slurm is asked and the rest is sourced: requirements are hashed, and git examines all files.
  if [[ -z ${options_value[no_snapshot]:-}${options_value[dry_run]:-} ]]; then snapshot::begin "$project"; fi
  exec {environment}< <(environment::find "$project" 2>/dev/null)
  exec {commit}< <(snapshot::commit "$project")
  job_submitter::source_rest
  site::query silent || true
  site::load "$here" "${options_value[cluster]:-${HPC_CLUSTER:-}}"
  site::check "${!options_kind[@]}"
  isc::read "$here" "$project"
  options::complete site
  job_submitter::refuse_options_of_clouds
  # From here on fact[here], which here::take sets, says that the run goes into an allocation and not into the queue.
  if [[ -n $run_here ]]; then here::take "$enclosing_job"; fi
  job_submitter::resolve "$environment"
  job_submitter::compare_with_cluster "$silent"

  if [[ -n ${options_value[dry_run]} ]]; then
    submission::choose_mode mode
    experiment::compare "$mode"
    if [[ -n $tasks_first_unsent ]]; then job_submitter::report_unsent; fi
    if [[ -n ${options_value[only_missing]} ]]; then common::note 'note: what is missing is looked up when it is sent: this is all'; fi
    job_submitter::for_each_job job_submitter::show
    tasks::preview
    return
  fi
  if [[ -n ${options_value[confirm]} ]]; then job_submitter::confirm; fi
  if [[ -z ${options_value[pack_in_job]} ]] && staging::is_wanted; then
    source "$here/lib/packing.sh"
    staging::prepare
  fi
  submission::write "$project" "$commit"
  if [[ -n ${fact[here]:-} ]]; then here::run; else job_submitter::send; fi
}

# job_submitter::source_rest   Sources what is not needed to ask Slurm and git: they work in the meantime, and a shell with fewer functions
# starts them with less work.
job_submitter::source_rest() {
  source "$here/lib/files.sh"
  source "$here/lib/command.sh"
  source "$here/lib/launchers.sh"
  source "$here/lib/line.sh"
  source "$here/job_submitter/experiments_file.sh"
  source "$here/lib/run_directory.sh"
  source "$here/lib/wandb_client.sh"
  source "$here/job_submitter/tasks.sh"
  source "$here/job_submitter/sbatch_argument.sh"
  source "$here/job_submitter/request.sh"
  source "$here/job_submitter/isc.sh"
  source "$here/lib/staging.sh"
  source "$here/job_submitter/data.sh"
  source "$here/job_submitter/experiment.sh"
  source "$here/lib/sending.sh"
  source "$here/job_submitter/kit.sh"
  source "$here/job_submitter/run.sh"
  source "$here/job_submitter/submission.sh"
  source "$here/job_submitter/pruning.sh"
  source "$here/lib/bad_nodes.sh"
}

# job_submitter::resolve DESCRIPTOR   Turns the options into the facts and the tasks of the run. DESCRIPTOR: as for choose_environment.
job_submitter::resolve() {
  local checks_limits=1
  if [[ -n ${fact[here]:-}${options_value[no_preflight]} ]]; then checks_limits=''; fi
  if [[ -n $checks_limits ]]; then limits::check_options; fi
  submission::read_experiments "$project"
  request::find_sweep
  request::resolve
  if [[ -n ${fact[here]:-} ]]; then here::check; fi
  if [[ -n $checks_limits ]]; then limits::check_request; fi
  submission::choose_folders "$project"
  job_submitter::choose_environment "$1"
  submission::check_modules
  if [[ -z ${fact[here]:-} ]]; then job_submitter::exclude_bad_nodes; fi
  data::check
  tasks::count
  tasks::choose_array_size
  tasks::take_all
  tasks::divide
}

# job_submitter::compare_with_cluster SILENT   SILENT: why Slurm did not answer, if it did not.
job_submitter::compare_with_cluster() {
  if [[ -n ${fact[here]:-} ]]; then return; fi # here::check has compared it with the allocation
  if [[ -n $1 ]]; then
    [[ -n ${options_value[dry_run]} ]] || common::die "$1"
    common::note "note: the request is not compared with the cluster. $1"
  elif [[ -n ${options_value[no_preflight]} ]]; then
    common::note 'note: the request is not compared with the cluster (--no-preflight)'
  else
    preflight::check
    job_submitter::ask_slurm
  fi
}

# job_submitter::send   Sends the jobs of the run directory to the queue. Status 1 if Slurm has not taken all tasks.
job_submitter::send() {
  job_submitter::for_each_job run::send || true # job_submitter::report says which tasks Slurm has not taken
  run::record
  job_submitter::report
  pruning::prune "${fact[run_directory]%/*}" || true
  if [[ -n ${options_value[follow]} ]]; then
    source "$here/lib/follow.sh"
    follow::jobs "${fact[run_directory]}" "${#tasks_to_send[@]}" "${run_jobs[@]}"
  fi
  [[ -z $tasks_first_unsent ]]
}

# A job runs in a copy of the project; what it submits is the project.
job_submitter::leave_snapshot() {
  if [[ -z ${RUN_DIRECTORY:-} || $project != "$RUN_DIRECTORY/source" ]]; then return; fi
  # shellcheck source=/dev/null
  source "$RUN_DIRECTORY/facts"
  exec bash "${fact[project_directory]}/hpc/job_submitter.sh" "$@"
}

# Called for an option that does not exist: fills options_instead with the names of sbatch (options.sh).
job_submitter::name_sbatch_options() {
  source "$here/job_submitter/sbatch_names.sh"
  sbatch_names::define
}

job_submitter::refuse_options_of_clouds() {
  local name
  for name in on_demand disk_size infra secret; do
    if [[ ${options_source[$name]} == option ]]; then common::die_usage "--${name//_/-} is about --backend sky: give both"; fi
  done
}

# Takes the id of an enclosing job (in an array: of the task). Its variables, and those of the kit in it, would bind the new job to that
# job's CPUs, ranks and folders.
job_submitter::leave_enclosing_job() {
  enclosing_job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID:-}}
  enclosing_job=${enclosing_job:-${SLURM_JOB_ID:-}}
  site::take_sbatch_defaults
  site::leave_enclosing_job
  node_environment::leave
}

# job_submitter::choose_environment DESCRIPTOR   DESCRIPTOR: where environment::find prints.
job_submitter::choose_environment() {
  local found
  fact[container]='' fact[environment]=''
  if [[ -n ${options_value[singularity_container]} ]]; then
    source "$here/lib/container_runtime.sh"
    source "$here/job_submitter/container.sh"
    container::choose "$project"
    if [[ -z ${options_value[no_preflight]} ]]; then container::ask "$project"; fi
    return
  fi
  # Without a container, options that are about one are a mistake.
  if [[ ${options_source[stage_image]} == option ]]; then common::die_usage "--stage-image is about a container's image: give --singularity-container too"; fi
  if [[ -n ${options_value[workdir]} ]]; then common::die_usage "--workdir is a folder in a container: give --singularity-container too"; fi
  if ((${#options_list_bind[@]} > 0)); then common::die_usage "--bind is for a container: give --singularity-container too"; fi
  LC_ALL=C IFS= read -r -d '' found <&"$1" || true # there is no NUL: it reads up to the end
  fact[environment]=${options_value[environment]:-${found%$'\n'}}
  if [[ ${fact[environment]} == [!/]* ]]; then fact[environment]=$PWD/${fact[environment]}; fi
  [[ -n ${fact[environment]} ]] ||
    common::die "no virtual environment for $(environment::requirements "$project"): make it once with  bash ${project@Q}/venv/create.sh"
  [[ -x ${fact[environment]}/bin/python ]] || common::die "no python in the environment ${fact[environment]@Q} $(job_submitter::whose_environment)"
}

job_submitter::whose_environment() {
  case ${options_source[environment]} in
    site) printf 'of the profile %s\n' "${site[name]}" ;;
    file) printf 'of %s\n' "${options_value[isc]}" ;;
    *) printf '(--environment)\n' ;;
  esac
}

# Nodes named in --nodelist are never excluded.
job_submitter::exclude_bad_nodes() {
  local -a bad=()
  bad_nodes::list bad "${fact[cluster]}"
  if ((${#bad[@]} == 0)); then return; fi
  if [[ -n ${options_value[nodelist]} ]]; then
    common::warn "failed twice within a day: ${bad[*]}; --nodelist decides"
    return
  fi
  common::warn "left out, as your jobs have failed there twice within a day: ${bad[*]}; see  bash hpc/experiments.sh nodes"
  bad_nodes_excluded=1 users_exclude=${options_value[exclude]}
  printf -v 'options_value[exclude]' '%s,' ${users_exclude:+"$users_exclude"} "${bad[@]}"
  options_value[exclude]=${options_value[exclude]%,}
}

job_submitter::confirm() {
  local answer
  job_submitter::for_each_job job_submitter::show >&2
  [[ -t 0 ]] || common::die "--confirm asks on a terminal, and there is none"
  read -rp 'Submit this? [y/N] ' answer
  [[ $answer == [yY]* ]] || common::die "not submitted"
}

# Asks Slurm whether it would take each kind of job. If it would refuse the job without the bad nodes, they are not excluded. The jobs are
# tested without --dependency on each other, because those jobs do not exist yet.
job_submitter::ask_slurm() {
  local -a job_argv=()
  request::sbatch_argv job_argv "${tasks_lists[0]}" 0
  if [[ -n $bad_nodes_excluded ]] && ! (preflight_all=() && preflight::ask_slurm "${job_argv[@]}") 2>/dev/null; then
    common::warn 'without these nodes Slurm would refuse the job: they are not left out'
    options_value[exclude]=$users_exclude
    request::sbatch_argv job_argv "${tasks_lists[0]}" 0
  fi
  if ((fact[tasks] == 1)); then
    preflight::ask_slurm "${job_argv[@]}"
  else
    job_submitter::find_room 0 || preflight::die "$?" "$room_refusal" "${job_argv[@]}"
  fi
  if [[ -n ${fact[cycles]:-} ]]; then
    request::cycle_argv job_argv "${tasks_lists[0]}" 0
    preflight::ask_slurm "${job_argv[@]}"
  fi
  if [[ -n ${options_value[pack_in_job]} ]]; then
    request::pack_argv job_argv
    preflight::ask_slurm "${job_argv[@]}"
  fi
}

# job_submitter::find_room ARRAY   If Slurm takes only some tasks of this array now, the others are not sent. With --rapid-cycle each
# task is two jobs; --pack-in-job is one more job. Status 1 if it takes none, 2 if it does not answer.
job_submitter::find_room() {
  local -i number before=0 room=0 each=1 more=0
  if [[ -n ${fact[cycles]:-} ]]; then each=2; fi
  if (($1 == 0)) && [[ -n ${options_value[pack_in_job]} ]]; then more=1; fi
  preflight::room room room_refusal "${tasks_counts[$1]}" "$each" "$more" || return
  if ((room == tasks_counts[$1])); then return; fi
  for ((number = 0; number < $1; number++)); do before=$((before + tasks_counts[number])); done
  tasks_room=$((before + room))
  tasks::divide
}

# job_submitter::for_each_job COMMAND   Calls COMMAND VARIABLE NAME OFFSET ARGV... for each job of this submission, in order. COMMAND sets
# VARIABLE to the job's id, which later jobs of another NAME (pack, cycle, train) depend on.
job_submitter::for_each_job() {
  if [[ -n ${fact[here]:-} ]]; then
    here::show
    return
  fi
  local -r command=$1
  local -a job_argv=() first=() dependencies
  local -i number
  local id='' list offset
  if [[ -n ${options_value[pack_in_job]} ]]; then
    request::pack_argv job_argv
    "$command" id pack 0 "${job_argv[@]}" || return
    first=("afterok:$id")
  fi
  for ((number = 0; number < ${#tasks_lists[@]}; number++)); do
    # job_submitter::ask_slurm has asked for the first array. The room for another depends on the arrays that are queued already.
    if ((number > 0)) && [[ $command == run::send && -z ${options_value[no_preflight]} ]]; then job_submitter::find_room "$number" || true; fi
    list=${tasks_lists[number]} offset=${tasks_offsets[number]} dependencies=("${first[@]}")
    # --max-parallel limits each array, so the arrays must run one after the other.
    if ((number > 0)) && [[ -n ${options_value[max_parallel]} ]]; then dependencies+=("afterany:$id"); fi
    if [[ -n ${fact[cycles]:-} ]]; then
      request::cycle_argv job_argv "$list" "$offset" "${dependencies[@]}"
      "$command" id cycle "$offset" "${job_argv[@]}" || return
      # aftercorr: each task of an array waits only for its own cycles.
      dependencies+=("$( ((fact[tasks] > 1)) && echo aftercorr || echo afterok):$id")
    fi
    request::sbatch_argv job_argv "$list" "$offset" "${dependencies[@]}"
    "$command" id train "$offset" "${job_argv[@]}" || return
  done
}

job_submitter::show() {
  local -a argv=("${@:4}")
  printf '%s\n' "${argv[*]@Q}"
  printf -v "$1" '%s' "${2^^}_JOB" # stands for the id that the job will get
}

job_submitter::report() {
  local -r run=${fact[run_directory]}
  local what=''
  if ((fact[tasks] > 1)); then what="${#tasks_to_send[@]} tasks of "; fi
  common::note "job ${run_jobs[*]} (${fact[job_name]}): $what${fact[nodes]} x ${fact[processes_per_node]} processes; $run"
  if [[ -n ${run_others[pack]:-} ]]; then common::note "job ${run_others[pack]} packs the data first; its log: $run/pack_log.txt"; fi
  if [[ -n ${run_others[cycle]:-} ]]; then common::note "job ${run_others[cycle]} runs ${fact[cycles]} cycles of ${fact[cycle_seconds]} s first, in the same log; to end both:  scancel ${run_others[cycle]} ${run_jobs[*]}"; fi
  if [[ -n $run_refused ]]; then tasks_first_unsent=$((${tasks_offsets[${#run_jobs[@]}]} + 1)) room_refusal=$run_refused; fi
  if [[ -n $tasks_first_unsent ]]; then job_submitter::report_unsent; fi
  run::print_jobs "${options_value[json]}" "${run_jobs[@]}"
}

job_submitter::report_unsent() {
  run::report_unsent "Tasks from $tasks_first_unsent on" "$room_refusal"
}

main "$@"
