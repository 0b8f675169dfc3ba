#!/usr/bin/env bash
# experiments.sh resubmit JOB [--mem SIZE] [--time TIME]
#
# Submits a run again unchanged: the same snapshot of the sources, commands and request, in a new run directory. Like --resume of
# job_submitter.sh it continues from the experiment's checkpoints. It sends all tasks of an array, or only one if JOB is
# ARRAY_TASK. --mem (of a node) and --time change the request. --dependency and --begin of the old run are dropped. Prints only
# the job id on standard output. Called by experiments.sh.
# Exit status: 0 submitted, 1 the site refuses, 2 the request is wrong.
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
source "$here/lib/common.sh"
source "$here/lib/files.sh"
source "$here/lib/checks.sh"
source "$here/lib/site.sh"
source "$here/lib/slurm.sh"
source "$here/lib/sending.sh"
source "$here/lib/run_directory.sh"
source "$here/lib/node_environment.sh"
source "$here/job_submitter/experiment.sh"
source "$here/job_submitter/kit.sh"
source "$here/job_submitter/run.sh"

main() {
  local name='' mem='' time=''
  local -a found=()
  while (($# > 0)); do
    case $1 in
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
  if [[ -n $mem ]]; then checks::accept node_memory "$mem" --mem; fi
  if [[ -n $time ]]; then checks::accept duration "$time" --time; fi
  # found: the run directory, and the number of the task if one was named.
  mapfile -d '' found < <(bash "$here/experiments.sh" find "$name")
  ((${#found[@]} == 2)) || exit 1
  # shellcheck source=/dev/null
  source "${found[0]}/facts"
  resubmit::look "${found[0]}"
  resubmit::change "${found[0]}"
  resubmit::write "${found[0]}"
  resubmit::send "${found[@]}"
}

# resubmit::look OLD   Ends if files that the old run needs are gone.
resubmit::look() {
  local -r old=$1
  local kind key format
  if [[ -n ${fact[sweep]} ]]; then
    common::die "the runs of a sweep are handed out by its server: submit again with  --wandb-sweepid ${fact[sweep]} --exp-name ${fact[exp_name]@Q} --only-missing"
  fi
  [[ -e $old/source.tar || ! ${fact[source_dir]} == "$old"/* ]] || common::die "${old@Q} has no source.tar: submit again with  --exp-name ${fact[exp_name]@Q} --resume"
  if [[ ! -e $old/staging ]]; then return; fi
  while LC_ALL=C IFS= read -r -d '' kind && LC_ALL=C IFS= read -r -d '' key && LC_ALL=C IFS= read -r -d '' format && LC_ALL=C IFS= read -r -d '' _; do
    if [[ $kind != image && ! -e ${fact[scratch_dir]}/.staging/$key.$format.manifest ]]; then
      common::die "the packed data of this run are gone (--staging-days): submit again with  --exp-name ${fact[exp_name]@Q} --resume"
    fi
  done <"$old/staging"
}

# resubmit::change OLD   Sets the facts of the new run. It uses the current kit, because the old one may be what failed.
resubmit::change() {
  if [[ -n $mem && ${fact[memory_request]:-mem} == @(none|zero) ]]; then
    common::die_usage "--mem $mem: at the site of this run (profile ${fact[site]}) a job cannot request memory"
  fi
  run::name
  run::check_folders
  if [[ ${fact[source_dir]} == "$1"/* ]]; then fact[source_dir]=${fact[run_directory]}/source; fi
  if [[ -n $mem ]]; then fact[mem_megabytes]=$(checks::megabytes "$mem"); fi
  if [[ -n $time ]]; then fact[time]=$(checks::duration "$(checks::seconds "$time")"); fi
  # Send only the training, without --rapid-cycle, and to the queue, without --here.
  unset 'fact[cycles]' 'fact[here]' 'fact[here_nodes]' 'fact[here_gres]' 'fact[here_began]' 'fact[here_seconds]'
  # An experiment without a name has the name of its first run; the new run uses its checkpoints.
  site::leave_enclosing_job
  node_environment::leave
}

resubmit::write() {
  local -r old=$1
  local file folder
  run::begin resume
  for file in source.tar source.tar.ignored tasks data staging collect profile.sh; do
    if [[ -e $old/$file ]]; then ln -- "$old/$file" "$run_unfinished/$file" 2>/dev/null || cp -- "$old/$file" "$run_unfinished/$file"; fi
  done
  resubmit::write_options "$old"
  for folder in "$run_unfinished"/task_*; do
    for file in command environment parameters.yaml; do
      if [[ -e $old/${folder##*/}/$file ]]; then cp -- "$old/${folder##*/}/$file" "$folder/$file"; fi
    done
  done
  for folder in "$old"/offset_*; do
    if [[ -d $folder ]]; then cp -R -- "$folder" "$run_unfinished/"; fi
  done
  run::complete resume
}

# resubmit::write_options OLD   Writes the options with which the old run was submitted, as resubmit::change has changed them.
resubmit::write_options() {
  local word
  local -a words=()
  if [[ ! -e $1/options ]]; then return; fi # of an older kit
  while LC_ALL=C IFS= read -r -d '' word; do
    case $word in
      --here=* | --rapid-cycle=* | --cycle-partition=*) continue ;;
      --mem=* | --mem-per-gpu=*) if [[ -n $mem ]]; then continue; fi ;;
      --time=*) if [[ -n $time ]]; then continue; fi ;;
    esac
    words+=("$word")
  done <"$1/options"
  run_directory::write_words "$run_unfinished/options" "${words[@]}" ${mem:+--mem="$mem"} ${time:+--time="$time"}
}

# resubmit::send OLD TASK
resubmit::send() {
  local -r old=$1 task=$2
  local file offset _job='' # the ids are in run_jobs
  local -a argv=()
  while read -r file; do
    offset=${file#sbatch_argv}
    offset=${offset#_}
    if ! resubmit::read_argv argv "$old" "$file" "${offset:-0}" "$task"; then continue; fi
    run::send _job train "${offset:-0}" "${argv[@]}" || break
  done < <(cd -- "$old" && printf '%s\n' sbatch_argv* | sort --version-sort)
  if ((${#run_jobs[@]} == 0)); then
    run::remove
    trap - EXIT
    common::die "task $task was never sent: submit again with  --exp-name ${fact[exp_name]@Q} --only-missing"
  fi
  run::record
  common::note "job ${run_jobs[*]} (${fact[job_name]}): as ${old##*/}; ${fact[run_directory]}"
  if [[ -n $run_refused ]]; then run::report_unsent 'The other arrays' "$run_refused"; fi
  run::print_jobs '' "${run_jobs[@]}"
  [[ -z $run_refused ]]
}

# resubmit::read_argv ARRAY OLD FILE OFFSET TASK   Sets ARRAY to the words of FILE, changed for the new run. Status 1: TASK is not in
# this array.
resubmit::read_argv() {
  local -n new_argv=$1
  local -r old=$2 offset=$4 task=$5
  local word
  local -a words=()
  new_argv=()
  mapfile -d '' words <"$old/$3"
  for word in "${words[@]}"; do
    case $word in
      --dependency=* | --begin=* | --kill-on-invalid-dep=*) continue ;;
      --mem=* | --mem-per-gpu=* | --mem-per-cpu=*)
        if [[ -n $mem ]]; then
          site::add_memory new_argv "${fact[memory_request]:-mem}" "${fact[mem_megabytes]}" "${fact[cpus]}" "${fact[gpus]}"
          continue
        fi
        ;;
      --time=*) word=--time=${fact[time]} ;;
      --array=*)
        if [[ -n $task ]]; then
          if ! resubmit::has_index "${word#*=}" $((task - offset)); then return 1; fi
          word=--array=$((task - offset))
        fi
        ;;
      --chdir="$old") word=--chdir=${fact[run_directory]} ;;
      */hpc/batch.sh | */hpc/job/batch.sh) word=${fact[run_directory]}/kit/hpc/job/batch.sh ;;
      "$old") word=${fact[run_directory]} ;;
    esac
    new_argv+=("$word")
  done
}

# resubmit::has_index ARRAY INDEX   Whether the value of sbatch's --array, such as 1-3,7%2, has INDEX.
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
