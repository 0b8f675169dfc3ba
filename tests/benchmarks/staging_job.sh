#!/usr/bin/env bash
# staging_job.sh PROJECT DATA PLANS COUNTS time|count SET...
#
# Copies each SET from DATA to the own disks of all nodes of its job (salloc), once with each method: by the kit, as batch.sh does it, and
# as people write it in job scripts. Run by staging.sh. Prints lines of
#   time    SET METHOD NODES SECONDS       from the start until all nodes are ready. Every method includes the
#                                          launch of a step; the kit's also includes the verification
#   count   SET METHOD NODES OPENS BYTES   below DATA, as strace saw them; COUNTS is for its files
# Before each, untimed: the source is read, so that the page cache has it, and the earlier copy is removed.
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
project=$1 data=$2 plans=$3 counts=$4 what=$5
declare -A fact
source "$project/hpc/lib/common.sh"
source "$project/hpc/job/lib/keeper.sh"
source "$here/tracing.sh"

# One task on each node with all of the job's CPUs, like the kit's own step.
on_nodes=(srun --nodes="${SLURM_NNODES:?}" --ntasks="$SLURM_NNODES" --ntasks-per-node=1
  --cpus-per-task="${SLURM_CPUS_PER_TASK:?}" --mem=0 bash "$here/staging_node.sh")

main() {
  local set method
  local -a names
  for set in "${@:6}"; do
    names=("$set")
    if [[ $set == both ]]; then names=(small big); fi
    for method in cp rsync tar read sbcast image; do
      "${on_nodes[@]}" clear
      rm -rf -- "$counts"
      mkdir -- "$counts"
      job::read_source "$method"
      sync
      (job::bring "$method") # keeper.sh keeps state
      if [[ $what == count ]]; then
        printf '%s %s %s %s\n' "$set" "$method" "$SLURM_NNODES" "$(tracing::sum_up "$data" "$counts"/*)"
      fi
    done
  done
  "${on_nodes[@]}" clear
}

job::read_source() {
  local -a sources=("${names[@]/#/$data/}")
  case $1 in
    cp | rsync) ;;
    tar) sources=("${names[@]/#/$data/plain/}") && sources=("${sources[@]/%/.tar}") ;;
    *) sources=("$data/.staging") ;;
  esac
  find "${sources[@]}" -type f -exec cat {} + >/dev/null
}

job::bring() {
  local -r method=$1
  local -a trace=()
  local run=$plans/${set}_tar kit=$project begun
  if [[ $method == image ]]; then run=$plans/${set}_image; fi
  # shellcheck source=/dev/null
  source "$run/facts"
  fact[nodes]=$SLURM_NNODES fact[cpus]=$SLURM_CPUS_PER_TASK fact[broadcast]=$method
  if [[ $method == image ]]; then fact[broadcast]='read'; fi
  if [[ $what == count ]]; then trace=(trace "$counts") kit=$here/traced; fi

  begun=${EPOCHREALTIME/[.,]/}
  case $method in
    cp | rsync | tar)
      "${on_nodes[@]}" "${trace[@]}" "$method" "$data" "${names[@]}"
      job::tell "$begun"
      ;;
    *)
      trap keeper::leave EXIT
      keeper::start "$kit" "$run" "$counts"
      job::tell "$begun"
      ;;
  esac
}

job::tell() {
  local -r microseconds=$((${EPOCHREALTIME/[.,]/} - $1))
  if [[ $what == time ]]; then
    printf '%s %s %s %d.%06d\n' "$set" "$method" "$SLURM_NNODES" $((microseconds / 1000000)) $((microseconds % 1000000))
  fi
}

# Replaces Slurm's own for keeper.sh, which runs here and not on the nodes.
sbcast() {
  if [[ $what == count ]]; then tracing::run "$counts/sbcast" sbcast "$@"; else command sbcast "$@"; fi
}

main "$@"
