# shellcheck shell=bash
# The tasks of a run, and the arrays in which they are sent. A task is one line of the configuration, or one seed of a line
# (--repeat), or one run of a sweep. Task N of a run has the folder task_N. The id of a task is the same in every run of the
# experiment and names the folder of its checkpoints. The run directory's file `tasks` lists them:
#
#   N<tab>ID<tab>DESCRIPTION

declare -gA fact+=() options_value+=() slurm+=() site+=()
declare -ga experiment_words+=() experiment_lengths+=()
declare -ga tasks_unfinished+=()                 # folders of unfinished runs of a sweep (--only-missing)
declare -ga tasks_to_send+=()                    # the numbers of the tasks, in order
declare -ga tasks_offsets+=() tasks_lists+=()    # of each array: the number of a task minus its index, and the value of --array
declare -ga tasks_counts+=()                     # the number of tasks of each array
declare -g tasks_room+='' tasks_first_unsent+='' # how many tasks Slurm takes now, if not all; the first that is not sent

declare -g tasks_shown=40 tasks_most=100000

# tasks::count   Sets fact[tasks] to the number of a sweep's runs; the lines of a configuration are counted already.
tasks::count() {
  local number=0
  local -a may_be_over=()
  if [[ -n ${fact[sweep_config]} ]]; then
    tasks::ask_number 'fact[tasks]' count "${fact[sweep_config]}"
  elif [[ -n ${fact[sweep]} ]]; then
    if [[ -n ${options_value[only_missing]} ]]; then
      tasks::find_unfinished
      may_be_over=(--may-be-over)
    fi
    # The server knows whether the sweep exists, and how many runs are left.
    if [[ -n ${options_value[no_preflight]} && -n ${options_value[sweep_runs]} ]]; then
      number=$((10#${options_value[sweep_runs]}))
    else
      tasks::ask_number number online "${fact[sweep]}" "${may_be_over[@]}"
    fi
    fact[tasks]=$((number + ${#tasks_unfinished[@]}))
    if ((fact[tasks] == 0)); then tasks::say_none; fi
  fi
  ((fact[tasks] <= tasks_most)) || common::die_usage "${fact[tasks]} tasks: no cluster takes that many; send at most $tasks_most"
}

# tasks::ask_number VARIABLE WORD...   Sets VARIABLE to the number that sweep.py prints. If the sweep has no end and --sweep-runs is
# not given, asks on the terminal.
tasks::ask_number() {
  local status=0 answer
  answer=$(tasks::sweep_helper "${@:2}") || status=$?
  if ((status == 3)) && [[ -t 0 ]]; then
    read -rp 'How many runs? ' answer || exit 2
    options::set sweep_runs "$answer" 'the number of runs'
    tasks::ask_number "$@"
    return
  fi
  if ((status == 3)); then exit 2; fi
  ((status == 0)) || exit "$status"
  printf -v "$1" '%s' "$answer"
}

tasks::sweep_helper() {
  wandb_client::run "${fact[project_directory]}" python "${fact[project_directory]}/hpc/sweep/sweep.py" "$@" \
    ${options_value[sweep_runs]:+--runs "$((10#${options_value[sweep_runs]}))"}
}

tasks::say_none() {
  common::note "nothing is missing: all tasks of ${fact[exp_name]} have completed"
  exit 0
}

# tasks::write DIRECTORY   Writes the commands of the tasks, their own variables and parameters, and the file `tasks`.
tasks::write() {
  if [[ -n ${fact[sweep_config]} ]]; then
    tasks::sweep_helper write "${fact[sweep_config]}" "$1" --seed "${fact[seed_base]}" --experiment "${fact[exp_name]}" || exit
  elif [[ -n ${fact[sweep]} ]]; then
    tasks::write_runs "$1"
  else
    tasks::write_lines "$1"
  fi
}

# tasks::write_lines DIRECTORY   Writes the tasks of the configuration's lines and their seeds.
tasks::write_lines() {
  local -r directory=$1
  local -i line=0 task=0 offset=0 repeat
  local length seed what
  local -a words seeds=('')
  for ((repeat = 0; repeat < ${fact[repeats]:-0}; repeat++)); do seeds[repeat]=$((fact[seed_base] + repeat)); done
  for length in "${experiment_lengths[@]}"; do
    line+=1
    words=("${experiment_words[@]:offset:length}")
    offset+=length
    for seed in "${seeds[@]}"; do
      task+=1
      command::write "$directory/task_$task/command" "${words[@]}"
      if [[ -n $seed ]]; then printf 'SEED=%s\0' "$seed" >"$directory/task_$task/environment"; fi
      what=${seed:+seed $seed: }${words[*]}
      what=${what//[$'\n\t']/ }
      if ((${#what} > 300)); then what=${what:0:300}…; fi
      printf '%s\t%s\t%s\n' "$task" "task_$line${seed:+_seed_$seed}" "$what"
    done
  done >"$directory/tasks"
}

# tasks::write_runs DIRECTORY   Writes the tasks of a sweep whose server hands out the runs; their parameters are not known yet. With
# --only-missing the unfinished runs come first, unchanged.
tasks::write_runs() {
  local -r directory=$1
  local -i task=0
  local old id
  for old in "${tasks_unfinished[@]}"; do
    task+=1
    id=$(node_environment::task_id "${old%/*}" "${old##*/task_}")
    cp -- "$old/command" "$old/environment" "$old/parameters.yaml" "$directory/task_$task/"
    printf '%s\t%s\tgoes on with %s\n' "$task" "$id" "$old"
  done >"$directory/tasks"
  while ((task < fact[tasks])); do
    task+=1
    printf '%s\t%s_%s\ta run of sweep %s\n' "$task" "${fact[run_id]}" "$task" "${fact[sweep]}"
  done >>"$directory/tasks"
}

# tasks::preview   Prints the commands of the tasks for a dry run, which writes no file of them.
tasks::preview() {
  local -i line offset=0 each=${fact[repeats]:-1}
  local what
  common::note "dry run: nothing is written or sent. batch.sh is hpc/job/batch.sh of this project; tasks: ${fact[tasks]}"
  if [[ -n ${fact[sweep]}${fact[sweep_config]} ]]; then return; fi
  for ((line = 0; line < ${#experiment_lengths[@]}; line++)); do
    if ((line == tasks_shown)); then
      common::note "  and $(((${#experiment_lengths[@]} - line) * each)) more tasks"
      break
    fi
    what="  task $((line + 1))"
    if ((each > 1)); then what="  tasks $((line * each + 1))-$(((line + 1) * each)), seeds ${fact[seed_base]} to $((fact[seed_base] + each - 1))"; fi
    common::note "$what:  ${experiment_words[*]:offset:experiment_lengths[line]}"
    offset+=${experiment_lengths[line]}
  done
}

# tasks::show DIRECTORY   Prints the tasks, if the configuration alone does not show them.
tasks::show() {
  if ((fact[tasks] == 1)) || [[ -z ${fact[repeats]:-}${fact[sweep_config]:-} ]]; then return; fi
  awk -F '\t' -v shown="$tasks_shown" 'NR <= shown { printf "task %s  %s  %s\n", $1, $2, $3 }' "$1/tasks" >&2
  if ((fact[tasks] > tasks_shown)); then common::note "and $((fact[tasks] - tasks_shown)) more, in ${fact[run_directory]}/tasks"; fi
}

# tasks::runs   Prints the experiment's run directories, the oldest first.
tasks::runs() {
  local run
  while read -r run; do
    if [[ -e ${fact[scratch_dir]}/hpc_outputs/$run/tasks ]]; then printf '%s\n' "${fact[scratch_dir]}/hpc_outputs/$run"; fi
  done < <(cat -- "${fact[scratch_dir]}/${fact[exp_name]}/runs" 2>/dev/null)
}

# tasks::find_unfinished   Sets tasks_unfinished to the last folders of those runs of the sweep that were handed out and have not finished.
tasks::find_unfinished() {
  local run task id
  local -A folder=()
  while read -r run; do
    while IFS=$'\t' read -r task id _; do
      if [[ ! -e $run/task_$task/command ]]; then continue; fi
      folder[$id]=$run/task_$task
      if [[ $(<"$run/task_$task/state") == completed ]]; then unset "folder[$id]"; fi
    done <"$run/tasks"
  done < <(tasks::runs)
  mapfile -t tasks_unfinished < <(if ((${#folder[@]} > 0)); then printf '%s\n' "${folder[@]}" | sort --version-sort; fi)
}

tasks::take_all() {
  local -i task
  tasks_to_send=()
  for ((task = 1; task <= fact[tasks]; task++)); do tasks_to_send+=("$task"); done
}

# tasks::choose DIRECTORY   Sets tasks_to_send to all tasks, or with --only-missing to those that no earlier run of the experiment
# has completed.
tasks::choose() {
  local -r directory=$1
  local run task id state sum
  local -A completed=() sums=()
  tasks::take_all
  if [[ -z ${options_value[only_missing]} || -n ${fact[sweep]:-} ]]; then return; fi
  tasks::read_sums "$directory" sums
  while read -r run; do
    local -A theirs=()
    tasks::read_sums "$run" theirs
    while IFS=$'\t' read -r task id _; do
      if read -r state <"$run/task_$task/state" && [[ $state == completed ]]; then completed[$id]=${theirs[$task]}; fi
    done <"$run/tasks"
  done < <(tasks::runs)
  tasks_to_send=()
  while IFS=$'\t' read -r task id _; do
    sum=${completed[$id]:-}
    if [[ -z $sum ]]; then
      tasks_to_send+=("$task")
    elif [[ $sum != "${sums[$task]}" ]]; then
      common::die_usage "--only-missing: $id has completed with another command: give this one another --exp-name, or run all tasks again with --fresh"
    fi
  done <"$directory/tasks"
}

# tasks::read_sums RUN_DIRECTORY ARRAY   Adds the checksums of the tasks' commands to ARRAY.
tasks::read_sums() {
  local -n sums_read=$2
  local sum file
  while read -r sum file; do
    file=${file%/command}
    sums_read+=(["${file##*/task_}"]=$sum)
  done < <(cd -- "$1" && find . -mindepth 2 -maxdepth 2 -path './task_*/command' -exec sha256sum -- {} +)
}

# tasks::choose_array_size   Sets fact[array_size] to the size of the largest array that the cluster accepts from this user.
tasks::choose_array_size() {
  local limit=${slurm[MaxArraySize]:-} answer
  [[ $limit =~ ^[0-9]+$ ]] || limit=1001 # Slurm's default
  fact[array_size]=$((limit > 1 ? limit - 1 : 1))
  if [[ -n ${site[max_submit]:-} ]] && ((10#${site[max_submit]} < fact[array_size])); then fact[array_size]=$((10#${site[max_submit]})); fi
  if ((fact[tasks] == 1)) || [[ ${slurm[AccountingStorageType]:-} != */slurmdbd ]]; then return; fi
  slurm::ask answer 15 sacctmgr --noheader --parsable2 show associations where "user=$(id -un)" format=maxsubmit || return 0
  while read -r limit; do
    if [[ $limit =~ ^[1-9][0-9]*$ ]] && ((limit < fact[array_size])); then fact[array_size]=$limit; fi
  done <<<"$answer"
}

# tasks::divide   Divides tasks_to_send, as many as there is room for, into arrays. An array has the tasks of one offset; its list
# is ranges of indices.
tasks::divide() {
  local offset count list
  tasks_offsets=() tasks_lists=() tasks_counts=() tasks_first_unsent=''
  if ((fact[tasks] == 1)); then
    tasks_offsets=(0) tasks_lists=('') tasks_counts=(1)
    return
  fi
  if [[ -n $tasks_room ]] && ((tasks_room < ${#tasks_to_send[@]})); then
    tasks_first_unsent=${tasks_to_send[tasks_room]}
    tasks_to_send=("${tasks_to_send[@]:0:tasks_room}")
  fi
  while read -r offset count list; do
    tasks_offsets+=("$offset") tasks_lists+=("$list") tasks_counts+=("$count")
  done < <(printf '%s\n' "${tasks_to_send[@]}" | awk -v size="${fact[array_size]}" '
    function end_range() { if (last > first) list = list "-" last }
    function end_array() { end_range(); if (list != "") print offset, count, list; count = 0 }
    {
      place = ($1 - 1) % size + 1
      if (list == "" || $1 - place != offset) {
        end_array()
        offset = $1 - place
        list = first = place
      } else if (place != last + 1) {
        end_range()
        list = list "," place
        first = place
      }
      last = place
      count++
    }
    END { end_array() }')
}

# tasks::link_logs DIRECTORY   Slurm names a log by the array's index. Where this is not the task's number, a folder of links leads
# to the right task.
tasks::link_logs() {
  if ((fact[tasks] <= fact[array_size])); then return; fi
  printf '%s\n' "${tasks_to_send[@]}" | python3 -I -S -c '
import os, sys
folder, size = sys.argv[1], int(sys.argv[2])
made = set()
for task in map(int, sys.stdin):
    index = (task - 1) % size + 1
    links = "%s/offset_%d" % (folder, task - index)
    if task == index:
        continue
    if links not in made:
        os.mkdir(links)
        made.add(links)
    os.symlink("../task_%d" % task, "%s/task_%d" % (links, index))
' "$1" "${fact[array_size]}"
}
