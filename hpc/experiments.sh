#!/usr/bin/env bash
# experiments.sh [list] [--name PATTERN] [--state STATE]... [--last N] [--json] [--watch [--interval SECONDS]]
# experiments.sh why JOB [--task N] [--json]
# experiments.sh logs JOB [--task N] [--rank R | --node N] [--follow]
# experiments.sh open JOB [--json]
# experiments.sh stop JOB...
# experiments.sh cancel JOB...
# experiments.sh resubmit JOB [--mem SIZE] [--time TIME]
# experiments.sh report [--rate-per-hour X|--rate-per-node-hour X]... [--json] [--html FILE] EXPERIMENT|JOB...
# experiments.sh remove [--dry-run] EXPERIMENT|JOB...
# experiments.sh nodes [--json | --clear [NODE...]]
#
# Shows the runs of a project, and stops, repeats or removes them. JOB is a job id (or ARRAY_TASK), a run directory, or the name of an
# experiment, which means its newest run.
#
# Run by people, on a login node. If Slurm does not answer, the table shows what the runs' own files say.
#
# list: the project's runs, the newest first
# job, name, nodes, state (enqueued, running, suspended, paused, completed, failed, stopped or cancelled), attempts, progress,
# elapsed time, last and best metric, folder. --name takes a part, or a pattern with *.
#
# why: how a job ended or what it waits for, and what to do
# It names the first rank that failed and shows the end of its log.
#
# logs: what a task has printed; or one rank, or one node
# A node is given by its number in the job, or by its name.
#
# open: the paths of a run
# If the run has not ended, its STOP_FILE is among them.
#
# stop: asks the program to save and end; resubmit continues it
# The program is asked by its STOP_FILE, and is not restarted. A run in an allocation of yours (--here) ends without the allocation; the
# id of the allocation means the newest run in it.
#
# cancel: ends a job at once
# A run in an allocation of yours (--here) ends without the allocation.
#
# resubmit: submits a run again, from its checkpoints
# Sources, commands and request are those of the run; --mem (of a node) and --time change the request. Of an array all tasks run again, or
# with ARRAY_TASK that one. The new job does not wait for what the run waited for (--dependency, --begin).
#
# report: results, failed tasks, cost and use of an experiment
# The mean, the standard deviation and the 95 % interval over the seeds of --repeat, and each task that has failed or is missing. A
# task's result is the file result.json in its OUTPUT_PATH, or the last line of a .jsonl file there. Then time by machine and by
# attempt, how much of the request was used, and what to request next time. With the price of an hour of a GPU or a node, the cost; the
# price of one kind of machine is MACHINE=X, its GPU type, feature or partition. --html writes the same as a page, with curves of the .jsonl files
# and a timeline; this needs matplotlib.
#
# remove: removes ended runs and their checkpoints; --dry-run only shows it
# The name of an experiment means all of its runs. The run directories go with all that is in them: logs, results, W&B's files. The checkpoints
# go if no other run of the experiment is left. It keeps runs that have not ended or that Slurm does not answer about, other users'
# files, and runs whose W&B files were not uploaded. An interrupted removal is finished by the next one. Data sets, the kit's versions
# (.kits) and packed sources (.sources) stay.
#
# nodes: the nodes that caused failures of your jobs
# When, which job, which cause, and whether new jobs exclude the node (two failures within a day). --clear removes those nodes from the
# list, or all.
#
# Exit status: 0, 1 if there is no such experiment or remove has kept something, 2 if the request is wrong.
#
# See also: job_submitter.sh; README.md
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
project=${here%/*}
source "$here/lib/common.sh"
source "$here/lib/help.sh"
source "$here/lib/bad_nodes.sh"
source "$here/lib/dotenv.sh"
source "$here/lib/secrets.sh"
source "$here/lib/site.sh"
source "$here/lib/slurm.sh"

main() {
  help::answer "$project" "${BASH_SOURCE[0]}" "$@"
  case ${1:-list} in
    --*) experiments::run experiments.py list "$@" ;;
    list | why | logs | open | stop | cancel | find | records) experiments::run experiments.py "${1:-list}" "${@:2}" ;;
    report) experiments::run report.py "${@:2}" ;;
    resubmit) exec bash "$here/job_submitter/resubmit.sh" "${@:2}" ;;
    remove) exec bash "$here/experiments/remove.sh" "${@:2}" ;;
    nodes) experiments::nodes "${@:2}" ;;
    *) common::die_usage "unknown command ${1@Q}: list, why, logs, open, stop, cancel, resubmit, report, remove or nodes (see --help)" ;;
  esac
}

# experiments::run SCRIPT WORD...   If a WORD is a run directory, its parent has the other runs, too.
experiments::run() {
  local word outputs='' python
  for word in "${@:2}"; do
    if [[ -e $word/facts || -e $word/tasks || -e $word/../facts ]]; then outputs=$(dirname -- "$word"); fi
  done
  if [[ -z $outputs ]]; then site::outputs outputs "$project"; fi
  if [[ $1 == report.py && " $*" =~ ' --html'[=\ ]. ]]; then
    python=$(experiments::drawing_python)
  else
    python=$(experiments::python)
  fi
  site::leave_enclosing_job # also unsets SQUEUE_FORMAT and the like, which would change squeue's answers
  exec "$python" -X utf8 "$here/experiments/$1" "$outputs" "${@:2}"
}

# Prints this machine's python3, or, if that is too old, the python of an environment.
experiments::python() {
  local -a others
  if common::first_python 9 python3; then return; fi
  experiments::environments others
  common::first_python 9 "${others[@]/%//bin/python}" ||
    common::die "no python3 of 3.9 or later, neither on this machine nor in an environment of the project: load one (module load python), or make the environment by one:  PYTHON=/path/to/python3 bash ${project@Q}/venv/create.sh"
}

# experiments::environments ARRAY   Sets ARRAY to the environments of the profile and of the project.
experiments::environments() {
  local -n environments_found=$1
  local environment
  source "$project/venv/environment.sh"
  environments_found=(${site[environment]:+"${site[environment]}"})
  if environment=$(environment::find "$project" 2>/dev/null); then environments_found+=("$environment"); fi
}

# Prints the first python that has matplotlib: this machine's, or that of an environment.
experiments::drawing_python() {
  local python
  local -a others
  experiments::environments others
  for python in python3 "${others[@]/%//bin/python}"; do
    if common::first_python 9 "$python" >/dev/null &&
      "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("matplotlib") is None)' 2>/dev/null; then
      printf '%s\n' "$python"
      return
    fi
  done
  ((${#others[@]} > 0)) || common::die "--html draws by matplotlib, which this python3 has not, and there is no environment: make one by  bash ${project@Q}/venv/create.sh"
  common::die "--html draws by matplotlib, which is not installed:  ${others[-1]@Q}/bin/python -m pip install matplotlib"
}

experiments::nodes() {
  local cluster time node job cause excluded
  if [[ ${1:-} == --clear ]]; then
    experiments::clear_nodes "${@:2}"
    return
  fi
  if [[ $* == --json ]]; then
    experiments::list_nodes | python3 -c '
import json, sys
names = ("cluster", "node", "time", "job", "excluded", "cause")
nodes = [dict(zip(names, line.rstrip("\n").split("\t"))) for line in sys.stdin]
for node in nodes:
    node.update(time=int(node["time"]), excluded=node["excluded"] == "yes")
print(json.dumps(nodes, indent=1))
'
    return
  fi
  (($# == 0)) || common::die_usage "unexpected ${1@Q}: experiments.sh nodes [--json | --clear [NODE...]]"
  printf '%-10s %-16s %-17s %-10s %-9s %s\n' CLUSTER NODE WHEN JOB EXCLUDED CAUSE
  while IFS=$'\t' read -r cluster node time job excluded cause; do
    printf '%-10s %-16s %-17s %-10s %-9s %s\n' "$cluster" "$node" "$(date --date="@$time" '+%F %H:%M')" "$job" "$excluded" "$cause"
  done < <(experiments::list_nodes)
}

# Prints CLUSTER NODE TIME JOB EXCLUDED CAUSE of each failure, with tabs between them.
experiments::list_nodes() {
  local file cluster time node job cause
  local -a nodes=()
  local -A bad=()
  for file in "$bad_nodes_folder"/*; do
    if [[ ! -r $file ]]; then continue; fi
    cluster=${file##*/}
    bad=()
    bad_nodes::list nodes "$cluster"
    for node in "${nodes[@]}"; do bad[$node]=yes; done
    while read -r time node job cause; do
      printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$cluster" "$node" "$time" "$job" "${bad[$node]:-no}" "$cause"
    done <"$file"
  done
}

# experiments::clear_nodes [NODE...]
experiments::clear_nodes() {
  local file
  for file in "$bad_nodes_folder"/*; do
    if [[ ! -e $file || $file == *.partial.* ]]; then continue; fi
    if (($# == 0)); then
      rm -f -- "$file"
    else
      awk -v names="$*" 'BEGIN { split(names, list, " "); for (i in list) gone[list[i]] } !($2 in gone)' "$file" |
        common::write_atomically "$file"
    fi
  done
}

main "$@"
