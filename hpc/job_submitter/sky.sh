# shellcheck shell=bash
# Runs on cloud machines by SkyPilot (--backend sky). Request, snapshot and run directory are the same; a task (sky_task.py), whose
# machines run sky_node.sh, replaces sbatch's arguments.

declare -gA options_value+=() options_source+=() options_kind+=() options_default+=() fact+=()
declare -ga options_list_secret+=() staging_paths+=()
declare -ga sky_secrets+=() # names

# Options that have no effect there.
declare -ga sky_without=(job_type repeat only_missing singularity_container workdir bind environment output_path no_snapshot
  wandb_sweepid sweep_config data_format broadcast pack_in_job stage_venv stage_image no_stage_image collect time
  max_restarts grace_seconds hang_minutes watch_log interrupt rapid_cycle cycle_partition account partition qos constraint
  nodelist exclude reservation dependency begin mail_user mail_type sbatch_arg cluster resume fresh here
  keep_folders)

# sky::submit HPC_FOLDER PROJECT DESCRIPTOR   Turns the options into a SkyPilot job. DESCRIPTOR: see submission::write.
sky::submit() {
  site::load "$1" default
  isc::read "$1" "$2"
  options::complete site
  submission::read_experiments "$2"
  sky::check
  request::resolve
  sky::check_launcher
  submission::choose_folders "$2"
  fact[container]='' fact[environment]='' fact[cycles]=''
  data::check
  tasks::choose_array_size
  sky::choose_secrets "$2"
  if [[ -n ${options_value[dry_run]} ]]; then
    sky::write_task "$1"
    return
  fi
  common::has_command sky ||
    common::die "no SkyPilot on this machine: install it for your cloud, such as  pip install 'skypilot[gcp]'  (or [aws], [azure]), and try  sky check; --dry-run shows the task"
  if [[ -n ${options_value[confirm]} ]]; then sky::confirm "$1"; fi
  submission::write "$2" "$3"
  rm -f -- "${fact[checkpoint_directory]%/*}/.sending"
  sky::write_task "$1" | common::write_atomically "${fact[run_directory]}/task.yaml"
  sky::launch
}

sky::check() {
  local name
  for name in "${sky_without[@]}"; do
    if [[ ${options_source[$name]} == option ]]; then common::die_usage "--${name//_/-} means nothing with --backend sky: leave it out"; fi
    if [[ ${options_kind[$name]} != list ]]; then options_value[$name]=${options_default[$name]}; fi
  done
  if ((fact[experiments] != 1)); then common::die_usage "--backend sky takes one experiment: the file has ${fact[experiments]}; name another by --configs"; fi
  if ((10#${options_value[gpus]} > 0)) && [[ -z ${options_value[gpu_type]} ]]; then
    common::die_usage "--backend sky needs --gpu-type, such as L4 or A100 (sky show-gpus lists them), or --gpus 0"
  fi
}

sky::check_launcher() {
  case ${fact[launcher]} in
    torchrun | node) ;;
    *) common::die_usage "--which-distributed ${fact[launcher]} starts the processes by Slurm: with --backend sky take torchrun or node" ;;
  esac
}

# The variables of .env, the W&B key and the variables of --secret go into sky's environment; the task has only their names.
sky::choose_secrets() {
  local -r project=$1
  local name
  local -A seen=()
  secrets::export "$project"
  dotenv::each "$project/.env" sky::take_secret
  if [[ -n ${WANDB_API_KEY:-} ]]; then options_list_secret+=(WANDB_API_KEY); fi
  for name in "${sky_secrets[@]}" "${options_list_secret[@]}"; do
    [[ $name =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] || common::die_usage "--secret ${name@Q}: give the name of a variable, not its value"
    [[ -n ${!name+set} ]] || common::die_usage "--secret $name: no such variable here: export it, or put it into .env"
    seen[$name]=1
  done
  mapfile -t sky_secrets < <(if ((${#seen[@]} > 0)); then printf '%s\n' "${!seen[@]}" | LC_ALL=C sort; fi)
  if [[ -z ${CHECKPOINT_URL:-} ]]; then
    [[ -n ${options_value[on_demand]} && ${fact[nodes]} == 1 ]] ||
      common::die_usage "CHECKPOINT_URL is not set, and a machine's disk goes with it: put  CHECKPOINT_URL=gs://BUCKET/runs  (or s3://…) into .env"
  fi
}

sky::take_secret() {
  case $1 in
    SCRATCH | HPC_* | CHECKPOINT_URL) ;;
    *) sky_secrets+=("$1") ;;
  esac
}

# sky::write_task HPC_FOLDER   Prints the task.
sky::write_task() {
  local word
  local -a argv=(
    --run-directory="${fact[run_directory]}" --scratch="${fact[scratch_dir]}" --name="${fact[job_name]}"
    --nodes="${fact[nodes]}" --cpus="${fact[cpus]}" --megabytes="${fact[mem_megabytes]}"
    --disk-gigabytes="$((($(checks::megabytes "${options_value[disk_size]}") + 1023) / 1024))"
  )
  if ((fact[gpus] > 0)); then argv+=(--accelerators="${options_value[gpu_type]}:${fact[gpus]}"); fi
  if [[ -n ${options_value[infra]} ]]; then argv+=(--infra="${options_value[infra]}"); fi
  if [[ -n ${options_value[on_demand]} ]]; then argv+=(--on-demand); fi
  if [[ -n ${CHECKPOINT_URL:-} ]]; then
    argv+=(--url="$CHECKPOINT_URL")
    # Ranks on several machines need a shared folder for a checkpoint.
    if ((fact[nodes] > 1)); then argv+=(--mount="${CHECKPOINT_URL%/}/${fact[project_name]}/${fact[exp_name]}/checkpoints"); fi
  fi
  for word in "${staging_paths[@]}"; do argv+=(--data="$word"); done
  for word in "${sky_secrets[@]}"; do argv+=(--secret="$word"); done
  python3 "$1/job_submitter/sky_task.py" "${argv[@]}"
}

sky::confirm() {
  local answer
  sky::write_task "$1" >&2
  [[ -t 0 ]] || common::die "--confirm asks on a terminal, and there is none"
  read -rp 'Launch this? [y/N] ' answer
  [[ $answer == [yY]* ]] || common::die "not launched"
}

# Launches the task: sky's output goes to standard error, the job's id to standard output.
sky::launch() {
  local -r task=${fact[run_directory]}/task.yaml
  local -a argv=(sky jobs launch --yes)
  local name answer status=0
  if [[ -z ${options_value[follow]} ]]; then argv+=(--detach-run); fi
  for name in "${sky_secrets[@]}"; do argv+=(--secret "$name"); done
  trap - EXIT HUP INT TERM
  experiment::release # SkyPilot's server would inherit the lock and hold it
  common::note "the run: ${fact[run_directory]}"
  answer=$("${argv[@]}" "$task" 2>&1 | tee >(cat >&2)) || status=$?
  answer=$(sed -E 's/\x1b\[[0-9;]*m//g' <<<"$answer")
  ((status == 0)) || common::die "sky jobs launch ended with status $status; the task is $task"
  if [[ $answer =~ [Jj]ob\ (submitted,\ )?ID:\ ([0-9]+) ]]; then run::print_jobs "${options_value[json]}" "${BASH_REMATCH[2]}"; fi
}
