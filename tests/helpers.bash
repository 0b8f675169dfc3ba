# shellcheck shell=bash
# Functions that test files share:  source "$BATS_TEST_DIRNAME/../helpers.bash"
#
#   checkout        variable: the kit under test
#   make_project, make_project_in   a copy of the kit as a user's project, in a folder with an unusual name
#   experiments     writes that project's configuration file
#   use_libraries   sources libraries of the kit into the test's shell
#   cluster_up, cluster_up_with, cluster_down, cluster_env      start, stop and use the pocket cluster; see below
#   submitter, drop_preview, submit, wait_for_job, no_jobs, job_field, job_log     jobs
#   make_sif        a file with the header and table of a container image, which no runtime can start
#   stub_slurm      a Slurm for tests of the submitter: it accepts every job and records its arguments
#   path_without    a PATH without a program
#   fails_with      runs a command that must fail with a message of one line
#   wait_until      polls until a command succeeds; tests use it in place of loops and `sleep`

bats_require_minimum_version 1.5.0
declare -g stderr+='' # run --separate-stderr sets these
declare -ga stderr_lines+=()

checkout=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

# The environment of the user or job that runs the tests must not change their results. bats reads this file again for each test; the
# variables that cluster_env exported for the file stay.
for helpers_name in "${!HPC_@}" "${!SLURM_@}" "${!SBATCH_@}" RUN_DIRECTORY PYTHON TMPDIR; do
  if [[ $helpers_name != SLURM_CONF ]]; then unset -v "$helpers_name"; fi
done
export BASH_ENV=$checkout/tests/older_bash.sh # bash 4.4 is what Rocky 8 and SLES 15 have
export XDG_CONFIG_HOME=$BATS_RUN_TMPDIR/config XDG_STATE_HOME=$BATS_RUN_TMPDIR/state

# make_project   Sets `project` to a new copy of the kit in the test's folder. The copy has an unusual name, is no git repository, and uses
# the checkout's environment.
make_project() {
  make_project_in "$BATS_TEST_TMPDIR"
}

# make_project_in FOLDER
make_project_in() {
  local name
  IFS= read -r name <<'NAME'
it's "odd", $(touch canary) %j ü
NAME
  project=$1/$name
  mkdir -p -- "$project"
  cp -R -- "$checkout/hpc" "$checkout/venv" "$checkout/singularity" "$checkout/train" "$project/"
  find "$project" -name __pycache__ -prune -exec rm -rf -- {} +
  mkdir -p -- "$checkout/.venv"
  ln -s -- "$checkout/.venv" "$project/.venv"
  experiments 'true'
}

# experiments LINE...   Writes the project's configuration file.
experiments() {
  printf '%s\n' "$@" >"$project/experiment_configurations.txt"
}

# use_libraries NAME...   Sources them in the order of job_submitter.sh.
use_libraries() {
  local name file
  for name in "$@"; do
    for file in "$checkout"/{hpc/{lib,job_submitter,job/lib,doctor,adopt,pocket_cluster},singularity,venv}/"$name.sh"; do
      # shellcheck source=/dev/null
      if [[ -e $file ]]; then source "$file"; fi
    done
  done
}

# A file of cluster tests calls cluster_up in setup_file and cluster_down in teardown_file. It uses the cluster of POCKET_CLUSTER_DIR, which
# tests/run.sh sets; without that variable the file starts its own.
cluster_up() {
  cluster_up_with --nodes 4
}

# cluster_up_with OPTION...   Starts a cluster for this file alone, with these options of pocket_cluster.sh up.
cluster_up_with() {
  if [[ -z ${POCKET_CLUSTER_DIR:-} ]]; then
    export POCKET_CLUSTER_DIR=$BATS_FILE_TMPDIR/pocket helpers_own_cluster=1
    # bats waits for every process that holds its descriptors, so the daemons must not hold them.
    bash "$checkout/hpc/pocket_cluster.sh" up "$@" 3>&- 4>&-
  fi
  cluster_env
}

cluster_down() {
  if [[ -n ${helpers_own_cluster:-} ]]; then
    bash "$checkout/hpc/pocket_cluster.sh" down 3>&- 4>&-
  fi
}

# Exports the cluster's variables, and a SCRATCH that only this test file uses.
cluster_env() {
  # shellcheck source=/dev/null
  source <(bash "$checkout/hpc/pocket_cluster.sh" env)
  export SCRATCH=$BATS_FILE_TMPDIR/scratch
  mkdir -p -- "$SCRATCH"
}

# make_sif FILE   Writes an image with a definition file and a system partition of 64 kB of squashfs.
make_sif() {
  python3 - "$1" <<'PYTHON'
import struct, sys
def descriptor(kind, number, offset, size, extra=b""):
    fixed = struct.pack("<i?IIIqqqqqqq", kind, True, number, 0, 0, offset, size, size, 0, 0, 0, 0)
    return fixed + b"name".ljust(128, b"\0") + extra.ljust(384, b"\0")
table = descriptor(0x4001, 1, 32768, 100) + descriptor(0x4004, 2, 36864, 65536, struct.pack("<ii", 1, 2))
table = table.ljust(48 * 585, b"\0")
header = b"#!/usr/bin/env run-singularity\n".ljust(32, b"\0") + b"SIF_MAGIC\0" + b"01\0" + b"02\0" + bytes(16)
header += struct.pack("<qqqqqqqq", 0, 0, 46, 48, 4096, len(table), 32768, 69632)
file = (header.ljust(4096, b"\0") + table).ljust(32768, b"\0") + b"bootstrap".ljust(4096, b"\0") + b"hsqs".ljust(65536, b"\0")
open(sys.argv[1], "wb").write(file)
PYTHON
}

# stub_slurm   Puts a Slurm first in PATH that accepts every job as number 4711 and writes the arguments to the file RECORD, each ended by a
# NUL. sinfo prints the file partitions of its folder, stub.
stub_slurm() {
  stub=$BATS_TEST_TMPDIR/stub
  export RECORD=$stub/record STUB=$stub
  mkdir -- "$stub"
  cat >"$stub/sbatch" <<'STUB'
#!/bin/sh
if [ "$1" = --test-only ]; then exit 0; fi
printf '%s\0' sbatch "$@" >>"$RECORD"
echo 4711
STUB
  cat >"$stub/scontrol" <<'STUB'
#!/bin/sh
printf 'ClusterName             = stub\nMaxArraySize            = 1001\nAccountingStorageType   = accounting_storage/slurmdbd\n'
STUB
  printf '#!/bin/sh\ncat -- "$STUB/partitions"\n' >"$stub/sinfo"
  printf '#!/bin/sh\nexit 1\n' >"$stub/squeue"
  printf '#!/bin/sh\nprintf "mine\\nours\\n"\n' >"$stub/sacctmgr"
  chmod +x -- "$stub"/*
  cat >"$stub/partitions" <<'PARTITIONS'
main*|4|16|64000|gpu:v100l:4(S:0-1)|infinite|up
urgent|4|16|64000|gpu:v100l:4(S:0-1)|infinite|up
big|2|64|512000|gpu:a100:8|7-00:00:00|up
big|1|64+|256000+|gpu:A40:4|7-00:00:00|up
short|2|16|64000|gpu:v100l:4|1:00:00|up
cpu|8|32|128000|(null)|2-00:00:00|up
PARTITIONS
  unset SLURM_CONF
  PATH=$stub:$PATH
}

# path_without NAME...   Prints PATH without these programs: a folder that has one is replaced by a folder of links to all its other
# programs. Never write into such a folder, because the write would go through the link into the machine's own program. Stubs have a folder
# of their own, first in PATH.
path_without() {
  local folder name links path=''
  local -a folders
  IFS=: read -ra folders <<<"$PATH"
  for folder in "${folders[@]}"; do
    for name in "$@"; do
      [[ -e $folder/$name ]] || continue
      links=$(mktemp -d "$BATS_TEST_TMPDIR/without.XXXXXX")
      find "$folder/" -maxdepth 1 ! -type d -exec ln -s --target-directory="$links" -- {} +
      rm -f -- "${@/#/$links/}"
      folder=$links
    done
    path+=${path:+:}$folder
  done
  printf '%s\n' "$path"
}

# submitter OPTION...   Runs the project's job_submitter.sh; for `run` and similar callers.
submitter() {
  bash "$project/hpc/job_submitter.sh" "$@" 3>&- 4>&-
}

# drop_preview   Removes from stderr the tasks that a dry run prints last.
drop_preview() {
  stderr=${stderr%%dry run: nothing*}
  stderr=${stderr%$'\n'}
}

# submit OPTION...   Submits a job that must be accepted; sets `job` and its `run_directory`.
submit() {
  job=$(submitter "$@") || return
  local file
  for file in "$SCRATCH"/*/hpc_outputs/*/job_id; do
    if [[ $(<"$file") == "$job" ]]; then run_directory=${file%/*}; fi
  done
}

# wait_for_job JOB SECONDS   Waits until Slurm has ended the job, with all tasks of an array. Sets `job_states` to one word for each task.
# If it takes longer, fails and prints what the job is doing.
wait_for_job() {
  wait_until "$2" job_has_ended "$1" || { scontrol --oneliner show job "$1" >&2 && return 1; }
}

job_has_ended() {
  job_states=$(scontrol --oneliner show job "$1" | LC_ALL=C sed -nE 's/.* JobState=([A-Z_]+) .*/\1/p')
  ! grep -qvxE 'BOOT_FAIL|CANCELLED|COMPLETED|DEADLINE|FAILED|NODE_FAIL|OUT_OF_MEMORY|TIMEOUT' <<<"$job_states"
}

# no_jobs [OPTION...]   Succeeds if squeue with these options shows no job.
no_jobs() {
  [[ -z $(squeue --noheader "$@") ]]
}

# job_field JOB NAME   Prints the value of NAME in `scontrol show job`, or nothing if Slurm does not show it.
job_field() {
  scontrol --oneliner show job "$1" | LC_ALL=C sed -nE "s/(^|.* )$2=([^ ]*).*/\\2/p"
}

# job_log [TASK]   Prints the log of the job of the last `submit`.
job_log() {
  cat -- "$run_directory/task_${1:-1}/log.txt"
}

# fails_with STATUS PATTERN COMMAND...   COMMAND must exit with STATUS, print nothing on standard output, and print one line on standard
# error that matches the regular expression.
fails_with() {
  local -r wanted=$1 pattern=$2
  shift 2
  run --separate-stderr "$@"
  if [[ $status != "$wanted" || -n $output || $stderr == *$'\n'* || ! $stderr =~ $pattern ]]; then
    printf 'status %s (%s wanted), standard output %s, standard error:\n%s\nwanted there: %s\n' \
      "$status" "$wanted" "${output@Q}" "$stderr" "$pattern" >&2
    return 1
  fi
}

# patience SECONDS   Prints a time-out: three times as long, because the machine may be slow and may share its cores with others. If it has
# N times more running processes than cores, N times as long, at most 8 times.
patience() {
  local load running cores busy
  read -r load _ _ running _ </proc/loadavg # of the last minute, and now
  cores=$(nproc)
  load=${load%.*} running=${running%/*}
  busy=$(((load > running ? load : running) / cores))
  printf '%d\n' "$(($1 * (busy < 3 ? 3 : busy > 8 ? 8 : busy)))"
}

# wait_until SECONDS COMMAND...   Polls until COMMAND succeeds. Fails after `patience SECONDS`.
wait_until() {
  local -r began=$SECONDS
  local -i deadline=0
  local pause
  until "${@:2}"; do
    # Take the load into account that the machine has now.
    if ((SECONDS >= deadline && SECONDS >= (deadline = began + $(patience "$1")))); then
      printf 'in vain for %s s: %s\n' "$((SECONDS - began))" "${*:2}" >&2
      return 1
    fi
    # Each poll takes CPU from the process that the test waits for: one question to Slurm starts half a dozen processes.
    case $((SECONDS - began)) in
      [01]) pause=0.05 ;;
      ?) pause=0.15 ;;
      *) pause=0.3 ;;
    esac
    sleep "$pause"
  done
}

# wait_status PROCESS   Waits for a background process of the test and sets `status` to its exit status.
wait_status() {
  status=0
  wait "$1" || status=$?
}
