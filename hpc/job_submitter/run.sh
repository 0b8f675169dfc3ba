# shellcheck shell=bash
# Creates a run, from its name to its jobs, for job_submitter.sh, resubmit.sh and sky.sh. The run directory is written under a
# temporary name and then renamed. A refused run leaves nothing behind. Once Slurm may have a job of it, nothing is removed.

declare -gA fact+=()
declare -ga run_jobs+=()                    # the ids of the training jobs, in the order of their arrays
declare -gA run_others+=()                  # pack, cycle -> the id of the last such job
declare -g run_unfinished='' run_refused='' # the folder to remove after a refusal; why Slurm takes no more jobs
declare -ga run_links+=()                   # links to the run directory, removed with it
declare -g run_undo=:                       # of run::undo_by

# run::name   Sets the name and the folder of a new run of the experiment in `fact`. Jobs and tools use the same rule.
run::name() {
  printf -v 'fact[stamp]' '%(%Y%m%d-%H%M%S)T' -1
  fact[run_id]=${fact[job_name]}_${fact[stamp]}_$BASHPID
  fact[run_directory]=${fact[scratch_dir]}/hpc_outputs/${fact[run_id]}
}

# run::check_folders   Ends if the run cannot write into its folders: on a shared scratch they may be another user's.
run::check_folders() {
  local -r outputs=${fact[scratch_dir]}/hpc_outputs
  files::check_writable "$outputs"{,/.kits,/.sources} "$outputs/.${fact[exp_name]}.lock" \
    "${fact[checkpoint_directory]}" "${fact[checkpoint_directory]%/*}"{,/.job,/.sending,/runs}
}

# run::begin new|resume|fresh|''   Claims the experiment if it has a name, and makes the run's folder under its temporary name.
run::begin() {
  fact[resume]=''
  if [[ $1 == resume ]]; then fact[resume]=1; fi
  [[ -d ${fact[scratch_dir]}/hpc_outputs ]] || mkdir -p -- "${fact[scratch_dir]}/hpc_outputs"
  if [[ -n $1 ]]; then experiment::claim "$1"; fi
  run_unfinished=${fact[run_directory]}.partial
  trap run::remove EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  run_directory::make "$run_unfinished"
}

# run::complete MODE [COMMIT]   Writes the facts and gives the run directory its final name. Call it when everything else is written.
# COMMIT: that of the checkout, if it is known.
run::complete() {
  common::version "${BASH_SOURCE[0]%/hpc/job_submitter/run.sh}" 'fact[kit_version]' "${@:2}"
  run_directory::write_facts "$run_unfinished"
  kit::link "$run_unfinished"
  experiment::begin "$1"
  mv -T -- "$run_unfinished" "${fact[run_directory]}"
  run_unfinished=${fact[run_directory]}
}

# run::undo_by COMMAND   What else a refusal has to undo.
run::undo_by() {
  run_undo=$1
}

run::remove() {
  "$run_undo"
  rm -rf -- "$run_unfinished" "${run_links[@]}"
  experiment::put_back
}

# run::send VARIABLE train|pack|cycle OFFSET ARGV...   Sends one job of the run and sets VARIABLE to its id. Signals are held
# from here on; otherwise a submitted job could be lost. Status 1: Slurm has taken some jobs of the run, and takes no more, or the user
# has interrupted this command. A job is never left without its cycles, nor cycles without their job.
run::send() {
  local -r name=$2 offset=$3
  local -rA whose=([pack]=' that packs (--pack-in-job)' [cycle]=' of the cycles (--rapid-cycle)' [train]='')
  local -rA instead=([pack]='; another partition for it: --pack-partition' [cycle]='; another partition for it: --cycle-partition' [train]='')
  local answer file=sbatch_argv status=0
  if ((offset > 0)); then file+=_$offset; fi
  if ((${#run_jobs[@]} > 0)) && [[ $name == cycle || -z ${fact[cycles]:-} ]] && sending::was_interrupted; then
    run_refused=interrupted
    return 1
  fi
  sending::hold_signals
  sending::send answer "${fact[run_directory]}" "$name" "${@:4}" || status=$?
  case $status in
    0)
      trap - EXIT # from here on nothing is removed
      printf -v "$1" '%s' "$answer"
      if [[ $name == train ]]; then
        run_jobs+=("$answer")
        run_directory::write_words "${fact[run_directory]}/$file" "${@:4}" ||
          common::warn "job $answer was sent, but its command cannot be recorded in ${fact[run_directory]@Q}"
      else
        run_others[$name]=$answer
      fi
      ;;
    1)
      run_refused=$answer
      # Arrays that Slurm has accepted stay.
      if ((${#run_jobs[@]} > 0)); then return 1; fi
      if ((${#run_others[@]} > 0)) && slurm::ask answer 60 scancel "${run_others[@]}"; then trap run::remove EXIT; fi
      common::die "Slurm refused the job${whose[$name]}: $run_refused${instead[$name]}"
      ;;
    *)
      trap - EXIT
      common::die "$answer: the run directory stays; if the job appears,  bash hpc/experiments.sh list  shows it; if it does not, submit again"
      ;;
  esac
}

# run::print_jobs JSON ID...   Prints the result of the command: one id per line, or, if JSON is not empty, an object that also has the
# run directory.
run::print_jobs() {
  if [[ -z $1 ]]; then
    printf '%s\n' "${@:2}"
    return
  fi
  python3 -c '
import json, sys
name, folder, pack, cycle, *jobs = sys.argv[1:]
print(json.dumps({"jobs": jobs, "name": name, "run_directory": folder, "pack_job": pack or None, "cycle_job": cycle or None}))
' "${fact[job_name]}" "${fact[run_directory]}" "${run_others[pack]:-}" "${run_others[cycle]:-}" "${@:2}"
}

# run::report_unsent WHAT REASON   Says that WHAT is not sent, and how to send it.
run::report_unsent() {
  local why="Slurm takes no more of your jobs: $2"
  if [[ $run_refused == interrupted ]]; then why=interrupted; fi
  common::print_error "$why. $1 are not sent: later, with --exp-name ${fact[exp_name]@Q} --only-missing"
}

# run::record   Records the jobs. Call it after the last one.
run::record() {
  { printf '%s\n' "${run_jobs[@]}" >"${fact[run_directory]}/job_id" && experiment::record_jobs "${run_jobs[@]}"; } 2>/dev/null ||
    common::warn "job ${run_jobs[*]} was sent, but cannot be recorded in ${fact[scratch_dir]@Q} (is the disk or the quota full?)"
  trap - EXIT HUP INT TERM
}
