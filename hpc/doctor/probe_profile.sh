# shellcheck shell=bash
# doctor.sh --profile: a first profile for a site that nobody has described, from what its Slurm, the login environment and
# a few `sbatch --test-only` calls tell. At most twelve questions to the controller, and no job.

declare -gA options_value slurm
declare -ga probe_profile_lines+=()   # of the profile
declare -ga probe_profile_unknown+=() # what was not found out
declare -g probe_profile_script probe_profile_said

# probe_profile::print HPC_FOLDER [NAME]   On standard output, or with NAME into the user's own profile of that name, if there is none.
probe_profile::print() {
  local file=''
  probe_profile_script=$1/doctor/doctor_node.sh
  if [[ -n ${2:-} ]]; then
    file=${XDG_CONFIG_HOME:-$HOME/.config}/hpc_kit/clusters/$2.sh
    [[ ! -e $file ]] || common::die "there is ${file@Q} already: take its name away first, or leave the NAME out to see the profile here"
    mkdir -p -- "${file%/*}" || common::die "cannot make ${file%/*}: see above"
  fi
  probe_profile::scratch
  probe_profile::slurm
  if [[ -z $file ]]; then
    probe_profile::show
    return
  fi
  probe_profile::show | common::write_atomically "$file"
  common::note "$file: read it, correct it, and try it:  bash hpc/doctor.sh --cluster ${2@Q}"
}

probe_profile::show() {
  local line
  printf '# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # an array of hpc/lib/site.sh\n'
  printf '# A first profile of %s (Slurm %s), by doctor.sh --profile on %(%F)T. Read it: a line with # in front is a guess.\n' \
    "${slurm[ClusterName]:-this cluster}" "${slurm[SLURM_VERSION]:-of unknown version}" -1
  printf '# hpc/clusters/README.md lists all facts.\n\n'
  printf '%s\n' "${probe_profile_lines[@]}"
  printf '\n# Not found out:\n'
  for line in "${probe_profile_unknown[@]}" \
    'internet, node_local_directory, modules: bash hpc/doctor.sh (without --profile) sends a job that looks' \
    'interface, head_address: ip -brief address on a node; only several nodes need them' \
    'gpu_counts, quanta, usable_cpus, time_minimum: the pages of the site'; do
    printf '#   %s\n' "$line"
  done
}

probe_profile::add() {
  probe_profile_lines+=("$1")
}

# Where SCRATCH is not set, a variable of the login shell that is like it.
probe_profile::scratch() {
  local name found=''
  if [[ -n ${SCRATCH:-} ]]; then
    probe_profile::add "# SCRATCH is set here: $SCRATCH"
    return
  fi
  for name in PSCRATCH SCRATCHDIR SCRATCH_DIR GSCRATCH MYSCRATCH CSCRATCH FAST WORK WORKDIR; do
    if [[ ${!name:-} != /* || ! -w ${!name} ]]; then continue; fi
    probe_profile::add "${found:+# }site[scratch]='\$$name' # ${!name}"
    found=1
  done
  if [[ -z $found ]]; then probe_profile_unknown+=('scratch: no SCRATCH, and no variable like it, names a folder in which you can write'); fi
}

probe_profile::slurm() {
  local partition=${options_value[partition]} account accounts
  local -a groups=() place=()
  local -A gpus=()
  if ! partitions::read groups || ! partitions::choose partition groups; then
    probe_profile_unknown+=("GPUs, memory: ${partition:-${groups[0]:-sinfo shows no partition}}")
    if [[ $partition == *'no default partition'* ]]; then probe_profile::add 'site[required]=partition # there is no default one'; fi
    return
  fi
  probe_profile::add "# partition $partition: $(partitions::offers "${groups[@]}")"
  if [[ -n ${options_value[partition]} ]]; then
    probe_profile::add "site[partition]=$partition"
    place+=(--partition="$partition")
  fi
  probe_profile::shares "$partition"
  if [[ -n ${options_value[account]} ]]; then place+=(--account="${options_value[account]}"); fi
  if ! probe_profile::takes 'a small job' "${place[@]}"; then
    if [[ ${probe_profile_said,,} == *account* ]] && slurm::ask_accounts accounts && [[ -n $accounts ]]; then
      account=${accounts%% *}
      if [[ -z ${options_value[account]} ]] && probe_profile::takes "with --account $account" --account="$account" "${place[@]}"; then
        probe_profile::add "site[required]=account # yours: $accounts"
        place+=(--account="$account")
      fi
    fi
    if [[ -n $probe_profile_said ]]; then
      probe_profile_unknown+=('GPUs, memory: no small job is taken; give --account, --partition, --qos here')
      return
    fi
  fi
  probe_profile::memory "${groups[0]}" "${place[@]}"
  partitions::gpus gpus "${groups[@]}"
  probe_profile::gpus "${place[@]}"
}

# probe_profile::shares PARTITION   Whether jobs get whole nodes.
probe_profile::shares() {
  local shown
  slurm::ask shown 10 scontrol --oneliner show partition "${1%%,*}" || return 0
  if [[ $shown == *' OverSubscribe=EXCLUSIVE '* ]]; then probe_profile::add 'site[whole_nodes]=yes # OverSubscribe=EXCLUSIVE'; fi
}

# probe_profile::takes WHAT OPTION...   Whether Slurm takes a small job with these: its words, if not, are in the profile.
probe_profile::takes() {
  local status=0
  # shellcheck disable=SC2034 # it prints nothing there
  local answer
  slurm::call answer probe_profile_said 30 sbatch --test-only --nodes=1 --ntasks=1 --time=10 "${@:2}" "$probe_profile_script" || status=$?
  if ((status == 0)); then
    probe_profile_said=''
    return
  fi
  probe_profile_said=${probe_profile_said//sbatch: error: /}
  probe_profile::add "# $1 is refused: ${probe_profile_said//[[:cntrl:]]/; }"
  return 1
}

# probe_profile::memory GROUP OPTION...
probe_profile::memory() {
  local megabytes
  IFS='|' read -r _ _ _ megabytes _ <<<"$1"
  if ! probe_profile::takes 'with --mem=256M' --mem=256M "${@:2}"; then
    probe_profile::add 'site[memory_request]=none'
  elif [[ $megabytes == 1 ]]; then
    probe_profile::add 'site[memory_request]=none # the nodes tell Slurm no memory'
  fi
}

# probe_profile::gpus OPTION...   By the caller's array gpus.
probe_profile::gpus() {
  local type
  local -a types=()
  local -r most=${gpus[all]}
  unset 'gpus[all]'
  mapfile -t types < <(printf '%s\n' "${!gpus[@]}" | LC_ALL=C sort)
  type=${types[0]}
  if ((most == 0)); then
    probe_profile::add "# site[gpu_request]=partition # this partition shows no GPUs: others may (-p), or they come with it, or by a constraint"
    return
  fi
  probe_profile::add "site[gpus_per_node]=$most${type:+ # types: ${types[*]}}"
  if probe_profile::takes 'with --gpus-per-node=1' --gpus-per-node=1 "$@"; then
    return
  elif [[ -n $type ]] && probe_profile::takes "with --gpus-per-node=$type:1" --gpus-per-node="$type:1" "$@"; then
    probe_profile::add "site[gpu_type]=$type # without a type a job is refused"
  elif probe_profile::takes 'with --gres=gpu:1' --gres=gpu:1 "$@"; then
    probe_profile::add 'site[gpu_request]=gres'
  elif ((most > 1)) && probe_profile::takes "with --gpus-per-node=$most" --gpus-per-node="$most" "$@"; then
    probe_profile::add "site[gpu_counts]=$most # one is refused"
  else
    probe_profile_unknown+=('gpu_request: each way is refused, see above')
  fi
}
