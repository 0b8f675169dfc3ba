#!/usr/bin/env bats
# The site profiles of hpc/clusters, and which one is chosen.

# shellcheck disable=SC2154 # the helpers and the libraries set them
load ../helpers

setup() {
  make_project
  # The user's own profiles, of this test alone.
  export XDG_CONFIG_HOME=$BATS_TEST_TMPDIR/config
  users=$XDG_CONFIG_HOME/hpc_kit/clusters
  mkdir -p -- "$users"
}

# chosen CLUSTER_NAME HOST [NAME]   The profile that a login node of that name takes. `site` is printed with a
# line for each key.
chosen() {
  # shellcheck disable=SC2016 # for the inner shell
  env -i PATH="$PATH" HOME="$HOME" XDG_CONFIG_HOME="$XDG_CONFIG_HOME" bash -c '
    set -euo pipefail
    shopt -s inherit_errexit
    source "$1/hpc/lib/common.sh"
    source "$1/hpc/lib/site.sh"
    slurm[ClusterName]=$2
    uname_of_test=$3
    uname() { printf "%s\n" "$uname_of_test"; }
    site::load "$1/hpc" "${4:-}"
    for key in "${!site[@]}"; do printf "%s=%s\n" "$key" "${site[$key]}"; done | sort
  ' site "$checkout" "$@"
}

# A Slurm that only tells its name.
fake_slurm() {
  local -r folder=$BATS_TEST_TMPDIR/bin
  mkdir -p -- "$folder"
  printf '#!/bin/sh\nexit 1\n' >"$folder/sbatch"
  printf '#!/bin/sh\necho "ClusterName             = %s"\n' "$1" >"$folder/scontrol"
  chmod +x -- "$folder"/*
  PATH=$folder:$PATH
  export SCRATCH=$BATS_TEST_TMPDIR/scratch
  mkdir -p -- "$SCRATCH"
}

# user_profile NAME LINE...
user_profile() {
  printf '%s\n' "${@:2}" >"$users/$1.sh"
}

@test "every profile loads in a bare environment and sets only what may be set" {
  use_libraries common checks options option_table
  option_table::define
  local profile name line known
  known=" name $(sed -nE 's/^site\[([a-z_]+)\]=.*/\1/p' "$checkout/hpc/clusters/default.sh" | paste -sd ' ') ${options_order[*]} "
  for profile in "$checkout"/hpc/clusters/*.sh; do
    name=${profile##*/}
    name=${name%.sh}
    if [[ $name == pocket ]]; then continue; fi # below
    chosen '' nowhere "$name" >"$BATS_TEST_TMPDIR/site"
    grep -qx "name=$name" "$BATS_TEST_TMPDIR/site"
    while IFS= read -r line; do
      [[ $known == *" ${line%%=*} "* ]] || {
        echo "$name sets ${line%%=*}, which nobody reads"
        return 1
      }
    done <"$BATS_TEST_TMPDIR/site"
  done
}

@test "the values of options in profiles pass the options' own checks" {
  local profile
  for profile in cedar plai oscer; do
    (
      use_libraries common checks options option_table site
      option_table::define
      options::parse
      site::load "$checkout/hpc" "$profile"
      options::complete site
    )
  done
}

@test "the profile of the pocket cluster needs that cluster's variables" {
  fails_with 1 'POCKET_CLUSTER_DIR: run  eval "\$\(bash hpc/pocket_cluster.sh env\)"$' chosen pocket anywhere
  export POCKET_CLUSTER_DIR=/p
  use_libraries common site
  site::load "$checkout/hpc" pocket
  [[ ${site[node_local_directory]} == /p/localscratch ]]
}

@test "profiles are data: nothing but assignments to site, and node_setup" {
  local profile
  for profile in "$checkout"/hpc/clusters/*.sh; do
    run ! grep -vE '^(#.*|site\[[a-z_]+\]=.*|)$' <(sed '/^node_setup() {$/,/^}$/d' "$profile")
  done
}

@test "Slurm's name of the cluster chooses, then the host, else default" {
  chosen cedar nowhere | grep -qx name=cedar
  chosen oscer cedar5.cedar.computecanada.ca | grep -qx name=oscer
  chosen something cedar5.cedar.computecanada.ca | grep -qx name=cedar
  chosen '' borg.cs.ubc.ca | grep -qx name=plai
  chosen '' schooner2 | grep -qx name=oscer
  chosen something elsewhere.example.org | grep -qx name=default
}

@test "a profile that is named wins over both" {
  chosen cedar borg.cs.ubc.ca oscer | grep -qx name=oscer
  chosen cedar borg.cs.ubc.ca default | grep -qx name=default
}

@test "the user's own profile wins, adds sites, and starts from the defaults" {
  user_profile cedar 'site[account]=def-mine'
  chosen cedar nowhere >"$BATS_TEST_TMPDIR/site"
  grep -qx account=def-mine "$BATS_TEST_TMPDIR/site"
  grep -qx node_local_directory=/tmp "$BATS_TEST_TMPDIR/site"
  run ! grep -q gpu_type "$BATS_TEST_TMPDIR/site"

  user_profile mine '# hosts: login-* front' 'site[partition]=fast'
  chosen something login-3 | grep -qx partition=fast
  chosen something front | grep -qx name=mine
  chosen mine elsewhere | grep -qx name=mine
}

@test "an unknown --cluster is refused with the known ones; so is a path" {
  fake_slurm anything
  fails_with 2 "--cluster 'ceder'.* cedar .*oscer .*plai.*; your own go to $users" submitter --cluster ceder --dry-run
  fails_with 2 "--cluster '\.\./clusters/cedar'" submitter --cluster ../clusters/cedar --dry-run
  HPC_CLUSTER=nowhere fails_with 2 "'nowhere'" submitter --dry-run
}

@test "a profile's values reach sbatch, and the user's come first" {
  fake_slurm cedar
  run --separate-stderr submitter --dry-run --no-preflight
  ((status == 0))
  [[ $output == *"--gpus-per-node=v100l:1"* && $output != *--account* ]]
  HPC_ACCOUNT=def-mine run --separate-stderr submitter --dry-run --no-preflight -G p100
  [[ $output == *"--gpus-per-node=p100:1"* && $output == *"--account=def-mine"* ]]
}

@test "what means nothing at a site is left out, and the user is told" {
  fake_slurm plai
  run --separate-stderr submitter --dry-run --no-preflight
  ((status == 0))
  [[ $output == *"'--gpus-per-node=1'"* && $output == *"'--partition=plai'"* && $stderr != *'left out'* ]]
  HPC_ACCOUNT=rrg-other run --separate-stderr submitter --dry-run --no-preflight --gpu-type v100l
  ((status == 0))
  [[ $output == *"'--gpus-per-node=1'"* && $output != *--account* ]]
  [[ $stderr == *'--account rrg-other is left out: it means nothing at plai'* ]]
  [[ $stderr == *'--gpu-type v100l is left out'* ]]
}

@test "OSCER's own folder on the node's disk becomes SLURM_TMPDIR" {
  local got
  # shellcheck disable=SC2016 # for the inner shell
  got=$(LSCRATCH=/lscratch/7 SLURM_TMPDIR=/tmp/me_7_0 bash -c 'declare -A site; source "$1"; node_setup; printenv SLURM_TMPDIR' \
    oscer "$checkout/hpc/clusters/oscer.sh")
  [[ $got == /lscratch/7 ]]
  # shellcheck disable=SC2016 # for the inner shell
  got=$(env -u LSCRATCH SLURM_TMPDIR=/tmp/me_7_0 bash -euc 'declare -A site; source "$1"; node_setup; printenv SLURM_TMPDIR' \
    oscer "$checkout/hpc/clusters/oscer.sh")
  [[ $got == /tmp/me_7_0 ]]
}
