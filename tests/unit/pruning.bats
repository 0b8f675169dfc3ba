#!/usr/bin/env bats
# How the files of ended runs are removed (hpc/job_submitter/pruning.sh), and that a job unpacks its sources again.

source "$BATS_TEST_DIRNAME/../helpers.bash"

declare -gA fact+=() # the libraries read it

# A project whose runs share a snapshot; squeue prints the file by_user, or by_id if it is asked for ids.
setup() {
  use_libraries common slurm run_directory snapshot pruning sources
  export PATH=$BATS_TEST_TMPDIR/bin:$PATH GIT_CONFIG_GLOBAL=/dev/null ANSWERS=$BATS_TEST_TMPDIR
  project=$BATS_TEST_TMPDIR/"it's a project" outputs=$BATS_TEST_TMPDIR/"the scratch"/hpc_outputs
  mkdir -p -- "$project/sub" "$outputs" "$BATS_TEST_TMPDIR/bin"
  git -C "$project" init --quiet
  printf 'weights\n__pycache__/\n' >"$project/.gitignore"
  printf 'print(1)\n' | tee -- "$project/a.py" "$project/sub/"$'b\n.py' >/dev/null
  : >"$project/weights"
  : >"$project/key.pem"
  ln -s -- a.py "$project/link"
  cat >"$BATS_TEST_TMPDIR/bin/squeue" <<'STUB'
#!/bin/sh
echo "$*" >>"$ANSWERS/asked"
case $* in *--jobs=*) cat -- "$ANSWERS/by_id" ;; *) cat -- "$ANSWERS/by_user" ;; esac
STUB
  chmod +x -- "$BATS_TEST_TMPDIR/bin/squeue"
  : >"$ANSWERS/by_user"
  : >"$ANSWERS/by_id"
}

# ended NAME JOB STATE   Makes a run whose sources are unpacked and have not changed for two hours.
ended() {
  local -r run=$outputs/$1
  mkdir -p -- "$run/task_1"
  snapshot::pack "$project" "$outputs/.sources" "$run/source.tar" 2>/dev/null
  : >"$run/facts"
  unpack "$1"
  echo "$2" >"$run/job_id"
  echo "$3" >"$run/task_1/state"
  touch -d '2 hours ago' -- "$run/task_1/state"
}

unpack() {
  declare -A fact=([source_dir]=$outputs/$1/source [project_directory]=$project)
  sources::unpack "$outputs/$1"
}

prune() {
  rm -f -- "$outputs/.pruned"
  run -0 --separate-stderr pruning::prune "$outputs"
}

@test "an ended run keeps only its archive, and unpacks it again when it is restarted" {
  ended finished 7 completed
  ended failed 8 failed
  mkdir -- "$outputs/failed/source.AbCdEf" "$outputs/finished/source/__pycache__" # a killed unpacking; Python's own
  touch -- "$outputs/failed/source.AbCdEf/a.py" "$outputs/finished/source/__pycache__/a.pyc"
  prune
  [[ $stderr == 'removed the unpacked sources of 2 runs that have ended; each keeps its source.tar' ]]
  [[ $(cd -- "$outputs" && printf '%s ' */*) == 'failed/facts failed/job_id failed/source.tar failed/source.tar.ignored failed/task_1 failed/unpacked finished/facts finished/job_id finished/source.tar finished/source.tar.ignored finished/task_1 finished/unpacked ' ]]
  [[ -e $project/weights && -e $project/key.pem ]]
  unpack finished
  [[ $(<"$outputs/finished/source/sub/"$'b\n.py') == 'print(1)' && -L $outputs/finished/source/weights && -L $outputs/finished/source/link ]]
  # This does not happen at each submission.
  pruning::prune "$outputs"
  : >"$ANSWERS/asked"
  pruning::prune "$outputs"
  [[ ! -s $ANSWERS/asked && -d $outputs/finished/source ]]
}

@test "a run that is live, may be live, or has just ended is not changed" {
  ended listed 7 running
  ended elsewhere 8 failed # a job of this folder whose id was not recorded
  ended hidden 9 running   # missing in the answer for the user, which is empty or wrong
  ended unknown 10 completed
  ended just_now 11 completed
  ended of_another 12 completed
  ended killed 13 running # the queue has no such job
  rm -- "$outputs/unknown/job_id"
  touch -- "$outputs/just_now/task_1/state"
  if ((UID == 0)); then chown -h -- 12345 "$outputs/of_another"; else rm -r -- "$outputs/of_another/source"; fi
  printf '7 /x\n99 %s\n' "$outputs/elsewhere" >"$ANSWERS/by_user"
  printf '9\n' >"$ANSWERS/by_id"
  prune
  [[ $(cd -- "$outputs" && printf '%s ' */source) == "elsewhere/source hidden/source just_now/source listed/source $( ((UID != 0)) || echo of_another/source) unknown/source " ]]
  grep -q -- '--jobs=9,13 ' "$ANSWERS/asked"
  grep -q -- "--user=$(id -u) " "$ANSWERS/asked"
  # The answer is empty: ask by id for the jobs whose records say that they run.
  : >"$ANSWERS/by_user"
  printf '7\n9\n' >"$ANSWERS/by_id"
  prune
  [[ -d $outputs/listed/source && -d $outputs/hidden/source && ! -e $outputs/elsewhere/source ]]
  # No answer.
  ended last 14 completed
  rm -- "$ANSWERS/by_user"
  prune
  [[ -d $outputs/last/source ]]
  # Slurm has forgotten the job.
  : >"$ANSWERS/by_user"
  printf '#!/bin/sh\ncase $* in *--jobs=*) echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1 ;; esac\n' >"$BATS_TEST_TMPDIR/bin/squeue"
  prune
  [[ ! -e $outputs/last/source && ! -e $outputs/hidden/source ]]
}

@test "files that the program wrote there stay and are reported once; removed ones are in the archive; an older kit's run stays" {
  ended wrote 7 completed
  ended copied 8 completed
  ended changed 9 completed
  ended deleted 10 completed
  ended earlier 11 completed
  rm -- "$outputs/earlier/unpacked"
  touch -- "$outputs/wrote/source/sub/out.pt"
  cp -p -- "$outputs/copied/source/a.py" "$outputs/copied/source/"$'best\n.py' # with its time
  echo more >>"$outputs/changed/source/a.py"
  rm -- "$outputs/deleted/source/a.py"
  prune
  [[ ${#stderr_lines[@]} == 4 && $stderr == *"kept $outputs/wrote/source: the program has written 1 files there"* ]]
  [[ -d $outputs/wrote/source && -d $outputs/copied/source && -d $outputs/changed/source && -d $outputs/earlier/source && ! -e $outputs/deleted/source ]]
  prune
  [[ -z $stderr && -d $outputs/wrote/source ]]
}

@test "archives of sources are removed when no run uses them; one that disappears at that moment is packed again" {
  local archive
  ended one 7 completed
  archive=$(echo "$outputs/.sources"/*.tar)
  pruning::forget_archives "$outputs/.sources"
  [[ -e $archive ]]
  rm -r -- "$outputs/one"
  pruning::forget_archives "$outputs/.sources"
  [[ -e $archive ]] # of today
  printf '#!/bin/bash\nexec %q "${@/+1440/-1440}" # a day later\n' "$(command -v find)" >"$BATS_TEST_TMPDIR/bin/find"
  chmod +x -- "$BATS_TEST_TMPDIR/bin/find"
  hash -r
  pruning::forget_archives "$outputs/.sources"
  [[ ! -e $archive ]]
  rm -- "$BATS_TEST_TMPDIR/bin/find"
  hash -r

  # It is removed between the check and the link.
  ended one 7 completed
  printf '#!/bin/bash\nif [[ ! -e $ANSWERS/gone ]]; then : >"$ANSWERS/gone"; rm -- "${@: -2:1}"; fi\nexec %q "$@"\n' "$(command -v ln)" >"$BATS_TEST_TMPDIR/bin/ln"
  chmod +x -- "$BATS_TEST_TMPDIR/bin/ln"
  hash -r
  run -0 --separate-stderr snapshot::pack "$project" "$outputs/.sources" "$BATS_TEST_TMPDIR/source.tar"
  [[ -e $ANSWERS/gone && $(tar --list --file="$BATS_TEST_TMPDIR/source.tar" | grep -c 'a.py') == 1 ]]
}

@test "a submission does this after its job is submitted" {
  make_project
  stub_slurm
  printf '#!/bin/sh\n' >"$stub/squeue"
  export SCRATCH=$BATS_TEST_TMPDIR/scratch
  mkdir -p -- "$SCRATCH" "$project/environment/bin"
  printf '#!/bin/sh\n' >"$project/environment/bin/python"
  chmod +x -- "$project/environment/bin/python"
  outputs=$SCRATCH/${project##*/}/hpc_outputs
  ended one 7 completed
  run -0 --separate-stderr submitter --environment "$project/environment"
  [[ $output == 4711 && $stderr == *'removed the unpacked sources of 1 runs that have ended'* && ! -e $outputs/one/source ]]
}
