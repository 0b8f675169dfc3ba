#!/usr/bin/env bats
# hpc/adopt.sh --from: what it reads in scripts of sbatch, what it reports, what it writes and what stays. cluster/from_sbatch.bats tests
# whether a proposal asks Slurm for the same. UPDATE_FROM_SBATCH=1 writes golden/from_sbatch_said.txt again.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/../from_sbatch.bash"

setup() {
  project=$BATS_TEST_TMPDIR/project
  scripts=$BATS_TEST_TMPDIR/'the "scripts" $(touch canary)'
  mkdir -p -- "$project" "$scripts" "$BATS_TEST_TMPDIR/home"
  : >"$project/train.py"
  export HOME=$BATS_TEST_TMPDIR/home SCRATCH=/scratch/me USER=me
  # No Slurm of this machine may give a profile.
  PATH=$(path_without sbatch scontrol)
}

# from OPTION...
from() {
  bash "$checkout/hpc/adopt.sh" --from "$@"
}

# script NAME LINE...   Writes a script with these lines and a line #SBATCH.
script() {
  printf '%s\n' '#!/bin/bash' '#SBATCH --time=1:00:00 --mem=1G -c 1' "${@:2}" >"$scripts/$1.sbatch"
}

# lines NAME   Prints the lines of its configuration without comments.
lines() {
  grep -v '^#' "$project/experiment_configurations_$1.txt"
}

@test "what is taken over from 32 scripts in the styles of sites and frameworks, and what is reported" {
  from_sbatch::project "$project"
  run --separate-stderr from "$from_sbatch_scripts" --dry-run "$project"
  [[ $status == 0 ]] || { printf '%s\n' "$stderr" && return 1; }
  sed -n '/^from /,$p' <<<"$output" | sed -e 's|^from .*/|from      |' -e "s|$HOME|HOME|g" -e "s|$project|PROJECT|g" \
    -e '/^added .*gitignore/d' >"$BATS_TEST_TMPDIR/said"
  if [[ -n ${UPDATE_FROM_SBATCH:-} ]]; then cp -- "$BATS_TEST_TMPDIR/said" "${from_sbatch_golden}_said.txt"; fi
  diff "${from_sbatch_golden}_said.txt" "$BATS_TEST_TMPDIR/said"
  (($(grep -c '^submit ' "$BATS_TEST_TMPDIR/said") >= 30))
  [[ ! -e $project/hpc && ! -e $project/.env ]]
}

# make_cases   Makes a script for each case, once for the file.
make_cases() {
  local line number=0
  local -a body=()
  project=$BATS_FILE_TMPDIR/project scripts=$BATS_FILE_TMPDIR/scripts said=$BATS_FILE_TMPDIR/said
  if [[ -e $said ]]; then return; fi
  mkdir -- "$project" "$scripts"
  : >"$project/train.py"
  while IFS= read -r line; do
    if [[ -z $line ]]; then
      number=$((number + 1))
      script "case_$number" "${body[@]}"
      body=()
    elif [[ $line != [=+!]'> '* ]]; then
      body+=("$line")
    fi
  done <"${from_sbatch_golden}_cases.txt"
  : >"$project/other.py"
  printf '%s\n' 'a 1' 'b 2' >"$project/list.txt"
  printf '%s\n' 'export SOURCED=yes' 'NAME=sourced' >"$project/settings.sh"
  from "$scripts" "$project" >"$said.partial" 2>/dev/null
  mv -- "$said.partial" "$said"
}

# Each case is a script up to an empty line, followed by `=> LINE` for each line of the configuration, `+> WORDS` for words of the proposed
# command, and `!> WORDS` for messages.
@test "words, variables, branches, loops and arrays are read as bash reads them" {
  local line number=1 kind name missing=0
  make_cases
  while IFS= read -r line; do
    name=case_$number
    [[ -n $line ]] || number=$((number + 1))
    [[ $line == [=+!]'> '* ]] || continue
    kind=${line%%'> '*} line=${line#*'> '}
    sed -n "/^from .*\/$name.sbatch/,/^submit /p" "$said" >"$BATS_TEST_TMPDIR/case"
    case $kind in
      =) lines "$name" | grep -cxF -- "$line" >/dev/null ;;
      +) grep '^submit ' "$BATS_TEST_TMPDIR/case" | grep -cF -- "$line" >/dev/null ;;
      !) grep -cF -- "$line" "$BATS_TEST_TMPDIR/case" >/dev/null ;;
    esac || {
      printf '%s: no %s> %s in:\n%s\n%s\n' "$name" "$kind" "$line" "$(<"$BATS_TEST_TMPDIR/case")" "$(lines "$name")"
      missing=1
    }
  done <"${from_sbatch_golden}_cases.txt"
  ((number > 30 && missing == 0))
}

@test "the program gets the words that bash itself gives it (python is a stub that records them)" {
  local file name compared=0 bin=$BATS_TEST_TMPDIR/bin
  make_cases
  mkdir -- "$bin" "$project/src"
  printf '#!/bin/sh\nprintf "%%s\\0" "$#" "$@" >>"$WORDS"\n' >"$bin/python"
  printf '#!/bin/sh\n' | tee "$bin/cp" "$bin/rsync" "$bin/sleep" >"$bin/conda"
  chmod +x -- "$bin"/*
  cd -- "$project"
  for file in "$scripts"/*.sbatch; do
    name=${file##*/} name=${name%.sbatch}
    # These values exist only in a job, or bash leaves them to srun.
    if grep -qE 'srun|conda|expr|\$1 |"\$@"$|\bcd ' "$file" && ! grep -q '^run()' "$file"; then continue; fi
    WORDS=$BATS_TEST_TMPDIR/words python3 "$BATS_TEST_DIRNAME/from_sbatch_oracle.py" "$file" "$checkout/hpc/job_submitter/experiments_file.py" \
      "$project/experiment_configurations_$name.txt" "$(grep "^submit .*$name.txt" "$said")" "$bin" || {
      printf 'case %s:\n%s\n' "$name" "$(<"$file")"
      return 1
    }
    compared=$((compared + 1))
  done
  ((compared > 25))
}

@test "no command of a script is executed, however it is written" {
  script all 'touch canary' '$(touch canary)' 'x=`touch canary`' 'source ./touch.sh' 'cat <(touch canary)' 'eval "touch canary"' \
    'bash -c "touch canary"' 'python -c "open(\"canary\", \"w\")"' 'A=$((x[$(touch canary)]))' 'trap "touch canary" EXIT' \
    'export B="$(touch canary)"' 'python train.py "`touch canary`" "$(touch canary)" ${x:-$(touch canary)} $((1 + $(touch canary)))' \
    "module load 'x\$(touch canary)' \"y'; touch canary; '\"" "source \"/v'; touch canary; '/bin/activate\""
  printf 'touch canary\n' >"$project/touch.sh"
  cd -- "$project"
  run from "$scripts/all.sbatch" "$project"
  [[ $status == 0 ]]
  # Read what was written, too, because a profile is sourced.
  local -A site=()
  # shellcheck source=/dev/null
  source "$project/hpc/clusters/from_all.sh"
  [[ ${site[modules]} == *"y'; touch canary; '"* ]]
  [[ -z $(find "$BATS_TEST_TMPDIR" -name 'canary') ]]
}

@test "keys go to .env, which only its owner can read, and nowhere else" {
  script keys 'export WANDB_API_KEY=wandbwandbwandb' 'OPENAI_API_KEY="sk-openaiopenai" python other.py' 'HF_TOKEN=hf_hugginghugging' \
    'huggingface-cli login --token $HF_TOKEN' 'wandb login 0123456789abcdef0123456789abcdef01234567' \
    'curl -H "Authorization: hf_inacurlcommand" x' 'srun python train.py --api-key=secretargument --max_tokens 100 --db "$WANDB_API_KEY"'
  run from "$scripts/keys.sbatch" "$project"
  [[ $status == 0 ]]
  local secret
  for secret in sk-openai hf_hugging secretargument hf_inacurl; do
    [[ $output != *"$secret"* ]]
    run ! grep -rqF --exclude=.env -- "$secret" "$project"
  done
  [[ $(stat --format=%a -- "$project/.env") == 600 ]]
  grep -qx 'API_KEY=secretargument' "$project/.env"
  grep -qx 'HF_TOKEN=hf_hugginghugging' "$project/.env"
  [[ $(grep -v '^#' "$project/experiment_configurations.txt") == 'python train.py --api-key=${API_KEY} --max_tokens 100 --db ${WANDB_API_KEY}' ]]
}

@test "existing files of the project stay; a second call changes nothing" {
  script one 'module load a' 'export A=1 B=2 C="a b"' 'python train.py'
  printf 'mine 1\n' >"$project/experiment_configurations.txt"
  printf 'B=mine' >"$project/.env"
  mkdir -p -- "$project/hpc/clusters"
  printf 'mine\n' >"$project/hpc/clusters/from_one.sh"
  from "$scripts/one.sbatch" "$project" >"$BATS_TEST_TMPDIR/said"
  grep -q '^kept .*from_one.sh: ' "$BATS_TEST_TMPDIR/said"
  [[ $(<"$project/experiment_configurations.txt") == 'mine 1' && $(<"$project/hpc/clusters/from_one.sh") == mine ]]
  [[ $(<"$project/.env") == $'B=mine\nA=1\nC=\'a b\'' && $(lines one) == 'B=2 python train.py' ]]
  grep -qx 'site\[modules\]=a' "$project/hpc/clusters/from_one.sh.new"
  find "$project" ! -type d ! -name .installed -printf '%P %T@ %s\n' | sort >"$BATS_TEST_TMPDIR/before"
  mv -- "$project/hpc/clusters/from_one.sh.new" "$project/hpc/clusters/from_one.sh"
  from "$scripts/one.sbatch" "$project" >"$BATS_TEST_TMPDIR/said"
  run ! grep -E '^(kept|new) ' "$BATS_TEST_TMPDIR/said"
  diff <(grep -v from_one "$BATS_TEST_TMPDIR/before") <(find "$project" ! -type d ! -name .installed ! -name 'from_one.sh*' -printf '%P %T@ %s\n' | sort)
}

@test "an environment or image of the script needs no venv/create.sh; a missing module command is reported" {
  script bare 'module load a' 'python train.py'
  script made 'source /envs/x/bin/activate' 'python train.py'
  unset -f module
  run -0 --separate-stderr from "$scripts/bare.sbatch" --dry-run "$project"
  if ! compgen -G '/etc/profile.d/*lmod.sh' && ! compgen -G '/etc/profile.d/modules.sh' && ! compgen -G '/usr/share/*/init/bash'; then
    [[ $stderr == *'note: this machine has no command module. '*'remove site[modules] from hpc/clusters/from_bare.sh'* ]]
  fi
  module() { :; }
  export -f module
  run -0 --separate-stderr from "$scripts/bare.sbatch" "$project"
  [[ $stderr != *'no command module'* && $stderr == *$'\n  bash venv/create.sh\n'* ]]
  rm -r -- "$project/hpc"
  run -0 --separate-stderr from "$scripts/made.sbatch" "$project"
  [[ $stderr == *'next: look'* && $stderr != *'create.sh'* && $stderr != *'no command module'* ]]
  script image 'singularity exec /images/a.sif python train.py'
  rm -r -- "$project/hpc"
  run -0 --separate-stderr from "$scripts/image.sbatch" "$project"
  [[ $stderr == *'next: look'* && $stderr != *'create.sh'* ]]
}

# refused PATTERN [ARGUMENT...]   The call must be refused and write nothing.
refused() {
  fails_with 2 "$1" from "${@:2}"
  [[ -z $(find "$project" -newer "$BATS_TEST_TMPDIR/stamp" ! -type d) ]]
}

@test "files that are no scripts of sbatch are refused, and nothing is written" {
  touch -- "$BATS_TEST_TMPDIR/stamp"
  cd -- "$scripts"
  refused 'there is no such file' missing.sbatch "$project"
  refused 'no file in this folder is a script' "$project" "$project"
  printf '#!/bin/bash\npython x.py\n' >plain.sh
  refused 'there is no #SBATCH line in front' plain.sh "$project"
  printf '#!/bin/bash\n#PBS -l nodes=1\n#SBATCH -N 1\n' >pbs.sh
  refused 'line 2: #PBS: the script is of PBS' pbs.sh "$project"
  printf '#!/bin/bash\n#SBATCH -N 1\n\0\n' >binary
  refused 'NUL byte' binary "$project"
  printf '#SBATCH -N 1\npython x.py\n' >head.sh
  refused 'line 1: it does not begin with' head.sh "$project"
  printf '#!/bin/bash\r\n#SBATCH -N 1\r\n' >windows.sh
  refused 'lines end as on Windows' windows.sh "$project"
  printf '#!/bin/bash\n#SBATCH -N 1\n#SBATCH hetjob\n#SBATCH -N 2\n' >het.sh
  refused 'line 3: hetjob' het.sh "$project"
  printf '#!/bin/bash\n#SBATCH -N 1\necho\nif true; then\n  echo "a\n' >quote.sh
  refused 'line [0-9]+: a quote' quote.sh "$project"
  printf '#!/bin/bash\n#SBATCH -N\n' >value.sh
  refused 'line 2: -N has no value' value.sh "$project"
  printf '#!/bin/bash\n#SBATCH -N two\n' >nodes.sh
  refused 'line 2: --nodes=two is not a number' nodes.sh "$project"
  script good 'python train.py'
  refused '--from and a command behind -- contradict' good.sbatch "$project" -- python train.py
  fails_with 2 'say which script' bash "$checkout/hpc/adopt.sh" --from
  # One wrong file among several.
  refused 'there is no #SBATCH line' good.sbatch plain.sh "$project"
}

@test "on a site with a profile, the new profile builds on it (the cluster's name comes from a stub)" {
  local -A site=()
  mkdir -- "$BATS_TEST_TMPDIR/stub"
  printf '#!/bin/sh\nprintf "ClusterName = narval\\n"\n' >"$BATS_TEST_TMPDIR/stub/scontrol"
  printf '#!/bin/sh\n' >"$BATS_TEST_TMPDIR/stub/sbatch"
  chmod +x -- "$BATS_TEST_TMPDIR/stub"/*
  PATH=$BATS_TEST_TMPDIR/stub:$PATH
  script one 'module load cuda' 'python train.py'
  from "$scripts/one.sbatch" "$project"
  declare -g site_clusters+=$checkout/hpc/clusters # for the profile
  # shellcheck source=/dev/null
  source "$project/hpc/clusters/from_one.sh"
  [[ ${site[modules]} == cuda && -n ${site[gpus_per_node]} ]]
}

@test "several files, and the repository around them if no folder is given" {
  git -C "$project" init --quiet
  mkdir -- "$project/jobs"
  script one 'python train.py --a 1'
  script two 'python train.py --a 2'
  mv -- "$scripts"/*.sbatch "$project/jobs/"
  from "$project/jobs/one.sbatch" "$project/jobs/two.sbatch" >"$BATS_TEST_TMPDIR/said" 2>&1
  [[ $(lines one) == 'python train.py --a 1' && $(lines two) == 'python train.py --a 2' ]]
  grep -qF 'bash hpc/job_submitter.sh --configs experiment_configurations_two.txt --gpus 0 --cpus 1 --mem 1G --time 1:00:00' "$BATS_TEST_TMPDIR/said"
}
