#!/usr/bin/env bats
# hpc/adopt.sh with a small kit: what it puts into a project, and how an upgrade treats files that the user has changed.

source "$BATS_TEST_DIRNAME/../helpers.bash"

declare -ga experiment_lengths experiment_words # of experiments_file.sh

setup() {
  kit=$BATS_TEST_TMPDIR/'a kit'
  program=$BATS_TEST_TMPDIR/'it'\''s "mine" $(touch canary)'
  mkdir -p -- "$kit"/hpc/{lib,adopt,job/shims,clusters,old} "$kit"/{venv,singularity,train,tests} "$program"
  cp -- "$checkout/hpc/adopt.sh" "$kit/hpc/"
  cp -- "$checkout"/hpc/lib/{common,slurm,launchers,line}.sh "$kit/hpc/lib/"
  cp -- "$checkout"/hpc/adopt/*.{sh,py} "$kit/hpc/adopt/"
  local file
  for file in hpc/job/batch.sh hpc/job/sweep_trial.sh hpc/clusters/plai.sh hpc/old/one.sh hpc/old/two.sh venv/requirements.txt \
    singularity/run.sh train/loop.py tests/test.sh README.md hpc/README.md LICENSE; do
    printf 'version 1 of %s\n' "$file" >"$kit/$file"
  done
  chmod 755 -- "$kit/hpc/job/sweep_trial.sh"
  ln -s ../sweep_trial.sh "$kit/hpc/job/shims/python"
  printf 'print("mine")\n' >"$program/run me.py"
}

adopt() {
  bash "$kit/hpc/adopt.sh" "$@"
}

# files [FOLDER]   Prints the files of the program's folder with their contents, and links with their targets, except the manifest.
files() {
  (
    cd -- "${1:-$program}" || exit
    find . -type f ! -name .installed ! -path './.git/*' -printf '%P %m ' -exec sha256sum {} \; -o -type l -printf '%P -> %l\n' | LC_ALL=C sort
  )
}

# has FILE TEXT   FILE of the program must have this text.
has() {
  [[ $(<"$program/$1") == "$2" ]]
}

# says PATTERN... -- ARGUMENT...   adopt.sh must succeed and print one line for each pattern, and no others.
says() {
  local -a patterns=()
  local pattern
  while [[ $1 != -- ]]; do
    patterns+=("$1")
    shift
  done
  run --separate-stderr adopt "${@:2}"
  for pattern in "${patterns[@]}"; do
    if ! grep -qxE -- "$pattern" <<<"$output"; then
      printf 'status %s, and no line %s in:\n%s\n%s\n' "$status" "$pattern" "$output" "$stderr" >&2
      return 1
    fi
  done
  [[ $status == 0 && ${#lines[@]} == "${#patterns[@]}" ]]
}

# upstream FILE   Changes FILE in the kit, as a second version of it.
upstream() {
  printf 'version 2 of %s\n' "$1" >"$kit/$1"
}

@test "the first time: the parts with their pages, and a configuration; not the kit's README and tests, and no file that exists" {
  adopt "$program" >"$BATS_TEST_TMPDIR/said"
  [[ $(cd -- "$program" && find . ! -type d | LC_ALL=C sort | paste -sd ' ') == './.gitignore ./experiment_configurations.txt ./hpc/.installed ./hpc/LICENSE ./hpc/README.md ./hpc/clusters/plai.sh ./hpc/job/batch.sh ./hpc/job/shims/python ./hpc/job/sweep_trial.sh ./hpc/lib/common.sh ./hpc/lib/launchers.sh ./hpc/lib/line.sh ./hpc/lib/slurm.sh ./hpc/old/one.sh ./hpc/old/two.sh ./run me.py ./singularity/run.sh ./train/loop.py ./venv/requirements.txt' ]]
  [[ $(stat --format=%a -- "$program/hpc/job/sweep_trial.sh") == 755 && $(readlink -- "$program/hpc/job/shims/python") == ../sweep_trial.sh ]]
  has 'run me.py' 'print("mine")'
  # It prints the number of new files for a folder that has many.
  diff "$BATS_TEST_TMPDIR/said" - <<'SAID'
new       hpc/: 12 files
new       singularity/run.sh
new       train/loop.py
new       venv/requirements.txt
new       experiment_configurations.txt: no command yet
added     .gitignore: /.venv/ /.env __pycache__/
SAID
  run ! grep -v '^#' "$program/experiment_configurations.txt"
}

@test "the same call twice changes nothing" {
  adopt "$program" >/dev/null
  find "$program" ! -type d -printf '%P %T@ %i\n' | sort >"$BATS_TEST_TMPDIR/before"
  says -- "$program"
  [[ $stderr == '0 files written, 0 removed, in '* ]]
  diff "$BATS_TEST_TMPDIR/before" <(find "$program" ! -type d -printf '%P %T@ %i\n' | sort)
}

@test "an upgrade replaces unchanged files and keeps changed ones; the new version lies beside a changed one" {
  adopt "$program" >/dev/null
  echo mine >"$program/venv/requirements.txt" # changed here and upstream
  echo mine >"$program/hpc/clusters/plai.sh"  # changed only here
  echo mine >"$program/hpc/clusters/own.sh"   # only the user has it
  echo mine >"$program/hpc/old/one.sh"        # changed here, gone upstream
  echo mine >"$program/experiment_configurations.txt"
  rm -- "$program/singularity/run.sh" # lost, but its folder exists
  upstream venv/requirements.txt
  upstream hpc/job/batch.sh
  upstream hpc/README.md
  rm -r -- "$kit/hpc/old"
  ln -sfn ../batch.sh "$kit/hpc/job/shims/python"
  echo new >"$kit/hpc/new.sh"
  echo more >"$kit/train/more.py"
  local before
  before=$(files)
  says 'upgraded  hpc/job/batch.sh' 'upgraded  hpc/README.md' 'upgraded  hpc/job/shims/python' 'new       hpc/new.sh' 'new       train/more.py' \
    'new       singularity/run.sh' 'kept      venv/requirements.txt: .* is venv/requirements.txt.new' 'removed   hpc/old/two.sh: the kit does not have it any more' \
    'kept      hpc/old/one.sh: you have changed it; the kit does not have it any more' -- --dry-run "$program"
  [[ $(files) == "$before" ]]
  adopt "$program" >/dev/null
  has hpc/job/batch.sh 'version 2 of hpc/job/batch.sh'
  has hpc/README.md 'version 2 of hpc/README.md'
  has venv/requirements.txt mine
  has venv/requirements.txt.new 'version 2 of venv/requirements.txt'
  has hpc/clusters/plai.sh mine
  has hpc/clusters/own.sh mine
  has hpc/old/one.sh mine
  has experiment_configurations.txt mine
  has singularity/run.sh 'version 1 of singularity/run.sh'
  [[ ! -e $program/hpc/old/two.sh && ! -e $program/hpc/clusters/plai.sh.new && $(readlink -- "$program/hpc/job/shims/python") == ../batch.sh ]]
  says -- "$program"
}

@test "the new version beside a changed file: written once; removed when the user has taken it over; kept when the user changed it" {
  adopt "$program" >/dev/null
  echo mine >"$program/hpc/job/batch.sh"
  echo mine >"$program/hpc/clusters/plai.sh"
  echo mine >"$program/venv/requirements.txt"
  upstream hpc/job/batch.sh
  upstream hpc/clusters/plai.sh
  upstream venv/requirements.txt
  adopt "$program" >/dev/null
  cp -- "$program/hpc/job/batch.sh.new" "$program/hpc/job/batch.sh"
  rm -- "$program/hpc/clusters/plai.sh.new"
  echo notes >>"$program/venv/requirements.txt.new"
  says 'removed   hpc/job/batch.sh.new: you have that version now' -- "$program"
  [[ ! -e $program/hpc/clusters/plai.sh.new ]]
  printf 'version 3\n' | tee "$kit/hpc/job/batch.sh" "$kit/hpc/clusters/plai.sh" >"$kit/venv/requirements.txt"
  says 'upgraded  hpc/job/batch.sh' 'kept      hpc/clusters/plai.sh: .*' 'kept      venv/requirements.txt and venv/requirements.txt.new: .*' -- "$program"
  has hpc/clusters/plai.sh.new 'version 3'
  has venv/requirements.txt.new $'version 2 of venv/requirements.txt\nnotes'
  rm -- "$program/venv/requirements.txt.new"
  says 'kept      venv/requirements.txt: .*' -- "$program"
  has venv/requirements.txt.new 'version 3'
  has venv/requirements.txt mine
}

@test "existing files that the kit did not install are kept" {
  mkdir -p -- "$program/hpc/job" "$program/venv"
  echo mine >"$program/hpc/job/batch.sh"
  cp -- "$kit/venv/requirements.txt" "$program/venv/"
  ln -s elsewhere "$program/hpc/job/sweep_trial.sh"
  adopt "$program" >"$BATS_TEST_TMPDIR/said"
  has hpc/job/batch.sh mine
  has hpc/job/batch.sh.new 'version 1 of hpc/job/batch.sh'
  [[ $(readlink -- "$program/hpc/job/sweep_trial.sh") == elsewhere && -x $program/hpc/job/sweep_trial.sh.new ]]
  run ! grep requirements "$BATS_TEST_TMPDIR/said"
  says -- "$program"
}

@test "train/ hides no train.py and does not mix with an existing folder: it is hpc_train/ there, or the name of --package; a removed part stays away" {
  adopt "$program" >/dev/null
  rm -r -- "$program/singularity" "$program/train"
  upstream singularity/run.sh
  says 'left out  train/: you have removed it' 'left out  singularity/: you have removed it' -- "$program"
  says 'left out  train/: you have removed it' 'left out  singularity/: you have removed it' -- "$program"
  [[ ! -e $program/singularity && ! -e $program/train ]]

  # If the user has a folder train, the package has another name.
  mkdir -- "$BATS_TEST_TMPDIR/b" "$BATS_TEST_TMPDIR/c" "$BATS_TEST_TMPDIR/c/train"
  touch -- "$BATS_TEST_TMPDIR"/{b/train.py,c/train/loop.py}
  adopt "$BATS_TEST_TMPDIR/b" >"$BATS_TEST_TMPDIR/said"
  grep -q '^named     train/ is hpc_train/ here, beside your train: read "from hpc_train.checkpoint import …"' "$BATS_TEST_TMPDIR/said"
  [[ ! -e $BATS_TEST_TMPDIR/b/train && $(grep -v '^#' "$BATS_TEST_TMPDIR/b/experiment_configurations.txt") == 'python train.py' ]]
  diff -r "$kit/train" "$BATS_TEST_TMPDIR/b/hpc_train"
  adopt "$BATS_TEST_TMPDIR/c" >"$BATS_TEST_TMPDIR/said"
  [[ $(find "$BATS_TEST_TMPDIR/c/train" -type f -size -1) == */loop.py && -e $BATS_TEST_TMPDIR/c/hpc_train/loop.py ]]
  # An upgrade keeps that name, whatever the user has added since, and never changes it.
  upstream train/loop.py
  says 'upgraded  hpc_train/loop.py' -- "$BATS_TEST_TMPDIR/b"
  fails_with 2 'the package is here as hpc_train already' adopt --package other "$BATS_TEST_TMPDIR/b"
  mkdir -- "$BATS_TEST_TMPDIR/d"
  fails_with 2 'give a name that Python can import' adopt --package 'no-name' "$BATS_TEST_TMPDIR/d"
  touch -- "$BATS_TEST_TMPDIR/d/taken.py"
  fails_with 2 'has a taken of its own' adopt --package taken "$BATS_TEST_TMPDIR/d"
  adopt --package survival "$BATS_TEST_TMPDIR/d" >/dev/null
  [[ -e $BATS_TEST_TMPDIR/d/survival/loop.py && ! -e $BATS_TEST_TMPDIR/d/train ]]
}

@test "the template of a sweep starts the kit's package by its name in the project" {
  cp -- "$checkout/hpc/sweeper.yml" "$kit/hpc/"
  touch -- "$program/train.py"
  adopt "$program" >/dev/null
  diff <(sed 's/^  - train$/  - hpc_train/' "$checkout/hpc/sweeper.yml") "$program/hpc/sweeper.yml"
  run ! cmp --quiet "$checkout/hpc/sweeper.yml" "$program/hpc/sweeper.yml"
  says -- "$program"
  # A kit that did not change it has installed it.
  cp -- "$kit/hpc/sweeper.yml" "$program/hpc/"
  sed -i "s/^[0-9a-f]*  hpc\/sweeper.yml/$(sha256sum <"$kit/hpc/sweeper.yml" | cut -c 1-64)  hpc\/sweeper.yml/" "$program/hpc/.installed"
  says 'upgraded  hpc/sweeper.yml' -- "$program"
  echo '# mine' >>"$program/hpc/sweeper.yml"
  echo '# new' >>"$kit/hpc/sweeper.yml"
  says 'kept      hpc/sweeper.yml: .*' -- "$program"
  grep -qx '  - hpc_train' "$program/hpc/sweeper.yml.new"
  mkdir -- "$BATS_TEST_TMPDIR/b"
  adopt "$BATS_TEST_TMPDIR/b" >/dev/null
  cmp "$kit/hpc/sweeper.yml" "$BATS_TEST_TMPDIR/b/hpc/sweeper.yml"
}

@test "the kit's package works under another name, beside a train.py" {
  mkdir -- "$BATS_TEST_TMPDIR/b"
  rm -r -- "$kit/train"
  cp -R -- "$checkout/train" "$kit/"
  echo 'raise SystemExit("the wrong train")' >"$BATS_TEST_TMPDIR/b/train.py"
  adopt "$BATS_TEST_TMPDIR/b" >/dev/null
  # Import all of its modules that need no other package. All must have its name, and none the name train.
  run grep -rnE --include='*.py' '^ *(from|import) train\b' "$BATS_TEST_TMPDIR/b/hpc_train"
  [[ $status == 1 ]]
  local python
  for python in "$checkout"/.venv/*/bin/python; do
    if "$python" -c 'import torch' 2>/dev/null; then break; fi
  done
  cd -- "$BATS_TEST_TMPDIR/b"
  "$python" -c '
import sys
from hpc_train.checkpoint import Checkpoints
from hpc_train.environment import JobEnvironment
from hpc_train.interruption import NOT_FINISHED, Interruption
from hpc_train.sampler import ResumableSampler
assert "train" not in sys.modules and NOT_FINISHED == 75'
  run -2 "$python" -m hpc_train no_such_task
  [[ $output == "python -m hpc_train: no task 'no_such_task'; the tasks are: "* ]]
}

@test "the command as users have it: a launcher is removed, what cannot run is refused, a launcher with the job's own variables stays" {
  local -r folder=$BATS_TEST_TMPDIR/b
  mkdir -- "$folder"
  touch -- "$folder/x.py"
  fails_with 2 "error: the command: there is no 'missing.py' in " adopt "$folder" -- python missing.py
  fails_with 2 "error: the command: 'export' is the shell's" adopt "$folder" -- export A=1
  fails_with 2 "error: the command: 'cd' is the shell's.*--chdir src" adopt "$folder" -- cd src '&&' python x.py
  fails_with 2 "error: the command: '>' has an operator" adopt "$folder" -- python x.py '>' log
  fails_with 2 "accelerate must stay: give -W node" adopt "$folder" -- accelerate launch --use_fsdp x.py
  [[ $(ls -- "$folder") == x.py ]]
  run -0 --separate-stderr adopt "$folder" -- torchrun --standalone --nproc_per_node=4 x.py 50
  [[ $stderr == *'note: left out of the command, as the job starts the processes itself:  torchrun --standalone --nproc_per_node=4'* ]]
  [[ $(grep -v '^#' "$folder/experiment_configurations.txt") == 'python -u x.py 50' ]]
  run -0 --separate-stderr adopt "$folder" -- torchrun --standalone --nproc_per_node=4 x.py 50 # again
  rm -r -- "$folder"/{hpc,experiment_configurations.txt}
  run -0 --separate-stderr adopt "$folder" -- torchrun '--nnodes=${NNODES}' x.py
  [[ $stderr == *'job_submitter.sh --gpus 2 --num-nodes 2 -W node' ]]
  [[ $(grep -v '^#' "$folder/experiment_configurations.txt") == 'torchrun "--nnodes=${NNODES}" x.py' ]]
}

@test "it checks whether the program, or a module that it imports, can run as several processes, and proposes one or more" {
  local wanted program wrong=0
  local -i number=0
  while IFS='|' read -r wanted program; do
    number+=1
    mkdir -- "$BATS_TEST_TMPDIR/p$number"
    printf '%b\n' "$program" >"$BATS_TEST_TMPDIR/p$number/x.py"
    printf 'import torch.distributed as dist\ndef begin():\n    dist.init_process_group("gloo")\n' >"$BATS_TEST_TMPDIR/p$number/helper.py"
    run -0 --separate-stderr adopt "$BATS_TEST_TMPDIR/p$number" -- python x.py
    if [[ $stderr != *"/hpc/job_submitter.sh $wanted" ]]; then echo "$program: $stderr" >&2 && wrong=1; fi
  done <<'PROGRAMS'
--gpus 1|import torch\nmodel = torch.nn.Linear(1, 1)
--gpus 1|text = "init_process_group()"  # DistributedDataParallel(
--gpus 1|import lightning as L\nL.Trainer(max_epochs=3)
--gpus 1|import torch.distributed
--gpus 2 --num-nodes 2 -W lightning|from lightning.pytorch import Trainer\nTrainer(num_nodes=2)
--gpus 2 --num-nodes 2|import torch.distributed as dist\ndist.init_process_group()
--gpus 2 --num-nodes 2|import helper\nhelper.begin()
--gpus 2 --num-nodes 2|from accelerate import Accelerator\nAccelerator()
--gpus 2 --num-nodes 2|from torch.nn.parallel import DistributedDataParallel as DDP\nDDP(None)
--gpus 2 --num-nodes 2|from torch.distributed.fsdp import fully_shard\nfully_shard(None)
--gpus 2 --num-nodes 2|from transformers import Trainer\nTrainer(model=None)
--gpus 2 --num-nodes 2|from train import distributed\nwith distributed.process_group(1, 2): pass
--gpus 1|from train.checkpoint import Checkpoints
--gpus 1|import torch.nn as nn\nnn.parallel.data_parallel(None, None)
--gpus 1|from own import Trainer\ndef load():\n    from transformers import GPT2LMHeadModel\nTrainer(1)
--gpus 1|from lightning.fabric import Fabric\nfrom lightning.fabric.accelerators import Accelerator\nFabric(devices=1)
--gpus 2 --num-nodes 2 -W lightning|from lightning.fabric import Fabric\nFabric(num_nodes=2)
--gpus 2 --num-nodes 2|import transformers\ntransformers.Trainer(model=None)
--gpus 2 --num-nodes 2|not python (
PROGRAMS
  ((wrong == 0 && number == 19))
}

@test "the command keeps each word as it was given, and an existing configuration is never overwritten" {
  local -a words=(python 'run me.py' --note 'say "two" \n words; $(touch canary) `x` #' --lr=1e-3 --empty '' --data '{nodes} é' --betas '0.9,0.999' "it's")
  adopt "$program" -- "${words[@]}" >/dev/null
  use_libraries common checks options experiments_file
  experiments_file::read "$program/experiment_configurations.txt"
  # In an argv file, $$ is a literal dollar.
  local wanted=${words[*]@Q}
  wanted=$(sed 's/\$(/$&/; s/{nodes}/${NNODES}/' <<<"$wanted")
  [[ ${#experiment_lengths[@]} == 1 && ${experiment_words[*]@Q} == "$wanted" ]]
  says -- "$program" -- "${words[@]}"
  fails_with 2 'experiment_configurations.txt. is there, without this command' adopt "$program" -- python 'run me.py' other
  fails_with 2 'control characters' adopt "$program" -- $'a\nb'
  # A variable of the job is not replaced.
  mkdir -- "$BATS_TEST_TMPDIR/b"
  touch -- "$BATS_TEST_TMPDIR/b/x.py"
  adopt "$BATS_TEST_TMPDIR/b" -- python x.py '--data=${SLURM_TMPDIR}/d' >/dev/null
  [[ $(grep -v '^#' "$BATS_TEST_TMPDIR/b/experiment_configurations.txt") == 'python x.py "--data=${SLURM_TMPDIR}/d"' ]]
}

@test "impossible requests end with 2, or with 1 if the project cannot be written, and nothing is written" {
  fails_with 2 'say where' adopt
  fails_with 2 "'/none/such' is not a folder" adopt /none/such
  fails_with 2 "unknown option '--over'" adopt --over "$program"
  fails_with 2 'one folder at a time' adopt "$program" other
  fails_with 2 'the command is missing' adopt "$program" --
  fails_with 2 'is the kit itself, or in it' adopt "$kit/tests"
  ln -s -- "$kit" "$BATS_TEST_TMPDIR/link"
  fails_with 2 'is the kit itself, or in it' adopt "$BATS_TEST_TMPDIR/link/train"
  ln -s -- "$BATS_TEST_TMPDIR" "$program/venv"
  fails_with 2 "venv' is a link or a file" adopt "$program"
  rm -- "$program/venv"
  touch -- "$program/hpc"
  fails_with 2 "hpc' is a link or a file" adopt "$program"
  rm -- "$program/hpc"
  (
    exec {lock}<"$program"
    flock "$lock"
    fails_with 1 'another adopt.sh' adopt "$program"
  )
  [[ $(ls -A -- "$program") == 'run me.py' ]]
  # A file system without locks must not look like a second adopt.sh.
  mkdir -- "$BATS_TEST_TMPDIR/stubs"
  printf '#!/bin/sh\nexit 69\n' >"$BATS_TEST_TMPDIR/stubs/flock"
  chmod +x -- "$BATS_TEST_TMPDIR/stubs/flock"
  cp -R -- "$program" "$BATS_TEST_TMPDIR/without"
  PATH=$BATS_TEST_TMPDIR/stubs:$PATH adopt "$BATS_TEST_TMPDIR/without"
  [[ -e $BATS_TEST_TMPDIR/without/hpc/job/batch.sh ]]
  if ((EUID == 0)); then
    # Even root cannot write here.
    if mount -t tmpfs -o ro tmpfs "$program" 2>/dev/null; then
      fails_with 1 'cannot be written' adopt "$program"
      umount -- "$program"
    fi
  else
    chmod 555 -- "$program"
    fails_with 1 'cannot be written' adopt "$program"
    chmod 755 -- "$program"
  fi
  [[ $(ls -A -- "$program") == 'run me.py' ]]
}

# broken NAME N WHAT   Puts a program NAME first in PATH that does WHAT at its N-th call.
broken() {
  mkdir -p -- "$BATS_TEST_TMPDIR/broken"
  cat >"$BATS_TEST_TMPDIR/broken/$1" <<STUB
#!/bin/bash
echo >>"\$0.calls"
if ((\$(wc -l <"\$0.calls") == $2)); then $3; fi
exec /bin/$1 "\$@"
STUB
  chmod +x -- "$BATS_TEST_TMPDIR/broken/$1"
}

@test "a full disk leaves the project unchanged; an adopt.sh that was killed is completed by the next one" {
  local before
  before=$(files)
  broken cp 5 'exit 1'
  run env PATH="$BATS_TEST_TMPDIR/broken:$PATH" bash "$kit/hpc/adopt.sh" "$program"
  [[ $status != 0 && $(files) == "$before" && $(ls -A -- "$program") == 'run me.py' ]]
  rm -- "$BATS_TEST_TMPDIR/broken/cp"

  broken mv 4 'kill -s KILL "$PPID"; sleep 1'
  run env PATH="$BATS_TEST_TMPDIR/broken:$PATH" bash "$kit/hpc/adopt.sh" "$program"
  [[ $status == 137 && -d $program/hpc && ! -e $program/hpc/.installed ]]
  run -0 --separate-stderr adopt "$program"
  [[ $stderr == *$'\nnext: look at '* ]]
  mkdir -- "$BATS_TEST_TMPDIR/whole"
  cp -- "$program/run me.py" "$BATS_TEST_TMPDIR/whole/"
  adopt "$BATS_TEST_TMPDIR/whole" >/dev/null
  [[ $(files) == "$(files "$BATS_TEST_TMPDIR/whole")" ]]
  [[ -z $(find "$program" -name '.adopt.*') ]]

  # The same for an upgrade: no file is considered the user's.
  upstream hpc/job/batch.sh
  upstream hpc/job/sweep_trial.sh
  upstream venv/requirements.txt
  rm -- "$BATS_TEST_TMPDIR/broken/mv.calls"
  run env PATH="$BATS_TEST_TMPDIR/broken:$PATH" bash "$kit/hpc/adopt.sh" "$program"
  adopt "$program" >/dev/null
  adopt "$BATS_TEST_TMPDIR/whole" >/dev/null
  [[ $(files) == "$(files "$BATS_TEST_TMPDIR/whole")" ]]
  says -- "$program"
}

@test "a kit in a repository that does not track it, and a kit without one of its parts: no file is considered removed" {
  adopt "$program" >/dev/null
  git -C "$BATS_TEST_TMPDIR" init --quiet
  printf '*\n' >"$BATS_TEST_TMPDIR/.gitignore"
  says -- "$program"
  mv -- "$kit/hpc/job/batch.sh" "$BATS_TEST_TMPDIR/"
  fails_with 1 'is not a whole kit' adopt "$program"
  has hpc/job/batch.sh 'version 1 of hpc/job/batch.sh'
}

@test "git ignores what the kit makes, by lines that are added once; also before there is a repository" {
  printf '*.pt\n.env' >"$program/.gitignore"
  adopt "$program" >/dev/null
  has .gitignore $'*.pt\n.env\n/.venv/\n__pycache__/'
  says -- "$program"
  touch -- "$program/.env"
  git -C "$program" init --quiet
  says -- "$program"
  [[ -z $(git -C "$program" status --porcelain -- .env) ]]
  printf '*.pt\n.venv\n__pycache__' >"$program/.gitignore"
  says 'added     .gitignore: /.env' -- "$program"
  has .gitignore $'*.pt\n.venv\n__pycache__\n/.env'
  says -- "$program"
  # A pattern for folders does not match a link to a folder.
  ln -s -- "$BATS_TEST_TMPDIR" "$program/.venv"
  printf '/.env\n/.venv/\n__pycache__/\n' >"$program/.gitignore"
  says 'added     .gitignore: /.venv' -- "$program"
  says -- "$program"
  [[ $stderr != *fatal* && -z $(git -C "$program" status --porcelain -- .venv) ]]
  echo 'venv/' >>"$program/.gitignore"
  says -- "$program"
  [[ $stderr == *'your .gitignore leaves out files of the kit, such as venv/run.sh'* ]]
}

# old_layout   Makes the program's kit one from before hpc/job/, as that kit's own adopt.sh has left it; the new kit has the files in other
# places. squeue prints $SQUEUE; without that variable Slurm does not answer.
old_layout() {
  local file
  mkdir -p -- "$kit"/hpc/{job/lib,job_submitter,experiments/reports,pocket_cluster,sweep} "$program"/hpc/{lib,pocket,reports,shims,clusters}
  for file in hpc/sweep.sh hpc/sweep/sweep.py hpc/job_submitter/{request,option_table}.sh hpc/job/lib/sweep.sh hpc/pocket_cluster/up.sh \
    hpc/experiments/{report.py,reports/page.py} singularity/container_mounts.sh; do
    printf 'version 2 of %s\n' "$file" >"$kit/$file"
  done
  for file in hpc/batch.sh hpc/sweep.sh hpc/sweep_trial.sh hpc/report.py hpc/reports/page.py hpc/lib/{common,request,submit_options,sweep,container_mounts,gone}.sh \
    hpc/pocket/up.sh hpc/clusters/plai.sh; do
    printf 'version 1 of %s\n' "$file" >"$program/$file"
  done
  ln -s ../sweep_trial.sh "$program/hpc/shims/python"
  mkdir -- "$program"/hpc/{,reports/}__pycache__
  touch -- "$program"/hpc/__pycache__/report.cpython-311.pyc "$program"/hpc/reports/__pycache__/page.cpython-36.opt-1.pyc
  {
    echo '# hpc kit v1; hpc/adopt.sh tells by these hashes what you have changed.'
    (cd -- "$program" && find hpc -type f ! -path '*__pycache__*' ! -name .installed -exec sha256sum {} +)
    echo 'link:../sweep_trial.sh  hpc/shims/python'
  } >"$BATS_TEST_TMPDIR/manifest"
  cp -- "$BATS_TEST_TMPDIR/manifest" "$program/hpc/.installed"
  mkdir -p -- "$BATS_TEST_TMPDIR/slurm"
  export SQUEUE=$BATS_TEST_TMPDIR/slurm/queue
  printf '#!/bin/sh\ncat -- "$SQUEUE" 2>/dev/null || { echo "squeue: error: Invalid user" >&2; exit 1; }\n' >"$BATS_TEST_TMPDIR/slurm/squeue"
  chmod +x -- "$BATS_TEST_TMPDIR/slurm/squeue"
  PATH=$BATS_TEST_TMPDIR/slurm:$PATH
  : >"$SQUEUE"
}

# has_new_layout [FILE...]   hpc/ must have the files of the new kit and FILEs, and no others.
has_new_layout() {
  local found wanted
  found=$(cd -- "$program/hpc" && find . -mindepth 1 ! -name .installed ! -name LICENSE -printf '%P\n' | LC_ALL=C sort)
  wanted=$(cd -- "$kit/hpc" && find . -mindepth 1 ! -path './adopt*' -printf '%P\n' | cat - <(printf '%s\n' "$@") | grep . | LC_ALL=C sort)
  diff <(echo "$wanted") <(echo "$found") >&2
}

# said LINE   The output of the last adopt.sh, in $BATS_TEST_TMPDIR/said, must have this line.
said() {
  if ! grep -qxF -- "$1" "$BATS_TEST_TMPDIR/said"; then
    printf 'no line %s in:\n%s\n' "$1" "$(<"$BATS_TEST_TMPDIR/said")" >&2
    return 1
  fi
}

@test "a kit of the old layout: its files and empty folders are removed; --dry-run reports the same and changes nothing" {
  old_layout
  local before
  before=$(files)
  adopt --dry-run "$program" >"$BATS_TEST_TMPDIR/dry"
  [[ $(files) == "$before" ]]
  adopt "$program" >"$BATS_TEST_TMPDIR/said"
  diff "$BATS_TEST_TMPDIR/dry" "$BATS_TEST_TMPDIR/said"
  said 'removed   hpc/batch.sh: it is hpc/job/batch.sh now'
  said 'removed   hpc/lib/sweep.sh: it is hpc/job/lib/sweep.sh now'
  said 'removed   hpc/lib/submit_options.sh: it is hpc/job_submitter/option_table.sh now'
  said 'removed   hpc/lib/container_mounts.sh: it is singularity/container_mounts.sh now'
  said 'removed   hpc/lib/gone.sh: the kit does not have it any more'
  said 'removed   hpc/shims/python: it is hpc/job/shims/python now'
  said 'upgraded  hpc/sweep.sh'
  [[ $(grep -c ^removed "$BATS_TEST_TMPDIR/said") == 12 ]] && run ! grep ^kept "$BATS_TEST_TMPDIR/said"
  has_new_layout
  says -- "$program"
}

@test "the old layout, changed: the file is kept and reported with its new place; the next time, with the command that removes it" {
  old_layout
  local file
  for file in hpc/batch.sh hpc/lib/{request,gone,common}.sh hpc/pocket/up.sh hpc/clusters/plai.sh; do echo mine >"$program/$file"; done
  echo mine >"$program/hpc/clusters/own.sh"
  echo mine >"$program/hpc/lib/own.sh"
  adopt "$program" >"$BATS_TEST_TMPDIR/said"
  said 'kept      hpc/batch.sh: you have changed it; it is hpc/job/batch.sh now, and this file is not used any more: carry your change over'
  said 'kept      hpc/lib/request.sh: you have changed it; it is hpc/job_submitter/request.sh now, and this file is not used any more: carry your change over'
  said 'kept      hpc/pocket/up.sh: you have changed it; it is hpc/pocket_cluster/up.sh now, and this file is not used any more: carry your change over'
  said 'kept      hpc/lib/gone.sh: you have changed it; the kit does not have it any more'
  said 'kept      hpc/lib/common.sh: it is not as the kit left it; the new version is hpc/lib/common.sh.new'
  for file in hpc/batch.sh hpc/lib/{request,gone,common,own}.sh hpc/pocket/up.sh hpc/clusters/{plai,own}.sh; do has "$file" mine; done
  has_new_layout batch.sh lib/{request,gone,own}.sh lib/common.sh.new pocket{,/up.sh} clusters/own.sh
  says -- "$program"
  [[ $stderr == *$'\nnote: this version of the kit does not use these files of an older one. '*"' && rm -- hpc/batch.sh hpc/lib/request.sh hpc/pocket/up.sh" ]]
  (source /dev/stdin <<<"${stderr#*them:}")
  has_new_layout lib/{gone,own}.sh lib/common.sh.new pocket clusters/own.sh
}

@test "the old layout, killed in the middle: the next adopt.sh completes it" {
  old_layout
  local program_with=$program what
  local -a words
  cp -R -- "$program" "$BATS_TEST_TMPDIR/whole"
  adopt "$BATS_TEST_TMPDIR/whole" >/dev/null
  for what in 'mv 5' 'mv 20' 'rm 6' 'rm 12'; do
    cp -R -- "$program_with" "$BATS_TEST_TMPDIR/${what/ /}"
    program=$BATS_TEST_TMPDIR/${what/ /}
    read -ra words <<<"$what"
    broken "${words[@]}" 'kill -s KILL "$PPID"; sleep 1'
    run env PATH="$BATS_TEST_TMPDIR/broken:$PATH" bash "$kit/hpc/adopt.sh" "$program"
    rm -r -- "$BATS_TEST_TMPDIR/broken"
    [[ $status == 137 && $(files) != "$(files "$BATS_TEST_TMPDIR/whole")" ]]
    adopt "$program" >/dev/null
    [[ $(files) == "$(files "$BATS_TEST_TMPDIR/whole")" ]]
    has_new_layout
  done
}

# commit FOLDER   Commits its hpc/ as it is, then with the old layout, then as it was.
commit() {
  local -ra git=(git -C "$1" -c user.name=a -c user.email=a@b)
  "${git[@]}" init --quiet
  "${git[@]}" add .
  "${git[@]}" commit --quiet -m 1
  cp -R -- "$program"/hpc/* "$1/hpc/"
  "${git[@]}" add .
  "${git[@]}" commit --quiet -m 2
  "${git[@]}" read-tree -u --reset HEAD^
  "${git[@]}" commit --quiet -m 3
}

@test "the old layout, copied by hand: files with content from the kit's history belong to the kit, all others are kept" {
  old_layout
  commit "$kit"
  rm -- "$program/hpc/.installed"
  local file
  for file in hpc/batch.sh hpc/lib/common.sh; do echo mine >"$program/$file"; done
  touch -- "$program/hpc/up.sh"                                       # empty is nobody's
  cp -- "$program/hpc/clusters/plai.sh" "$program/hpc/clusters/my.sh" # in use by its name
  mkdir -- "$program/train"
  touch -- "$program/train/loop.py" # no part of the kit
  adopt "$program" >"$BATS_TEST_TMPDIR/said" 2>"$BATS_TEST_TMPDIR/noted"
  said 'removed   hpc/lib/request.sh: it is hpc/job_submitter/request.sh now'
  said 'removed   hpc/shims/python: it is hpc/job/shims/python now'
  said 'upgraded  hpc/sweep.sh'
  said 'kept      hpc/lib/common.sh: it is not as the kit left it; the new version is hpc/lib/common.sh.new'
  said 'named     train/ is hpc_train/ here, beside your train: read "from hpc_train.checkpoint import …", "python -m hpc_train" in the kit'\''s pages'
  grep -q "^note: this version of the kit does not use .* && rm -- hpc/batch.sh hpc/up.sh$" "$BATS_TEST_TMPDIR/noted"
  has_new_layout batch.sh up.sh lib/common.sh.new lib/gone.sh clusters/my.sh
  has hpc/batch.sh mine
}

@test "the old layout, copied by hand, and a kit without a history: nothing is removed, one line says what can be" {
  old_layout
  # The history of a repository around the kit proves nothing.
  mkdir -- "$BATS_TEST_TMPDIR/hpc"
  commit "$BATS_TEST_TMPDIR"
  rm -- "$program/hpc/.installed"
  local before
  rm -r -- "$program"/hpc/{,reports/}__pycache__
  before=$(files)
  adopt "$program" >"$BATS_TEST_TMPDIR/said" 2>"$BATS_TEST_TMPDIR/noted"
  run ! grep -E '^(removed|upgraded)' "$BATS_TEST_TMPDIR/said"
  diff <(echo "$before") <(files) >"$BATS_TEST_TMPDIR/changes" || run ! grep '^<' "$BATS_TEST_TMPDIR/changes"
  grep -q "^note: this version of the kit does not use .* && rm -- hpc/batch.sh hpc/report.py hpc/sweep_trial.sh hpc/lib/container_mounts.sh hpc/lib/request.sh hpc/lib/submit_options.sh hpc/lib/sweep.sh hpc/pocket/up.sh hpc/reports/page.py hpc/shims/python$" "$BATS_TEST_TMPDIR/noted"
  has hpc/sweep.sh.new 'version 2 of hpc/sweep.sh'
}

# queue ID STATE SCRIPT [NAME=VALUE]...   Adds a job to the queue, and its run directory with these facts. The project is named through a
# link.
queue() {
  local -r run_directory="$BATS_TEST_TMPDIR/it's mine/hpc_outputs/run_${1%%_*}"
  local word
  mkdir -p -- "$run_directory"
  for word in project_directory="$BATS_TEST_TMPDIR/link" source_dir="$run_directory/source" "${@:4}"; do
    printf 'fact[%s]=%s\n' "${word%%=*}" "$(printf '%s' "${word#*=}" | sed "s/'/'\\\\''/g; s/.*/'&'/")"
  done >"$run_directory/facts"
  printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$run_directory" "$BATS_TEST_TMPDIR/link/hpc/$3 $run_directory" >>"$SQUEUE"
}

@test "the upgrade is refused while jobs read the old files, and names them; it works with --force, or when they have ended" {
  old_layout
  ln -s -- "$program" "$BATS_TEST_TMPDIR/link"
  queue 12 R batch.sh source_dir="$BATS_TEST_TMPDIR/link" # --no-snapshot
  queue 12 PD batch.sh source_dir="$BATS_TEST_TMPDIR/link"
  queue 9 PD pack.sh
  queue 30 R pack.sh # it has everything that it needs
  queue 31 R batch.sh
  queue 32 R batch.sh # git ignores hpc/
  printf 'data/\0hpc/\0' >"$BATS_TEST_TMPDIR/it's mine/hpc_outputs/run_32/source.tar.ignored"
  queue 33 R batch.sh project_directory="$kit" source_dir="$kit"
  queue 34 R batch.sh source_dir="$BATS_TEST_TMPDIR/link" # a newer kit's
  ln -s -- "$kit" "$BATS_TEST_TMPDIR/it's mine/hpc_outputs/run_34/kit"
  printf '40\tR\t/home/somebody\t(null)\n' >>"$SQUEUE"
  local before
  before=$(files)
  fails_with 1 "error: job 9 12 32 needs the old files in '.*\(scancel 9 12 32\).*--force" adopt "$program"
  [[ $(files) == "$before" ]]
  run -0 --separate-stderr adopt --dry-run "$program"
  [[ $stderr == 'adopt.sh: warning: job 9 12 32 needs the old files'*'nothing was written (--dry-run)' && $output == *'removed   hpc/report.py'* ]]
  [[ $(files) == "$before" ]]
  cp -R -- "$program" "$BATS_TEST_TMPDIR/forced"
  ln -sfn -- "$BATS_TEST_TMPDIR/forced" "$BATS_TEST_TMPDIR/link"
  fails_with 1 'error: job 9 12 32' adopt "$BATS_TEST_TMPDIR/forced"
  adopt --force "$BATS_TEST_TMPDIR/forced" >/dev/null
  [[ ! -e $BATS_TEST_TMPDIR/forced/hpc/batch.sh ]]
  ln -sfn -- "$program" "$BATS_TEST_TMPDIR/link"

  # A job with a snapshot reads at most batch.sh from the project, where a site forbids requeueing.
  sed -i -E '/^(12|9|32)\t/d' "$SQUEUE"
  adopt "$program" >"$BATS_TEST_TMPDIR/said"
  said 'kept      hpc/batch.sh: job 30 31 may need it to continue; run this again when it has ended'
  has_new_layout batch.sh
  says 'kept      hpc/batch.sh: job 30 31 may need .*' -- "$program"
  : >"$SQUEUE"
  says 'removed   hpc/batch.sh: it is hpc/job/batch.sh now' -- "$program"
  has_new_layout
  rm -- "$SQUEUE" # a project of the new layout asks nothing
  says -- "$program"
  [[ $stderr == '0 files written'* ]]
}

@test "jobs: if Slurm does not answer or is missing, adopt.sh says so and continues" {
  old_layout
  cp -R -- "$program" "$BATS_TEST_TMPDIR/other"
  rm -- "$SQUEUE"
  run -0 --separate-stderr adopt "$program"
  [[ $stderr == 'note: it is not known whether queued or running jobs need the old files: squeue: error: Invalid user'$'\n'* ]]
  has_new_layout
  printf '#!/bin/sh\nexec sleep 300\n' >"$BATS_TEST_TMPDIR/slurm/squeue"
  program=$BATS_TEST_TMPDIR/other
  local -r began=$SECONDS
  run -0 --separate-stderr adopt "$program"
  ((SECONDS - began < $(patience 20)))
  [[ $stderr == 'note: it is not known whether queued or running jobs need the old files: no answer for 5 s'$'\n'* ]]
  has_new_layout
}
