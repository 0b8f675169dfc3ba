#!/usr/bin/env bats
# .env and the W&B key: hpc/lib/secrets.sh.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup() {
  use_libraries common dotenv secrets
  folder=$BATS_TEST_TMPDIR/"it's here"
  mkdir -- "$folder"
  export HOME=$BATS_TEST_TMPDIR/home
  mkdir -- "$HOME"
  unset WANDB_API_KEY
  taken=()
}

take() {
  taken+=("$1=$2")
}

# reads TEXT NAME=VALUE...   A file with this text must set these variables, without a warning.
reads() {
  printf '%s' "$1" >"$folder/.env"
  shift
  wanted=("$@") taken=()
  dotenv::each "$folder/.env" take 2>"$BATS_TEST_TMPDIR/messages"
  if [[ ${taken[*]@Q} != "${wanted[*]@Q}" || -s $BATS_TEST_TMPDIR/messages ]]; then
    printf 'got     %s\nwanted  %s\n' "${taken[*]@Q}" "${wanted[*]@Q}" >&2
    cat -- "$BATS_TEST_TMPDIR/messages" >&2
    return 1
  fi
}

# warns 'N N ' TEXT NAME=VALUE...   The same, with a warning for each of these lines and no other; no warning may show the line's content.
warns() {
  local -r lines=$1
  reads "${@:2}" && return 1
  [[ ${taken[*]@Q} == "${wanted[*]@Q}" ]]
  grep -oE '/\.env, lines? [0-9]+( to [0-9]+)?' "$BATS_TEST_TMPDIR/messages" | sed -E 's/.*lines? //; s/ to /-/' | tr '\n' ' ' >"$BATS_TEST_TMPDIR/numbers"
  diff - "$BATS_TEST_TMPDIR/numbers" --ignore-trailing-space <<<"$lines"
  [[ $(grep -c '' "$BATS_TEST_TMPDIR/messages") == $(wc -w <<<"$lines") ]]
  run ! grep -q SECRET "$BATS_TEST_TMPDIR/messages"
}

@test "names and values, comments, blanks, quotes" {
  reads $'# comment\n\n  # another\nA=1\n B = two words  \nexport C=3\nexport\tD=4\nE=\nF=a#b # comment\n_g9=x=y\n' \
    A=1 'B=two words' C=3 D=4 E= 'F=a#b' '_g9=x=y'
  reads $'A=\'a # b\' # c\nB="a \' b"\nC=\'a " b\'\nD=""\nE=\' x \'\n' \
    'A=a # b' "B=a ' b" 'C=a " b' D= 'E= x '
  reads $'A=1\r\nB="2"\r\nC=3' A=1 B=2 C=3
  reads ''
}

@test "nothing is executed or expanded" {
  cd -- "$BATS_TEST_TMPDIR" || return
  warns '1 2 3 4 8 ' $'A=$(touch canary)\nB=`touch canary`\nC="$(touch canary) $HOME"\nD=${HOME}\nE=a;touch canary\nF=*\nG=\\n\nH=a[$(touch canary)]\n' \
    'A=$(touch canary)' 'B=`touch canary`' 'C=$(touch canary) $HOME' 'D=${HOME}' 'E=a;touch canary' 'F=*' 'G=\n' \
    'H=a[$(touch canary)]'
  secrets::export "$folder"
  [[ $A == '$(touch canary)' && $F == '*' && ! -e canary && ! -e "$folder/canary" ]]
}

@test "an invalid line is reported by its number, never by its content" {
  printf 'A=1\nsk-SECRET\n9B=SECRET\nC D=SECRET\n=SECRET\nunset A SECRET\n$(SECRET)=1\nE=2\n' >"$folder/.env"
  dotenv::each "$folder/.env" take 2>"$BATS_TEST_TMPDIR/messages"
  [[ ${taken[*]} == 'A=1 E=2' ]]
  [[ $(grep -o 'line [0-9]* is not NAME=VALUE' "$BATS_TEST_TMPDIR/messages" | tr -dc '0-9\n' | tr '\n' ' ') == '2 3 4 5 6 7 ' ]]
  run ! grep -q SECRET "$BATS_TEST_TMPDIR/messages"
}

@test "lines that other readers read otherwise are reported by number: names to expand, quotes within quotes, values over several lines" {
  warns '1 3 4 ' $'A=${SCRATCH}/SECRET\nB=\'${SCRATCH} a\\b\'\nC="$HOME SECRET"\nD="C:\\SECRET"\nE=C:\\x\nF=a$1$\n' \
    'A=${SCRATCH}/SECRET' 'B=${SCRATCH} a\b' 'C=$HOME SECRET' 'D=C:\SECRET' 'E=C:\x' 'F=a$1$'
  warns '1 2 3 ' $'K="a\\"SECRET"\nL="a" SECRET\nM=\'SECRET\nN=1' N=1
  # The middle of a key must not become a variable.
  warns '2-5 ' $'A=1\nPEM="-----BEGIN SECRET\nSECRETbase64==\nB=SECRET\n-----END-----"\nC=\'it\'' A=1 C=it
  warns '1 3-4 ' $'A=\'SECRET\nB=1\nC="\n"' B=1
}

@test "a missing file is no error" {
  dotenv::each "$folder/.env" take
  secrets::export "$folder"
  ((${#taken[@]} == 0))
}

@test "a node that cannot read the project, or has no HOME: a message, and the job continues" {
  unset HOME
  run -0 --separate-stderr secrets::export "$folder/none"
  [[ $stderr == *' cannot read '*', and so not its .env: export'* ]]
  run -0 --separate-stderr secrets::export "$folder"
  [[ -z $stderr ]]
}

@test "a variable that the environment already has wins, empty or not" {
  export A=mine B=
  unset C
  printf 'A=file\nB=file\nC=file\n' >"$folder/.env"
  secrets::export "$folder"
  [[ $A == mine && -z $B && $C == file ]]
  [[ $(printenv C) == file ]]
}

@test "names that the reader itself uses are set, or reported; a name of the kit's is not set" {
  kit=/kit/of/the/run
  printf '%s=11\n' name value line file command number end kit >"$folder/.env"
  run --separate-stderr reached
  [[ $output == 'name=11 value=11 line=11 file=11 command=11 number=11 end=11 kit=/kit/of/the/run' ]]
  [[ $stderr == *"kit is a variable of the kit's own: the one of .env is ignored; give it another name" && $stderr != *$'\n'* ]]
}

reached() {
  unset name
  dotenv::each "$folder/.env" secrets::export_unless_set
  echo "name=$(printenv name) value=$(printenv value) line=$(printenv line) file=$(printenv file) command=$(printenv command) number=$(printenv number) end=$(printenv end) kit=$kit"
}

@test "a name that is read-only in the shell does no harm" {
  printf 'BASHPID=1\nUID=0\nEUID=0\nSHELLOPTS=x\nPPID=1\nBASHOPTS=x\nAFTER=1\n' >"$folder/.env"
  run -0 --separate-stderr bash -c '
    set -euo pipefail
    source "$1/hpc/lib/common.sh"
    source "$1/hpc/lib/dotenv.sh"
    source "$1/hpc/lib/secrets.sh"
    secrets::export "$2"
    printenv AFTER
  ' shell "$checkout" "$folder"
  [[ $output == 1 ]]
}

@test "the key in wandb_credentials.txt" {
  local -r key=0123456789abcdef0123456789abcdef01234567
  printf '%s\n' "$key" >"$HOME/wandb_credentials.txt"
  secrets::export "$folder"
  [[ $(printenv WANDB_API_KEY) == "$key" ]]

  unset WANDB_API_KEY
  printf '%s' "$key" >"$HOME/wandb_credentials.txt" # no newline
  secrets::export "$folder"
  [[ $WANDB_API_KEY == "$key" ]]

  WANDB_API_KEY=mine
  secrets::export "$folder"
  [[ $WANDB_API_KEY == mine ]]

  unset WANDB_API_KEY
  printf 'WANDB_API_KEY=%s\n' "$key" >"$folder/.env"
  rm -- "$HOME/wandb_credentials.txt"
  secrets::export "$folder"
  [[ $WANDB_API_KEY == "$key" ]]
}

@test "a file that does not start with a key is ignored and not shown" {
  printf 'my SECRET key is\n' >"$HOME/wandb_credentials.txt"
  run -0 --separate-stderr secrets::export "$folder"
  [[ $stderr == *'wandb_credentials.txt does not begin with a W&B key'* && $stderr != *SECRET* ]]
  : >"$HOME/wandb_credentials.txt"
  run -0 --separate-stderr secrets::export "$folder"
  [[ $stderr == *'does not begin with'* ]]
}

@test "the submitter takes only SCRATCH and HPC_ variables from .env" {
  make_project
  mkdir -- "$BATS_TEST_TMPDIR/bin" "$BATS_TEST_TMPDIR/scratch"
  printf '#!/bin/sh\nexit 1\n' >"$BATS_TEST_TMPDIR/bin/sbatch"
  cp -- "$BATS_TEST_TMPDIR/bin/sbatch" "$BATS_TEST_TMPDIR/bin/scontrol"
  chmod +x -- "$BATS_TEST_TMPDIR"/bin/*
  printf 'SCRATCH=%q\nHPC_GPUS=3\nHPC_CLUSTER=default\nSBATCH_ACCOUNT=x\nBASH_ENV=%q\nPATH=/nowhere\n' \
    "$BATS_TEST_TMPDIR/scratch" "$BATS_TEST_TMPDIR/canary.sh" >"$project/.env"
  unset SCRATCH
  PATH=$BATS_TEST_TMPDIR/bin:$PATH run -0 --separate-stderr submitter --dry-run
  [[ $output == *"'--gpus-per-node=3'"* && $output == *"--chdir=$BATS_TEST_TMPDIR/scratch/"* ]]
}
