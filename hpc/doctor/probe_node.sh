# shellcheck shell=bash
# What only a compute node can tell: doctor.sh sends one job of a minute (doctor_node.sh), and judges its report. Needs
# common.sh, options.sh, site.sh, probe_slurm.sh, probe_login.sh and findings.sh.

declare -gA options_value site
declare -g partition one_gpu scratch
# What the node has reported; this, if it broke off.
declare -gA answer=([node]='the node' [time]='' [local_disk]='' [modules]='the job broke off before they were loaded' [python]=''
  [container]='' [server]='the server' [internet]=no)

readonly probe_node_clock_seconds=10 # less is the time that a start, and a network file system, may take

# probe_node::all HPC_FOLDER   In the partition and with the scratch of the other probes.
probe_node::all() {
  local reports job='' shown=''
  if [[ -z $scratch ]]; then
    findings::add note node 'not asked, as it could not report: see scratch and output' 'mend that, then again'
    return
  fi
  reports=$(mktemp -d -- "$scratch/.doctor.XXXXXX")
  trap probe_node::leave EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  if probe_node::send "$1" && probe_node::wait && probe_node::read_report; then
    probe_slurm::requeue "$(probe_slurm::field Requeue "$shown")"
    probe_node::judge
  fi
  probe_node::leave
  trap - EXIT INT TERM HUP
}

probe_node::leave() {
  if [[ -n $job ]]; then scancel --quiet "$job" 2>/dev/null || true; fi
  rm -rf -- "$reports"
}

# Where only jobs with GPUs are taken, with one.
probe_node::send() {
  local first message='' name
  local -a argv=(
    sbatch --parsable --job-name=doctor --nodes=1 --ntasks=1 --cpus-per-task=1 --mem=256M --time=1 --requeue
    --partition="$partition" --chdir="$reports" --output=/dev/null
  )
  for name in account qos; do
    if [[ -n ${options_value[$name]} ]]; then argv+=("--$name=${options_value[$name]}"); fi
  done
  argv+=("$1/doctor/doctor_node.sh" "$1" "${site[name]}" "${site[modules]}" "${site[node_local_directory]}" "$reports/report")
  if ! first=$(timeout 60 "${argv[@]}" 2>&1); then
    if [[ -z $one_gpu ]] || ! message=$(timeout 60 sbatch "$one_gpu" "${argv[@]:1}" 2>&1); then
      findings::add problem node "Slurm takes no small job: $(preflight::tidy "$first")" 'what it asks for is an option here too: --account, --qos, --partition'
      return 1
    fi
  fi
  message=${message:-$first}
  job=${message##*$'\n'}
  job=${job%%;*}
}

# Until the report is there. A network file system may show it some seconds after the job's end.
probe_node::wait() {
  local -r deadline=$((SECONDS + options_value[wait]))
  local state gone=''
  while :; do
    # In seconds, whatever the time zone.
    shown=$(SLURM_TIME_FORMAT=%s timeout 15 scontrol --oneliner show job "$job" 2>/dev/null) || shown=''
    if [[ -e $reports/report ]]; then return; fi
    state=$(probe_slurm::field JobState "$shown")
    case $state in
      RUNNING | CONFIGURING | COMPLETING | unknown) ;;
      PENDING)
        if ((SECONDS >= deadline)); then
          findings::add note node "job $job waits since ${options_value[wait]} s ($(probe_slurm::field Reason "$shown")): no node was asked" 'later, with a longer --wait, or in a --partition that has room'
          return 1
        fi
        ;;
      *)
        gone=${gone:-$SECONDS}
        if ((SECONDS - gone >= 10)); then
          findings::add problem node "job $job ended on $(probe_slurm::field NodeList "$shown") ($state) and nothing of it is seen in $scratch" \
            "SCRATCH must be a folder that all nodes share; if it is, run on a node:  bash hpc/doctor/doctor_node.sh"
          return 1
        fi
        ;;
    esac
    if ((SECONDS >= deadline + 90)); then
      findings::add problem node "job $job runs, and has not reported after 90 s" "look at it:  scontrol show job $job"
      return 1
    fi
    sleep 0.3
  done
}

probe_node::read_report() {
  local name value
  while IFS=$'\t' read -r name value; do answer[$name]=$value; done <"$reports/report"
  if [[ -n ${answer[project]:-} ]]; then
    findings::add problem node "${answer[node]} does not see ${answer[project]}" 'the project must lie on a file system that all nodes share'
    return 1
  fi
}

probe_node::judge() {
  findings::about "$partition"
  findings::add ok node "${answer[node]} sees the project and scratch; job $job"
  probe_node::clock
  probe_node::local_disk
  probe_node::modules
  probe_node::python
  probe_node::container
  probe_node::internet
}

# The node's clock lies between the controller's at the job's start and this machine's now.
probe_node::clock() {
  local -r start=$(probe_slurm::field StartTime "$shown") now=$EPOCHSECONDS
  local -i off=0
  if [[ ! $start${answer[time]} =~ ^[0-9]+$ || -z ${answer[time]} ]]; then return; fi
  if ((answer[time] < start)); then
    off=$((answer[time] - start))
  elif ((answer[time] > now)); then
    off=$((answer[time] - now))
  fi
  if ((off > probe_node_clock_seconds || -off > probe_node_clock_seconds)); then
    findings::add problem clock "${answer[node]} is ${off#-} s $( ((off > 0)) && echo ahead || echo behind)" \
      'tell the site (chrony or ntp on the node): times of files mislead, hangs are seen wrongly, and from 300 s on Slurm refuses the node'
  else
    findings::add ok clock "${answer[node]}'s agrees with the controller's, within $probe_node_clock_seconds s"
  fi
}

probe_node::local_disk() {
  local path free size kind
  IFS='|' read -r path free size kind <<<"${answer[local_disk]}"
  local -r value="$path, $(probe_login::amount "${free:-0}") free of $(probe_login::amount "${size:-0}"), $kind"
  if [[ -z $free ]]; then
    findings::add problem local_disk "$path cannot be written on ${answer[node]}" "set site[node_local_directory] in ~/.config/hpc_kit/clusters/${site[name]}.sh to the folder of the nodes' own disks"
  elif [[ $kind == @(nfs*|lustre|gpfs|beegfs|ceph|fuse.*) ]]; then
    findings::add note local_disk "$value: a network's" "if the nodes have disks, set site[node_local_directory] in ~/.config/hpc_kit/clusters/${site[name]}.sh; else leave --data out"
  elif [[ $kind == tmpfs ]]; then
    findings::add note local_disk "$value: it is memory, and counts as the job's" 'ask for that much more memory with --data'
  elif ((free < 1024)); then
    findings::add note local_disk "$value" 'too little for --data: tell the site, or leave the node out (--exclude)'
  else
    findings::add ok local_disk "$value"
  fi
}

probe_node::modules() {
  if [[ ${answer[modules]} == ok ]]; then
    findings::add ok modules "${site[modules]:-none to load}"
  else
    findings::add problem modules "${answer[modules]}" "correct site[modules] or node_setup in ~/.config/hpc_kit/clusters/${site[name]}.sh (module spider shows what there is)"
  fi
}

probe_node::python() {
  if [[ -n ${answer[python]} ]]; then
    findings::add ok python "${answer[python]} on ${answer[node]}"
  else
    findings::add problem python "no python3 of 3.9 or later on ${answer[node]}" "load one: site[modules]=python/… in ~/.config/hpc_kit/clusters/${site[name]}.sh"
  fi
}

probe_node::container() {
  if [[ -n ${answer[container]} ]]; then
    findings::add ok container "${answer[container]}"
  else
    findings::add note container "neither apptainer nor singularity on ${answer[node]}: no --singularity-container" "if the site has it as a module: site[modules]=apptainer in ~/.config/hpc_kit/clusters/${site[name]}.sh"
  fi
}

probe_node::internet() {
  if [[ ${answer[internet]} == yes ]]; then
    findings::add ok internet "${answer[node]} reaches ${answer[server]}"
  else
    findings::add note internet "${answer[node]} does not reach ${answer[server]}" 'W&B with --offline, then  bash hpc/sync_wandb.sh  here; download data and weights before you submit'
  fi
  if [[ -n ${site[internet]} && ${site[internet]} != "${answer[internet]}" ]]; then
    common::note "note: the profile ${site[name]} says otherwise: site[internet]=${site[internet]}"
  fi
}
