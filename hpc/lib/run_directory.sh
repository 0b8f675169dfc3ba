# shellcheck shell=bash
# The record of a run. It is written at submission and read by all later steps:
#
#   facts               fact[NAME]='value', one a line
#   kit                 the files of the kit that it runs (job_submitter/kit.sh; its version is fact[kit_version]); profile.sh, the
#                       profile of the site if it is not the kit's
#   source.tar          the project at submission, unpacked into source/ when the job starts (unpacked: the time of that). source/ is
#                       removed after the run ends (job_submitter/pruning.sh), unless source.kept says that the program has
#                       written there (written: the files)
#   jobs                each job that was submitted for the run, "ID NAME" (sending.sh)
#   job_id              the id of each array, and of jobs that continue tasks of an array
#   options             the options that it was submitted with, words --NAME=VALUE that end in NUL (for why)
#   sbatch_argv         the exact sbatch command, words that end in NUL; sbatch_argv_OFFSET of further arrays
#   tasks               the table of tasks (tasks.sh)
#   data                the paths of --data, words that end in NUL
#   staging             what the job copies to its nodes' disks (staging.sh); pack_log.txt, of --pack-in-job
#   collect             patterns of --collect, words that end in NUL
#   task_N/command      the command of task N, an argv file (command.sh)
#   task_N/environment  variables for only this task, words NAME=VALUE that end in NUL; parameters.yaml, the values of
#                       its point of a sweep; agent, spare (sweep.sh)
#   task_N/state        enqueued, running, paused, completed or failed (interruption.sh)
#   task_N/log.txt      output of its processes, all attempts
#   task_N/rank_R.txt   output of rank R, all attempts (rank.sh)
#   task_N/output       the program's own folder, OUTPUT_PATH
#   task_N/cancel       of a run with --here: ends it at once (allocation.sh)
#   task_N/exit_status  of the last attempt whose status is known
#   task_N/attempt_K    nodes; failed_rank: "RANK HOST STATUS" of the first rank that failed; stop, heartbeat
#                       times and cause (interruption.sh); usage_NODE.tsv (usage.py); collected/NODE; unconnected: ranks that
#                       never spoke with each other (job/lib/meeting.sh)
#
# It never holds a secret.

declare -gA fact+=()
declare -gA run_directory_live+=() # what Slurm reported about live jobs: their ids and folders

# run_directory::make DIRECTORY   Creates it, and a folder for each task.
run_directory::make() {
  local -i task
  local -a folders=()
  mkdir -p -- "$1/task_1"
  for ((task = 2; task <= fact[tasks]; task++)); do folders+=("$1/task_$task"); done
  # Without -p, which visits every folder of each path. In slices, because the length of a command line is limited.
  for ((task = 0; task < ${#folders[@]}; task += 1000)); do mkdir -- "${folders[@]:task:1000}"; done
  for ((task = 1; task <= fact[tasks]; task++)); do echo enqueued >"$1/task_$task/state"; done
}

# run_directory::write_facts DIRECTORY
run_directory::write_facts() {
  local name
  for name in "${!fact[@]}"; do
    printf 'fact[%s]=%s\n' "$name" "${fact[$name]@Q}"
  done >"$1/facts"
}

# run_directory::write_words FILE WORD...   Ends each word with a NUL.
run_directory::write_words() {
  { printf '%s\0' "${@:2}" >"$1"; } 2>/dev/null
}

# run_directory::ask_live DIRECTORY...   Asks Slurm which of these runs have live jobs (run_directory::lives). If a run
# has not ended by its own record, and is missing from the answer, Slurm is asked again with its job ids, because an empty answer
# proves nothing. Status 1 if Slurm does not answer.
run_directory::ask_live() {
  local live_run live_id
  local -a live_ids=()
  run_directory_live=()
  slurm::ask_live run_directory_live || return
  for live_run in "$@"; do
    if ! run_directory::has_ended "$live_run" && ! run_directory::lives "$live_run"; then
      while read -r live_id _; do live_ids+=("$live_id"); done < <(cat -- "$live_run/job_id" "$live_run/jobs" 2>/dev/null)
    fi
  done
  if ((${#live_ids[@]} > 0)); then slurm::ask_live_among run_directory_live "${live_ids[@]}" || return; fi
}

# run_directory::lives DIRECTORY   Whether one of its jobs was live when Slurm was asked, or none of its jobs is known yet.
run_directory::lives() {
  local lives_id lives_known=''
  if [[ -n ${run_directory_live[$1]:-} ]]; then return; fi
  while read -r lives_id _; do
    lives_known=1
    if [[ -n ${run_directory_live[$lives_id]:-} ]]; then return; fi
  done < <(cat -- "$1/job_id" "$1/jobs" 2>/dev/null)
  [[ -z $lives_known ]]
}

# run_directory::has_ended DIRECTORY   Whether its own record says so: a job that was killed has not recorded its end.
run_directory::has_ended() {
  local status=0
  LC_ALL=C grep -qvxE 'completed|failed' -- "$1"/task_*/state 2>/dev/null || status=$?
  ((status == 1))
}
