# shellcheck shell=bash disable=SC2154 # run.sh sets work, project, rounds, checkout and here
# The benchmark `containers` of run.sh.

# Measures the time from the start of the batch script to rank 0's first line, on one node with 2 ranks, in the virtual environment and in a
# container with the same packages. Also the time that run.sh of each needs for a command that does nothing.
bench::containers() {
  local folder image environment round launcher
  folder=$(bash "$checkout/tests/install_apptainer.sh")
  PATH=$folder:$PATH
  image=$(bash "$checkout/tests/make_image.sh")
  environment=$(bash "$checkout/venv/create.sh" cpu)
  cp -R -- "$checkout/singularity" "$project/"
  for folder in "$project" ${other:+"$other"}; do
    cp -- "$here/first_line.py" "$folder/"
    echo 'python first_line.py' >"$folder/experiment_configurations.txt"
  done
  for ((round = 0; round < ${rounds:-10}; round++)); do
    for launcher in srun torchrun; do
      bench::container_job "venv_$launcher" -W "$launcher"
      bench::container_job "container_$launcher" -W "$launcher" --singularity-container "$image" --no-stage-image
    done
    VIRTUAL_ENV_DIRECTORY=$environment bench::time venv_alone bash "$project/venv/run.sh" true
    CONTAINER_IMAGE=$image bench::time container_alone bash "$project/singularity/run.sh" true
  done
  python3 "$here/table.py" 'container start (seconds)' 1 venv_srun "$results" \
    'venv_srun=virtual environment, srun' \
    'container_srun=container, srun (a container for each rank)' \
    'venv_torchrun=virtual environment, torchrun' \
    'container_torchrun=container, torchrun (one for the node)' \
    'venv_alone=venv/run.sh true' \
    'container_alone=singularity/run.sh true'
}

# bench::container_job NAME OPTION...
bench::container_job() {
  local name=$1 build
  local job
  shift
  for build in "$project" ${other:+"$other"}; do
    if [[ $build == "$other" ]]; then name+=@other; fi
    job=$(bash "$build/hpc/job_submitter.sh" --gpus 2 --time 10 --mem-per-gpu 2G "$@" 2>"$work/error") || bench::die_of job_submitter.sh
    bench::read_start "$name" "$job" "$(scontrol --oneliner show job "$job" | sed -E 's/.* StdOut=([^ ]+).*/\1/')"
  done
}
