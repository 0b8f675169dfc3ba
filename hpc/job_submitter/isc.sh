# shellcheck shell=bash
# An .isc file (--isc) in place of the configuration file: what its keys say (hpc/job_submitter/isc.py) counts where the command line
# does not, and before the environment and the site. Needs common.sh, options.sh, site.sh, preflight.sh and
# experiments_file.sh.

declare -gA options_value options_source options_owner site
declare -g preflight_format
declare -ga isc_command=() # its words

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
  isc::count_gpus_of_a_node
  mapfile -d '' -t answer < <(python3 "$1/job_submitter/isc.py" "$file" "$2" "$gpus" "${options_value[gpus]:-}" "${options_value[num_nodes]:-}" || printf 'failed %s\0' "$?")
  if [[ ${answer[0]} == 'failed '* ]]; then exit "${answer[0]#failed }"; fi
  for ((i = 0; i < ${#answer[@]}; i += 2)); do
    if [[ ${answer[i]} == -- ]]; then break; fi
    name=${options_owner[${answer[i + 1]%%=*}]}
    if [[ -z ${given[$name]:-} ]]; then options::set "$name" "${answer[i + 1]#*=}" "$file, ${answer[i]}" file; fi
  done
  isc_command=("${answer[@]:i+1}")
}

# Leaves them in gpus: the profile's, else the most of the partition's nodes.
isc::count_gpus_of_a_node() {
  local partition=${options_value[partition]:-${HPC_PARTITION:-${site[partition]:-}}}
  local name gres
  local -i most=0
  if [[ -n ${site[gpus_per_node]} ]]; then
    gpus=${site[gpus_per_node]}
    return
  fi
  while IFS='|' read -r name _ _ _ gres _; do
    if [[ -n $partition && ,$partition, == *",${name%\*},"* || -z $partition && $name == *\* ]]; then
      preflight::count_gpus "$gres" "${options_value[gpu_type]:-}"
      if ((gpus > most)); then most=$gpus; fi
    fi
  done < <(timeout 15 sinfo --noheader --exact --format="$preflight_format" 2>/dev/null)
  gpus=$((most > 0 ? most : 8)) # nobody tells: as many as machines of the trade have
}

# isc::use_command   As the only experiment.
isc::use_command() {
  # shellcheck disable=SC2034 # experiments_file.sh
  experiment_words=("${isc_command[@]}") experiment_lengths=("${#isc_command[@]}")
}
