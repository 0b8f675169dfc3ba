# shellcheck shell=bash
# Reads an .isc file (--isc), which replaces the configuration file. Its keys (isc.py) rank below the command line, and above the
# environment and the site's profile.

declare -gA options_value options_source options_owner site
declare -ga isc_command # the words of its command
declare -ga experiment_words+=() experiment_lengths+=() experiment_lines+=() experiment_operators+=()

# isc::read HPC_FOLDER PROJECT   Ends with status 2 when the file is wrong.
isc::read() {
  local -r file=${options_value[isc]:-${HPC_ISC:-}}
  local -a answer=()
  local -A given=()
  local name gpus
  local -i i
  if [[ -z $file ]]; then return; fi
  for name in configs wandb_sweepid sweep_config; do
    if [[ -n ${options_value[$name]:-} ]]; then common::die_usage "--isc and --${name//_/-} contradict each other: give one"; fi
  done
  for name in "${!options_source[@]}"; do given[$name]=1; done
  gpus=$(isc::count_gpus_of_a_node)
  mapfile -d '' -t answer < <(python3 "$1/job_submitter/isc.py" "$file" "$2" "$gpus" "${options_value[gpus]:-}" "${options_value[num_nodes]:-}" \
    "${options_value[environment]:-}" "${options_value[singularity_container]:-}" || printf 'failed %s\0' "$?")
  if [[ ${answer[0]} == 'failed '* ]]; then exit "${answer[0]#failed }"; fi
  for ((i = 0; i < ${#answer[@]}; i += 2)); do
    if [[ ${answer[i]} == -- ]]; then break; fi
    name=${options_owner[${answer[i + 1]%%=*}]}
    if [[ -z ${given[$name]:-} ]]; then options::set "$name" "${answer[i + 1]#*=}" "$file, ${answer[i]}" file; fi
  done
  isc_command=("${answer[@]:i+1}")
}

# Prints the profile's number, or else the highest number of GPUs on a node of the partition.
isc::count_gpus_of_a_node() {
  local partition=${options_value[partition]:-${HPC_PARTITION:-${site[partition]:-}}} most=${site[gpus_per_node]}
  local -a groups=()
  local -A gpus_of=()
  if [[ -z $most ]] && partitions::read groups && partitions::choose partition groups; then
    partitions::gpus gpus_of "${groups[@]}"
    most=${gpus_of[${options_value[gpu_type]:-all}]:-0}
  fi
  echo $((most > 0 ? most : 8)) # if nothing is known: 8, as usual
}

# isc::use_command   Makes the file's command the only experiment.
isc::use_command() {
  experiment_words=("${isc_command[@]}") experiment_lengths=("${#isc_command[@]}") experiment_lines=() experiment_operators=()
}
