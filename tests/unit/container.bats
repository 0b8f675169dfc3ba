#!/usr/bin/env bats
# Containers without a runtime: what is refused at submission, what the runtime gets, and which files enter an image.
# cluster/containers.bats uses a real runtime.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup() {
  make_project
  export SCRATCH=$BATS_TEST_TMPDIR/scratch HOME=$BATS_TEST_TMPDIR/home
  mkdir -- "$SCRATCH" "$HOME" "$BATS_TEST_TMPDIR/bin"
  cd -- "$BATS_TEST_TMPDIR" || return
  # Hide the machine's runtimes; the test's own records what it gets.
  PATH=$BATS_TEST_TMPDIR/bin:$(path_without apptainer singularity)
  make_sif image.sif
}

# stub_runtime NAME   Makes a runtime that writes its arguments to the file `given` and its environment to `environment`, each item ended by
# a NUL.
stub_runtime() {
  cat >"bin/$1" <<'STUB'
#!/bin/bash
printf '%s\0' "$@" >"$BATS_TEST_TMPDIR/given"
env -0 >"$BATS_TEST_TMPDIR/environment"
STUB
  chmod +x -- "bin/$1"
}

refuses() {
  local -r pattern=$1
  shift
  fails_with 2 "^job_submitter.sh: error: .*$pattern" submitter "$@"
  [[ ! -e $RECORD && -z $(find "$SCRATCH" -mindepth 1) ]]
}

# broken NAME OFFSET BYTES   Makes a copy of image.sif with these bytes, in printf's notation, at OFFSET.
broken() {
  cp -- image.sif "$1"
  printf '%b' "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

@test "files that are no images, and truncated images" {
  stub_slurm
  mkdir -- folder
  printf 'no image\n' >text
  : >empty
  refuses "'nowhere.sif': there is no such image" -s nowhere.sif
  refuses "'docker://python': pull it into a file first, such as  apptainer pull image.sif 'docker://python'" -s docker://python
  refuses "'folder' is a folder, and not one that  apptainer build --sandbox" -s folder
  refuses "'/' is a folder" -s /
  refuses "'/dev/null' is not a file that you can read" -s /dev/null
  refuses "'text' is not a container image" -s text
  refuses "'empty' is not a container image" -s empty
  head -c 40 image.sif >short
  refuses "'short' is not a container image" -s short
  local size
  for size in 128 5000 32167; do
    head -c "$size" image.sif >part
    refuses "'part' is corrupt: it ends within its table, after $size bytes" -s part
  done
  for size in 32868 102399; do
    head -c "$size" image.sif >part
    refuses "'part' is corrupt: it has $size bytes of [0-9]+ at least" -s part
  done
  broken bad 36864 'x'
  refuses "'bad' is corrupt: its file system does not begin as it must" -s bad
  broken bad $((4096 + 585 + 4)) '\0'
  refuses "'bad' is corrupt: it has no file system to run" -s bad
  broken bad 88 '\xff\xff\xff\xff\xff\xff\xff\xff'
  refuses "'bad' is corrupt" -s bad
  broken bad $((4096 + 25)) '\xff\xff\xff\xff\xff\xff\xff\xff'
  refuses "'bad' is corrupt" -s bad
  rm -r -- "$project/singularity"
  fails_with 1 'there is no singularity/ in .*: copy it from the kit' submitter -s image.sif
}

@test "impossible binds and working folders, and container options without a container" {
  stub_slurm
  mkdir -- 'a:b' there
  refuses "--workdir 'work': give the folder's path inside the container, from / on" -s image.sif --workdir work
  refuses "--workdir '/': give" -s image.sif --workdir /
  refuses "--bind 'nowhere': there is no file or folder 'nowhere'" -s image.sif --bind nowhere
  refuses "--bind 'nowhere:/x:ro': there is no" -s image.sif --bind there nowhere:/x:ro
  refuses "--bind 'there:x': write SOURCE, SOURCE:DESTINATION or SOURCE:DESTINATION:ro" -s image.sif --bind there:x
  refuses "--bind 'there:/x:zz': write" -s image.sif --bind there:/x:zz
  refuses "--bind 'there:/x:ro:ro': write" -s image.sif --bind there:/x:ro:ro
  refuses "--bind 'there,there': there is no" -s image.sif --bind there,there
  refuses "--bind ':/x': there is no" -s image.sif --bind :/x
  refuses '--workdir is a folder in a container: give --singularity-container too' --workdir /work
  refuses '--bind is for a container' --bind there
  refuses '--stage-venv and --singularity-container contradict each other' -s image.sif --stage-venv
}

@test "an image without what the launcher needs is refused if the submitter can inspect it; otherwise there is a note" {
  stub_slurm
  printf '#!/bin/sh\necho "inside.sh: error: the image x has no bash inside" >&2\nexit 1\n' >bin/apptainer
  chmod +x bin/apptainer
  refuses 'the image x has no bash inside' -s image.sif
  printf '#!/bin/sh\necho FATAL: no namespaces here >&2\nexit 255\n' >bin/apptainer
  run -0 --separate-stderr submitter -s image.sif
  [[ $output == 4711 && $stderr == *'note: the image could not be tried on this node: FATAL: no namespaces here'* ]]
}

# a_job [OPTION...]   Submits one without a virtual environment; sets RUN_DIRECTORY and the job's environment.
a_job() {
  rm -f -- "$project/.venv"
  run -0 --separate-stderr submitter -s image.sif "$@"
  RUN_DIRECTORY=$(echo "$SCRATCH"/*/hpc_outputs/*/)
  RUN_DIRECTORY=${RUN_DIRECTORY%/}
  export RUN_DIRECTORY SLURM_JOB_ID=4711 SLURM_TMPDIR="$BATS_TEST_TMPDIR/disk" CONTAINER_IMAGE=$BATS_TEST_TMPDIR/image.sif
  mkdir -- "$SLURM_TMPDIR" "$RUN_DIRECTORY/source"
}

in_container() {
  env -u BATS_RUN_TMPDIR bash "$project/singularity/run.sh" "$@" 3>&-
}

@test "the runtime gets each folder at its place, outer ones first, and the command unchanged" {
  stub_slurm
  mkdir -- 'one, "two"' there
  : >there/file
  a_job --workdir /work/./dir --bind 'one, "two":/tmp/one' there/file:/etc/../etc/file:ro there:/data/there:rw
  stub_runtime apptainer
  mkdir -- disk/.hpc_kit
  printf '%s\0' '/images/a "b", c' 'sets/x' >disk/.hpc_kit/images
  in_container python -c 'print("a, b")' '' $'two\nlines'

  local -r scratch=$SCRATCH/${project##*/} disk=$SLURM_TMPDIR/.hpc_kit/container
  local -a given expected=(
    --quiet exec --cleanenv --no-home --no-mount 'cwd,tmp' --writable-tmpfs --pwd /
  )
  mount() {
    expected+=(--mount "type=bind,\"source=${1//\"/\"\"}\",\"destination=${2//\"/\"\"}\"${3:+,$3}")
  }
  local -a rows
  mapfile -t rows < <(
    LC_ALL=C sort -t '|' -k 1,1 <<ROWS
/code|$RUN_DIRECTORY/source|ro
/data|$SLURM_TMPDIR|
/data/sets/x|/images/a "b", c|image-src=/,ro
/data/there|$BATS_TEST_TMPDIR/there|
/db|$disk/db|
/etc/file|$BATS_TEST_TMPDIR/there/file|ro
$HOME|$disk/home|
$SLURM_TMPDIR|$SLURM_TMPDIR|
$SLURM_TMPDIR/sets/x|/images/a "b", c|image-src=/,ro
$project|$project|ro
$scratch|$scratch|
$RUN_DIRECTORY/source|$RUN_DIRECTORY/source|ro
/scratch_storage|$scratch/${RUN_DIRECTORY##*/}/singularity_4711_0|
/tmp|$disk/tmp|
/tmp/one|$BATS_TEST_TMPDIR/one, "two"|
/var/tmp|$disk/var_tmp|
/work/dir|$disk/workdir|
ROWS
  )
  local row source destination mode
  for row in "${rows[@]}"; do
    IFS='|' read -r destination source mode <<<"$row"
    mount "$source" "$destination" "$mode"
  done
  expected+=("$BATS_TEST_TMPDIR/image.sif" /bin/sh "$RUN_DIRECTORY/kit/singularity/inside.sh" "$BATS_TEST_TMPDIR/image.sif" "$HOME"
    /code/. 'bash torch' python -c 'print("a, b")' '' $'two\nlines')
  mapfile -d '' -t given <given
  # A machine with GPUs adds one.
  diff <(printf '%s\n' "${expected[@]}") <(printf '%s\n' "${given[@]}" | grep -vxE -- '--nv|--rocm')
  [[ -d $scratch/${RUN_DIRECTORY##*/}/singularity_4711_0 && -d $disk/home ]]
  # Mount points in a folder that several containers share must exist before, because the containers would disturb each other.
  [[ -d $disk/tmp/one && -d $SLURM_TMPDIR/sets/x && -d $SLURM_TMPDIR/there ]]
}

@test "values reach the runtime through its environment, never its arguments, and no other variable of the host does" {
  stub_slurm
  printf '%s\n' 'OF_DOTENV="a value of .env"' 'PATH=/nowhere' 'this is no setting' >"$project/.env"
  a_job -W srun
  export OF_DOTENV='a value of .env' WANDB_API_KEY='$(secret) "key"' HOST_ONLY=1 NCCL_DEBUG=$'two\nlines' SLURM_JWT=token \
    SLURM_NTASKS=4 RANK=3 source_dir=/outside VIRTUAL_ENV_DIRECTORY=/venv EMPTY='' OMP_NUM_THREADS=''
  local name
  for name in apptainer singularity; do
    rm -f -- bin/{apptainer,singularity}
    stub_runtime "$name"
    run -0 --separate-stderr in_container true
    [[ -z $stderr ]]
    local -A passed=()
    local line
    while IFS= read -r -d '' line; do
      if [[ $line == "${name^^}"ENV_* ]]; then
        line=${line#*ENV_}
        passed[${line%%=*}]=${line#*=}
      fi
    done <environment
    [[ ${passed[OF_DOTENV]} == 'a value of .env' && ${passed[WANDB_API_KEY]} == '$(secret) "key"' && ${passed[RANK]} == 3 ]]
    [[ ${passed[NCCL_DEBUG]} == $'two\nlines' && ${passed[SLURM_NTASKS]} == 4 && ${passed[source_dir]} == /code ]]
    [[ ${passed[OMP_NUM_THREADS]-unset} == '' ]]
    for line in HOST_ONLY PATH HOME SLURM_JWT VIRTUAL_ENV_DIRECTORY EMPTY; do [[ -z ${passed[$line]+set} ]]; done
    tr '\0' '\n' <environment | grep -x "${name^^}_NO_EVAL=1"
    if grep -aE 'secret|a value of' given; then return 1; fi
    # srun needs no torch
    tr '\0' '\n' <given | tail -n 2 | diff - <(printf 'bash\ntrue\n')
  done
}

@test "without a job: the project is at /code, and the image needs no program" {
  stub_runtime apptainer
  CONTAINER_IMAGE=image.sif in_container sh -c 'echo hi'
  mapfile -d '' -t given <given
  [[ "${given[*]}" == *" --mount type=bind,"*"destination=/code\",ro image.sif /bin/sh /code/singularity/inside.sh image.sif $HOME /code  sh -c echo hi" ]]
  [[ "${given[*]}" != *scratch_storage* ]]
}

@test "errors: no command, no image, no runtime" {
  fails_with 2 'no command: ' in_container
  fails_with 2 'no image: name one in CONTAINER_IMAGE' in_container true
  CONTAINER_IMAGE=/nowhere.sif fails_with 1 "no container image '/nowhere.sif' on .*: must it lie where all nodes see it" in_container true
  CONTAINER_IMAGE=image.sif fails_with 1 'no apptainer and no singularity on .*site\[modules\]' in_container true
}

inside() {
  sh "$checkout/singularity/inside.sh" image.sif /home/of/mine "$@"
}

@test "inside: the command's arguments, status and folder; a message for what is missing" {
  mkdir -- 'a folder'
  run -7 --separate-stderr inside "$BATS_TEST_TMPDIR/a folder" bash sh -c 'printf "<%s>" "$@" "$HOME" "${PWD##*/}"; exit 7' sh 'a  b' '' '*'
  [[ $output == '<a  b><><*></home/of/mine><a folder>' ]]
  fails_with 1 '^inside.sh: error: --chdir: there is no folder /nowhere in the container' only_last inside /nowhere bash true
  printf '#!/bin/sh\nexit 1\n' >bin/python
  chmod +x bin/python
  fails_with 1 '^inside.sh: error: the python of the image image.sif has no torch' inside / 'bash torch' true
  local -r sh=$(command -v sh)
  fails_with 1 '^inside.sh: error: the image image.sif has no bash inside' env PATH=/nowhere "$sh" "$checkout/singularity/inside.sh" image.sif / / bash true
}

only_last() {
  local message status=0
  message=$("$@" 2>&1) || status=$?
  printf '%s\n' "${message##*$'\n'}" >&2
  return "$status"
}

# Prints the names that build.sh, the Dockerfile and .dockerignore let into an image, one a line.
named_files() {
  bash -c 'source <(sed -n "/^readonly -a build_files/p" "$1"); printf "%s\n" "${build_files[@]}" "${build_files_if_there[@]}"' - \
    "$checkout/singularity/build.sh" | LC_ALL=C sort
}

@test "only named files enter an image, the same ones with build.sh and Docker" {
  diff <(named_files) <(sed -n 's/^!//p' "$checkout/.dockerignore" | LC_ALL=C sort)
  grep -qx '\*' "$checkout/.dockerignore"
  # In the Dockerfile, patterns such as Pipfil[e] are names that may be missing.
  diff <(named_files) <(sed -n 's/^COPY //p' "$checkout/singularity/Dockerfile" | tr ' ' '\n' | grep -v '^/' | tr -d '[]' | LC_ALL=C sort)
}

# build OPTION...   Uses a runtime that keeps the build's folder, as the file `built`, and makes an image.
build() {
  cat >bin/apptainer <<'STUB'
#!/bin/bash
printf '%s\0' "$@" >"$BATS_TEST_TMPDIR/given"
find . ! -type d | LC_ALL=C sort >"$BATS_TEST_TMPDIR/files"
cp train.def pip/pip.conf "$BATS_TEST_TMPDIR/"
[[ -z ${FAIL:-} ]] || exit 1
echo image >"${@: -2:1}"
STUB
  chmod +x bin/apptainer
  TMPDIR=$BATS_TEST_TMPDIR/tmp bash "$project/singularity/build.sh" "$@" 3>&-
}

@test "build.sh: a complete definition, no secret, an image once, and what to do where it cannot build" {
  mkdir -- tmp 'Debian, of "mine"' wheels
  rm -- "$project/.venv"
  printf 'KEY=secret\n' >"$project/.env"
  printf 'secret\n' >"$project/venv/wandb_credentials.txt"
  printf 'torch\n' >"$project/requirements.txt"
  printf 'ca\n' >ca.pem
  export PIP_CERT=$BATS_TEST_TMPDIR/ca.pem PIP_INDEX_URL='https://me:password@index.invalid/simple' PIP_FIND_LINKS=$BATS_TEST_TMPDIR/wheels
  run -0 --separate-stderr build cpu --from 'Debian, of "mine"'
  [[ $output == "$project/.venv/container-cpu-"????????????.sif && $(<"$output") == image && $(stat -c %a "$output") == 644 ]]
  diff files - <<'FILES'
./environment/hpc/lib/common.sh
./environment/hpc/lib/files.sh
./environment/hpc/lib/slurm.sh
./environment/requirements.txt
./environment/venv/constraints-cpu.txt
./environment/venv/create.sh
./environment/venv/environment.sh
./environment/venv/requirements.txt
./pip/cert.pem
./pip/pip.conf
./train.def
FILES
  sed '/^#/d' train.def | head -n 2 | diff - <(printf 'Bootstrap: localimage\nFrom: %s\n' "$BATS_TEST_TMPDIR/Debian, of \"mine\"")
  grep -F 'bash venv/create.sh cpu' train.def
  diff pip.conf - <<'CONF'
[global]
index-url = https://me:password@index.invalid/simple
find-links = /media
cert = /mnt/cert.pem
CONF
  if grep -E 'BOOTSTRAP|BASE|FLAVOUR|password' train.def || grep -a password given; then return 1; fi
  [[ -z $(find tmp -mindepth 1) && $(find "$project/.venv" -type f) == "$output" ]]

  # the second time it only prints the name
  local -r first=$output
  rm -- given
  run -0 --separate-stderr build cpu --from 'Debian, of "mine"'
  [[ $output == "$first" && -z $stderr && ! -e given ]]

  # another public base and other requirements give another name
  printf 'numpy\n' >>"$project/requirements.txt"
  run -0 --separate-stderr build
  [[ $output == "$project/.venv/container-gpu-"* ]]
  sed '/^#/d' train.def | head -n 2 | diff - <(printf 'Bootstrap: docker\nFrom: python:3.11-slim\n')
  run -0 --separate-stderr build cpu --output mine.sif
  [[ $output == "$BATS_TEST_TMPDIR/mine.sif" ]]

  FAIL=1 run -1 --separate-stderr build cpu --output other.sif
  [[ -z $output && ! -e other.sif && -z $(find tmp . -maxdepth 1 -name 'other.sif*') ]]
  if ((EUID == 0)); then [[ $stderr == *'build as an ordinary user'* ]]; else [[ $stderr == *'docker-archive:train.tar'* ]]; fi
}

@test "build.sh: wrong arguments, no runtime" {
  fails_with 2 "unknown argument 'tpu'" build tpu
  fails_with 2 '--from needs a value' build --from
  fails_with 2 "--from 'nowhere': no such folder or image" build --from nowhere
  fails_with 2 'cpu or gpu once' build cpu gpu
  run -0 --separate-stderr build --help
  [[ ${lines[0]} == 'Usage: singularity/build.sh [cpu|gpu]'* ]]
  rm -- bin/apptainer
  fails_with 1 'no apptainer and no singularity on .*: load its module' bash "$project/singularity/build.sh" cpu --output new.sif
}
