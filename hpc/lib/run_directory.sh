# shellcheck shell=bash
# The record of a run, written at submission and read by all that comes later:
#
#   facts               fact[NAME]='value', one a line
#   source.tar          the project as it was, unpacked into source/ when the job starts
#   job_id
#   sbatch_argv         the exact sbatch command, words that end in NUL
#   data                the paths of --data, words that end in NUL
#   staging             what the job takes to its nodes' disks (staging.sh); pack_log.txt, of --pack-in-job
#   collect             patterns of --collect, words that end in NUL
#   task_N/command      the command of experiment N, an argv file (command.sh)
#   task_N/environment  variables for this task alone, words NAME=VALUE that end in NUL; parameters.yaml, the values of
#                       its point of a sweep; agent, spare (sweep.sh)
#   task_N/log.txt      what its processes printed, all attempts
#   task_N/output       the program's own folder, OUTPUT_PATH
#   task_N/exit_status  of the last attempt that could tell
#   task_N/attempt_K    nodes; failed_rank: "RANK HOST STATUS" of the first rank that failed; stop, heartbeat
#                       and cause (interruption.sh); collected/NODE
#
# Nothing secret is ever in it. Needs common.sh and command.sh.

declare -gA fact=()
declare -ga experiment_words experiment_lengths

# run_directory::make DIRECTORY   It and a folder for each experiment of the file.
run_directory::make() {
  local -i task
  local -a folders=()
  for ((task = 1; task <= ${#experiment_lengths[@]}; task++)); do folders+=("$1/task_$task/output"); done
  # In slices, as a command line has an end.
  for ((task = 0; task < ${#folders[@]}; task += 1000)); do mkdir -p -- "${folders[@]:task:1000}"; done
}

# run_directory::write DIRECTORY   The commands and the facts.
run_directory::write() {
  local -r directory=$1
  local -i task=0 offset=0
  local length name
  for length in "${experiment_lengths[@]}"; do
    task+=1
    command::write "$directory/task_$task/command" "${experiment_words[@]:offset:length}"
    offset+=length
  done

  for name in "${!fact[@]}"; do
    printf 'fact[%s]=%s\n' "$name" "${fact[$name]@Q}"
  done >"$directory/facts"
}
