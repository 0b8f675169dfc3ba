#!/usr/bin/env bats
# One rank: hpc/job/rank.sh runs the command and records the status of the first rank that fails.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup() {
  use_libraries common files command
  task=$BATS_TEST_TMPDIR/"it's a task"
  attempt=$task/attempt_0
  mkdir -p -- "$attempt"
  export NNODES=1 NODE_RANK=0 LOCAL_RANK=0 WORLD_SIZE=2 NODE_ADDRESS=127.0.0.1
  export source_dir=$BATS_TEST_TMPDIR/'the sources'
}

# rank RANK WORD...   Runs this command as that rank.
rank() {
  local -r number=$1
  shift
  command::write "$task/command" "$@"
  RANK=$number bash "$checkout/hpc/job/rank.sh" "$checkout" "$attempt" 3>&-
}

@test "a program in a folder of the project imports the project's packages; the folders of PYTHONPATH come first" {
  mkdir -p -- "$source_dir"/{sub,kit} "$BATS_TEST_TMPDIR/first/kit"
  echo 'where = "sources"' | tee -- "$source_dir/only_here.py" >"$source_dir/kit/__init__.py"
  echo 'where = "first"' >"$BATS_TEST_TMPDIR/first/kit/__init__.py"
  printf 'import kit, only_here\nprint(kit.where, only_here.where)\n' >"$source_dir/sub/main.py"
  cd -- "$source_dir"
  run -0 rank 0 python3 sub/main.py
  [[ ${lines[1]} == 'sources sources' ]]
  PYTHONPATH=$BATS_TEST_TMPDIR/first run -0 rank 0 python3 sub/main.py
  [[ ${lines[1]} == 'first sources' ]]
  # A setting in the line is extended; an argument of the program is not a setting.
  run -0 rank 0 X=1 PYTHONPATH="$BATS_TEST_TMPDIR/first" python3 sub/main.py
  [[ ${lines[1]} == 'first sources' ]]
  run -0 rank 0 env printf '%s' PYTHONPATH=x
  [[ ${lines[1]} == PYTHONPATH=x ]]
}

@test "where meetings of ranks are recorded, the rank's Python records what it uses; the program does not see the hook" {
  mkdir -p -- "$attempt/ranks" "$BATS_TEST_TMPDIR/modules/torch"
  : >"$BATS_TEST_TMPDIR/modules/torch/nn.py"
  run -0 rank 1 PYTHONPATH="$BATS_TEST_TMPDIR/modules" python3 -c 'import sys, torch.nn; print([folder for folder in sys.path if "hook" in folder])'
  [[ ${lines[1]} == '[]' && $(<"$attempt/ranks/1") == 'uses torch' ]]
}

@test "the rank's Python imports torch, and other large packages, without garbage collection, and collects as before afterwards; nothing is recorded for one rank" {
  mkdir -p -- "$BATS_TEST_TMPDIR/modules/torch"
  printf 'import gc\nprint("torch", gc.isenabled())\n' >"$BATS_TEST_TMPDIR/modules/torch/__init__.py"
  run -0 rank 0 PYTHONPATH="$BATS_TEST_TMPDIR/modules" python3 -c 'import gc, torch; print(gc.isenabled(), gc.get_freeze_count() > 0, vars(torch.__loader__).keys())'
  [[ ${lines[1]} == 'torch False' && ${lines[2]} == "True True dict_keys(['name', 'path'])" ]]
  run -0 rank 0 PYTHONPATH="$BATS_TEST_TMPDIR/modules" python3 -c 'import gc; gc.disable(); import torch; print(gc.isenabled())'
  [[ ${lines[2]} == False && ! -e $attempt/ranks ]]
  # Later large packages are not frozen: objects of the program would be, too.
  cp -- "$BATS_TEST_TMPDIR/modules/torch/__init__.py" "$BATS_TEST_TMPDIR/modules/torch/_dynamo.py"
  run -0 rank 0 PYTHONPATH="$BATS_TEST_TMPDIR/modules" python3 -c $'import gc, torch\nn = gc.get_freeze_count()\nimport torch._dynamo; print(gc.isenabled(), gc.get_freeze_count() - n)'
  [[ ${lines[2]} == 'torch False' && ${lines[3]} == 'True 0' ]]
  # An import that fails leaves it enabled, too.
  echo 'raise ValueError' >"$BATS_TEST_TMPDIR/modules/torch/__init__.py"
  run -0 rank 0 PYTHONPATH="$BATS_TEST_TMPDIR/modules" python3 -c $'import gc\ntry:\n import torch\nexcept ValueError:\n print(gc.isenabled())'
  [[ ${lines[1]} == True ]]
}

@test "it prints who it is, and passes on arguments and output; its own file has the output, too" {
  CUDA_VISIBLE_DEVICES=0,1 run -0 rank 1 printf '<%s>' 'a  b' '' '$$' '${RANK}' "it's" '*'
  [[ ${lines[1]} == "<a  b><><\$><1><it's><*>" ]]
  [[ ${lines[0]} =~ ^rank\ 1\ of\ 2:\ node\ 0,\ .+\(127\.0\.0\.1\),\ local\ rank\ 0,\ [0-9]+\ CPUs,\ GPUs\ 0,1$ ]]
  [[ ! -e $attempt/failed_rank ]]
  [[ $(<"$task/rank_1.txt") == "== attempt 0"$'\n'"$output" ]]
}

@test "the file has a long output completely and in order, also that of the next attempt; background processes are not waited for" {
  run -3 rank 0 bash -c 'for ((i = 0; i < 20000; i++)); do echo "$$i"; echo "$$i" >&2; done; exit 3'
  attempt=$task/attempt_1
  mkdir -- "$attempt"
  command::write "$task/command" bash -c 'sleep 600 & echo "$$!" >"$$1"; echo left' shell "$BATS_TEST_TMPDIR/left"
  RANK=0 bash "$checkout/hpc/job/rank.sh" "$checkout" "$attempt" >/dev/null 3>&- 4>&-
  kill "$(<"$BATS_TEST_TMPDIR/left")"
  cmp <(printf '%s\n' "${lines[@]:1:40000}") <(seq 0 19999 | sed p)
  cmp <(sed -n '3,40002p' "$task/rank_0.txt") <(seq 0 19999 | sed p)
  [[ $(tail -n 3 "$task/rank_0.txt") == '== attempt 1'*$'\nleft' ]]
}

@test "a writer that is killed with the program: the status is recorded and printed" {
  run -137 rank 4 bash -c 'pkill -KILL -P "$$PPID" tee; kill -KILL "$$$$"'
  [[ $(<"$attempt/failed_rank") == *' 137' && $output == *'rank 4 on '*' failed first: exit status 137' ]]
  [[ -z $(find "$attempt" -name 'failed_rank.*') ]]
}

@test "a file that cannot be written does not fail the job" {
  mkdir -- "$task/rank_0.txt"
  run -0 rank 0 echo here
  [[ ${lines[-1]} == here ]]
}

@test "each rank of a node gets its own MIG slice, because CUDA would show the first one to all" {
  export CUDA_VISIBLE_DEVICES=MIG-a,MIG-b,MIG-c
  LOCAL_WORLD_SIZE=3 LOCAL_RANK=2 run -0 rank 2 printenv CUDA_VISIBLE_DEVICES
  [[ ${lines[0]} == *'GPUs MIG-c' && ${lines[1]} == MIG-c ]]
  # A user's own launcher divides them itself.
  LOCAL_WORLD_SIZE=1 run -0 rank 0 printenv CUDA_VISIBLE_DEVICES
  [[ ${lines[1]} == MIG-a,MIG-b,MIG-c ]]
  # Every rank sees whole GPUs and chooses one by its local rank.
  CUDA_VISIBLE_DEVICES=0,1 LOCAL_WORLD_SIZE=2 LOCAL_RANK=1 run -0 rank 1 printenv CUDA_VISIBLE_DEVICES
  [[ ${lines[1]} == 0,1 ]]
}

@test "AMD's GPUs are shown, too" {
  unset CUDA_VISIBLE_DEVICES
  ROCR_VISIBLE_DEVICES=4,5 run -0 rank 0 true
  [[ $output == *'GPUs 4,5' ]]
}

@test "without GPUs it says none" {
  unset CUDA_VISIBLE_DEVICES
  run -0 rank 0 true
  [[ $output == *'GPUs none' ]]
}

@test "the command's status is the rank's, and is recorded with the rank" {
  local status_given
  for status_given in 1 3 127 255; do
    rm -f -- "$attempt/failed_rank"
    run -"$status_given" rank 5 sh -c "exit $status_given"
    [[ $(<"$attempt/failed_rank") == "5 $(uname -n) $status_given" ]]
    [[ $output == *"rank 5 on $(uname -n) failed first: exit status $status_given" ]]
  done
}

@test "a command that has saved and wants a restart, 75: it is recorded, and is success for the launcher" {
  run -0 rank 5 sh -c 'exit 75'
  [[ $(<"$attempt/failed_rank") == "5 $(uname -n) 75" ]]
  [[ $output != *failed* ]]
}

@test "75 that cannot be recorded: the launcher gets 75" {
  command::write "$task/command" sh -c 'exit 75'
  rmdir -- "$attempt"
  RANK=5 run -75 bash "$checkout/hpc/job/rank.sh" "$checkout" "$attempt" 3>&-
  [[ $output == *'its exit status 75 cannot be written into'* ]]
}

@test "without hard links, and without any links" {
  mkdir -- "$BATS_TEST_TMPDIR/stubs"
  printf '#!/bin/sh\nexit 1\n' >"$BATS_TEST_TMPDIR/stubs/ln"
  chmod +x -- "$BATS_TEST_TMPDIR/stubs/ln"
  PATH=$BATS_TEST_TMPDIR/stubs:$PATH
  run -0 rank 1 sh -c 'exit 75'
  run -3 rank 2 sh -c 'exit 3'
  [[ $(<"$attempt/failed_rank") == "1 $(uname -n) 75" ]]
  [[ $(ls "$attempt") == failed_rank ]]
}

@test "a command that a signal ends has the status 128 plus the signal's number" {
  run -137 rank 0 sh -c 'kill -KILL $$$$'
  [[ $(<"$attempt/failed_rank") == *' 137' ]]
}

@test "a command that does not exist" {
  run -127 rank 0 no-such-program
  [[ $output == *no-such-program* ]]
  [[ $(<"$attempt/failed_rank") == *' 127' ]]
}

@test "a variable that is not set ends the rank before the program starts" {
  run -2 rank 0 touch '${NOT_SET_ANYWHERE}' "$BATS_TEST_TMPDIR/started"
  [[ $output == *'the command uses ${NOT_SET_ANYWHERE}, and NOT_SET_ANYWHERE is not set on'* ]]
  [[ ! -e $BATS_TEST_TMPDIR/started && $(<"$attempt/failed_rank") == *' 2' ]]
}

@test "the first rank that fails is recorded, not those that fail because of it" {
  run -3 rank 1 sh -c 'exit 3'
  run -143 rank 0 sh -c 'kill -TERM $$$$'
  [[ $(<"$attempt/failed_rank") == "1 $(uname -n) 3" ]]
  [[ $output != *'failed first'* ]]
  [[ -z $(find "$attempt" -name 'failed_rank.*') ]]
}

@test "of many ranks that fail at once one is recorded, completely" {
  local -a ranks=()
  local number messages=$BATS_TEST_TMPDIR/messages
  command::write "$task/command" sh -c 'exit 4'
  for number in {0..15}; do
    RANK=$number bash "$checkout/hpc/job/rank.sh" "$checkout" "$attempt" >>"$messages" 2>&1 3>&- &
    ranks+=($!)
  done
  for number in "${ranks[@]}"; do
    wait_status "$number"
    [[ $status == 4 ]]
  done
  [[ $(<"$attempt/failed_rank") =~ ^([0-9]+)\ [^\ ]+\ 4$ ]]
  [[ $(grep -c 'failed first' "$messages") == 1 ]]
  grep -q "rank ${BASH_REMATCH[1]} on .* failed first" "$messages"
}

@test "a signal to all processes of the rank reaches the program, whose status counts" {
  local process signal
  command::write "$task/command" bash -c 'trap "sleep 0.2; exit 7" TERM USR1; : >"$$1"; while :; do sleep 0.05; done' \
    shell "$BATS_TEST_TMPDIR/ready"
  for signal in TERM USR1; do
    rm -f -- "$BATS_TEST_TMPDIR/ready" "$attempt/failed_rank"
    RANK=0 setsid bash "$checkout/hpc/job/rank.sh" "$checkout" "$attempt" 3>&- &
    process=$!
    wait_until 10 test -e "$BATS_TEST_TMPDIR/ready"
    kill -s "$signal" -- "-$process"
    wait_status "$process"
    [[ $status == 7 ]]
    [[ $(<"$attempt/failed_rank") == *' 7' ]]
  done
}
