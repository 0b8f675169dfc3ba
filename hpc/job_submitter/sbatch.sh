# shellcheck shell=bash
# One call of sbatch.

# sbatch::call WORD...   Leaves sbatch's words in the caller's answer, and the id in job; status 1 when it gives none.
sbatch::call() {
  answer=$(timeout 120 "$@" 2>&1) || return 1
  job=${answer##*$'\n'}
  job=${job%%;*}
  [[ $job =~ ^[0-9]+$ ]]
}
