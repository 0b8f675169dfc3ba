#!/usr/bin/env bash
# quickstart.sh
#
# From nothing to a trained model on a Slurm cluster: makes the environment and the data, starts a
# pocket cluster on this machine where no Slurm answers, sends the project's experiment to two nodes
# with two GPUs each (pretended ones on the pocket cluster), and shows its log until it ends. Run by
# people, from any folder. Again, it has only the job to run. Ctrl-C cancels the job.
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
project=${here%/*}
source "$here/lib/common.sh"
source "$here/lib/packages.sh"

main() {
  case ${1:-} in
    '') ;;
    -h | --help)
      common::print_header "${BASH_SOURCE[0]}"
      return
      ;;
    *) common::die_usage "unknown argument ${1@Q}: quickstart.sh takes none" ;;
  esac
  trap quickstart::stop INT TERM
  quickstart::cluster
  [[ -n ${SCRATCH:-} ]] || common::die "SCRATCH is not set: add to ~/.bashrc the folder that all nodes share, such as  export SCRATCH=/scratch/\$USER"
  quickstart::environment
  quickstart::data

  quickstart::step "the job: 2 nodes, 2 GPUs each"
  job_file=$(mktemp)
  trap 'rm -f -- "$job_file"' EXIT
  local status=0
  bash "$here/job_submitter.sh" --gpus 2 --num-nodes 2 --time 10 --mem-per-gpu 2G --follow >"$job_file" &
  submitter=$!
  while :; do
    status=0
    wait "$submitter" || status=$?
    kill -0 "$submitter" 2>/dev/null || break
  done
  if ((status != 0)); then common::die "the job did not finish (exit status $status)"; fi
  quickstart::report "$(<"$job_file")"
}

quickstart::step() {
  common::note ""
  common::note "== $1"
}
