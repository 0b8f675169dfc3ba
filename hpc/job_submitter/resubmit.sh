#!/usr/bin/env bash
# experiments.sh resubmit JOB [--mem SIZE] [--time TIME]
#
# Sends a run again as it was: the same snapshot of the sources, commands and request, in a run directory of its own. Like
# --resume of job_submitter.sh it goes on from the checkpoints that the experiment has. Of an array all tasks, or with
# ARRAY_TASK that one. --mem (of a node) and --time change the request. What the run waited for (--dependency, --begin) it
# does not wait for again. Prints the job id, and nothing else, on standard output. Called by experiments.sh.
# Exit status: 0 submitted, 1 the site refuses, 2 the request is wrong.
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
source "$here/lib/common.sh"
source "$here/lib/checks.sh"
source "$here/lib/site.sh"
source "$here/lib/run_directory.sh"
source "$here/lib/node_environment.sh"
source "$here/job_submitter/experiment.sh"
source "$here/job_submitter/sbatch.sh"

declare -A options_value=([resume]=1 [fresh]='' [exp_name]='')
declare -a jobs=()

main() {
  local name='' old task mem='' time='' unfinished
  while (($# > 0)); do
    case $1 in
      -h | --help)
        common::print_header "${BASH_SOURCE[0]}"
        return
        ;;
      --mem | --time)
        (($# > 1)) || common::die_usage "$1: its value is missing"
        if [[ $1 == --mem ]]; then mem=$2; else time=$2; fi
        shift
        ;;
      -*) common::die_usage "unknown option ${1@Q}: experiments.sh resubmit JOB [--mem SIZE] [--time TIME]" ;;
      *)
        [[ -z $name ]] || common::die_usage "resubmit takes one job, and got ${name@Q} and ${1@Q}"
        name=$1
        ;;
    esac
    shift
  done
  [[ -n $name ]] || common::die_usage "resubmit needs a job, a run directory or an experiment's name"
  if [[ -n $mem ]]; then checks::accept memory "$mem" --mem; fi
  if [[ -n $time ]]; then checks::accept duration "$time" --time; fi
  resubmit::find
  # shellcheck source=/dev/null
  source "$old/facts"
  resubmit::look
  resubmit::name
  resubmit::write
  resubmit::send
}

# Sets old, the run directory, and task, the number of the one that was named.
resubmit::find() {
  local -a found=()
  mapfile -d '' found < <(bash "$here/experiments.sh" find "$name")
  ((${#found[@]} == 2)) || exit 1
  old=${found[0]} task=${found[1]}
}

# What the old run needs must be there still.
resubmit::look() {
  local kind key format
  if [[ -n ${fact[sweep]} ]]; then
    common::die "the runs of a sweep are handed out by its server: submit again with  --wandb-sweepid ${fact[sweep]} --exp-name ${fact[exp_name]@Q} --only-missing"
  fi
  [[ -e $old/source.tar || ! ${fact[source_dir]} == "$old"/* ]] || common::die "${old@Q} has no source.tar: submit again with --resume"
  if [[ ! -e $old/staging ]]; then return; fi
  while IFS= read -r -d '' kind && IFS= read -r -d '' key && IFS= read -r -d '' format && IFS= read -r -d '' _; do
    if [[ $kind != image && ! -e ${fact[scratch_dir]}/.staging/$key.$format.manifest ]]; then
      common::die "the packed data of this run are gone (--staging-days): submit again with --resume"
    fi
  done <"$old/staging"
}

# Whatever the experiment is called, a new run has its checkpoints.
resubmit::name() {
  printf -v 'fact[stamp]' '%(%Y%m%d-%H%M%S)T' -1
  fact[run_id]=${fact[job_name]}_${fact[stamp]}_$BASHPID
  fact[run_directory]=${fact[scratch_dir]}/hpc_outputs/${fact[run_id]}
  if [[ ${fact[source_dir]} == "$old"/* ]]; then fact[source_dir]=${fact[run_directory]}/source; fi
  if [[ -n $mem ]]; then fact[mem_megabytes]=$(checks::megabytes "$mem"); fi
  if [[ -n $time ]]; then fact[time]=$(checks::duration "$(checks::seconds "$time")"); fi
  unset 'fact[cycles]' # of --rapid-cycle; the long job alone
  site::leave_enclosing_job
  if [[ -n ${RUN_DIRECTORY:-} ]]; then unset OMP_NUM_THREADS "${node_environment_names[@]}"; fi
  experiment::claim
}

resubmit::write() {
  local file folder
  unfinished=${fact[run_directory]}.partial
  trap resubmit::remove_unfinished EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  run_directory::make "$unfinished"
  for file in source.tar source.tar.ignored tasks data staging collect; do
    if [[ -e $old/$file ]]; then ln -- "$old/$file" "$unfinished/$file" 2>/dev/null || cp -- "$old/$file" "$unfinished/$file"; fi
  done
  for folder in "$unfinished"/task_*; do
    for file in command environment parameters.yaml; do
      if [[ -e $old/${folder##*/}/$file ]]; then cp -- "$old/${folder##*/}/$file" "$folder/$file"; fi
    done
  done
  for folder in "$old"/offset_*; do
    if [[ -d $folder ]]; then cp -R -- "$folder" "$unfinished/"; fi
  done
  run_directory::write_facts "$unfinished"
  experiment::move_aside
  mv -T -- "$unfinished" "${fact[run_directory]}"
  unfinished=${fact[run_directory]}
}

resubmit::remove_unfinished() {
  rm -rf -- "$unfinished"
  experiment::put_back
}

# As in job_submitter.sh: an interrupt waits until the job's id is written down.
resubmit::send() {
  local file offset answer='' job=''
  local -a argv=()
  trap '' INT TERM
  while read -r file; do
    offset=${file#sbatch_argv}
    offset=${offset#_}
    if ! resubmit::read_argv "$old/$file" "${offset:-0}"; then continue; fi
    if ! sbatch::call "${argv[@]}"; then
      if ((${#jobs[@]} > 0)); then break; fi
      common::die "Slurm refused the job: ${answer##*$'\n'}"
    fi
    jobs+=("$job")
    printf '%s\0' "${argv[@]}" >"${fact[run_directory]}/$file"
  done < <(cd -- "$old" && printf '%s\n' sbatch_argv* | sort --version-sort)
  ((${#jobs[@]} > 0)) || common::die "task $task was never sent: submit again with --only-missing"
  printf '%s\n' "${jobs[@]}" >"${fact[run_directory]}/job_id"
  experiment::record_jobs "${jobs[@]}"
  trap - EXIT INT TERM
  common::note "job ${jobs[*]} (${fact[job_name]}): as ${old##*/}; ${fact[run_directory]}"
  printf '%s\n' "${jobs[@]}"
}

# resubmit::read_argv FILE OFFSET   Leaves the words in the caller's argv; status 1 when the task is not of this array.
resubmit::read_argv() {
  local word
  local -a words=()
  argv=()
  mapfile -d '' words <"$1"
  for word in "${words[@]}"; do
    case $word in
      --dependency=* | --begin=* | --kill-on-invalid-dep=*) continue ;;
      --mem=*) word=--mem=${fact[mem_megabytes]}M ;;
      --time=*) word=--time=${fact[time]} ;;
      --array=*)
        if [[ -n $task ]]; then
          if ! resubmit::has_index "${word#*=}" $((task - $2)); then return 1; fi
          word=--array=$((task - $2))
        fi
        ;;
      --chdir="$old") word=--chdir=${fact[run_directory]} ;;
      "$old") word=${fact[run_directory]} ;;
    esac
    argv+=("$word")
  done
}

# resubmit::has_index ARRAY INDEX   Whether sbatch's --array, such as 1-3,7%2, has it.
resubmit::has_index() {
  local part
  local -a parts=()
  IFS=, read -ra parts <<<"${1%%%*}"
  for part in "${parts[@]}"; do
    if (($2 >= ${part%-*} && $2 <= ${part#*-})); then return; fi
  done
  return 1
}

main "$@"
