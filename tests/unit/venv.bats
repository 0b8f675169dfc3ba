#!/usr/bin/env bats
# The virtual environment (venv/environment.sh, create.sh and run.sh).

source "$BATS_TEST_DIRNAME/../helpers.bash"

# A project whose environment takes seconds and needs no registry, because it requires nothing.
setup() {
  use_libraries common
  source "$checkout/venv/environment.sh"
  project=$BATS_TEST_TMPDIR/"it's a project"
  mkdir -p -- "$project/hpc"
  cp -R -- "$checkout/venv" "$project/"
  cp -R -- "$checkout/hpc/lib" "$project/hpc/"
  printf '# nothing\n' >"$project/requirements.txt"
}

create() {
  bash "$project/venv/create.sh" "$@" 3>&-
}

# begin_create NAME   Starts create.sh in the background, in its own process group, and waits until it works. Its output goes to the files
# NAME.output and NAME.messages.
begin_create() {
  local -r name=$BATS_TEST_TMPDIR/$1
  : >"$name.messages"
  setsid bash "$project/venv/create.sh" cpu >"$name.output" 2>>"$name.messages" 3>&- &
  creating=$!
  wait_until 20 grep -q 'making the cpu environment for requirements.txt' "$name.messages"
  wait_until 20 folder_is_there
}

folder_is_there() {
  compgen -G "$project/.venv/cpu-*.??????/pyvenv.cfg" >/dev/null
}

# stub NAME LINE   Puts a program first in PATH.
stub() {
  mkdir -p -- "$BATS_TEST_TMPDIR/stubs"
  printf '#!/bin/sh\n%s\n' "$2" >"$BATS_TEST_TMPDIR/stubs/$1"
  chmod +x -- "$BATS_TEST_TMPDIR/stubs/$1"
}

@test "without an argument Slurm decides, but not if it does not answer" {
  PATH=$BATS_TEST_TMPDIR/stubs:$(path_without nvidia-smi)
  unset POCKET_CLUSTER_DIR
  stub sinfo 'echo gpu:a100:4'
  [[ $(create) == *gpu* ]]
  stub sinfo 'echo "(null)"'
  [[ $(create) == *cpu* ]]
  stub sinfo 'echo "slurm_load_partitions: Unable to contact slurm controller (connect failure)" >&2; exit 1'
  fails_with 1 'Slurm does not answer whether it has GPUs .*create.sh gpu' create
}

@test "a file system without locks: the environment is made, with a warning" {
  stub flock 'exit 69'
  PATH=$BATS_TEST_TMPDIR/stubs:$PATH run -0 --separate-stderr create cpu
  [[ -x $output/bin/python && $stderr == *'has no locks'* ]]
}

@test "Pipfile, else requirements.txt, else the kit's own" {
  [[ $(environment::requirements "$project") == "$project/requirements.txt" ]]
  touch -- "$project/Pipfile"
  [[ $(environment::requirements "$project") == "$project/Pipfile" ]]
  rm -- "$project/Pipfile" "$project/requirements.txt"
  [[ $(environment::requirements "$project") == "$project/venv/requirements.txt" ]]
  rm -- "$project/venv/requirements.txt"
  fails_with 1 'no Pipfile, requirements.txt or venv/requirements.txt in ' environment::requirements "$project"
}

@test "the name depends on the requirements, and on nothing else" {
  local cpu gpu
  cpu=$(environment::path "$project" cpu)
  gpu=$(environment::path "$project" gpu)
  [[ $cpu =~ ^"$project/.venv/cpu-"[0-9a-f]{12}$ && $gpu =~ ^"$project/.venv/gpu-"[0-9a-f]{12}$ ]]
  [[ ${cpu##*-} != "${gpu##*-}" ]] # the constraints hold for cpu only

  touch -d yesterday -- "$project/requirements.txt"
  printf 'numpy\n' >"$project/venv/requirements.txt" # not the one that counts
  [[ $(environment::path "$project" cpu) == "$cpu" ]]

  printf 'torch==0\n' >"$project/venv/constraints-cpu.txt"
  [[ $(environment::path "$project" cpu) != "$cpu" && $(environment::path "$project" gpu) == "$gpu" ]]
  printf '# nothing more\n' >"$project/requirements.txt"
  [[ $(environment::path "$project" gpu) != "$gpu" ]]

  cp -- "$project/requirements.txt" "$project/Pipfile"
  gpu=$(environment::path "$project" gpu)
  printf 'locked\n' >"$project/Pipfile.lock"
  [[ $(environment::path "$project" gpu) != "$gpu" ]]
}

@test "an existing environment is found, the one for GPUs first" {
  run -1 environment::find "$project"
  local flavour path
  for flavour in cpu gpu; do
    path=$(environment::path "$project" "$flavour")
    mkdir -p -- "$path/bin"
    ln -s -- "$(command -v python3)" "$path/bin/python"
    [[ $(environment::find "$project") == "$path" ]]
  done
  printf '# other needs\n' >"$project/requirements.txt"
  run -1 environment::find "$project"
}

@test "a home that several machines share: each kind has its own environment; an older kit's is used where it works, else made again" {
  local here old
  PATH=$BATS_TEST_TMPDIR/stubs:$PATH
  here=$(create cpu)
  [[ $here == "$(environment::path "$project" cpu)" && $(<"$here/.machine") == "$(uname -m), "* ]]
  stub uname 'if [ "$1" = -m ]; then echo aarch64; else exec /bin/uname "$@"; fi'
  [[ $(environment::path "$project" cpu) != "$here" ]]
  run -1 environment::find "$project"
  VIRTUAL_ENV_DIRECTORY=$here fails_with 1 'is for x86_64, .*is aarch64, .*create.sh' bash "$project/venv/run.sh" true
  rm -- "$BATS_TEST_TMPDIR/stubs/uname"
  stub getconf 'echo glibc 2.17'
  [[ $(environment::path "$project" cpu) != "$here" ]]
  run -1 environment::find "$project"
  VIRTUAL_ENV_DIRECTORY=$here run -0 --separate-stderr bash "$project/venv/run.sh" true
  [[ $stderr == *'warning: '*'is for '*', glibc 2.17: if a package cannot be loaded'* ]]
  rm -- "$BATS_TEST_TMPDIR/stubs/getconf"
  hash -r
  [[ $(environment::find "$project") == "$here" ]]

  # The name that an older kit gave it.
  old=$(cat -- "$project/requirements.txt" "$project/venv/constraints-cpu.txt" | sha256sum)
  old=$project/.venv/cpu-${old:0:12}
  mv -T -- "$(realpath -- "$here")" "$old.a_zA_Z"
  rm -- "$here"
  ln -s -- "${old##*/}.a_zA_Z" "$old"
  [[ $(environment::find "$project") == "$old" && $(create cpu) == "$old" ]]
  # On a machine where it does not start, or that has another python.
  mv -- "$old/bin/python" "$old/bin/mine"
  printf '#!/bin/sh\nexit 126\n' >"$old/bin/python"
  chmod +x -- "$old/bin/python"
  run -1 environment::find "$project"
  printf '#!/bin/sh\necho python3.99\n' >"$old/bin/python"
  run -1 environment::find "$project"
  run -0 --separate-stderr create cpu
  [[ $output == "$here" && $stderr == *"the environment ${old##*/} was made for another machine, or another python: this one gets its own"* ]]
  [[ -x $old/bin/mine ]]
}

@test "run.sh: a conda environment as \`conda activate\` sets it, also if the login shell has another one" {
  local -r base=$BATS_TEST_TMPDIR/"mini conda" hooks=etc/conda/activate.d
  local -r prefix=$base/envs/mine
  local python
  python=$(python3 -c 'import sys; print(sys.executable)') # not pyenv's, which changes PATH
  mkdir -p -- "$prefix"/{bin,conda-meta,$hooks,etc/conda/env_vars.d} "$base"/{bin,condabin,conda-meta,$hooks}
  ln -s -- "$python" "$prefix/bin/python"
  ln -s -- "$python" "$base/bin/python"
  printf 'echo activated\nexport HOOK=$CONDA_PREFIX HOOK_ARGUMENTS=$#\nif [ $UNSET_NAME ]; then :; fi\nfalse\nexport LAST=1\n' >"$prefix/$hooks/a.sh"
  printf 'export HOOK_2=$HOOK/2\n' >"$prefix/$hooks/b.sh"
  printf 'export BASE_HOOK=1\n' >"$base/$hooks/base.sh"
  printf '{"FROM_PACKAGE": "ü", "BOTH": "package"}' >"$prefix/etc/conda/env_vars.d/package.json"
  printf '{"env_vars": {"BOTH": "the user\\n", "GONE": "***unset***"}, "other": 1}' >"$prefix/conda-meta/state"
  cd -- "$BATS_TEST_TMPDIR"
  cat >shown.py <<'PYTHON'
import os, site, sys
print(*(f"{name}={os.environ.get(name)!r}" for name in sys.argv[1:]), os.environ["PATH"].split(":")[:2], os.environ["PATH"].count("mini conda"), site.ENABLE_USER_SITE)
PYTHON
  export CONDA_PREFIX=$base CONDA_DEFAULT_ENV=base CONDA_SHLVL=2 CONDA_PREFIX_1=/old CONDA_PROMPT_MODIFIER='(base) ' VIRTUAL_ENV=/stale
  export PATH=$base/bin:$base/condabin:$PATH VIRTUAL_ENV_DIRECTORY=$prefix
  run -0 --separate-stderr bash "$project/venv/run.sh" python shown.py CONDA_DEFAULT_ENV CONDA_SHLVL CONDA_PREFIX_1 CONDA_PROMPT_MODIFIER \
    VIRTUAL_ENV HOOK_ARGUMENTS LAST BASE_HOOK FROM_PACKAGE BOTH GONE CONDA_PREFIX HOOK HOOK_2
  [[ $stderr == activated ]]
  [[ $output == "CONDA_DEFAULT_ENV='mine' CONDA_SHLVL='1' CONDA_PREFIX_1=None CONDA_PROMPT_MODIFIER=None VIRTUAL_ENV=None \
HOOK_ARGUMENTS='0' LAST='1' BASE_HOOK=None FROM_PACKAGE='ü' BOTH='the user\\n' GONE=None \
CONDA_PREFIX='$prefix' HOOK='$prefix' HOOK_2='$prefix/2' ['$prefix/bin', '$base/condabin'] 2 False" ]]
  # The base, and an environment at another place. A command that fails keeps its status.
  VIRTUAL_ENV_DIRECTORY=$base run -0 --separate-stderr bash "$project/venv/run.sh" python shown.py CONDA_DEFAULT_ENV BASE_HOOK
  [[ $output == "CONDA_DEFAULT_ENV='base' BASE_HOOK='1' "* ]]
  mv -- "$prefix" here
  VIRTUAL_ENV_DIRECTORY=$PWD/here run -7 --separate-stderr bash "$project/venv/run.sh" sh -c 'echo "$CONDA_DEFAULT_ENV"; exit 7'
  [[ $output == "$PWD/here" ]]
  echo '{' >here/conda-meta/state
  VIRTUAL_ENV_DIRECTORY=$PWD/here run -0 --separate-stderr bash "$project/venv/run.sh" true
  [[ $stderr == *'warning: the variables of '*'cannot be read'* ]]
}

@test "two at once make it once, and an interrupted one does no harm" {
  local path first second
  path=$(environment::path "$project" cpu)

  # Asked to end: nothing is left.
  begin_create one
  kill -s TERM -- "-$creating"
  wait_status "$creating"
  [[ $status == 143 && ! -s $BATS_TEST_TMPDIR/one.output ]]
  [[ -z $(find "$project/.venv" -mindepth 1 ! -name '*.lock') ]]

  # Killed: what is left is ignored.
  begin_create two
  kill -s KILL -- "-$creating"
  wait_status "$creating"
  folder_is_there
  [[ ! -e $path ]]
  run -1 environment::find "$project"

  begin_create three
  first=$creating
  second=$(create cpu 2>"$BATS_TEST_TMPDIR/four.messages")
  wait_status "$first"
  [[ $status == 0 && $second == "$path" && $(<"$BATS_TEST_TMPDIR/three.output") == "$path" ]]
  [[ $(<"$BATS_TEST_TMPDIR/four.messages") == 'another create.sh is making this environment: waiting for it' ]]
  [[ $(find "$project/.venv" -mindepth 1 -maxdepth 1 -type d | wc -l) == 1 && -L $path ]]

  # The second time it only prints the name.
  run -0 --separate-stderr create cpu
  [[ $output == "$path" && -z $stderr ]]

  # run.sh runs inside of it.
  run -0 --separate-stderr bash "$project/venv/run.sh" python -c 'import sys; print(sys.prefix)'
  [[ $output == "$path"* ]]
}

@test "requirements that cannot be met leave nothing, and are reported" {
  printf './no-such-package\n' >"$project/requirements.txt"
  run --separate-stderr create cpu
  [[ $status != 0 && -z $output && $stderr == *no-such-package* ]]
  [[ -z $(find "$project/.venv" -mindepth 1 ! -name '*.lock') ]]
}

@test "pip and uv show their progress on a terminal, and nowhere else" {
  stub uv 'echo "$@" >>"$BATS_TEST_TMPDIR/calls"
case $1 in venv) for folder; do :; done; mkdir -p "$folder/bin" && ln -s "$(command -v python3)" "$folder/bin/python" ;; esac'
  PATH=$BATS_TEST_TMPDIR/stubs:$PATH
  create cpu 2>/dev/null
  [[ $(tail -n 1 "$BATS_TEST_TMPDIR/calls") == 'pip install --quiet --python '* ]]
  rm -rf -- "$project/.venv"
  script --quiet --return --command "bash ${project@Q}/venv/create.sh cpu" /dev/null </dev/null 3>&- 4>&-
  [[ $(tail -n 1 "$BATS_TEST_TMPDIR/calls") == 'pip install --python '* ]]
}

@test "wrong arguments, no python, an old python" {
  fails_with 2 "unknown argument 'tpu': venv/create.sh \[cpu\|gpu\]" create tpu
  fails_with 2 'too many arguments' create cpu gpu
  PYTHON=no-such-python fails_with 1 "no 'no-such-python' here: install Python 3.9 or later, or name one in PYTHON" create cpu
  printf '#!/bin/sh\nif [ "$1" = -V ]; then echo Python 3.6.8; else exit 1; fi\n' >"$BATS_TEST_TMPDIR/python"
  chmod +x -- "$BATS_TEST_TMPDIR/python"
  PYTHON=$BATS_TEST_TMPDIR/python fails_with 1 'is Python 3.6.8: the kit needs 3.9 or later' create cpu
  run -0 --separate-stderr create --help
  [[ ${lines[0]} == 'Usage: venv/create.sh [cpu|gpu]' ]]
}

@test "run.sh: the program's own arguments and status, in the named environment" {
  local -r environment=$BATS_TEST_TMPDIR/"an environment"
  mkdir -p -- "$environment/bin"
  ln -s -- "$(command -v python3)" "$environment/bin/python"
  export VIRTUAL_ENV_DIRECTORY=$environment PYTHONHOME=/nowhere
  run -7 --separate-stderr bash "$project/venv/run.sh" sh -c 'printf "<%s>" "$@" "$VIRTUAL_ENV" "${PYTHONHOME-none}" "${PATH%%:*}"; exit 7' \
    sh 'a  b' '' '*'
  [[ $output == "<a  b><><*><$environment><none><$environment/bin>" ]]
}

@test "run.sh without a command, and without an environment" {
  fails_with 2 'no command: bash venv/run.sh python -m train' bash "$project/venv/run.sh"
  fails_with 1 'no environment for .*/requirements.txt: run  bash .*/create.sh' bash "$project/venv/run.sh" true
  VIRTUAL_ENV_DIRECTORY=/nowhere fails_with 1 "no python in the environment '/nowhere' on " bash "$project/venv/run.sh" true
}
