#!/usr/bin/env bats
# Allowed values of --data and related options, and what the submitter makes of them (hpc/lib/staging.sh). No Slurm.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup() {
  stub_slurm
  make_project
  export SCRATCH=$BATS_TEST_TMPDIR/scratch
  scratch=$SCRATCH/${project##*/}
  mkdir -p -- "$scratch/data/sub" "$SCRATCH/other"
  printf x >"$scratch/data/sub/file"
  cd -- "$BATS_TEST_TMPDIR" || return
}

nothing_is_sent() {
  [[ ! -e $RECORD && ! -e $scratch/hpc_outputs && ! -e $scratch/.staging ]]
}

# refused STATUS PATTERN OPTION...   The submitter must refuse it in one line and write nothing.
refused() {
  fails_with "$1" "^job_submitter.sh: error: .*$2" submitter "${@:3}"
  nothing_is_sent
}

# plan   Prints the entries of the last run, a line for each, without their keys.
plan() {
  local kind format path
  while IFS= read -r -d '' kind && IFS= read -r -d '' _ && IFS= read -r -d '' format && IFS= read -r -d '' path; do
    printf '%s %s %s\n' "$kind" "$format" "${path@Q}"
  done <"$run_directory/staging"
}

# sent OPTION...   The request must be accepted; sets run_directory and stderr.
sent() {
  run -0 --separate-stderr submitter --no-snapshot "$@"
  [[ $output == 4711 ]]
  local -a runs
  mapfile -t runs < <(ls -td -- "$scratch"/hpc_outputs/*/) # the newest first
  run_directory=${runs[0]%/}
}

@test "paths that do not exist, are absolute, lead upwards or belong to the kit" {
  refused 1 "--data 'none': there is no 'none' in '.*scratch/.*'$" --data none
  refused 1 "--data 'data/none': there is no 'data/none'" --data data data/none
  refused 1 "--data 'data/sub/file/x': there is no 'data/sub/file/x'" --data data/sub/file/x
  refused 2 "--data '/.*': give the path below .*, not an absolute one$" --data "$scratch/data"
  refused 2 "--data '//data'" --data //data
  local path
  for path in .. ../other data/.. data/../data ./.. . ./ ././. 'data/sub/../..'; do
    refused 2 "--data '.*': name a file or folder below .*, without '..'$" --data "$path"
  done
  mkdir -- "$scratch/.staging.mine"
  refused 2 "--data '.staging': .staging is the kit's own$" --data .staging
  refused 2 "--data './/.staging/x': .staging is the kit's own$" --data .//.staging/x
  refused 2 '--data: an empty value' --data ''
  refused 2 '--data needs a value' --data
  refused 2 '--data needs a value' --data --gpus 1
}

@test "links may lead inside, not outside and not to nothing; no pipes or similar files" {
  ln -s -- "$SCRATCH/other" "$scratch/out"
  ln -s -- ../other "$scratch/relative"
  ln -s -- "$scratch/.." "$scratch/up"
  ln -s -- nowhere "$scratch/dangling"
  ln -s -- loop "$scratch/loop"
  mkdir -- "$SCRATCH/${project##*/}2"
  ln -s -- "$SCRATCH/${project##*/}2" "$scratch/beside"
  local name
  for name in out relative up beside; do
    refused 1 "--data '$name' is a link that leads out of .*: copy or move the data there$" --data "$name"
  done
  refused 1 "--data 'dangling' is a symbolic link to nothing$" --data dangling
  refused 1 "--data 'loop'" --data loop
  mkfifo -- "$scratch/pipe"
  refused 1 "--data 'pipe' is neither a file nor a folder$" --data pipe
  ln -s -- data "$scratch/inside"
  sent --data inside data
  [[ $(plan) == "data tar 'inside'"$'\n'"data tar 'data'" ]]
}

@test "files that an ordinary user may not read" {
  ((EUID == 0)) || skip 'only root can be somebody else'
  use_libraries common staging data
  declare -A fact=([scratch_dir]=$(mktemp -d /tmp/hpc_kit_test.XXXXXX))
  mkdir -p -- "${fact[scratch_dir]}"/{folder,closed}
  printf x >"${fact[scratch_dir]}/file"
  chmod 755 -- "${fact[scratch_dir]}"
  chmod 600 -- "${fact[scratch_dir]}/file"
  chmod 744 -- "${fact[scratch_dir]}/folder" # names only
  chmod 700 -- "${fact[scratch_dir]}/closed"
  cp -R -- "$checkout/hpc/lib" "$checkout/hpc/job_submitter" "${fact[scratch_dir]}/"
  chmod -R a+rX -- "${fact[scratch_dir]}"/{lib,job_submitter}
  cat >"${fact[scratch_dir]}/lib/check.sh" <<'CHECK'
lib=${BASH_SOURCE[0]%/*}
for name in common run_directory packing staging ../job_submitter/data; do source "$lib/$name.sh"; done
declare -A fact=([scratch_dir]=${lib%/*} [stage_venv]='')
options_list_data=("$@")
data::check
CHECK
  local name
  for name in file folder closed; do
    fails_with 1 "error: --data '$name': you may not read it$" runuser -u nobody -- env -u BASH_ENV bash "${fact[scratch_dir]}/lib/check.sh" "$name"
  done
  chmod 644 -- "${fact[scratch_dir]}/file"
  runuser -u nobody -- env -u BASH_ENV bash "${fact[scratch_dir]}/lib/check.sh" file
  rm -rf -- "${fact[scratch_dir]}"
}

@test "the same path twice, and one within another, are staged once" {
  sent --data data ./data data// ./data/./ data/sub --data data/sub/file
  [[ $(plan) == "data tar 'data'" ]]
  (($(grep -c "^note: --data: 'data/sub\(/file\)\?' is in 'data'$" <<<"$stderr") == 2))
  mkdir -- "$scratch/data2"
  sent --data data2 data
  [[ $(plan) == "data tar 'data2'"$'\n'"data tar 'data'" ]]
}

@test "names with spaces, quotes, newlines, dashes, backslashes and bytes that are no UTF-8" {
  local name
  local -a options=() names=('a b' "it's" '"' $'new\nline' $'ends\n' -dash --data "\\" '\n' '*' '$(touch canary)' $'\xff\xfe' ' ' ü '[a]')
  for name in "${names[@]}"; do
    mkdir -- "$scratch/$name"
    printf x >"$scratch/$name/$name"
    options+=("--data=$name")
  done
  sent "${options[@]}"
  mapfile -d '' words <"$run_directory/staging"
  local -i number
  for ((number = 0; number < ${#names[@]}; number++)); do
    [[ ${words[number * 4 + 3]} == "${names[number]}" ]]
  done
  ((${#words[@]} == 4 * ${#names[@]}))
  [[ ! -e canary && ! -e $scratch/canary ]]
}

@test "options that contradict each other" {
  refused 2 '--pack-in-job is about --data, --stage-venv and containers: give one of them$' --pack-in-job
  refused 2 '--data-format is about --data, --stage-venv and containers' --data-format tar
  refused 2 '--broadcast is about --data, --stage-venv and containers' --broadcast read
  refused 2 "--data-format: 'zip' is none of: auto, tar, zst, image$" --data data --data-format zip
  refused 2 "--broadcast: 'mail' is none of: auto, read, sbcast$" --data data --broadcast mail
  refused 2 '--dependency afterok:1\?afterok:2: with --pack-in-job all of its conditions must hold' \
    --data data --pack-in-job --dependency 'afterok:1?afterok:2'
  refused 2 "--collect '/etc/\*': give a pattern below SLURM_TMPDIR" --collect '/etc/*'
  refused 2 "--collect '../x': give a pattern below" --collect ../x
  refused 2 "--collect 'a/..': give a pattern below" --collect a/..
  refused 2 "--staging-days: '0' is not a whole number from 1 up" --data data --staging-days 0
  refused 2 "--staging-limit: 'much' is not an amount" --data data --staging-limit much
  # Defaults of a user or a site do not contradict.
  HPC_BROADCAST=read HPC_DATA_FORMAT=tar run -0 submitter --dry-run
}

@test "a dry run packs and writes nothing" {
  run -0 --separate-stderr submitter --dry-run --data data --stage-venv
  run -0 --separate-stderr submitter --dry-run --data data --pack-in-job
  ((${#lines[@]} == 2))
  [[ ${lines[0]} == *"'--job-name=pack_"*"/hpc/job/pack.sh"* && ${lines[1]} == *"'--dependency=afterok:PACK_JOB'"* && ${lines[1]} == *"'--kill-on-invalid-dep=yes'"* ]]
  nothing_is_sent
}

@test "a request that is refused packs nothing" {
  printf '#!/bin/sh\n[ "$1" != --test-only ] || { echo "sbatch: error: invalid partition specified: nowhere" >&2; exit 1; }\n' >"$stub/sbatch"
  refused 1 'Slurm would refuse the job: invalid partition specified: nowhere' --data data -p nowhere
  [[ ! -e $scratch/.staging ]]
  # If Slurm refuses the job itself, the archive stays for the next try, and the run does not.
  printf '#!/bin/sh\n[ "$1" = --test-only ] || { echo no >&2; exit 1; }\n' >"$stub/sbatch"
  run -1 --separate-stderr submitter --no-snapshot --data data
  [[ $stderr == *'Slurm refused the job: no' && -z $(find "$scratch/hpc_outputs" -mindepth 1 -maxdepth 1 ! -name '.*') ]]
}

@test "a packing job: what it gets, what waits for it, what happens to both when one is refused" {
  mkdir -p -- "$scratch/-a"$'\n'"b"
  sent --data data "--data=-a"$'\n'"b" --pack-in-job --pack-partition cpu --account mine --dependency afterany:5 --time 30
  [[ ! -e $run_directory/staging && ! -e $scratch/.staging ]]
  mapfile -d '' words <"$run_directory/data"
  [[ ${#words[@]} == 2 && ${words[0]} == data && ${words[1]} == $'-a\nb' ]]
  mapfile -d '' words <"$RECORD"
  local -r said=" ${words[*]} "
  [[ $said == *' --job-name=pack_'*' --nodes=1 --ntasks=1 '*' --partition=cpu --account=mine --dependency=afterany:5 '*"/hpc/job/pack.sh $run_directory sbatch "* ]]
  [[ ${said##*pack.sh} == *' --dependency=afterok:4711,afterany:5 '* && ${said##*pack.sh} == *' --kill-on-invalid-dep=yes '* ]]
  # Its log is where it can be opened, because Slurm replaces the % of this path.
  [[ $said == *' --output=/dev/null '*pack.sh* && $stderr == *"job 4711 packs the data first; its log: $run_directory/pack_log.txt"* ]]

  # Run it as Slurm does.
  SLURM_JOB_ID=4711 bash "$project/hpc/job/pack.sh" "$run_directory"
  [[ $(plan) == "data tar 'data'"$'\n'"data tar "$'$\'-a\\nb\'' ]]
  grep '^== job 4711 packs, on ' "$run_directory/pack_log.txt"

  # The environment alone does not mean the whole scratch folder.
  rm -- "$project/.venv"
  mkdir -- "$BATS_TEST_TMPDIR/environment" "$BATS_TEST_TMPDIR/environment/bin"
  ln -s -- "$(command -v python3)" "$BATS_TEST_TMPDIR/environment/bin/python"
  export XDG_CONFIG_HOME=$BATS_TEST_TMPDIR/config
  mkdir -p -- "$XDG_CONFIG_HOME/hpc_kit/clusters"
  printf 'site[environment]=%q\n' "$BATS_TEST_TMPDIR/environment" >"$XDG_CONFIG_HOME/hpc_kit/clusters/stub.sh"
  sent --stage-venv --pack-in-job --exp-name zz
  SLURM_JOB_ID=4711 bash "$project/hpc/job/pack.sh" "$run_directory"
  [[ $(plan) == "environment tar '$BATS_TEST_TMPDIR/environment'" ]]

  # The second job is refused, so the first is cancelled.
  printf '#!/bin/sh\ncase "$*" in --test-only*) ;; *pack.sh*) echo 4712 ;; *) echo no >&2; exit 1 ;; esac\n' >"$stub/sbatch"
  printf '#!/bin/sh\necho "$*" >"$STUB/cancelled"\n' >"$stub/scancel"
  chmod +x -- "$stub/scancel"
  run -1 --separate-stderr submitter --no-snapshot --data data --pack-in-job --exp-name refused
  [[ $stderr == *'Slurm refused the job: no' && $(<"$stub/cancelled") == 4712 ]]
  [[ -z $(compgen -G "$scratch/hpc_outputs/refused*") ]]
  # The first job is refused.
  printf '#!/bin/sh\ncase "$*" in --test-only*) ;; *) echo no >&2; exit 1 ;; esac\n' >"$stub/sbatch"
  run -1 --separate-stderr submitter --no-snapshot --data data --pack-in-job --exp-name refused
  [[ $stderr == *'Slurm refused the job that packs (--pack-in-job): no; another partition for it: --pack-partition' && -z $(compgen -G "$scratch/hpc_outputs/refused*") ]]
}

@test "patterns of --collect arrive unchanged" {
  sent --collect 'results/**' $'a\nb' --collect=-x
  mapfile -d '' words <"$run_directory/collect"
  [[ ${#words[@]} == 3 && ${words[0]} == 'results/**' && ${words[1]} == $'a\nb' && ${words[2]} == -x ]]
  [[ ! -e $run_directory/staging && ! -e $run_directory/data ]]
}
