#!/usr/bin/env bats
# Submits each request of the golden table (unit/golden.bats) to a real Slurm, which must accept the arguments and understand them as they
# were meant. For some shapes of jobs the tests also check from inside what is granted.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/../golden.bash"

setup_file() {
  cluster_up_with --nodes 4 --gpus-per-node 4
  scontrol update NodeName=node1,node2,node3,node4 AvailableFeatures=ib,fast
}

teardown_file() {
  scontrol update NodeName=node1,node2,node3,node4 AvailableFeatures= ActiveFeatures=
  cluster_down
}

setup() {
  jobs=()
}

teardown() {
  if ((${#jobs[@]} > 0)); then scancel "${jobs[@]}"; fi
  if scontrol --oneliner show reservation | grep -q '^ReservationName=golden '; then end_reservation; fi
}

# The reservation exists only for its request, because other requests need all nodes.
begin_reservation() {
  scontrol create reservation ReservationName=golden Users="$(id -un)" StartTime=now Duration=1-00:00:00 Nodes=node4 Flags=ignore_jobs
}

end_reservation() {
  wait_until 10 scontrol delete ReservationName=golden
}

# expect FIELD=VALUE   `scontrol show job` must have it.
expect() {
  if [[ $shown != *" $1 "* ]]; then
    printf 'job_submitter.sh %s\n  wanted %s in\n  %s\n' "$request" "$1" "$shown" >&2
    return 1
  fi
}

# Prints a time as scontrol does: in whole minutes, without days if there are none.
shown_time() {
  local minutes
  [[ $1 =~ ^([0-9]+)-([0-9]+):([0-9]+):([0-9]+)$ ]]
  minutes=$((((10#${BASH_REMATCH[1]} * 24 + 10#${BASH_REMATCH[2]}) * 60 + 10#${BASH_REMATCH[3]}) + (10#${BASH_REMATCH[4]} > 0)))
  if ((minutes >= 1440)); then printf '%d-' $((minutes / 1440)); fi
  printf '%02d:%02d:00' $((minutes / 60 % 24)) $((minutes % 60))
}

# megabytes AMOUNT   Converts an amount that scontrol prints, such as 2500M or 62.50G.
megabytes() {
  awk '{ print $0 * ($0 ~ /T$/ ? 1048576 : $0 ~ /G$/ ? 1024 : 1) }' <<<"$1"
}

# check_job JOB   Compares it with the golden arguments in `words`.
check_job() {
  local -A given=()
  local word name shown partitions
  for word in "${words[@]}"; do
    if [[ $word == --*=* ]]; then
      name=${word%%=*}
      name=${name#--}
      given[${name//-/_}]=${word#*=}
    fi
  done
  shown=" $(scontrol --oneliner show job "$1" | tr -s ' ') "
  expect 'JobState=PENDING'
  expect "JobName=${given[job_name]}"
  expect "NumNodes=${given[nodes]}-${given[nodes]}" 2>/dev/null || expect "NumNodes=${given[nodes]}"
  expect "NumTasks=$((given[nodes] * given[ntasks_per_node]))"
  expect "NtasksPerN:B:S:C=${given[ntasks_per_node]}:0:*:*"
  expect "CPUs/Task=${given[cpus_per_task]}"
  expect "NumCPUs=$((given[nodes] * given[ntasks_per_node] * given[cpus_per_task]))"
  [[ $shown =~ \ MinMemoryNode=([^ ]+)\  && $(megabytes "${BASH_REMATCH[1]}") == "${given[mem]%M}" ]]
  expect "TimeLimit=$(shown_time "${given[time]}")"
  if [[ -n ${given[gpus_per_node]:-} ]]; then
    # Newer versions write the second form, also below; see "Three Slurms" in tests/README.md.
    expect "TresPerNode=gres:gpu:${given[gpus_per_node],,}" 2>/dev/null || expect "TresPerNode=gres/gpu:${given[gpus_per_node],,}"
  else
    [[ $shown != *gres[:/]gpu* ]]
  fi
  [[ $shown =~ \ Partition=([^ ]+)\  ]]
  partitions=${BASH_REMATCH[1]}
  [[ $(tr , '\n' <<<"$partitions" | sort) == "$(tr , '\n' <<<"${given[partition]:-main}" | sort)" ]]
  expect "Account=${given[account]:-(null)}"
  expect "Features=${given[constraint]:-(null)}"
  expect "ReqNodeList=${given[nodelist]:-(null)}"
  expect "ExcNodeList=${given[exclude]:-(null)}"
  expect "Dependency=${given[dependency]:+${given[dependency]}(unfulfilled)}" 2>/dev/null ||
    expect "Dependency=${given[dependency]:-(null)}"
  if [[ -n ${given[reservation]:-} ]]; then expect "Reservation=${given[reservation]}"; fi
  if [[ -n ${given[mail_user]:-} ]]; then expect "MailUser=${given[mail_user]}"; fi
  if [[ -n ${given[mail_type]:-} ]]; then [[ $shown == *" MailType="* ]]; fi
  if [[ ${given[mail_type]:-} == END,FAIL ]]; then expect MailType=END,FAIL; fi
  if [[ ${given[begin]:-} == 2030-01-01 ]]; then expect EligibleTime=2030-01-01T00:00:00; fi
  if [[ -n ${given[array]:-} ]]; then expect "ArrayTaskId=${given[array]}"; fi
  if [[ -n ${given[comment]:-} ]]; then expect "Comment=${given[comment]}"; fi
  expect "Nice=${given[nice]:-0}"
  expect "WorkDir=$run_directory"
  expect "Command=$run_directory/kit/hpc/job/batch.sh $run_directory" 2>/dev/null || expect "Command=$run_directory/kit/hpc/job/batch.sh"
}

@test "Slurm accepts and understands each request of the table" {
  local -a words options sent
  local request later
  local -i block
  golden::read
  golden::project
  cd -- "$project" || return
  jobs+=("$(sbatch --parsable --hold --output=/dev/null --wrap true)")

  for ((block = 0; block < ${#golden_options[@]}; block++)); do
    # The job of the dependency must exist.
    request=${golden_options[block]//afterok:1/afterok:${jobs[0]}}
    mapfile -t words <<<"${golden_argv[block]//afterok:1/afterok:${jobs[0]}}"
    golden::words options "$request"
    # No job may start, or end, before it is checked.
    later=now+1hour
    if [[ $request == *--begin* ]]; then later=''; fi
    if [[ $request == *--reservation* ]]; then begin_reservation; fi
    for setting in "${golden_settings[@]}"; do export "${setting?}"; done
    submit "${options[@]}" ${later:+--begin="$later"} 2>"$BATS_TEST_TMPDIR/messages" ||
      { printf '%s: %s\n' "$request" "$(<"$BATS_TEST_TMPDIR/messages")" && return 1; }
    for setting in "${golden_settings[@]}"; do unset -v "${setting%%=*}"; done
    jobs+=("$job")

    # The arguments are those of the table, but the kit corrects the case of the GPU's name when it asks Slurm.
    mapfile -d '' sent <"$run_directory/sbatch_argv"
    if [[ -n $later ]]; then mapfile -t sent < <(printf '%s\n' "${sent[@]}" | grep -vxF -e "--begin=$later"); fi
    diff <(golden::shown "${sent[@]}" | sed 's/v100l:/v100l:/I') <(printf '%s\n' "${words[@]}" | sed '$d; s/v100l:/v100l:/I')
    mapfile -d '' sent <"$run_directory/sbatch_argv"
    "${sent[0]}" --test-only "${sent[@]:1}" 2>>"$BATS_TEST_TMPDIR/messages"
    check_job "$job"
    if [[ $request == *--reservation* ]]; then
      scancel "$job"
      end_reservation
    fi
  done
  ((${#jobs[@]} > 60))
}

# shape OPTIONS   Submits a job that records what each rank was given.
shape() {
  local -a options
  golden::words options "$1"
  submit "${options[@]}"
  shapes[$job]=$1
  directories[$job]=$run_directory
  jobs+=("$job")
}

# granted JOB NODES TASKS CPUS_PER_TASK GPUS MEGABYTES   Checks the allocation; GPUs and memory are for one node.
granted() {
  local -r job=$1 nodes=$2 tasks=$3 cpus=$4 gpus=$5 megabytes=$6
  local -r output=${directories[$job]}/task_1/output per_node=$(($3 / $2))
  local rank answer request=${shapes[$job]} shown
  local -A devices=() # of each node
  wait_for_job "$job" 60
  [[ $job_states == COMPLETED ]] || { cat -- "${directories[$job]}/task_1/log.txt" && return 1; }
  [[ $(cat -- "$output"/rank_* | wc -l) == "$tasks" ]]
  for ((rank = 0; rank < tasks; rank++)); do
    answer=$(<"$output/rank_$rank")
    : "${devices[$((rank / per_node))]:=${answer##* }}"
    [[ $answer == "$nodes $tasks $cpus $megabytes node $((rank / per_node)) local $((rank % per_node)) of $per_node GPUs ${devices[$((rank / per_node))]}" ]] ||
      { printf '%s: %s\n' "$request" "$(cat -- "$output"/rank_*)" && return 1; }
  done
  for answer in "${devices[@]}"; do
    if ((gpus == 0)); then [[ $answer == none ]]; else [[ $(tr , '\n' <<<"$answer" | sort -u | grep -c '^[0-3]$') == "$gpus" ]]; fi
  done
  # Slurm's own description of the allocation.
  shown=" $(tr -s ' ' <"$output/allocation") "
  if ((gpus == 0)); then expect 'JOB_GRES=(null)'; else expect "JOB_GRES=gpu:v100l:$((nodes * gpus))"; fi
  [[ $shown =~ \ (Alloc)?TRES=cpu=([0-9]+),mem=([^,]+),node=([0-9]+), ]]
  [[ ${BASH_REMATCH[2]} == "$((tasks * cpus))" && ${BASH_REMATCH[4]} == "$nodes" ]]
  [[ $(megabytes "${BASH_REMATCH[3]}") == "$((nodes * megabytes))" ]]
}

@test "the granted resources, seen from inside the job, are the requested ones" {
  local -A shapes=() directories=()
  make_project
  experiments "sh -c '
    echo \${SLURM_STEP_NUM_NODES} \${SLURM_STEP_NUM_TASKS} \${SLURM_CPUS_PER_TASK} \${SLURM_MEM_PER_NODE} node \${NODE_RANK} \
      local \${LOCAL_RANK} of \${LOCAL_WORLD_SIZE} GPUs \${CUDA_VISIBLE_DEVICES:-none} >\"\${OUTPUT_PATH}/rank_\${RANK}\"
    if [ \${RANK} = 0 ]; then scontrol --oneliner --details show job \${SLURM_JOB_ID} >\"\${OUTPUT_PATH}/allocation\"; fi'"
  shape '-W srun -g 2 -n 2'
  shape '-W srun -g 0 -n 3 -c 3 --mem 1500M'
  shape '-W srun -g 4 -c 16 -m 2G'
  shape '-W lightning -g 3 -c 6 --mem-per-gpu 1000M -p urgent'
  shape '-W srun -g 1 -n 4 --mem 5G -G V100L'
  shape '-W srun -g 0'
  shape '-W lightning -g 4 -n 2 -c 4 --mem 999M'
  local -a sent=("${jobs[@]}")
  granted "${sent[0]}" 2 4 2 2 20480
  granted "${sent[1]}" 3 3 3 0 1500
  granted "${sent[2]}" 1 4 4 4 8192
  granted "${sent[3]}" 1 3 2 3 3000
  granted "${sent[4]}" 4 4 2 1 5120
  granted "${sent[5]}" 1 1 2 0 10240
  granted "${sent[6]}" 2 8 1 4 999
}
