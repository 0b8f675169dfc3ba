#!/usr/bin/env bats
# Values, files and folders that are made to break a shell script. None of them may be executed. Each must be refused with a message of one
# line or arrive unchanged. hostile.py makes and judges them.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup_file() {
  cluster_up_with --nodes 4 --gpus-per-node 4
}

teardown_file() {
  cluster_down
}

setup() {
  hostile="$checkout/tests/cluster/hostile.py"
  # Another seed gives other values:  HOSTILE_SEED=2 bats tests/cluster/hostile.bats
  seed=${HOSTILE_SEED:-1}
  cd -- "$BATS_TEST_TMPDIR" || return
}

no_canary() {
  [[ -z $(find "$BATS_TEST_TMPDIR" "$SCRATCH" -name 'canary*') ]]
}

@test "500 hostile values in all options are refused in one line or arrive at sbatch unchanged" {
  stub_slurm
  project=$BATS_TEST_TMPDIR/project
  mkdir -- "$project"
  cp -R -- "$checkout/hpc" "$checkout/venv" "$project/"
  ln -s -- "$checkout/.venv" "$project/.venv"
  printf 'true\n' >"$project/experiment_configurations.txt"
  python3 "$hostile" options "$project" "$BATS_TEST_TMPDIR/runs" 500 "$seed"
}

@test "hostile values in the options, with a real Slurm" {
  make_project
  python3 "$hostile" options "$project" "$BATS_TEST_TMPDIR/runs" 76 "$seed"
}

@test "500 hostile values in the configuration file arrive in sys.argv" {
  make_project
  python3 "$hostile" file "$project" 500 "$seed"
  submit -W srun
  wait_for_job "$job" 90
  local -a outputs=("$run_directory"/task_?/output)
  ((${#outputs[@]} >= 4))
  python3 "$hostile" compare "$project" "${outputs[@]}" || { job_log && return 1; }
  no_canary
}

@test "projects in folders with all kinds of names" {
  local name folder
  local -a jobs=() folders=() directories=()
  local -i number
  for name in $'all \'of\' "them"\nat once %j%% \\n \\ $(touch canary) `touch canary`; touch canary & * ? [a-z] {a,b} ~ # ! $HOME ${HOME} <>|' \
    '-g' '100%' 'back\slash' 'ünï 漢字' $'\xff\xe9' ' '; do
    folder=$BATS_TEST_TMPDIR/parent/$name
    make_project_in "$BATS_TEST_TMPDIR"
    mkdir -p -- "$BATS_TEST_TMPDIR/parent"
    mv -T -- "$project" "$folder"
    project=$folder
    experiments "sh -c 'printf \"%s\" \"\$PWD\" >\"\$OUTPUT_PATH/directory\"; printf \"<%s>\" \"\$@\"' sh \"\${source_dir}\" 1" \
      "sh -c 'printf \"<%s>\" \"\$@\"' sh \"\${project_name}\" 2"
    submit -W srun -g 1
    jobs+=("$job")
    folders+=("$folder")
    directories+=("$run_directory")
  done
  for ((number = 0; number < ${#jobs[@]}; number++)); do
    folder=${folders[number]} run_directory=${directories[number]}
    wait_for_job "${jobs[number]}" 60
    [[ $job_states == COMPLETED$'\n'COMPLETED ]] || { printf '%s: %s\n' "$folder" "$job_states" && job_log 1 && return 1; }
    [[ $(<"$run_directory/task_1/output/directory") == "$run_directory/source" ]]
    [[ $(job_log 1) == *"<$run_directory/source><1>"* ]]
    [[ $(job_log 2) == *"<${folder##*/}><2>"* ]]
    [[ $run_directory == "$SCRATCH/${folder##*/}/hpc_outputs/"* ]]
  done
  no_canary
}
