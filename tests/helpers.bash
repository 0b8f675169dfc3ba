# shellcheck shell=bash
# What test files share:  source "$BATS_TEST_DIRNAME/../helpers.bash"
#
#   checkout        variable: the kit under test
#   make_project, make_project_in   a copy of the kit, as the project of somebody, in a folder with an odd name
#   experiments     writes that project's configuration file
#   use_libraries   sources libraries of the kit into the test itself
#   cluster_up, cluster_up_with, cluster_down, cluster_env      the pocket cluster; see below
#   submitter, submit, wait_for_job, no_jobs, job_field, job_log     jobs
#   make_sif        a file that is a container image by its header and table, and of no use
#   stub_slurm      for tests of the submitter alone: takes every job, and writes down what it is given
#   path_without    a PATH in which a program is not
#   fails_with      runs a command that must fail with one line that says why
#   wait_until      polls until a command succeeds: tests wait by it, not by loops or `sleep`

bats_require_minimum_version 1.5.0
declare -g stderr+='' # run --separate-stderr sets these
declare -ga stderr_lines+=()

checkout=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

# Nothing of the person or the job that runs the tests decides how they end. bats reads this file again for
# each test: what cluster_env exported for the file stays.
for helpers_name in "${!HPC_@}" "${!SLURM_@}" "${!SBATCH_@}" RUN_DIRECTORY PYTHON TMPDIR; do
  if [[ $helpers_name != SLURM_CONF ]]; then unset -v "$helpers_name"; fi
done
export BASH_ENV=$checkout/tests/older_bash.sh # bash 4.4 is what Rocky 8 and SLES 15 have
export XDG_CONFIG_HOME=$BATS_RUN_TMPDIR/config XDG_STATE_HOME=$BATS_RUN_TMPDIR/state

# make_project   Sets `project` to a new copy of the kit: a folder of an odd name in that of the test. It is no git repository, and its
# environment is the checkout's.
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

# experiments LINE...   The configuration file of the project.
experiments() {
  printf '%s\n' "$@" >"$project/experiment_configurations.txt"
}

# use_libraries NAME...   In the order of job_submitter.sh
use_libraries() {
  local name file
  for name in "$@"; do
    for file in "$checkout"/{hpc/{lib,job_submitter,job/lib,doctor,adopt,pocket_cluster},singularity,venv}/"$name.sh"; do
      # shellcheck source=/dev/null
      if [[ -e $file ]]; then source "$file"; fi
    done
  done
}

# A file of cluster tests calls cluster_up in setup_file and cluster_down in teardown_file. The cluster is
# the one that POCKET_CLUSTER_DIR names, as in tests/run.sh; where it is not set, the file has its own.
cluster_up() {
  cluster_up_with --nodes 4
}

# cluster_up_with OPTION...   Of pocket_cluster.sh up, for a cluster of the file's own.
cluster_up_with() {
  if [[ -z ${POCKET_CLUSTER_DIR:-} ]]; then
    export POCKET_CLUSTER_DIR=$BATS_FILE_TMPDIR/pocket helpers_own_cluster=1
    # bats waits for all that hold its descriptors: the daemons must not
    bash "$checkout/hpc/pocket_cluster.sh" up "$@" 3>&- 4>&-
  fi
  cluster_env
}

cluster_down() {
  if [[ -n ${helpers_own_cluster:-} ]]; then
    bash "$checkout/hpc/pocket_cluster.sh" down 3>&- 4>&-
  fi
}

# The cluster's exports, with a SCRATCH of the test file alone.
cluster_env() {
  # shellcheck source=/dev/null
  source <(bash "$checkout/hpc/pocket_cluster.sh" env)
  export SCRATCH=$BATS_FILE_TMPDIR/scratch
  mkdir -p -- "$SCRATCH"
}

# make_sif FILE   With a partition of squashfs for the system, of 64 kB, behind a definition file.
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

# stub_slurm   Puts a Slurm in front that takes every job, as number 4711, and writes the arguments to the file RECORD,
# each with a NUL. What sinfo shows is in the file partitions of its folder, stub.
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

# path_without NAME...   Prints PATH without these programs: links to all others stand for a folder that has one. Nothing is
# written into such a folder, as it would go through the link into the machine's own program: stubs have a folder of their
# own, first in PATH.
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

# submitter OPTION...   The project's job_submitter.sh; for `run` and the like.
submitter() {
  bash "$project/hpc/job_submitter.sh" "$@" 3>&- 4>&-
}

# submit OPTION...   Sends a job that must be accepted: sets `job`, and `run_directory` of that job.
submit() {
  job=$(submitter "$@") || return
  local file
  for file in "$SCRATCH"/*/hpc_outputs/*/job_id; do
    if [[ $(<"$file") == "$job" ]]; then run_directory=${file%/*}; fi
  done
}

# wait_for_job JOB SECONDS   Until Slurm has ended it, all tasks of an array. Sets `job_states`, one word for
# each task. Fails, with what it is doing, when it takes longer.
wait_for_job() {
  wait_until "$2" job_has_ended "$1" || { scontrol --oneliner show job "$1" >&2 && return 1; }
}

job_has_ended() {
  job_states=$(scontrol --oneliner show job "$1" | LC_ALL=C sed -nE 's/.* JobState=([A-Z_]+) .*/\1/p')
  ! grep -qvxE 'BOOT_FAIL|CANCELLED|COMPLETED|DEADLINE|FAILED|NODE_FAIL|OUT_OF_MEMORY|TIMEOUT' <<<"$job_states"
}

# no_jobs [OPTION...]   Of squeue.
no_jobs() {
  [[ -z $(squeue --noheader "$@") ]]
}

# job_field JOB NAME   The value of NAME in `scontrol show job`; nothing where Slurm does not show it.
job_field() {
  scontrol --oneliner show job "$1" | LC_ALL=C sed -nE "s/(^|.* )$2=([^ ]*).*/\\2/p"
}

# job_log [TASK]   What the job of the last `submit` printed.
job_log() {
  cat -- "$run_directory/task_${1:-1}/log.txt"
}

# fails_with STATUS PATTERN COMMAND...   COMMAND must end with STATUS, print nothing on standard output, and
# on standard error one line that the regular expression matches.
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

# patience SECONDS   Prints how long that takes now: a machine whose cores have N times the processes that they can run gets
# N times as long, up to 6.
patience() {
  local load running cores busy
  read -r load _ _ running _ </proc/loadavg # of the last minute, and now
  cores=$(nproc)
  load=${load%.*} running=${running%/*}
  busy=$(((load > running ? load : running) / cores))
  printf '%d\n' "$(($1 * (busy < 1 ? 1 : busy > 6 ? 6 : busy)))"
}

# wait_until SECONDS COMMAND...   The one way to wait in a test. Fails when the time, on a machine that is idle, is over.
wait_until() {
  local -r began=$SECONDS
  local -i deadline=SECONDS+$1
  local pause
  until "${@:2}"; do
    # What has become of the machine meanwhile counts.
    if ((SECONDS >= deadline && SECONDS >= (deadline = began + $(patience "$1")))); then
      printf 'in vain for %s s: %s\n' "$((SECONDS - began))" "${*:2}" >&2
      return 1
    fi
    # Each look takes CPU from what is waited for: a question to Slurm is half a dozen processes.
    case $((SECONDS - began)) in
      [01]) pause=0.05 ;;
      ?) pause=0.15 ;;
      *) pause=0.3 ;;
    esac
    sleep "$pause"
  done
}

# wait_status PROCESS   Waits for a background process of the test, and sets `status` to its own.
wait_status() {
  status=0
  wait "$1" || status=$?
}
