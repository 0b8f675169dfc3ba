# shellcheck shell=bash
# Owns the processes of a cluster, each by its name. pids/NAME holds a process id and its start time, which shows if a later
# process got the same id; log/NAME.out holds its output.

declare -gA cluster

# Prints when the process began, in clock ticks since the machine started; nothing if there is no such process.
processes::start_time() {
  local -r pid=$1
  local stat
  local -a fields
  { stat=$(<"/proc/$pid/stat"); } 2>/dev/null || return 0
  # The fields after the command's name, which may contain anything: state, …, start time (field 22 of proc(5)).
  read -r -a fields <<<"${stat##*) }"
  [[ ${fields[0]} == Z ]] || printf '%s\n' "${fields[19]}"
}

# Prints the process id of a daemon; fails if the daemon does not live.
processes::pid() {
  local -r name=$1
  local pid started
  { read -r pid started <"${cluster[dir]}/pids/$name"; } 2>/dev/null || return 1
  [[ -n $started && $(processes::start_time "$pid") == "$started" ]] || return 1
  printf '%s\n' "$pid"
}

processes::live() {
  processes::pid "$1" >/dev/null
}

processes::any_lives() {
  local file
  for file in "${cluster[dir]}"/pids/*; do
    if processes::live "${file##*/}"; then return; fi
  done
  return 1
}

# processes::start NAME COMMAND...   The process outlives this script and its terminal, and keeps nothing of the caller open.
# Its signals are those of a fresh login, because jobs inherit ignored signals, and nohup, cron and this script ignore some.
processes::start() {
  local -r name=$1 record=${cluster[dir]}/pids/$1
  local -a reset=(env --default-signal)
  local path
  # Jobs that take nothing from their owner's environment find a shape's commands through this variable.
  path=$(shape::bin)
  path=${path:+$path:}$PATH
  shift
  if ! "${reset[@]}" true 2>/dev/null; then # coreutils before 8.31
    reset=(python3 -c 'import os, signal, sys
for number in set(range(1, signal.NSIG)) - {signal.SIGKILL, signal.SIGSTOP, 32, 33}:
    signal.signal(number, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])')
  fi
  rm -f -- "$record"
  (
    cd /
    # Record it before it starts, and before it releases the lock, so that an interruption leaves no unknown process.
    # ($BASHPID inside $( ) would be that of another process.)
    pid=$BASHPID
    started=$(processes::start_time "$pid")
    printf '%s %s\n' "$pid" "$started" >"$record"
    for descriptor in /proc/"$pid"/fd/*; do
      descriptor=${descriptor##*/}
      ((descriptor <= 2)) || exec {descriptor}>&-
    done
    exec setsid -- "${reset[@]}" env -i PATH="$path" SLURM_CONF="${cluster[slurm_dir]}/etc/slurm.conf" "$@"
  ) </dev/null >"${cluster[dir]}/log/$name.out" 2>&1 &
  until [[ -s $record ]]; do
    sleep 0.01
  done
}

# processes::wait_for NAME COMMAND...   Waits until COMMAND succeeds; fails if NAME ends before.
processes::wait_for() {
  local -r deadline=$((SECONDS + 60))
  until "${@:2}" >/dev/null 2>&1; do
    if ! processes::live "$1"; then processes::die_with_log "$1" "$1 ended"; fi
    if ((SECONDS >= deadline)); then processes::die_with_log "$1" "$1 does not answer"; fi
    sleep 0.05
  done
}

# processes::die_with_log NAME MESSAGE
processes::die_with_log() {
  local -r log=${cluster[dir]}/log/$1.out
  tail -n 5 -- "$log" >&2 || true
  common::die "$2: above is how $log ends; run 'down' and then 'up' to start again"
}

# Ends them, and all that jobs have started. Returns when all are gone.
processes::end() {
  local -i try quiet=0
  local pid
  local -a living
  local -A ended=()
  for ((try = 0; try < 200; try++)); do
    # From the twentieth round on, also end processes that were expected to end by themselves.
    mapfile -t living < <(processes::recorded $((try >= 20)) && processes::of_jobs)
    for pid in "${living[@]}"; do ended[$pid]=1; done
    kill -KILL -- "${living[@]}" 2>/dev/null || true
    for pid in "${!ended[@]}"; do
      if [[ ! -e /proc/$pid ]]; then unset -v "ended[$pid]"; fi
    done
    # On some machines process 1 takes a while to reap zombies, and `pgrep` still finds them: allow 3 s.
    quiet=$((${#living[@]} == 0 ? quiet + 1 : 0))
    if ((quiet && (${#ended[@]} == 0 || quiet == 60))); then return; fi
    sleep 0.05
  done
  common::die "these processes do not end: ${living[*]}"
}

processes::recorded() {
  local -r all=$1
  local file name pid
  local -a children
  for file in "${cluster[dir]}"/pids/*; do
    name=${file##*/}
    pid=$(processes::pid "$name") || continue
    children=()
    { read -r -a children <"/proc/$pid/task/$pid/children"; } 2>/dev/null || true
    # The process behind a node of the form `hosts` ends after the last process inside the node has ended, so waiting
    # for it waits for them too. Its child is their process 1.
    if [[ ${cluster[network]} != hosts || $all == 1 ]] || ! cluster::is_node "$name" || ((${#children[@]} == 0)); then
      children+=("$pid")
    fi
    printf '%s\n' "${children[@]}"
  done
}

# In the form `loopback` a job's processes are processes of this machine, and those that it detached have no parent in the job.
# slurmstepd has overwritten its environment, but keeps its node's log open; all processes below it carry a mark from task_prolog.
processes::of_jobs() {
  local folder open
  [[ ${cluster[network]} == loopback ]] || return 0
  for folder in /proc/[0-9]*; do
    if [[ ! -O $folder ]] || ! grep -qs '^slurmstepd' "$folder/comm"; then
      continue
    fi
    for open in "$folder"/fd/*; do
      if [[ $(readlink -- "$open") == "${cluster[dir]}"/log/* ]]; then
        printf '%s\n' "${folder#/proc/}"
        break
      fi
    done
  done
  grep -lszxF -- "POCKET_CLUSTER_JOB=${cluster[dir]}" /proc/[0-9]*/environ | sed -E 's|/proc/([0-9]+)/.*|\1|' || true
}
