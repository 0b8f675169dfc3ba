#!/usr/bin/env bats
# The tasks of a run, and the arrays that submit them, as a stub of Slurm gets them.

source "$BATS_TEST_DIRNAME/../helpers.bash"

declare -gA fact+=()
declare -ga tasks_lists tasks_offsets # of tasks.sh

setup() {
  make_project
  mv -- "$project" "$BATS_TEST_TMPDIR/project" # # Slurm opens no log below a folder with a %
  project=$BATS_TEST_TMPDIR/project
  stub_slurm
  export SCRATCH=$BATS_TEST_TMPDIR/scratch HPC_CLUSTER=default
  mkdir -- "$SCRATCH"
  outputs=$SCRATCH/${project##*/}/hpc_outputs
}

# sent OPTION...   Submits; puts the words of each sbatch into its own element of `calls`; sets the newest run directory.
sent() {
  local word
  rm -f -- "$RECORD"
  run -0 --separate-stderr submitter --no-snapshot "$@"
  calls=()
  if [[ -e $RECORD ]]; then
    while IFS= read -r -d '' word; do
      if [[ $word == sbatch ]]; then calls+=(''); fi
      calls[-1]+="$word "
    done <"$RECORD"
  fi
  run_directory=$(find "$outputs" -mindepth 1 -maxdepth 1 -name '[!.]*' -printf '%T@ %p\n' | sort -g | tail -n 1)
  run_directory=${run_directory#* }
}

# finish TASK...   Records that these tasks have completed, as batch.sh does.
finish() {
  local task
  for task in "$@"; do echo completed >"$run_directory/task_$task/state"; done
  rm -- "$SCRATCH/${project##*/}"/*/.job
}

@test "repeats: each line with each seed, in the environment and as {seed}" {
  experiments 'train --seed {seed} "{seed}" '"'{seed}'"' a' 'train b'
  sent --repeat 3 --seed-base 7
  [[ ${#calls[@]} == 1 && ${calls[0]} == *' --array=1-6 --output=task_%a/log.txt '* ]]
  local -r expected=$'1\ttask_1_seed_7\n2\ttask_1_seed_8\n3\ttask_1_seed_9\n4\ttask_2_seed_7\n5\ttask_2_seed_8\n6\ttask_2_seed_9'
  [[ $(cut -f 1,2 "$run_directory/tasks") == "$expected" ]]
  [[ $(tr '\0' '\n' <"$run_directory/task_5/environment") == SEED=8 ]]
  use_libraries common command
  local -a words=()
  SEED=8 command::read "$run_directory/task_2/command" words
  [[ ${words[*]} == 'train --seed 8 8 {seed} a' ]]
  [[ $stderr == *'task 4  task_2_seed_7  seed 7: train b'* ]]
}

@test "a line with {seed} and without repeats gets a seed" {
  experiments 'train {seed}'
  sent
  [[ ${calls[0]} != *--array* && $(tr '\0' '\n' <"$run_directory/task_1/environment") == SEED=0 ]]
  # Text, and the user's own SEED, are not seeds of the kit.
  experiments "train '{seed}'"
  sent
  [[ ! -e $run_directory/task_1/environment ]]
  experiments 'train ${SEED}'
  SEED=3 sent
  [[ ! -e $run_directory/task_1/environment ]]
}

@test "more tasks than an array can have: several arrays, and each task keeps its number" {
  sed -i 's/MaxArraySize            = 1001/MaxArraySize = 5/' "$stub/scontrol"
  sent --repeat 10
  ((${#calls[@]} == 3))
  [[ ${calls[0]} == *' --array=1-4 --output=task_%a/log.txt '* && ${calls[0]} != *offset* ]]
  [[ ${calls[1]} == *' --array=1-4 --output=offset_4/task_%a/log.txt '*" $run_directory offset=4 " ]]
  [[ ${calls[2]} == *' --array=1-2 --output=offset_8/task_%a/log.txt '*" $run_directory offset=8 " ]]
  [[ $output == $'4711\n4711\n4711' && $(<"$run_directory/job_id") == "$output" ]]
  echo told >"$run_directory/offset_8/task_2/log.txt"
  [[ $(<"$run_directory/task_10/log.txt") == told ]]
  ((${#calls[@]} == $(find "$run_directory" -maxdepth 1 -name 'sbatch_argv*' | wc -l)))
  # The limit of tasks at a time holds for all arrays together.
  sent --repeat 6 --max-parallel 2
  [[ ${calls[0]} == *' --array=1-4%2 '* && ${calls[0]} != *--dependency* && ${calls[1]} == *' --dependency=afterany:4711 '*' --array=1-2%2 '* ]]
}

@test "a limit of the user's jobs limits an array, too" {
  printf '#!/bin/sh\ncase "$*" in *format=maxsubmit*) echo 300; echo ;; *) echo mine ;; esac\n' >"$stub/sacctmgr"
  sent --repeat 700
  [[ ${#calls[@]} == 3 && ${calls[0]} == *' --array=1-300 '* && ${calls[2]} == *' --array=1-100 '* ]]
}

@test "a cluster that accepts only some of the arrays: they stay, and the message says which are missing" {
  sed -i 's/MaxArraySize            = 1001/MaxArraySize = 5/' "$stub/scontrol"
  printf '#!/bin/sh\ncase "$*" in --test-only*) ;; *offset=8*) echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1 ;; *) echo 4711 ;; esac\n' >"$stub/sbatch"
  run -1 --separate-stderr submitter --no-snapshot --repeat 10 --exp-name many
  [[ $output == $'4711\n4711' ]]
  [[ $stderr == *"error: Slurm takes no more of your jobs: QOSMaxSubmitJobPerUserLimit. Tasks from 9 on are not sent: later, with --exp-name 'many' --only-missing" ]]
}

@test "Ctrl-C while several arrays are sent: those that Slurm has stay, and the message says which are missing" {
  sed -i 's/MaxArraySize            = 1001/MaxArraySize = 5/' "$stub/scontrol"
  printf '#!/bin/sh\ncase "$*" in --test-only*) ;; *offset=8*) echo 4712 ;; *offset=4*) kill -s INT "$(cat "$SUBMITTER")"; echo 4711 ;; *) echo 4710 ;; esac\n' >"$stub/sbatch"
  export SUBMITTER=$BATS_TEST_TMPDIR/process
  run -1 --separate-stderr env --default-signal=INT bash -c 'echo "$$" >"$SUBMITTER"; exec "$@"' sh \
    bash "$project/hpc/job_submitter.sh" --no-snapshot --repeat 10 --exp-name many
  [[ $output == $'4710\n4711' && $(<"$SCRATCH/project/many/.job") == "$output" ]]
  [[ $stderr == *"error: interrupted. Tasks from 9 on are not sent: later, with --exp-name 'many' --only-missing" ]]
}

# room JOBS   Makes a Slurm that accepts JOBS more jobs of the user, with the messages of 22.05.
room() {
  printf '%s\n' "$1" >"$stub/room"
  cat >"$stub/sbatch" <<'STUB'
#!/bin/bash
count=1
for word in "$@"; do
  if [[ $word == --array=* ]]; then
    count=0
    IFS=, read -ra parts <<<"${word#*=}"
    for part in "${parts[@]%%%*}"; do count=$((count + ${part#*-} - ${part%-*} + 1)); done
  fi
done
left=$(($(<"$STUB/room") - count))
if ((left < 0)); then
  printf 'sbatch: error: QOSMaxSubmitJobPerUserLimit\nallocation failure: Job violates accounting/QOS policy (job submit limit)\n' >&2
  exit 1
fi
if [[ $1 == --test-only ]]; then echo asked >>"$STUB/asked" && exit; fi
echo "$left" >"$STUB/room"
printf '%s ' sbatch "$@" | tr '\n' ' ' >>"$STUB/calls"
echo >>"$STUB/calls"
echo 4711
STUB
}

@test "the user already has queued jobs: a smaller array is submitted, and the message names the rest" {
  room 7
  run -1 --separate-stderr submitter --no-snapshot --repeat 10 --exp-name many
  [[ $output == 4711 && $(<"$stub/calls") == *' --array=1-7 '* && $(<"$stub/room") == 0 ]]
  [[ $stderr == *"error: Slurm takes no more of your jobs: QOSMaxSubmitJobPerUserLimit; "*". Tasks from 8 on are not sent: later, with --exp-name 'many' --only-missing" ]]
  [[ $(tail -n +1 "$SCRATCH"/*/hpc_outputs/many_*/sbatch_argv | tr '\0' '\n') == *--array=1-7* ]]
  # No more jobs are allowed, and another refusal.
  fails_with 1 'would refuse the job: QOSMaxSubmitJobPerUserLimit' submitter --no-snapshot --repeat 10
  # A dry run says so, too.
  room 3
  run -0 --separate-stderr submitter --dry-run --repeat 10
  [[ $output == *"'--array=1-3'"* && $stderr == *'Tasks from 4 on are not sent'* ]]
}

@test "with --rapid-cycle each task is two jobs; a packing job is one more; a second array gets the remaining room" {
  room 7
  run -1 --separate-stderr submitter --no-snapshot --repeat 10 --exp-name cycles --rapid-cycle
  mapfile -t calls <"$stub/calls"
  [[ ${#calls[@]} == 2 && ${calls[0]} == *' --job-name=cycle_cycles '*' --array=1-3 '* && ${calls[1]} == *' --array=1-3 '* && $stderr == *'Tasks from 4 on '* ]]
  room 6
  rm -- "$stub/calls"
  sed -i 's/MaxArraySize            = 1001/MaxArraySize = 5/' "$stub/scontrol"
  run -1 --separate-stderr submitter --no-snapshot --repeat 10 --exp-name several
  mapfile -t calls <"$stub/calls"
  [[ ${#calls[@]} == 2 && ${calls[0]} == *' --array=1-4 '* && ${calls[1]} == *' --array=1-2 '*'offset=4'* && $stderr == *'Tasks from 7 on '* ]]
  # All fit: Slurm is asked once for each array.
  room 10
  rm -- "$stub/calls" "$stub/asked"
  run -0 --separate-stderr submitter --no-snapshot --repeat 10 --exp-name all
  mapfile -t calls <"$stub/calls"
  [[ ${#calls[@]} == 3 && $(wc -l <"$stub/asked") == 3 && $stderr != *error* ]]
  sed -i 's/MaxArraySize = 5/MaxArraySize = 1001/' "$stub/scontrol"
  mkdir -p -- "$SCRATCH/${project##*/}/data"
  room 5
  run -0 --separate-stderr submitter --dry-run --repeat 5 --data data --pack-in-job
  [[ $output == *"'--array=1-4'"* ]]
}

@test "--only-missing: only tasks that no run has completed, each once" {
  experiments 'a' 'b'
  sent --repeat 3 --exp-name half
  finish 2 3 6
  sent --repeat 3 --exp-name half --only-missing
  [[ ${#calls[@]} == 1 && ${calls[0]} == *' --array=1,4-5 '* && $stderr == *'3 of 6 tasks are missing'* ]]
  [[ $(find "$run_directory" -name task_2) ]] # its number is its own
  finish 1 4
  # More lines and seeds are another run of the same experiment.
  experiments 'a' 'b' 'c'
  sent --repeat 4 --exp-name half --only-missing
  [[ ${calls[0]} == *' --array=4,6,8-12 '* ]]
  [[ $(sed -n 6p "$run_directory/tasks") == $'6\ttask_2_seed_1'* ]]
  finish 4 6 8 9 10 11 12
  sent --repeat 4 --exp-name half --only-missing
  [[ ${#calls[@]} == 0 && -z $output && $stderr == *'nothing is missing: all tasks of half have completed'* ]]
  [[ -z $(find "$outputs" -name '*.partial') ]]
  # A task that completed with another command is another task.
  experiments 'a' 'B'
  run -2 --separate-stderr submitter --no-snapshot --repeat 3 --exp-name half --only-missing
  [[ $stderr == *'--only-missing: task_2_seed_0 has completed with another command'* ]]
  # An argument of a failed task may be corrected.
  sent --exp-name mended
  rm -- "$SCRATCH/${project##*/}"/*/.job
  experiments 'a' 'C'
  sent --exp-name mended --only-missing
  [[ ${calls[0]} == *' --array=1-2 '* ]]
}

@test "--only-missing over several arrays" {
  sed -i 's/MaxArraySize            = 1001/MaxArraySize = 5/' "$stub/scontrol"
  sent --repeat 12 --exp-name many
  finish 1 2 3 4 5 7 8 9
  sent --repeat 12 --exp-name many --only-missing
  ((${#calls[@]} == 2))
  [[ ${calls[0]} == *' --array=2 '*' offset=4 ' && ${calls[1]} == *' --array=2-4 '*' offset=8 ' ]]
}

@test "the arrays of any set of tasks are as short as possible, and name each task once" {
  use_libraries common tasks
  local -A fact=([tasks]=1000)
  local -i trial size number
  local part first
  for ((trial = 0; trial < 20; trial++)); do
    size=$((RANDOM % 40 + 1))
    fact[array_size]=$size
    tasks_to_send=()
    for ((number = 1; number <= 200; number++)); do if ((RANDOM % 3 > 0)); then tasks_to_send+=("$number"); fi; done
    tasks::divide
    for ((number = 0; number < ${#tasks_lists[@]}; number++)); do
      for part in ${tasks_lists[number]//,/ }; do
        first=${part%-*}
        ((first >= 1 && ${part#*-} <= size))
        seq "$((first + tasks_offsets[number]))" "$((${part#*-} + tasks_offsets[number]))"
      done
    done >"$BATS_TEST_TMPDIR/told"
    diff "$BATS_TEST_TMPDIR/told" <(printf '%s\n' "${tasks_to_send[@]}")
    [[ $(printf '%s\n' "${tasks_offsets[@]}" | sort -u | wc -l) == "${#tasks_offsets[@]}" ]]
  done
}

@test "a sweep in the configuration wins over the option" {
  experiments 'wandb agent --count 1 me/project/abc123'
  sent --no-preflight --sweep-runs 3 --wandb-sweepid other99
  [[ $stderr == *"warning: the configuration's sweep me/project/abc123 is run, not other99 of --wandb-sweepid"* ]]
  [[ ${calls[0]} == *' --array=1-3 '* && $(cut -f 3 "$run_directory/tasks" | uniq) == 'a run of sweep me/project/abc123' ]]
  [[ ! -e $run_directory/task_1/command ]]
  # Each of its runs has its own checkpoints, also in a second submission.
  [[ $(cut -f 2 "$run_directory/tasks" | head -n 1) == "${run_directory##*/}_1" ]]
  rm -- "$project/experiment_configurations.txt"
  sent --no-preflight --sweep-runs 1 -w abc123
  [[ ${calls[0]} != *--array* ]]
}

@test "with --only-missing, started runs of a sweep continue, and the rest are new" {
  sent --no-preflight -w abc123 --sweep-runs 4 --exp-name search
  local task
  for task in 1 2 3; do
    printf 'train\0--a=%s\0' "$task" >"$run_directory/task_$task/command"
    printf 'WANDB_RUN_ID=%s\0' "$task" >"$run_directory/task_$task/environment"
    : >"$run_directory/task_$task/parameters.yaml"
  done
  finish 2
  local -r before=$run_directory
  sent --no-preflight -w abc123 --sweep-runs 1 --exp-name search --only-missing
  [[ ${calls[0]} == *' --array=1-3 '* ]]
  cmp "$run_directory/task_1/command" "$before/task_1/command"
  cmp "$run_directory/task_2/environment" "$before/task_3/environment"
  [[ ! -e $run_directory/task_3/command ]]
  [[ $(cut -f 2 "$run_directory/tasks") == "${before##*/}_1"$'\n'"${before##*/}_3"$'\n'"${run_directory##*/}_3" ]]
}

# The stub of python records its arguments and answers like sweep.py.
@test "a sweep is read in the environment of the option or the profile, also if the project has none" {
  local -r environment=$BATS_TEST_TMPDIR/chosen
  rm -- "$project/.venv"
  mkdir -p -- "$environment/bin"
  cat >"$environment/bin/python" <<STUB
#!/bin/bash
if [[ "\$*" != *sweep.py* ]]; then exec python3 "\$@"; fi
printf '%s\n' "\$*" >>'$BATS_TEST_TMPDIR/asked'
case "\$*" in *' create '*) echo me/project/new1 ;; *) echo 3 ;; esac
STUB
  chmod +x -- "$environment/bin/python"
  sent --no-preflight -w abc123 --environment "$environment"
  [[ ${calls[0]} == *' --array=1-3 '* ]]
  mkdir -p -- "$XDG_CONFIG_HOME/hpc_kit/clusters"
  printf 'site[environment]=%s\n' "$environment" >"$XDG_CONFIG_HOME/hpc_kit/clusters/other.sh"
  export HPC_CLUSTER=other
  sent --no-preflight -w abc123
  [[ ${calls[0]} == *' --array=1-3 '* && $(wc -l <"$BATS_TEST_TMPDIR/asked") == 2 ]]
  # Before a sweep exists.
  run -0 --separate-stderr bash "$project/hpc/sweep.sh" "$project/hpc/sweeper.yml" --no-preflight --no-snapshot
  [[ $stderr == *'sweep me/project/new1;'* ]]
  HPC_CLUSTER=default run -0 --separate-stderr bash "$project/hpc/sweep.sh" "$project/hpc/sweeper.yml" --environment="$environment" --no-preflight --no-snapshot
  [[ $(grep -c ' create ' "$BATS_TEST_TMPDIR/asked") == 2 ]]
}

@test "impossible requests" {
  fails_with 2 '--sweep-runs is about a sweep: give --wandb-sweepid or --sweep-config too$' submitter --sweep-runs 3
  fails_with 2 '--repeat is for the lines of a configuration: make the seed a parameter of the sweep$' submitter -w abc --repeat 3
  fails_with 2 '--sweep-config lists the points without a server: add --offline; with one:  bash hpc/sweep.sh .x.yml.$' submitter --sweep-config x.yml
  fails_with 2 "--sweep-config 'none.yml' is not a file that you can read$" submitter --sweep-config none.yml --offline
  fails_with 2 '--sweep-config and --wandb-sweepid contradict each other' submitter --sweep-config x.yml --offline -w abc
  fails_with 2 '--offline: the runs of a sweep come from its server' submitter -w abc --offline
  fails_with 2 "--wandb-sweepid 'a b' is no sweep: give ID or ENTITY/PROJECT/ID" submitter -w 'a b'
  fails_with 2 '--only-missing completes an experiment: give its --exp-name$' submitter --only-missing
  fails_with 2 '--only-missing and --fresh contradict each other: give one$' submitter --only-missing --fresh -e x
  fails_with 2 "--repeat: '0' is not a whole number from 1 up$" submitter --repeat 0
  fails_with 2 '100001 tasks: no cluster takes that many; send at most 100000$' submitter --repeat 100001
  experiments 'wandb agent a/b/c' 'train'
  fails_with 2 "a line 'wandb agent …' must be the only line of its file" submitter
  experiments 'wandb agent'
  fails_with 2 "the line 'wandb agent' names no sweep" submitter
}
