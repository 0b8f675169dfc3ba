# shellcheck shell=bash
# Turns the options into the facts of a run and into sbatch's arguments.

declare -gA options_value+=() options_source+=() fact+=()
declare -gA site+=()
declare -ga experiment_words+=() experiment_lengths+=() options_list_sbatch_arg+=() options_list_collect+=()
declare -g request_type_as='' # what --gpu-type becomes: type (in front of the number), constraint, partition or none

# Sets the facts that follow from options that depend on each other. Ends with status 2 if the options contradict each other.
request::resolve() {
  local -r gpus=$((10#${options_value[gpus]}))
  local seconds
  # The kit's own folders are in the same place as those of experiments.
  if [[ ${options_value[exp_name]} == @(.*|hpc_outputs) ]]; then
    common::die_usage "--exp-name ${options_value[exp_name]}: the kit uses this name itself; take another, not one that begins with a dot"
  fi
  fact[gpus]=$gpus
  fact[nodes]=$((10#${options_value[num_nodes]}))
  fact[processes_per_node]=$((gpus > 0 ? gpus : 1))
  request::resolve_job_type
  request::resolve_qos
  request::resolve_tasks

  # torchrun, and a command of the launcher `node`, start the processes of a node themselves. With the other launchers Slurm
  # starts them, one task each.
  fact[launcher]=${options_value[launcher]/script/torchrun}
  case ${fact[launcher]} in
    torchrun | node) fact[tasks_per_node]=1 ;;
    srun | lightning) fact[tasks_per_node]=${fact[processes_per_node]} ;;
  esac

  fact[cpus]=$((2 * fact[processes_per_node]))
  # A job that gets whole nodes can use all of their cores.
  if [[ ${site[whole_nodes]} == yes && -n ${site[usable_cpus]} ]]; then fact[cpus]=$((10#${site[usable_cpus]} / fact[tasks_per_node] * fact[tasks_per_node])); fi
  if [[ -n ${options_value[cpus]} ]]; then fact[cpus]=$((10#${options_value[cpus]})); fi
  request::check_cpus
  # From here on fact[cpus] is in Slurm's unit: cores, or their hardware threads.
  if [[ ${site[threads_per_core]} == [0-9]* ]]; then fact[cpus]=$((fact[cpus] * site[threads_per_core])); fi
  request::resolve_gpu_type
  request::resolve_memory

  checks::seconds "${options_value[time]}" seconds
  checks::duration "$seconds" 'fact[time]'
  if [[ ${options_value[time]} =~ ^([0-9]+):[0-9]+$ ]]; then
    common::note "note: to Slurm, --time ${options_value[time]} is ${BASH_REMATCH[1]} minutes; the same in hours is ${options_value[time]}:00"
  fi
  if [[ -n ${options_value[mail_user]} && -z ${options_value[mail_type]} ]]; then common::note 'note: Slurm sends no mail without --mail-type, such as END,FAIL'; fi
  if [[ -n ${options_value[resume]} && -n ${options_value[fresh]} ]]; then
    common::die_usage "--resume and --fresh contradict each other: give one"
  fi
  request::resolve_interruptions "$seconds"
  request::resolve_cycles
  request::resolve_data
  sbatch_argument::check
}

# Uses the entry of site[qos_by_nodes] with the largest number of nodes that the job reaches.
request::resolve_qos() {
  local word
  local -i from=0
  if [[ -n ${options_value[qos]} ]]; then return; fi
  for word in ${site[qos_by_nodes]}; do
    if ((${word%%:*} <= fact[nodes] && ${word%%:*} > from)); then from=${word%%:*} options_value[qos]=${word#*:} options_source[qos]=site; fi
  done
}

request::resolve_gpu_type() {
  request_type_as=${site[gpu_type_request]:-${site[gpu_request]}}
  case $request_type_as in
    gpus_per_node | gres) request_type_as='type' ;;
    partition | none)
      if [[ -z ${options_value[gpu_type]} ]]; then return; fi
      local -rA instead=([partition]='the partition chooses the GPU: say --partition' [none]='Slurm knows no types of GPU there')
      common::die_usage "--gpu-type ${options_value[gpu_type]}: at ${site[name]} ${instead[$request_type_as]}"
      ;;
  esac
}

# Sets the memory of a node, and the option that asks for it. 0 means all memory of the node, or what the site gives.
request::resolve_memory() {
  fact[memory_request]=${site[memory_request]}
  if [[ -n ${options_value[mem]} ]]; then
    if [[ ${options_source[mem_per_gpu]} == option ]]; then common::die_usage "--mem and --mem-per-gpu contradict each other: give one"; fi
    checks::megabytes "${options_value[mem]}" 'fact[mem_megabytes]'
  else
    checks::megabytes "${options_value[mem_per_gpu]}" 'fact[mem_megabytes]'
    fact[mem_megabytes]=$((fact[mem_megabytes] * fact[processes_per_node]))
    if [[ ${options_source[mem_per_gpu]} == ignored ]]; then fact[memory_request]=none; fi
  fi
  if [[ ${fact[memory_request]} != @(none|zero) ]]; then return; fi
  if [[ ${options_source[mem]} == @(option|environment) || ${options_source[mem_per_gpu]} == @(option|environment) ]]; then
    common::note "note: ${fact[mem_megabytes]} MB of memory are not requested: at ${site[name]} a job gets what the site gives"
  fi
  fact[mem_megabytes]=0
}

# request::resolve_interruptions SECONDS   SECONDS is --time in seconds.
request::resolve_interruptions() {
  local -r grace=${options_value[grace_seconds]} seconds=$1
  fact[max_restarts]=$((10#${options_value[max_restarts]}))
  fact[hang_seconds]=$((10#${options_value[hang_minutes]} * 60))
  fact[watch_log]=${options_value[watch_log]}
  fact[independent]=${options_value[independent]}
  fact[interrupt]=${options_value[interrupt]}
  # Slurm may send the signal a minute early: a short job would be asked to stop at its start.
  fact[grace_seconds]=0
  if [[ -n $grace ]]; then
    fact[grace_seconds]=$((10#$grace))
    if [[ -n ${fact[here]:-} ]]; then
      ((fact[grace_seconds] < seconds)) || common::die_usage "--grace-seconds $grace: --time ${options_value[time]}, or what is left of the allocation, must be longer"
    elif ((fact[grace_seconds] + 60 > seconds)); then
      common::die_usage "--grace-seconds $grace: --time ${options_value[time]} must be a minute longer at least, as Slurm may warn that much early"
    fi
  elif ((seconds >= 300)); then
    fact[grace_seconds]=120
  fi
}

# The job of --rapid-cycle gets three more minutes in each cycle for the start, and the time to save.
request::resolve_cycles() {
  local -r asked=${options_value[rapid_cycle]/none/}
  if [[ -z $asked ]]; then
    if [[ ${options_source[cycle_partition]} == option ]]; then
      common::die_usage "--cycle-partition is about --rapid-cycle: give both"
    fi
    return
  fi
  fact[cycles]=${asked%x*}
  fact[cycle_seconds]=${asked#*x}
  fact[cycle_grace]=$((fact[grace_seconds] > 0 ? fact[grace_seconds] : 120))
  # A program that may be killed needs no time to save.
  if [[ ${fact[interrupt]} == kill && -z ${options_value[grace_seconds]} ]]; then fact[cycle_grace]=10; fi
  checks::duration $((fact[cycles] * (fact[cycle_seconds] + fact[cycle_grace] + 180))) 'fact[cycle_time]'
  if [[ ${options_value[dependency]} == *\?* ]]; then
    common::die_usage "--dependency ${options_value[dependency]}: with --rapid-cycle all of its conditions must hold, so ',' between them, not '?'"
  fi
}

request::resolve_data() {
  local pattern name
  fact[data_format]=${options_value[data_format]}
  fact[broadcast]=${options_value[broadcast]}
  fact[stage_venv]=${options_value[stage_venv]}
  fact[stage_image]=${options_value[stage_image]:+always}
  if [[ -n ${options_value[no_stage_image]} ]]; then
    if [[ -n ${options_value[stage_image]} ]]; then common::die_usage "--stage-image and --no-stage-image contradict each other: give one"; fi
    fact[stage_image]=never
  fi
  fact[staging_days]=$((10#${options_value[staging_days]}))
  checks::megabytes "${options_value[staging_limit]}" 'fact[staging_megabytes]'
  for pattern in "${options_list_collect[@]}"; do
    case /$pattern/ in
      //* | */../*) common::die_usage "--collect ${pattern@Q}: give a pattern below SLURM_TMPDIR, such as 'results/*.json'" ;;
    esac
  done
  for name in pack_partition pack_time; do
    if [[ ${options_source[$name]} == option && -z ${options_value[pack_in_job]} ]]; then
      common::die_usage "--${name//_/-} is about --pack-in-job: give both"
    fi
  done
  fact[pack_time]=${fact[time]}
  if [[ -n ${options_value[pack_time]} ]]; then fact[pack_time]=$(checks::duration "$(checks::seconds "${options_value[pack_time]}")"); fi
  # The job that packs gets the dependencies of the training; the training also waits for the packing.
  if [[ -n ${options_value[pack_in_job]} && ${options_value[dependency]} == *\?* ]]; then
    common::die_usage "--dependency ${options_value[dependency]}: with --pack-in-job all of its conditions must hold, so ',' between them, not '?'"
  fi
}

# request::find_sweep   Makes the run a sweep if the file's line is `wandb agent … ID`. This id wins over that of the option.
request::find_sweep() {
  local -i offset=0
  local length id='' word
  if [[ -n ${options_value[sweep_config]} ]]; then return; fi
  for length in "${experiment_lengths[@]}"; do
    if [[ "${experiment_words[*]:offset:2}" == 'wandb agent' ]]; then
      ((${#experiment_lengths[@]} == 1)) ||
        common::die_usage "a line 'wandb agent …' must be the only line of its file, as each sweep is a run of its own"
      for word in "${experiment_words[@]:offset+2:length-2}"; do
        if [[ $word != -* && $word != *[!A-Za-z0-9_./-]* ]]; then id=$word; fi
      done
      [[ -n $id && $id != agent ]] || common::die_usage "the line 'wandb agent' names no sweep: wandb agent ENTITY/PROJECT/ID"
      if [[ -n ${options_value[wandb_sweepid]} && ${options_value[wandb_sweepid]} != "$id" ]]; then
        common::warn "the configuration's sweep $id is run, not ${options_value[wandb_sweepid]} of --wandb-sweepid"
      fi
      options_value[wandb_sweepid]=$id
    fi
    offset+=length
  done
}

# Sets the facts about tasks. The size of a sweep is asked later (tasks.sh), because its server may be slow.
request::resolve_tasks() {
  local -r sweep=${options_value[wandb_sweepid]} config=${options_value[sweep_config]} repeat=${options_value[repeat]}
  fact[sweep]=$sweep
  fact[sweep_config]=''
  fact[offline]=${options_value[offline]}
  fact[seed_base]=$((10#${options_value[seed_base]}))
  fact[repeats]=''
  fact[tasks]=${fact[experiments]}
  if [[ -n $config ]]; then
    if [[ -n $sweep ]]; then common::die_usage "--sweep-config and --wandb-sweepid contradict each other: give one"; fi
    [[ -n ${fact[offline]} ]] ||
      common::die_usage "--sweep-config lists the points without a server: add --offline; with one:  bash hpc/sweep.sh ${config@Q}"
    [[ -r $config && -f $config ]] || common::die_usage "--sweep-config ${config@Q} is not a file that you can read"
    fact[sweep_config]=$(realpath -- "$config")
  elif [[ -n $sweep ]]; then
    [[ $sweep =~ ^([A-Za-z0-9_.-]+/){0,2}[A-Za-z0-9]+$ ]] ||
      common::die_usage "--wandb-sweepid ${sweep@Q} is no sweep: give ID or ENTITY/PROJECT/ID, as  wandb sweep  prints it"
    if [[ -n ${fact[offline]} ]]; then
      common::die_usage "--offline: the runs of a sweep come from its server: give the sweep's file by --sweep-config instead of --wandb-sweepid"
    fi
  fi
  if [[ -n $sweep$config ]]; then
    if [[ -n $repeat && ${options_source[repeat]} == option ]]; then common::die_usage "--repeat is for the lines of a configuration: make the seed a parameter of the sweep"; fi
  else
    if [[ -n ${options_value[sweep_runs]} && ${options_source[sweep_runs]} == option ]]; then
      common::die_usage "--sweep-runs is about a sweep: give --wandb-sweepid or --sweep-config too"
    fi
    # A line with {seed} has a seed even without --repeat.
    if [[ -n $repeat || " ${experiment_words[*]} " == *"\${SEED}"* && -z ${SEED:-} ]]; then
      fact[repeats]=$((10#${repeat:-1}))
      fact[tasks]=$((fact[experiments] * fact[repeats]))
    fi
  fi
  if [[ -n ${options_value[only_missing]} ]]; then
    [[ -n ${options_value[exp_name]} ]] || common::die_usage "--only-missing completes an experiment: give its --exp-name"
    if [[ -n ${options_value[fresh]} ]]; then common::die_usage "--only-missing and --fresh contradict each other: give one"; fi
    options_value[resume]=1
  fi
}

request::resolve_job_type() {
  local -r processes=$((fact[nodes] * fact[processes_per_node]))
  case ${options_value[job_type]} in
    standard)
      ((processes == 1)) ||
        common::die_usage "--job-type standard is one process, and --num-nodes ${fact[nodes]} --gpus ${fact[gpus]} are $processes: remove --job-type, or say distributed"
      ;;
    sweep)
      [[ -n ${options_value[wandb_sweepid]}${options_value[sweep_config]} ]] || common::die_usage "--job-type sweep needs a sweep: give --wandb-sweepid or --sweep-config"
      return
      ;;
  esac
  if [[ -n ${options_value[job_type]} && -n ${options_value[wandb_sweepid]} ]]; then
    common::die_usage "--job-type ${options_value[job_type]} and --wandb-sweepid contradict each other"
  fi
}

# Processes that Slurm starts have cores of their own; those of torchrun share the cores of the node.
request::check_cpus() {
  local -r cpus=${fact[cpus]} tasks=${fact[tasks_per_node]}
  local -r below=$((cpus / tasks * tasks))
  if ((below != cpus)); then
    local nearest="$below or $((below + tasks))"
    if ((below == 0)); then nearest=$tasks; fi
    common::die_usage "--cpus $cpus cannot be shared evenly by the $tasks processes of a node: take $nearest"
  fi
}

# request::pack_argv ARRAY   Fills ARRAY with the sbatch command of the job of --pack-in-job.
request::pack_argv() {
  local -n pack_argv=$1
  local name
  pack_argv=(sbatch --parsable --job-name="pack_${fact[job_name]}" --nodes=1 --ntasks=1 --cpus-per-task=4)
  site::add_memory pack_argv "${fact[memory_request]}" 4096 4 0
  pack_argv+=(--time="${fact[pack_time]}")
  local -r partition=${options_value[pack_partition]:-${options_value[partition]}}
  if [[ -n $partition ]]; then pack_argv+=(--partition="$partition"); fi
  for name in account qos constraint reservation dependency; do
    if [[ $name == constraint && " ${site[required]} " != *" $name "* ]]; then continue; fi # it describes the training's nodes
    if [[ -n ${options_value[$name]} ]]; then pack_argv+=("--$name=${options_value[$name]}"); fi
  done
  local log=pack_log.txt
  if [[ ${fact[run_directory]} == *[%\\]* ]]; then log=/dev/null; fi # as in request::sbatch_argv; pack.sh opens it
  pack_argv+=(--propagate=NONE --chdir="${fact[run_directory]}" --open-mode=append --output="$log" "${fact[run_directory]}/kit/hpc/job/pack.sh" "${fact[run_directory]}")
}

# request::cycle_argv ARRAY TASKS OFFSET [DEPENDENCY...]   Fills ARRAY with the sbatch command of the job of --rapid-cycle. It differs
# from the training in its name, partition and time, and waits for the same dependencies.
request::cycle_argv() {
  local -a whole=()
  local -n cycle_argv=$1
  local word
  request::sbatch_argv whole "${@:2}"
  cycle_argv=()
  for word in "${whole[@]}"; do
    case $word in
      --job-name=*) word=--job-name=cycle_${fact[job_name]} ;;
      --time=*) word=--time=${fact[cycle_time]} ;;
      --partition=*) if [[ -n ${options_value[cycle_partition]} ]]; then continue; fi ;;
      --signal=*) continue ;;
    esac
    cycle_argv+=("$word")
    if [[ $word == --parsable && -n ${options_value[cycle_partition]} ]]; then
      cycle_argv+=(--partition="${options_value[cycle_partition]}")
    fi
  done
  cycle_argv+=(rapid_cycle)
}

# request::sbatch_argv ARRAY TASKS OFFSET [DEPENDENCY...]   Fills ARRAY with the sbatch command for the indices TASKS of an array. The
# number of a task is its index plus OFFSET (tasks.sh). DEPENDENCY has sbatch's syntax. The job's folder is the run directory; the
# path of the log is relative to it.
request::sbatch_argv() {
  local -r run_directory=${fact[run_directory]} tasks=$2 offset=$3
  local -ra first=("${@:4}")
  local -n argv=$1
  local name value
  argv=(
    sbatch --parsable
    --job-name="${fact[job_name]}"
    --nodes="${fact[nodes]}"
    --ntasks-per-node="${fact[tasks_per_node]}"
    --cpus-per-task="$((fact[cpus] / fact[tasks_per_node]))"
  )
  site::add_memory argv "${fact[memory_request]}" "${fact[mem_megabytes]}" "${fact[cpus]}" "${fact[gpus]}"
  if [[ ${options_source[time]} != ignored ]]; then argv+=(--time="${fact[time]}"); fi
  if [[ ${site[threads_per_core]} == nomultithread ]]; then argv+=(--hint=nomultithread); fi
  request::add_gpus argv
  for name in account partition qos constraint nodelist exclude reservation dependency begin mail_user mail_type; do
    value=${options_value[$name]}
    if [[ $name == constraint ]]; then request::join_constraints value; fi
    if [[ $name == dependency && -n ${first[*]} ]]; then
      printf -v value '%s,' "${first[@]}" ${value:+"$value"}
      value=${value%,}
    fi
    if [[ -n $value ]]; then argv+=("--${name//_/-}=$value"); fi
  done
  if ((fact[grace_seconds] > 0)); then argv+=(--signal="B:USR1@${fact[grace_seconds]}"); fi
  if ((fact[max_restarts] > 0)); then argv+=(--requeue); else argv+=(--no-requeue); fi
  if [[ -n ${first[*]} ]]; then argv+=(--kill-on-invalid-dep=yes); fi
  # NONE: the limits of the login shell (ulimit -t, -n) must not apply to the job.
  argv+=(--propagate=NONE --chdir="$run_directory" --open-mode=append)
  local log=task_1/log.txt
  local -a words=()
  if ((fact[tasks] > 1)); then
    argv+=(--array="$tasks${options_value[max_parallel]:+%${options_value[max_parallel]}}")
    log=task_%a/log.txt
    if ((offset > 0)); then
      log=offset_$offset/$log
      words=("offset=$offset")
    fi
  fi
  # Slurm replaces % and removes \ in the whole path of the log. If the folder has such a character, batch.sh opens the log.
  if [[ $run_directory == *[%\\]* ]]; then log=/dev/null; fi
  argv+=(--output="$log")
  for value in "${options_list_sbatch_arg[@]}"; do
    if [[ $value != --gres=* ]]; then argv+=("$value"); fi # request::add_gpus adds these
  done
  argv+=("$run_directory/kit/hpc/job/batch.sh" "$run_directory" "${words[@]}")
}

# request::add_gpus ARGV   Adds the GPUs in the form that the site wants, together with all other gres: sbatch reads only the last
# --gres.
request::add_gpus() {
  local -n gpus_argv=$1
  local word='' gres=''
  if ((fact[gpus] > 0)); then site::gpu_option word "${fact[gpus]}" "${options_value[gpu_type]}"; fi
  case $word in
    --gres=*) gres=${word#*=} ;;
    ?*) gpus_argv+=("$word") ;;
  esac
  for word in ${site[local_disk_request]}; do
    case $word in
      gres=*) gres+=${gres:+,}${word#*=} ;;
      tmp=*) gpus_argv+=("--$word") ;;
    esac
  done
  for word in "${options_list_sbatch_arg[@]}"; do
    if [[ $word == --gres=* ]]; then gres+=${gres:+,}${word#*=}; fi
  done
  if [[ -n $gres ]]; then gpus_argv+=(--gres="$gres"); fi
}

# request::join_constraints VARIABLE   Joins the user's constraint with those for the GPU type and the node's disk: all must hold.
request::join_constraints() {
  local -n joined=$1
  local word
  local -a parts=()
  if [[ -n $joined ]]; then parts=("$joined"); fi
  if ((fact[gpus] > 0)) && [[ $request_type_as == constraint && -n ${options_value[gpu_type]} ]]; then parts+=("${options_value[gpu_type]}"); fi
  for word in ${site[local_disk_request]}; do
    if [[ $word == constraint=* ]]; then parts+=("${word#*=}"); fi
  done
  joined=''
  for word in "${parts[@]}"; do
    if [[ $word == *'|'* && $word != [\(\[]* ]] && ((${#parts[@]} > 1)); then word="($word)"; fi
    if [[ "&$joined&" != *"&$word&"* ]]; then joined+=${joined:+&}$word; fi
  done
}
