#!/usr/bin/env bats
# The site profiles of hpc/clusters, and how one is chosen.

source "$BATS_TEST_DIRNAME/../helpers.bash"

declare -gA options_kind options_value site_kind site_default site_help # of options.sh and site.sh
declare -ga site_facts
declare -g where rule

setup() {
  make_project
  # The user's own profiles, of this test alone.
  export XDG_CONFIG_HOME=$BATS_TEST_TMPDIR/config
  users=$XDG_CONFIG_HOME/hpc_kit/clusters
  mkdir -p -- "$users"
}

# chosen CLUSTER_NAME HOST [NAME]   Prints the profile that a login node of that name uses, and `site` with a line for each key.
chosen() {
  env -i PATH="$PATH" HOME="$HOME" XDG_CONFIG_HOME="$XDG_CONFIG_HOME" XDG_CONFIG_DIRS="${XDG_CONFIG_DIRS:-}" bash -c '
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

# A Slurm that answers only with its name.
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

# checked PROFILE   Checks the profile as the submitter does: its names, its facts and the values of its options.
checked() {
  use_libraries common checks options option_table site
  option_table::define
  options::parse
  site::load "$checkout/hpc" "$1"
  site::check "${!options_kind[@]}"
  options::complete site
}

@test "every profile of the kit loads in an empty environment, and has only facts and options with valid values" {
  local profile name
  for profile in "$checkout"/hpc/clusters/*.sh; do
    name=${profile##*/}
    name=${name%.sh}
    if [[ $name == pocket ]]; then continue; fi # below
    if grep -q '^source .*/pocket\.sh"$' "$profile"; then
      (export POCKET_CLUSTER_DIR=/p && checked "$name") || { echo "$name" && return 1; }
      continue
    fi
    chosen '' nowhere "$name" >"$BATS_TEST_TMPDIR/site"
    grep -qx "name=$name" "$BATS_TEST_TMPDIR/site"
    (unset -v PSCRATCH && checked "$name") || { echo "$name" && return 1; }
  done
}

@test "an unknown name, or a value of the wrong kind: the message has the file, the line and what is right" {
  local line pattern
  while IFS='|' read -r line pattern; do
    user_profile mine '# a comment' "$line"
    fails_with 2 "error: $users/mine.sh:2: .*$pattern" checked mine
  done <<'LINES'
site[memory_reqest]=none|site\[memory_reqest\]: no such fact or option: did you mean memory_request\?
site[partiton]=gpu|site\[partiton\]: no such fact or option: did you mean partition\?
site[zzz]=1|site\[zzz\]: no such fact or option hpc/clusters/README.md lists them
site[gpu_request]=gre|site\[gpu_request\]: 'gre' is none of: gpus_per_node, gres, constraint, partition, none
site[gpu_request]=''|site\[gpu_request\] is empty, and is needed: .*\(then it is gpus_per_node\)
site[node_local_directory]=|site\[node_local_directory\] is empty
site[node_local_directory]=scratch|'scratch' is neither an absolute path nor the name of a variable
site[scratch]='$A/b'|'\$A/b' is neither an absolute path
site[gpu_counts]='h100:4 all'|'all' is no number of GPUs
site[quanta]='18 120G'|'18 120G' is not CPUS MEMORY billed.refused
site[time_maximum]='91:2:00:00 banana'|'banana' is no limit
site[qos_by_nodes]='2:wide long'|'long' is not NODES:QOS
site[time_minimum]=soon|'soon' is not a time
site[usable_cpus]=most|'most' is not a whole number
site[required]='account partiton'|'partiton': no such fact or option: did you mean partition\?
site[ignored]=mem-per-gpu|'mem-per-gpu': no such fact or option: did you mean mem_per_gpu\?
site[local_disk_request]=nvme|'nvme' is no request for a disk
site[head_address]=i|'i' is no way to an address
site[interface]='ib0 ib1'|'ib0 ib1' is no name of an interface
site[internet]=maybe|'maybe' is none of: yes, no, proxy
site[launcher]=slurm|site\[launcher\]: 'slurm' is none of: torchrun
site[data]=x|site\[data\]: a list cannot be said in a profile
LINES
}

@test "administrators' profiles are for all users: after the user's own, before the kit's" {
  local -r everyone="$BATS_TEST_TMPDIR/etc of all"
  export XDG_CONFIG_DIRS=/nowhere:$everyone
  mkdir -p -- "$everyone/hpc_kit/clusters"
  printf '# hosts: front-*\nsite[account]=theirs\n' >"$everyone/hpc_kit/clusters/narval.sh"
  chosen narval any >"$BATS_TEST_TMPDIR/site" && grep -qx account=theirs "$BATS_TEST_TMPDIR/site"
  chosen '' front-1 >"$BATS_TEST_TMPDIR/site" && grep -qx account=theirs "$BATS_TEST_TMPDIR/site"
  user_profile narval 'site[account]=mine'
  chosen narval any >"$BATS_TEST_TMPDIR/site" && grep -qx account=mine "$BATS_TEST_TMPDIR/site"
  printf 'site[account]=theirs\n' >"$everyone/hpc_kit/clusters/ours.sh"
  fails_with 2 "no such profile: there are .* narval .* ours; your own go to $users" chosen '' any oours
}

@test "a profile that builds on one of the kit's: the message names the line there, and the last value counts" {
  user_profile mine 'source "$site_clusters/narval.sh"' 'site[max_submit]=10'
  (checked mine && site::where where max_submit && [[ $where == "$users/mine.sh:2" ]])
  (checked mine && site::where where forbidden rule && [[ $where == "$checkout/hpc/clusters/alliance.sh:"* && $rule == 'a plugin chooses the partition'* ]])
  (checked mine && [[ ${site[gpu_type]} == a100 && ${site[max_submit]} == 10 && ${options_value[gpu_type]} == a100 ]])
}

@test "scratch and the node's disk may be variables of the site" {
  use_libraries common site
  local value
  unset -v SCRATCH
  declare -A site=([scratch]='$PSCRATCH')
  PSCRATCH=/p/me site::scratch value && [[ $value == /p/me ]]
  unset -v PSCRATCH
  site::scratch value && [[ -z $value ]]
  SCRATCH=/mine site::scratch value && [[ $value == /mine ]]
  SCRATCH='$PSCRATCH' site::scratch value && [[ $value == '$PSCRATCH' ]] # a name only in a profile
  site::expand value /mnt/bb/me && [[ $value == /mnt/bb/me ]]
}

@test "a scratch whose variable is not set: the message has the line and the variable" {
  fake_slurm stub
  unset -v SCRATCH HBWROK
  user_profile stub '# a comment' "site[scratch]='\$HBWROK'"
  fails_with 1 "neither SCRATCH is set nor HBWROK, which $users/stub.sh:2 names \(site\[scratch\]='.HBWROK'\): correct the name there, or export" \
    bash "$project/hpc/job_submitter.sh" --no-preflight
  XDG_STATE_HOME=$BATS_TEST_TMPDIR/state run bash "$project/hpc/doctor.sh" --quick
  [[ $output == *"problem  scratch         neither SCRATCH is set nor HBWROK, which $users/stub.sh:2 names "* ]]
}

@test "a profile with a syntax error: one line with the file, the place and what is right" {
  local line pattern
  fake_slurm stub
  while IFS='|' read -r line pattern; do
    user_profile stub '# a comment' "$line" 'site[max_submit]=5'
    fails_with 2 "the profile $users/stub.sh does not load .*quotes around a value that has spaces\): $pattern" bash "$project/hpc/job_submitter.sh" --no-preflight
    fails_with 2 "the profile $users/stub.sh does not load" bash "$project/hpc/clean_nodes.sh"
  done <<'LINES'
site[gpu_request]=gres gpu|.*line 2: gpu: command not found$
sites[x]=1|line 2: x: unbound variable$
exit 3|it ends before its last line
exit 0|it ends before its last line
false|it ends before its last line
site[modules]="a|line 2: unexpected EOF
LINES
}

@test "memory and GPUs as the profile says: per node, CPU or GPU, typed or not, and the fewest that a small job may have" {
  use_libraries common site node_job
  local request words option
  local -a argv asked
  declare -A site=()
  while IFS='|' read -r request words; do
    argv=()
    read -ra asked <<<"$request"
    site::add_memory argv "${asked[@]}"
    [[ ${argv[*]} == "$words" ]] || { echo "$request: ${argv[*]}" && return 1; }
  done <<'MEMORY'
mem 4096 4 0|--mem=4096M
mem_per_cpu 4096 4 2|--mem-per-cpu=1024M
mem_per_cpu 1000 3 0|--mem-per-cpu=334M
mem_per_cpu 0 3 0|--mem=0
mem_per_gpu 1001 4 2|--mem-per-gpu=501M
mem_per_gpu 1001 4 0|--mem=1001M
zero 1001 4 1|--mem=0
none 1001 4 1|
MEMORY
  while IFS='|' read -r 'site[gpu_request]' 'site[gpu_type_request]' 'site[gpu_counts]' request words; do
    node_job::gpu_option option "$request"
    [[ $option == "$words" ]] || { echo "${site[*]} $request: $option" && return 1; }
  done <<'GPUS'
gpus_per_node|||l40s|--gpus-per-node=l40s:1
gpus_per_node||||--gpus-per-node=1
gres|||l40s|--gres=gpu:l40s:1
gres|constraint||l40s|--gres=gpu:1
gres|none||l40s|--gres=gpu:1
gpus_per_node||h100:4 h200:8|h200|--gpus-per-node=h200:8
gpus_per_node||h100:4 h200:8||--gpus-per-node=4
gpus_per_node||4 1|h100|--gpus-per-node=h100:1
partition|||l40s|
constraint|type|1|l40s|
none|||l40s|
GPUS
}

@test "clean_nodes.sh looks where the node's variable says, and reports if there is none" {
  local -r disk=$BATS_TEST_TMPDIR/disk report=$BATS_TEST_TMPDIR/report
  mkdir -p -- "$disk/$(id -un)_images"
  JOB_DISK=$disk bash "$checkout/hpc/clean_nodes/clean_node.sh" "$checkout/hpc" '$JOB_DISK' "$report" --dry-run
  [[ $(<"$report") =~ ^'found '[0-9]+' '.*_images$ ]]
  run -1 env -u JOB_DISK bash "$checkout/hpc/clean_nodes/clean_node.sh" "$checkout/hpc" '$JOB_DISK' "$report" --dry-run
  [[ $(<"$report") == '$JOB_DISK is not set on this node: correct site[node_local_directory]' ]]
}

@test "clusters/default.sh, the table of clusters/README.md and the table of facts agree" {
  use_libraries common site
  site::define_facts
  local name line
  for name in "${site_facts[@]}"; do
    line=${site_default[$name]}
    printf 'site[%s]=%s # %s\n' "$name" "${line:-"''"}" "${site_help[$name]}"
  done >"$BATS_TEST_TMPDIR/facts"
  diff "$BATS_TEST_TMPDIR/facts" <(sed -nE '/^site\[/s/ +#/ #/p' "$checkout/hpc/clusters/default.sh")

  local -r begin='<!-- facts: made by tests/unit/profiles.bats -->' end='<!-- /facts -->' page=$checkout/hpc/clusters/README.md
  {
    printf '\n| fact | may be | default | meaning |\n|---|---|---|---|\n'
    for name in "${site_facts[@]}"; do
      line=${site_kind[$name]#choice }
      printf '| `%s` | %s | %s | %s |\n' "$name" "${line// /, }" "${site_default[$name]}" "${site_help[$name]//|/\\|}"
    done
    printf '\n'
  } >"$BATS_TEST_TMPDIR/table"
  if [[ -n ${UPDATE_README:-} ]]; then
    sed -i -e "\|^$begin\$|,\|^$end\$|{\|^$begin\$|r $BATS_TEST_TMPDIR/table" -e "\|^<!-- |!d}" "$page"
  fi
  diff "$BATS_TEST_TMPDIR/table" <(sed -n "\|^$begin\$|,\|^$end\$|p" "$page" | sed '1d;$d')
}

@test "the profile of the pocket cluster needs the variables of that cluster" {
  fails_with 2 'pocket.sh does not load .*POCKET_CLUSTER_DIR: run  eval "\$\(bash hpc/pocket_cluster.sh env\)"$' chosen pocket anywhere
  export POCKET_CLUSTER_DIR=/p
  use_libraries common site
  site::load "$checkout/hpc" pocket
  [[ ${site[node_local_directory]} == /p/localscratch ]]
}

@test "profiles are data: nothing but assignments to site, another profile, and node_setup" {
  local profile
  for profile in "$checkout"/hpc/clusters/*.sh; do
    run ! grep -vE '^(#.*|site\[[a-z_]+\]=.*|source "\$site_clusters/[a-z]+\.sh"|)$' <(sed '/^node_setup() {$/,/^}$/d' "$profile")
  done
}

@test "Slurm's cluster name chooses, then the host, else default" {
  chosen cedar nowhere | grep -qx name=cedar
  chosen oscer cedar5.cedar.computecanada.ca | grep -qx name=oscer
  chosen something cedar5.cedar.computecanada.ca | grep -qx name=cedar
  chosen '' borg.cs.ubc.ca | grep -qx name=plai
  chosen '' schooner2 | grep -qx name=oscer
  chosen something elsewhere.example.org | grep -qx name=default
}

@test "a named profile wins over both" {
  chosen cedar borg.cs.ubc.ca oscer | grep -qx name=oscer
  chosen cedar borg.cs.ubc.ca default | grep -qx name=default
}

@test "the user's own profile wins, adds sites, and starts from the defaults" {
  user_profile cedar 'site[account]=def-mine'
  chosen cedar nowhere >"$BATS_TEST_TMPDIR/site"
  grep -qx account=def-mine "$BATS_TEST_TMPDIR/site"
  grep -qx node_local_directory=/tmp "$BATS_TEST_TMPDIR/site"
  run ! grep -q ^gpu_type= "$BATS_TEST_TMPDIR/site"

  user_profile mine '# hosts: login-* front' 'site[partition]=fast'
  chosen something login-3 | grep -qx partition=fast
  chosen something front | grep -qx name=mine
  chosen mine elsewhere | grep -qx name=mine
}

@test "an unknown --cluster, or a path, is refused, and the message lists the known ones" {
  fake_slurm anything
  fails_with 2 "--cluster 'ceder'.* cedar .*oscer .*plai.*; your own go to $users" submitter --cluster ceder --dry-run
  fails_with 2 "--cluster '\.\./clusters/cedar'" submitter --cluster ../clusters/cedar --dry-run
  HPC_CLUSTER=nowhere fails_with 2 "'nowhere'" submitter --dry-run
}

@test "a profile's values reach sbatch; the user's values win" {
  fake_slurm cedar
  run --separate-stderr submitter --dry-run --no-preflight
  ((status == 0))
  [[ $output == *"--gpus-per-node=v100l:1"* && $output != *--account* ]]
  HPC_ACCOUNT=def-mine run --separate-stderr submitter --dry-run --no-preflight -G p100
  [[ $output == *"--gpus-per-node=p100:1"* && $output == *"--account=def-mine"* ]]
}

@test "a QOS by the number of nodes; the user's own comes first" {
  local nodes qos
  at_site "site[qos_by_nodes]='65:huge 2:wide'"
  while read -r nodes qos; do
    run -0 --separate-stderr submitter --dry-run -n "$nodes"
    [[ $output == *"$qos"* ]]
  done <<<$'2 --qos=wide\n64 --qos=wide\n65 --qos=huge'
  run -0 --separate-stderr submitter --dry-run
  [[ $output != *--qos* ]]
  run -0 --separate-stderr submitter --dry-run -n 2 --qos mine
  [[ $output == *--qos=mine* ]]
}

@test "options that have no effect at a site are ignored with a message" {
  fake_slurm plai
  run --separate-stderr submitter --dry-run --no-preflight
  ((status == 0))
  [[ $output == *"'--gpus-per-node=1'"* && $output == *"'--partition=plai'"* && $stderr != *'left out'* ]]
  HPC_ACCOUNT=rrg-other run --separate-stderr submitter --dry-run --no-preflight --gpu-type v100l
  ((status == 0))
  [[ $output == *"'--gpus-per-node=1'"* && $output != *--account* ]]
  [[ $stderr == *'--account rrg-other is ignored: it has no effect at plai'* ]]
  [[ $stderr == *'--gpu-type v100l is ignored'* ]]
}

@test "OSCER's folder on the node's disk becomes SLURM_TMPDIR" {
  local got
  got=$(LSCRATCH=/lscratch/7 SLURM_TMPDIR=/tmp/me_7_0 bash -c 'declare -A site; source "$1"; node_setup; printenv SLURM_TMPDIR' \
    oscer "$checkout/hpc/clusters/oscer.sh")
  [[ $got == /lscratch/7 ]]
  got=$(env -u LSCRATCH SLURM_TMPDIR=/tmp/me_7_0 bash -euc 'declare -A site; source "$1"; node_setup; printenv SLURM_TMPDIR' \
    oscer "$checkout/hpc/clusters/oscer.sh")
  [[ $got == /tmp/me_7_0 ]]
}

# at_site LINE...   Makes these lines the user's profile of the stub's cluster.
at_site() {
  if [[ -z ${stub:-} ]]; then
    stub_slurm
    export SCRATCH=$BATS_TEST_TMPDIR/scratch
    mkdir -- "$SCRATCH"
  fi
  user_profile stub "$@"
}

# asks WORDS OPTION...   A dry run must have these WORDS, one after the other, behind --cpus-per-task.
asks() {
  local -a words=()
  local shown=''
  run -0 --separate-stderr submitter --dry-run "${@:2}"
  mapfile -d '' words < <(xargs printf '%s\0' <<<"$output")
  shown=" ${words[*]} "
  shown=${shown/ --signal=B:USR1@120 / }
  shown=${shown#*--cpus-per-task=}
  shown=${shown%% --requeue*}
  shown=${shown% }
  [[ $shown == "$1" ]] || { printf 'asked: %s\nwanted: %s\n' "$shown" "$1" && return 1; }
}

@test "GPUs, memory, threads and the node's disk are requested as the site requires" {
  at_site '# nothing'
  asks '4 --mem=20480M --time=0-01:00:00 --gpus-per-node=2' -g 2
  asks '4 --mem=0 --time=0-01:00:00 --gpus-per-node=2' -g 2 --mem 0
  at_site 'site[gpu_request]=gres' 'site[memory_request]=mem_per_gpu'
  asks '4 --mem-per-gpu=2560M --time=0-01:00:00 --gres=gpu:a100:2' -g 2 -G a100 --mem 5G
  asks '2 --mem=5120M --time=0-01:00:00' -g 0 --mem 5G
  at_site 'site[gpu_request]=gres' 'site[gpu_type_request]=constraint' 'site[memory_request]=mem_per_cpu' "site[local_disk_request]='gres=tmpfs:10g constraint=nvme tmp=5G'"
  asks '4 --mem-per-cpu=5120M --time=0-01:00:00 --tmp=5G --gres=gpu:2,tmpfs:10g --constraint=a100&nvme' -g 2 -G a100
  asks '4 --mem-per-cpu=5120M --time=0-01:00:00 --tmp=5G --gres=gpu:2,tmpfs:10g,shard:1 --constraint=(x|y)&a100&nvme' -g 2 -G a100 --constraint 'x|y' --sbatch-arg=--gres=shard:1
  at_site 'site[constraint]=gpu' 'site[gpu_type_request]=constraint' 'site[threads_per_core]=2'
  asks '8 --mem=20480M --time=0-01:00:00 --gpus-per-node=2 --constraint=gpu&hbm80g' -g 2 -G hbm80g
  asks '4 --mem=20480M --time=0-01:00:00 --gpus-per-node=2 --constraint=gpu' -g 2 -W srun
  at_site 'site[gpu_request]=partition' 'site[memory_request]=none' 'site[partition]=gh' 'site[threads_per_core]=nomultithread'
  asks '2 --time=0-01:00:00 --hint=nomultithread --partition=gh' -g 1
  fails_with 2 '--gpu-type h100: at stub the partition chooses the GPU: say --partition' submitter -G h100
  at_site 'site[memory_request]=zero' 'site[whole_nodes]=yes' 'site[usable_cpus]=56' 'site[gpus_per_node]=8'
  asks '56 --mem=0 --time=0-01:00:00 --gpus-per-node=8' -g 8
  asks '18 --mem=0 --time=0-01:00:00 --gpus-per-node=3' -g 3 -W srun
  drop_preview
  [[ $stderr == *'warning: --gpus 3: a job at stub gets, and pays, whole nodes of 8 GPUs' ]]
  asks '14 --mem=0 --time=0-01:00:00 --gpus-per-node=8' -g 8 -c 14
  at_site 'site[gpu_type_request]=none'
  fails_with 2 '--gpu-type h100: at stub Slurm knows no types of GPU there' submitter -G h100
}

@test "a site can ignore any option" {
  local name
  at_site "site[ignored]='mem_per_gpu'"
  asks '4 --time=0-01:00:00 --gpus-per-node=2' -g 2
  asks '4 --mem=3072M --time=0-01:00:00 --gpus-per-node=2' -g 2 --mem 3G
  at_site "site[ignored]='time mem mem_per_gpu'"
  asks '4 --gpus-per-node=2' -g 2 -t 30
  drop_preview
  [[ $stderr == *'--time 30 is ignored: it has no effect at stub' ]]
  use_libraries common checks options option_table
  option_table::define
  for name in "${!options_kind[@]}"; do
    if [[ $name == @(help|dry_run|cluster) ]]; then continue; fi
    at_site "site[ignored]=$name"
    run -0 --separate-stderr submitter --dry-run
    drop_preview
    [[ $output == "'sbatch' "* && -z $stderr ]]
  done
}

@test "a request that breaks a rule of the site: the message has the rule in the profile's words, its file and line" {
  local line options pattern
  local -a words
  while IFS='|' read -r line options pattern; do
    at_site '# a comment' "$line # as they say"
    read -ra words <<<"$options"
    fails_with 1 "^job_submitter.sh: error: $pattern: as they say \\(site\\[.*\\] of the profile stub, $users/stub.sh:2; --no-preflight" submitter "${words[@]}"
    run -0 submitter --dry-run --no-preflight "${words[@]}"
  done <<'RULES'
site[forbidden]='partition mem'|-p main|--partition main may not be given here
site[forbidden]='partition mem'|--mem 5G|--mem 5G may not be given here
site[forbidden]=no_snapshot|--no-snapshot|--no-snapshot may not be given here
site[required]='time account'|-t 5|--account must be given here .*; your accounts: mine ours
site[required]=time|-g 1|--time must be given here .*
site[gpu_counts]='1 4'|-g 2|--gpus 2: a job may have 1 or 4 GPUs of a node
site[gpu_counts]='h100:4 h200:8'|-g 2|--gpus 2: a job may have 4 h100 or 8 h200 GPUs of a node
site[gpu_counts]='h100:4 h200:8'|-g 4 -G H200|--gpus 4: a job may have 8 h200 GPUs of a node
site[usable_cpus]=56|-c 64|--cpus 64: a job may have 56 cores of a node
site[quanta]='18 120G refused'|-c 20|--cpus 20 and 10240 MB of memory with 1 GPUs: stub has 18 CPUs and 120G with each, and takes no more
site[time_minimum]=1:00:00|-t 59|--time 0-00:59:00: the shortest is 0-01:00:00
site[time_maximum]=1-0|-t 25:00:00|--time 1-01:00:00: the longest with 1 nodes is 1-00:00:00
site[time_maximum]='91:2:00:00 183:6:00:00 12:00:00'|-t 3:00:00 -n 91|--time 0-03:00:00: the longest with 91 nodes is 0-02:00:00
site[time_maximum]='12:00:00 183:6:00:00 91:2:00:00'|-t 7:00:00 -n 92|--time 0-07:00:00: the longest with 92 nodes is 0-06:00:00
site[time_maximum]='91:2:00:00 183:6:00:00 12:00:00'|-t 13:00:00 -n 200|--time 0-13:00:00: the longest with 200 nodes is 0-12:00:00
RULES
}

@test "requests that the rules allow are not refused; what is billed is reported" {
  local line options
  local -a words
  while IFS='|' read -r line options; do
    at_site "${line// site/$'\n'site}"
    read -ra words <<<"$options"
    run -0 --separate-stderr submitter --dry-run "${words[@]}"
    drop_preview
    [[ -z $stderr ]]
  done <<'RULES'
site[forbidden]='partition mem mem_per_gpu'|-g 1
site[gpu_counts]='1 4'|-g 4
site[gpu_counts]='1 4'|-g 0
site[gpu_counts]='h100:4 h200:8'|-g 8
site[usable_cpus]=56|-c 56
site[usable_cpus]=56 site[threads_per_core]=2|-c 56
site[quanta]='18 120G billed'|-g 2 -c 36 --mem 240G
site[time_maximum]='91:2:00:00 183:6:00:00'|-t 9:00:00 -n 184
RULES
  at_site "site[quanta]='18 120G billed'"
  run -0 --separate-stderr submitter --dry-run -g 1 -c 20
  drop_preview
  [[ $stderr == *'this is rounded up, and billed as 2 GPUs of each node' ]]
  at_site 'site[required]=account'
  HPC_ACCOUNT=mine run -0 --separate-stderr submitter --dry-run
  SBATCH_ACCOUNT=mine run -0 --separate-stderr submitter --dry-run
  drop_preview
  [[ -z $stderr ]]
  at_site 'site[forbidden]=partition # a plugin chooses'
  SBATCH_PARTITION=main fails_with 1 'HPC_PARTITION=main of the environment .* may not be given here: a plugin chooses ' submitter
  at_site 'site[max_submit]=3' 'site[requeue]=continue' 'site[sbatch_on_nodes]=no' 'site[interface]=ib0' 'site[head_address]=suffix=i' "site[node_local_directory]='\$JOB_DISK'"
  run -0 --separate-stderr submitter --repeat 4 --no-snapshot
  [[ $(tr '\0' '\n' <"$RECORD" | grep -e --array) == $'--array=1-3\n--array=1' && $stderr == *'can neither be put back into the queue nor send another'* ]]
  line=$(cat -- "$SCRATCH"/*/hpc_outputs/*/facts)
  [[ $line == *"[interface]='ib0'"* && $line == *"[head_address]='suffix=i'"* && $line == *"[node_local_directory]='\$JOB_DISK'"* ]]
  [[ $line == *"[requeue]='continue'"* && $line == *"[sbatch_on_nodes]='no'"* ]]
}
