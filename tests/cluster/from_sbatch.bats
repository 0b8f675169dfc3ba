#!/usr/bin/env bats
# hpc/adopt.sh --from on a real Slurm. For each script of tests/sbatch_scripts/ the test submits the script and the proposed command as held
# jobs. Slurm's fields of the two jobs must be equal, except those of tests/golden/from_sbatch_differences.txt, which gives the reasons. The
# nodes that the scripts request exist only in slurm.conf, because the jobs never start.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/../from_sbatch.bash"

setup_file() {
  POCKET_CLUSTER_DIR=$(mktemp -d "$BATS_TMPDIR/from_sbatch.XXXXXX")
  export POCKET_CLUSTER_DIR helpers_own_cluster=1
  chmod 755 -- "$POCKET_CLUSTER_DIR"
  pocket up --nodes 1 --network loopback
  add_nodes
  # shellcheck source=/dev/null
  source <(pocket env)
  export SCRATCH=$BATS_FILE_TMPDIR/scratch
  mkdir -p -- "$SCRATCH"
  scontrol create reservation reservationname=1g.10gb users=root nodes=a100-1 starttime=now duration=60 flags=ignore_jobs
}

teardown_file() {
  pocket down
  rm -rf -- "$POCKET_CLUSTER_DIR"
}

pocket() {
  bash "$checkout/hpc/pocket_cluster.sh" "$@" 3>&- 4>&-
}

# Adds nodes with each type of GPU, and the features, partitions and licences that the scripts name. A second controller reads them.
add_nodes() {
  local -r etc=$POCKET_CLUSTER_DIR/etc
  local -r big='CPUs=256 RealMemory=2000000 TmpDisk=1000000 State=DOWN NodeAddr=127.0.0.1'
  local type controller
  local -a partitions
  sed -i '/^GresTypes=/d; /^PartitionName=main/s/Default=YES/Default=YES Nodes=ALL/' "$etc/slurm.conf"
  {
    printf 'GresTypes=gpu,lscratch\nLicenses=matlab:10\nAllowSpecResourcesUsage=YES\n'
    printf 'NodeName=sh03-[01-02] %s\n' "$big"
    for type in a100 a100l h100 v100 volta rtx8000; do
      printf 'NodeName=%s-[1-8] Gres=gpu:%s:8,lscratch:1000 Features=gpu,scratch-node,v100-32g,GPU_MEM:40GB,GPU_MEM:80GB %s\n' "$type" "$type" "$big"
      printf 'NodeName=%s-[1-8] Name=gpu Type=%s File=%s/gpu[0-7]\nNodeName=%s-[1-8] Name=lscratch Count=1000 Flags=CountOnly\n' \
        "$type" "$type" "$etc" "$type" >>"$etc/gres.conf"
    done
    mapfile -t partitions < <(sed -nE 's/^#SBATCH (.* )?(-p|--partition)[ =]([^ ]+).*/\3/p' "$from_sbatch_scripts"/*.sbatch | tr , '\n' | sort -u)
    printf 'PartitionName=%s\n' "${partitions[@]}"
  } >>"$etc/slurm.conf"
  for controller in 4 5 6 7; do ln -sfn /dev/null "$etc/gpu$controller"; done
  controller=$(<"$POCKET_CLUSTER_DIR/state/slurmctld.pid")
  kill "$controller"
  wait_until 20 gone "$controller"
  pocket up
}

gone() {
  ! kill -0 "$1" 2>/dev/null
}

# fields JOB   Prints a line NAME=VALUE for each field of the request; for an array also how many tasks it has and how many run at once.
fields() {
  scontrol --oneliner show job "$1" | head -n 1 | tr ' ' '\n' |
    grep -E '^(JobName|Account|QOS|Nice|Requeue|Dependency|TimeLimit|Partition|ReqNodeList|ExcNodeList|NumNodes|NumCPUs|NumTasks|CPUs/Task|ReqTRES|TRES|NtasksPerN:B:S:C|CoreSpec|MinCPUsNode|MinMemoryNode|MinMemoryCPU|MinTmpDiskNode|Features|Reservation|OverSubscribe|Contiguous|Licenses|Network|TresPer[A-Za-z]+|MemPerTres|CpusPerTres|MailUser|MailType|Comment|ThreadSpec)=' |
    sed -E 's/^ReqTRES=/TRES=/; /^TRES=/s#,gres/[^,]*##g; s#gres/#gres:#g; /^TresPerTask=/s/cpu[:=][0-9]+,?//' |
    grep -v '=$' | sort -u # newer Slurms spell these otherwise, and CPUs/Task twice
  scontrol --oneliner show job "$1" | sed -nE 's/.* ArrayTaskId=([^ ]*) .*/\1/p' | tasks
}

tasks() {
  python3 -c '
import re, sys
text = sys.stdin.read().strip()
count = sum(len(range(int(a), int(b or a) + 1, int(s or 1))) for a, b, s in re.findall(r"(\d+)(?:-(\d+))?(?::(\d+))?", text.partition("%")[0]))
print("ArrayTasks=%d%%%s" % (count, text.partition("%")[2]))'
}

@test "the proposed command asks Slurm for the same as the script" {
  project=$BATS_TEST_TMPDIR/project
  from_sbatch::project "$project"
  export HOME=$BATS_TEST_TMPDIR/home
  cd -- "$project"
  bash "$checkout/hpc/adopt.sh" --from "$from_sbatch_scripts" "$project" >"$BATS_TEST_TMPDIR/said" 3>&- 4>&-
  ln -s -- "$checkout/.venv" .venv
  python=$(bash venv/create.sh cpu)
  for script in "$from_sbatch_scripts"/*.sbatch; do compare "$script"; done >"$BATS_TEST_TMPDIR/differences"
  local version
  version=$(sinfo --version | sed -E 's/^[^ ]* ([0-9]+\.[0-9]+).*/\1/')
  diff <(sed -E "s/^@$version //; /^[*#@]/d; s/  *#.*//" "${from_sbatch_golden}_differences.txt") <(unlisted <"$BATS_TEST_TMPDIR/differences")
}

# compare SCRIPT   Prints a line SCRIPT FIELD: THEIRS -> OURS for each field that differs.
compare() {
  local -r name=$(basename -- "$1" .sbatch)
  local theirs ours
  local -a command
  theirs=$(sbatch --hold --parsable "$1" 3>&- 4>&-) || { printf '%s: sbatch refuses it\n' "$name" && return; }
  mapfile -d '' command < <(sed -n 's/^#   bash //p' "experiment_configurations_$name.txt" | xargs printf '%s\0')
  if [[ " ${command[*]} " != *' --singularity-container '* ]]; then command+=(--environment "$python"); fi
  ours=$(bash "${command[@]}" --no-preflight --sbatch-arg=--hold 2>"$BATS_TEST_TMPDIR/$name.words" 3>&- 4>&-) || {
    printf '%s: the proposal is refused: %s\n' "$name" "$(<"$BATS_TEST_TMPDIR/$name.words")"
    return
  }
  join -t = -a 1 -a 2 -e '(none)' -o 0,1.2,2.2 <(fields "$theirs" | one_equals | sort) <(fields "$ours" | one_equals | sort) |
    awk -F = -v name="$name" '$2 != $3 { print name " " $1 ": " $2 " -> " $3 }'
}

# Remove the lines that a line `* FIELD: THEIRS -> OURS` of the list matches: it holds for any script, and * is any value.
unlisted() {
  local line general known
  while IFS= read -r line; do
    known=''
    while IFS= read -r general; do
      general=${general%%  #*}
      if [[ "${line#* }" == @(${general#\* }) ]]; then known=1; fi
    done < <(grep '^\*' "${from_sbatch_golden}_differences.txt")
    if [[ -z $known ]]; then printf '%s\n' "$line"; fi
  done
}

# Matches NAME=VALUE where VALUE has no further =.
one_equals() {
  sed ':again; s/=\(.*\)=/=\1:/; t again'
}
