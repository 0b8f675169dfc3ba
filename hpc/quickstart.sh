#!/usr/bin/env bash
# quickstart.sh
#
# Trains a model on a Slurm cluster, from nothing. Starts a pocket cluster on this machine if no Slurm answers, creates the environment and the
# data, submits the project's experiment to two nodes with two GPUs each (simulated ones on the pocket cluster), and shows its log until it
# ends.
#
# Run by people, from any folder. A second run only has the job to do. Ctrl-C cancels the job; a pocket cluster keeps running.
#
# See also: job_submitter.sh, pocket_cluster.sh; README.md
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
project=${here%/*}
source "$here/lib/common.sh"
source "$here/lib/help.sh"
source "$here/lib/packages.sh"
source "$here/lib/slurm.sh"

main() {
  help::answer "$project" "${BASH_SOURCE[0]}" "$@"
  (($# == 0)) || common::die_usage "unknown argument ${1@Q}: quickstart.sh takes none"
  quickstart::find_cluster
  [[ -n ${SCRATCH:-} ]] || common::die "SCRATCH is not set: add to ~/.bashrc the folder that all nodes share, such as  export SCRATCH=/scratch/\$USER"
  work=$(mktemp -d) # global, as the trap comes after all functions
  trap 'rm -rf -- "$work"' EXIT
  job_file=$work/job
  quickstart::make_environment
  quickstart::make_data

  quickstart::step 'The job: 2 nodes, 2 GPUs each'
  trap 'quickstart::cancel 130' INT
  trap 'quickstart::cancel 143' TERM
  bash "$here/job_submitter.sh" --gpus 2 --num-nodes 2 --time 10 --mem-per-gpu 2G --follow >"$job_file" &
  submitter=$!
  local status=0
  wait "$submitter" || status=$?
  trap - INT TERM
  ((status == 0)) || common::die "the job did not finish (exit status $status); what it said is above"
  quickstart::report "$(<"$job_file")"
}

quickstart::step() {
  common::note ''
  common::note "== $1"
}

quickstart::find_cluster() {
  quickstart::step 'The cluster'
  if common::has_command sbatch && timeout 15 scontrol ping >/dev/null 2>&1; then
    common::note "Slurm answers here: $(scontrol show config | sed -n 's/^ClusterName *= *//p')"
    return
  fi
  # A login node whose controller is away for a moment is no place for a cluster of one's own.
  if [[ -n ${SLURM_CONF:-} || -e /etc/slurm/slurm.conf ]] && [[ -z ${POCKET_CLUSTER_DIR:-} ]]; then
    common::die "this machine belongs to a Slurm cluster (${SLURM_CONF:-/etc/slurm/slurm.conf}) that does not answer: try again later"
  fi
  bash "$here/pocket_cluster.sh" up
  # shellcheck source=/dev/null
  source <(bash "$here/pocket_cluster.sh" env)
}

quickstart::make_environment() {
  quickstart::step 'The environment'
  local python=${PYTHON:-python3}
  if ! { common::has_command "$python" && "$python" -c 'import ensurepip, venv' 2>/dev/null; } && [[ $python == python3 ]] &&
    common::has_command apt-get; then
    packages::install python3 python3-venv
  fi
  bash "$project/venv/create.sh" >&2
}

# The digits come with scikit-learn's package, of which one file is read: it is fetched without what it
# needs, and not kept.
quickstart::make_data() {
  quickstart::step 'The data: UCI handwritten digits'
  local -r folder=$SCRATCH/${project##*/}/datasets/digits
  cd -- "$project"
  if ! bash venv/run.sh python -m train.prepare digits "$folder" >/dev/null 2>&1; then
    bash venv/run.sh python -m pip install --quiet --disable-pip-version-check --no-deps --target "$work/packages" scikit-learn >"$work/pip" 2>&1 ||
      common::die "pip could not install scikit-learn, which has the digits: $(tail -n 1 -- "$work/pip")"
    PYTHONPATH=$work/packages bash venv/run.sh python -m train.prepare digits "$folder" >/dev/null
  fi
  common::note "$folder"
}

quickstart::cancel() {
  trap '' INT TERM
  # Again, as it does not listen while it sends the job. (A background process never hears Ctrl-C itself.)
  while kill -s TERM "$submitter" 2>/dev/null; do sleep 0.2; done
  if [[ -s $job_file ]]; then slurm::cancel 30 "$(<"$job_file")" && common::note "job $(<"$job_file") is cancelled"; fi
  if [[ -n ${POCKET_CLUSTER_DIR:-} ]]; then common::note "the pocket cluster goes on; end it with  bash ${here@Q}/pocket_cluster.sh down"; fi
  exit "$1"
}

quickstart::report() {
  local -r job=$1
  local run
  run=$(scontrol show job "$job" | sed -n 's/^ *WorkDir=//p')
  quickstart::step 'Done'
  common::note "job       $job"
  common::note "nodes     $(sed -nE 's/^rank [0-9]+ of [0-9]+: node [0-9]+, ([^,]+),.*/\1/p' "$run/task_1/log.txt" | LC_ALL=C sort -u | paste -sd ' ')"
  common::note "accuracy  $(python3 -c 'import json, sys; print("%.4f" % json.load(open(sys.argv[1]))["validation_accuracy"])' "$run/task_1/output/result.json")"
  common::note "outputs   $run"
  if [[ -n ${POCKET_CLUSTER_DIR:-} ]]; then
    common::note "The pocket cluster goes on. To use it:  eval \"\$(bash ${here@Q}/pocket_cluster.sh env)\"  To end it:  bash ${here@Q}/pocket_cluster.sh down"
  fi
}

main "$@"
