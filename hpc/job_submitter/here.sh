# shellcheck shell=bash
# --here: the run starts in an allocation that the user holds, not in the queue. The run directory is the same. batch.sh runs in a
# step on the first node, as it would in a job, and this command waits for its end. The allocation itself is not changed.

declare -gA options_value+=() options_source+=() options_default+=() options_kind+=() fact+=() site+=()
declare -ga tasks_lists+=()
declare -g here_job='' here_process=''
declare -ga here_nodes+=()                              # the nodes of the allocation, in Slurm's order
declare -gA here_cpus+=() here_memory+=() here_gpus+=() # node -> CPUs, megabytes (0: Slurm does not count memory), GPUs
declare -g here_types='' here_least=''                  # the types of its GPUs; the result of here::find_least
declare -gi here_left=0 here_interrupts=0               # seconds until its end (0: it has no end)
declare -ga here_without=(dependency begin reservation account partition qos constraint nodelist exclude mail_user mail_type
  sbatch_arg rapid_cycle cycle_partition pack_in_job pack_partition pack_time max_parallel only_missing wandb_sweepid
  sweep_config sweep_runs) # options that need the queue or several jobs

# here::take ENCLOSING_JOB   Sets the options that the user has not named to what the allocation has. Ends if that is not enough.
here::take() {
  here::refuse_options
  here::find "$1"
  here::look_for_steps
  here::take_nodes
  here::take_gpus
  here::take_rest
}

here::refuse_options() {
  local name
  for name in "${here_without[@]}"; do
    if [[ ${options_source[$name]} == option ]]; then
      common::die_usage "--${name//_/-}${options_value[$name]:+ ${options_value[$name]}}: with --here one run starts now, and nothing is queued: remove one of the two"
    fi
    # The account and similar options stay: experiments.sh resubmit may send the run to the queue later.
    case $name in
      dependency | begin | rapid_cycle | pack_in_job | only_missing | wandb_sweepid | sweep_config) options_value[$name]=${options_default[$name]} ;;
    esac
  done
}

here::is_named() {
  [[ ${options_source[$1]} == @(option|environment|file) ]]
}

# here::find ENCLOSING_JOB   Ends if the allocation does not exist, does not run, or is not the user's.
here::find() {
  local -r id=${options_value[here]/#mine/$1}
  local shown state status=0 ends
  [[ -n $id ]] || common::die_usage '--here: this shell is in no allocation (SLURM_JOB_ID is not set): call it in the shell that  salloc  gives, or name a running job of yours: --here JOB'
  slurm::ask shown 60 scontrol --details --oneliner show job "$id" || status=$?
  ((status != 2)) || common::die "--here: Slurm does not answer ($shown): try again when it does"
  ((status == 0)) || common::die "--here: there is no job $id, or it ended some time ago ($shown): squeue -u \$USER lists yours, and  salloc  gets a new allocation"
  [[ $shown != *$'\n'* ]] || common::die_usage "--here $id: that is several jobs (an array, or a heterogeneous job): name one, as squeue -r -u \$USER lists it"
  state=$(slurm::field UserId "$shown")
  [[ $state == *"($(id -u))" ]] || common::die "--here: job $id belongs to ${state%(*}: name a job of your own (squeue -u \$USER)"
  state=$(slurm::field JobState "$shown")
  case $state in
    RUNNING) ;;
    PENDING | CONFIGURING | SUSPENDED | STOPPED | REQUEUE*) common::die "--here: job $id is $state, not RUNNING ($(slurm::field Reason "$shown")): wait until it runs" ;;
    *) common::die "--here: job $id has ended ($state): get a new allocation by  salloc" ;;
  esac
  here_job=$(slurm::field JobId "$shown")
  here::read_nodes "$shown"
  if ends=$(date --date="$(slurm::field EndTime "$shown")" +%s 2>/dev/null); then
    here_left=$((ends - $(common::now)))
    ((here_left > 30)) || common::die "--here: job $id ends in $here_left s: get a new allocation by  salloc"
  fi
}

# here::read_nodes TEXT   Reads what the job has on each node from TEXT, the output of scontrol --details show job.
here::read_nodes() {
  local rest=$1 all list numbers part gres node
  local -i cpus gpus
  local -a hosts parts
  all=$(slurm::field NodeList "$1")
  mapfile -t here_nodes < <(scontrol show hostnames "$all")
  while [[ $rest =~ [[:space:]]Nodes=([^[:space:]]+)[[:space:]]CPU_IDs=([^[:space:]]+)[[:space:]]Mem=([0-9]+)[[:space:]]GRES=([^[:space:]]*)(.*) ]]; do
    list=${BASH_REMATCH[1]} numbers=${BASH_REMATCH[2]} part=${BASH_REMATCH[3]} gres=${BASH_REMATCH[4]} rest=${BASH_REMATCH[5]}
    hosts=("${here_nodes[@]}")
    if [[ $list != "$all" ]]; then mapfile -t hosts < <(scontrol show hostnames "$list"); fi
    for node in "${hosts[@]}"; do here_memory[$node]=$part; done
    cpus=0 gpus=0
    IFS=, read -ra parts <<<"$numbers"
    for part in "${parts[@]}"; do cpus+=$((10#${part#*-} - 10#${part%-*} + 1)); done
    while [[ $gres =~ (^|,)gpu(:[^:\(,]+)?:([0-9]+)(.*) ]]; do
      gpus+=${BASH_REMATCH[3]} gres=${BASH_REMATCH[4]}
      part=${BASH_REMATCH[2]#:}
      if [[ -n $part && " $here_types " != *" $part "* ]]; then here_types+=${here_types:+ }$part; fi
    done
    for node in "${hosts[@]}"; do here_cpus[$node]=$cpus here_gpus[$node]=$gpus; done
  done
  for node in "${here_nodes[@]}"; do
    [[ -n ${here_cpus[$node]:-} ]] || common::die "--here: Slurm does not say what job $here_job has on $node (scontrol --details show job $here_job)"
  done
}

# here::look_for_steps   Refuses a second run in the allocation, which would share its GPUs. Warns about other steps.
here::look_for_steps() {
  local steps id name others='' orphans='' lives=''
  slurm::ask steps 60 squeue --all --steps --noheader --jobs="$here_job" --format='%i|%j' || common::die "--here: Slurm does not say what runs in job $here_job ($steps)"
  while IFS='|' read -r id name; do
    case ${id#*.} in
      '' | batch | interactive | extern) continue ;;
    esac
    case $name in
      here_*) lives=1 ;;
      ranks | keeper) orphans+=${orphans:+ }$id ;;
      *) others+=${others:+, }$id ;;
    esac
  done <<<"$steps"
  if [[ -n $lives ]]; then here::die_occupied; fi
  [[ -z $orphans ]] || common::die "--here: job $here_job runs steps of the kit ($orphans): if it is a job of the kit, take another; if a run was killed there, end them by  scancel $orphans"
  if [[ -n $others ]]; then common::warn "job $here_job runs steps of yours already ($others): they and this run share its cores, memory and GPUs"; fi
}

here::die_occupied() {
  common::die "--here: a run of the kit is in job $here_job already: wait for it, or end it with  bash hpc/experiments.sh stop $here_job  (cancel: at once); for two at a time get a second allocation"
}

here::take_nodes() {
  local -i nodes
  if here::is_named num_nodes; then
    ((10#${options_value[num_nodes]} <= ${#here_nodes[@]})) ||
      common::die "--num-nodes ${options_value[num_nodes]}: job $here_job has ${#here_nodes[@]}: ask for less, or get more by  salloc --nodes=${options_value[num_nodes]}"
  else
    options_value[num_nodes]=${#here_nodes[@]}
  fi
  nodes=10#${options_value[num_nodes]}
  here_nodes=("${here_nodes[@]:0:nodes}")
  fact[here]=$here_job
  printf -v 'fact[here_nodes]' '%s,' "${here_nodes[@]}"
  fact[here_nodes]=${fact[here_nodes]%,}
}

# here::find_least ARRAY   Sets here_least to the node of the run with the smallest value in ARRAY (node -> value).
here::find_least() {
  local -n least_of=$1
  local node
  here_least=${here_nodes[0]}
  for node in "${here_nodes[@]}"; do
    if ((${least_of[$node]} < ${least_of[$here_least]})); then here_least=$node; fi
  done
}

# The step of the ranks gets as many GPUs as the run asks for. If Slurm does not count GPUs, the job has all GPUs of its nodes.
here::take_gpus() {
  local -r type=${options_value[gpu_type],,}
  local node
  local -i least processes
  fact[here_gres]=''
  here::find_least here_gpus
  least=${here_gpus[$here_least]}
  if ! here::is_named gpus; then
    options_value[gpus]=$least
    if ((least == 0)) && [[ ${site[gpu_request]} != @(gpus_per_node|gres) ]]; then options_value[gpus]=${site[gpus_per_node]:-${options_default[gpus]}}; fi
  elif ((10#${options_value[gpus]} > least)) && [[ ${site[gpu_request]} == @(gpus_per_node|gres) ]]; then
    common::die "--gpus ${options_value[gpus]}: job $here_job has $least on $here_least: ask for less, or get more by  salloc --gpus-per-node=${options_value[gpus]}"
  fi
  if here::is_named gpu_type && [[ -n $type && " ${here_types,,} " != *" $type "* ]]; then
    common::die "--gpu-type ${options_value[gpu_type]}: the GPUs of job $here_job are of type ${here_types:-unknown}: remove the option"
  fi
  processes=10#${options_value[gpus]}
  for node in "${here_nodes[@]}"; do
    if ((${here_gpus[$node]} != processes && ${here_gpus[$node]} > 0)); then
      fact[here_gres]=gpu:$processes
      if ((processes == 0)); then fact[here_gres]=none; fi
    fi
  done
}

# Sets cores, memory and time.
here::take_rest() {
  local -ri processes=10#${options_value[gpus]}
  local -i cpus seconds
  here::find_least here_cpus
  if ! here::is_named cpus; then
    cpus=${here_cpus[$here_least]}
    if [[ ${site[threads_per_core]} == [0-9]* ]]; then cpus=$((cpus / site[threads_per_core])); fi
    if ((processes > 0 && cpus > processes)); then cpus=$((cpus / processes * processes)); fi
    options_value[cpus]=$cpus
  fi
  here::find_least here_memory
  if ! here::is_named mem && ! here::is_named mem_per_gpu && ((${here_memory[$here_least]} > 0)); then options_value[mem]=${here_memory[$here_least]}M; fi
  seconds=$(checks::seconds "${options_value[time]}")
  if ((here_left == 0)) || { here::is_named time && ((seconds <= here_left)); }; then return; fi
  if here::is_named time; then common::note "note: --time ${options_value[time]}: job $here_job has $(checks::duration "$here_left") left, which is the run's time limit"; fi
  options_value[time]=$(checks::duration "$here_left")
}

# here::check   Compares the resolved request with the allocation. Call it after request::resolve.
here::check() {
  if ((fact[tasks] != 1)); then
    common::die_usage "--here runs one task, and this request has ${fact[tasks]} (lines of the configuration, times --repeat): name a file of one line by --configs, or submit without --here: the queue takes them all"
  fi
  if [[ -n ${fact[sweep]} ]]; then common::die_usage "--here: a sweep's runs are tasks of an array: submit without --here"; fi
  here::find_least here_cpus
  ((fact[cpus] <= ${here_cpus[$here_least]})) ||
    common::die "--cpus ${fact[cpus]}: job $here_job has ${here_cpus[$here_least]} CPUs on $here_least: ask for less, or get more by  salloc --cpus-per-task"
  here::find_least here_memory
  ((${here_memory[$here_least]} == 0 || fact[mem_megabytes] <= ${here_memory[$here_least]})) ||
    common::die "${fact[mem_megabytes]} MB of memory on each node: job $here_job has ${here_memory[$here_least]} MB on $here_least: ask for less (--mem, --mem-per-gpu), or get more by  salloc --mem"
  fact[here_began]=$(common::now)
  fact[here_seconds]=$(checks::seconds "${fact[time]}")
}

# here::step   Prints the name of the run's own step; a live run is found by this name.
here::step() {
  printf 'here_%s\n' "${fact[run_id]#"${fact[job_name]}_"}"
}

# here::argv ARRAY FOLDER COMMAND...   Sets ARRAY to the command that replaces sbatch.
here::argv() {
  local -n here_words=$1
  here_words=()
  here_words+=(srun --jobid="$here_job" --job-name="$(here::step)" --nodes=1 --ntasks=1 --nodelist="${here_nodes[0]}" --mem=0
  --export=ALL --propagate=NONE --chdir="$2" "${@:3}")
}

here::show() {
  local -a words=()
  here::argv words "${fact[run_directory]}" bash "${fact[run_directory]}/kit/hpc/job/batch.sh" "${fact[run_directory]}" here
  printf '%s\n' "${words[*]@Q}"
}

# here::start   Starts the step of batch.sh, which waits for the name of the run directory. Slurm starts it while that is written.
here::start() {
  local -a here_argv=()
  # shellcheck disable=SC2016 # for the shell on the node
  here::argv here_argv / bash -c 'IFS= read -r -d "" || exit 0; cd -- "$REPLY" && exec bash kit/hpc/job/batch.sh "$REPLY" here </dev/null'
  # setsid: in the terminal's session, Ctrl-C would make srun kill the step.
  coproc here_step { SLURM_OVERLAP=1 exec setsid "${here_argv[@]}" >&2; }
  here_process=$!
  run::undo_by here::leave
}

# here::leave   Ends the step if the run was refused before it got the name: without a word, or if that takes long by a signal.
here::leave() {
  local -r orders=${here_step[1]:-} # bash unsets the array when the step has ended
  local -i try
  if [[ -n $orders ]]; then exec {orders}>&-; fi
  for ((try = 0; try < 50; try++)); do
    if ! kill -0 "$here_process" 2>/dev/null; then return 0; fi
    sleep 0.1
  done
  kill -s TERM "$here_process" 2>/dev/null || true
}

# here::run   Runs what is in the run directory. Its status is that of the run.
here::run() {
  local -a here_argv=()
  local -r run=${fact[run_directory]}
  local lock orders status=0
  files::lock lock "${run%/*}/.here_$here_job.lock" try || here::die_occupied
  request::sbatch_argv here_argv "${tasks_lists[0]}" 0
  run_directory::write_words "$run/sbatch_argv" "${here_argv[@]}" # experiments.sh resubmit sends the run to the queue with these words
  trap here::interrupt INT TERM HUP
  orders=${here_step[1]:-}
  trap '' PIPE
  # If srun has failed, its message is on the terminal, and bash has unset here_step.
  if [[ -n $orders ]] && { printf '%s\0' "$run" >&"$orders"; } 2>/dev/null; then exec {orders}>&-; fi
  trap - PIPE
  until [[ -e $run/task_1/log.txt ]] || ! kill -0 "$here_process" 2>/dev/null; do sleep 0.1 || true; done
  if [[ ! -e $run/task_1/log.txt ]]; then rm -f -- "${run%/*}/.here_$here_job.lock"; fi
  [[ -e $run/task_1/log.txt ]] || common::die "the run did not start in job $here_job: srun's message is above; nothing was left behind"
  here::record
  common::wait "$here_process" || status=$?
  trap '' INT TERM HUP
  here::end_rest
  rm -f -- "${run%/*}/.here_$here_job.lock"
  trap - INT TERM HUP
  exec {lock}>&-
  return "$status"
}

here::record() {
  local -r run=${fact[run_directory]}
  { printf '%s\n' "$here_job" >"$run/job_id" && printf '%s here\n' "$here_job" >"$run/jobs" && experiment::record_jobs "$here_job $(here::step)"; } 2>/dev/null ||
    common::warn "the run cannot be recorded in ${fact[scratch_dir]@Q} (is the disk or the quota full?)"
  trap - EXIT
  common::note "in job $here_job, on ${fact[here_nodes]}: ${fact[nodes]} x ${fact[processes_per_node]} processes; $run; Ctrl-C asks the program to save and stop, twice ends it"
  run::print_jobs "${options_value[json]}" "$here_job"
}

# Handles Ctrl-C and the end of the terminal. Nothing here may fail, because the terminal may be gone (hence no bare return).
here::interrupt() {
  local -r task=${fact[run_directory]}/task_1
  local attempt
  here_interrupts+=1
  if [[ ! -e $task/log.txt ]] || ((here_interrupts > 2)); then
    kill -s TERM "$here_process" 2>/dev/null || true # srun ends this step; here::end_rest ends the others
    return 0
  fi
  attempt=$(here::attempt)
  if ((here_interrupts == 1)) && [[ -e $attempt/begun && ! -e $attempt/cause ]] && { echo 'for good' >>"$attempt/stop"; } 2>/dev/null; then
    common::note 'the program is asked to save and stop, by STOP_FILE; Ctrl-C once more ends it at once' || true
  else
    here_interrupts=2
    { : >"$task/cancel"; } 2>/dev/null || true
    common::note 'the run is being ended and its nodes cleaned; the allocation stays' || true
  fi
  return 0
}

# here::end_rest   Ends the other steps of the run. If batch.sh was killed, they would continue without it.
here::end_rest() {
  local -r task=${fact[run_directory]}/task_1
  local steps id name left attempt
  local -a how
  local -i try
  if grep -qxE 'completed|failed' -- "$task/state"; then return; fi
  common::note "the step of batch.sh was ended from outside: the other steps of the run are ended"
  for ((try = 0; try < 30; try++)); do
    left=''
    slurm::ask steps 60 squeue --all --steps --noheader --jobs="$here_job" --format='%i|%j' || break
    while IFS='|' read -r id name; do
      if [[ $name != @(ranks|keeper) && $name != "$(here::step)" ]]; then continue; fi
      left+=" $id"
      how=()
      if [[ $name == keeper ]]; then how=(--signal=USR1); fi # on this signal it cleans its node
      slurm::cancel 60 "${how[@]}" "$id" || true
    done <<<"$steps"
    if [[ -z $left ]]; then break; fi
    sleep 1
  done
  if [[ -n ${left:-} ]]; then common::warn "steps of the run are in job $here_job still: end them by  scancel$left"; fi
  attempt=$(here::attempt)
  if ((here_interrupts > 0)) && [[ -d $attempt && ! -e $attempt/cause ]]; then echo cancelled | common::write_atomically "$attempt/cause"; fi
  echo failed | common::write_atomically "$task/state"
}

# here::attempt   Prints the path of the last attempt's folder.
here::attempt() {
  local -i number=0
  local -r task=${fact[run_directory]}/task_1
  while [[ -d $task/attempt_$((number + 1)) ]]; do number+=1; done
  printf '%s\n' "$task/attempt_$number"
}
