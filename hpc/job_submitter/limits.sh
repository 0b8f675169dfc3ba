# shellcheck shell=bash
# Checks a request against the rules of the site's profile before Slurm is asked; a refusal quotes the profile. A profile may be out
# of date: --no-preflight skips these checks.

declare -gA options_value+=() options_source+=() options_kind+=() site+=() fact+=()

# limits::refuse FACT WORDS   Ends with WORDS and the rule that the profile gives in the comment after FACT.
limits::refuse() {
  local where rule
  site::where where "$1" rule
  common::die "$2${rule:+: $rule} (site[$1] of the profile ${site[name]}, $where; --no-preflight skips this check)"
}

# limits::check_options   Checks which options must be given, and which must not.
limits::check_options() {
  local name given value accounts
  for name in ${site[forbidden]}; do
    value=${options_value[$name]:-}
    if [[ ${options_kind[$name]} == flag ]]; then value=''; fi
    case ${options_source[$name]} in
      option) given="--${name//_/-}${value:+ $value}" ;;
      environment) given="HPC_${name^^}=$value of the environment (Slurm's own SBATCH_ variables count, too)" ;;
      file) given="--${name//_/-}${value:+ $value} of ${options_value[isc]}" ;;
      site) given="site[$name]=$value of the profile" ;;
      *) continue ;;
    esac
    limits::refuse forbidden "$given may not be given here"
  done
  for name in ${site[required]}; do
    if [[ -n ${options_value[$name]:-} && ${options_source[$name]} != default ]]; then continue; fi
    given="--${name//_/-} must be given here (or HPC_${name^^} in ~/.bashrc, or site[$name] in a profile of your own)"
    if [[ $name == account ]] && slurm::ask_accounts accounts && [[ -n $accounts ]]; then given+="; your accounts: $accounts"; fi
    limits::refuse required "$given"
  done
}

# limits::check_request   Checks the resolved request.
limits::check_request() {
  limits::check_gpus
  limits::check_quanta
  limits::check_time
  local cpus=${fact[cpus]}
  if [[ ${site[threads_per_core]} == [0-9]* ]]; then cpus=$((cpus / site[threads_per_core])); fi
  if [[ -n ${site[usable_cpus]} ]] && ((cpus > 10#${site[usable_cpus]})); then
    limits::refuse usable_cpus "--cpus $cpus: a job may have ${site[usable_cpus]} cores of a node"
  fi
  if [[ ${site[requeue]} == continue && ${site[sbatch_on_nodes]} == no ]] && ((fact[max_restarts] > 0)); then
    common::warn "jobs at ${site[name]} can neither be put back into the queue nor send another: to continue one after an interruption:  bash hpc/experiments.sh resubmit JOB"
  fi
}

limits::check_gpus() {
  local -r type=${options_value[gpu_type],,} gpus=${fact[gpus]}
  local word allowed=''
  if ((gpus == 0)); then return; fi
  for word in ${site[gpu_counts]}; do
    if [[ $word == *:* && -n $type && ${word%:*} != "$type" ]]; then continue; fi
    if ((gpus == ${word##*:})); then allowed='' && break; fi
    allowed+="${allowed:+ or }${word##*:}"
    if [[ $word == *:* ]]; then allowed+=" ${word%:*}"; fi
  done
  if [[ -n $allowed ]]; then
    limits::refuse gpu_counts "--gpus $gpus: a job may have $allowed GPUs of a node"
  fi
  if [[ ${site[whole_nodes]} == yes && -n ${site[gpus_per_node]} ]] && ((gpus < 10#${site[gpus_per_node]})); then
    common::warn "--gpus $gpus: a job at ${site[name]} gets, and pays, whole nodes of ${site[gpus_per_node]} GPUs"
  fi
}

# A GPU comes with a share of its node's CPUs and memory. A job that asks for more than its GPUs' shares is billed for more GPUs.
limits::check_quanta() {
  local cpus memory what words
  local -i paid
  if [[ -z ${site[quanta]} ]] || ((fact[gpus] == 0)); then return; fi
  read -r cpus memory what <<<"${site[quanta]}"
  words="--cpus ${fact[cpus]} and ${fact[mem_megabytes]} MB of memory with ${fact[gpus]} GPUs: ${site[name]} has $cpus CPUs and $memory with each"
  checks::megabytes "$memory" memory
  paid=$(((fact[cpus] + cpus - 1) / cpus))
  if ((paid * memory < fact[mem_megabytes])); then paid=$(((fact[mem_megabytes] + memory - 1) / memory)); fi
  if ((paid <= fact[gpus])); then return; fi
  if [[ $what == refused ]]; then limits::refuse quanta "$words, and takes no more"; fi
  common::warn "$words: this is rounded up, and billed as $paid GPUs of each node"
}

limits::check_time() {
  local seconds limit word nodes most=''
  local -i least=0
  if [[ -z ${site[time_minimum]}${site[time_maximum]} ]]; then return; fi
  seconds=$(checks::seconds "${fact[time]}")
  if [[ -n ${site[time_minimum]} ]] && limit=$(checks::seconds "${site[time_minimum]}") && ((seconds < limit)); then
    limits::refuse time_minimum "--time ${fact[time]}: the shortest is $(checks::duration "$limit")"
  fi
  # Use the limit for the smallest number of nodes that covers the job, or else the limit without a number.
  for word in ${site[time_maximum]}; do
    read -r nodes limit < <(site::read_limit "$word")
    if ((nodes == 0 ? least == 0 : nodes >= fact[nodes] && (least == 0 || nodes < least))); then least=$nodes most=$limit; fi
  done
  if [[ -n $most ]] && ((seconds > most)); then
    limits::refuse time_maximum "--time ${fact[time]}: the longest with ${fact[nodes]} nodes is $(checks::duration "$most")"
  fi
}
