# shellcheck shell=bash
# The checks that need a compute node: doctor.sh sends one job of a minute (doctor_node.sh) and judges its report.

declare -gA options_value site

# probe_node::all HPC_FOLDER SCRATCH PARTITION GPU_OPTION   GPU_OPTION: how a job asks for a GPU of the partition; empty without GPUs.
probe_node::all() {
  local job folder
  findings::about
  if [[ -z $2 ]]; then
    findings::add note node 'not asked, as it could not report: see scratch and output' 'correct that, then call doctor.sh again'
  elif ! node_job::open folder "$2" doctor; then
    findings::add problem node "no folder can be made in $2" 'make room there'
  else
    if probe_node::send job "$1" "$4" "$folder/report" && probe_node::wait "$job" "$1" "$2"; then probe_node::judge "$folder/report" "$job" "$3"; fi
    node_job::close
  fi
}

# probe_node::send JOB HPC_FOLDER GPU_OPTION FILE   Sends the job. If the partition takes only jobs with GPUs, it asks for one.
probe_node::send() {
  local -a argv=(--job-name=doctor --time=1 --requeue "$2/doctor/doctor_node.sh" "$2" "${site[name]}" "${site[modules]}" "${site[node_local_directory]}" "$4")
  if node_job::send "$1" report "$3" "${argv[@]}"; then return; fi
  findings::add problem node "Slurm takes no small job: ${!1}" 'what it asks for is an option here too: --account, --qos, --partition, --constraint, --reservation'
  return 1
}

# probe_node::wait JOB HPC_FOLDER SCRATCH   Waits for the report.
probe_node::wait() {
  local -r deadline=$((SECONDS + options_value[wait]))
  local -A states=()
  local state reason shown said=''
  while node_job::poll states; do
    IFS='|' read -r state reason <<<"${states[report]}"
    if [[ $state == gone ]]; then
      slurm::ask shown 10 scontrol --oneliner show job "$1" || shown=''
      findings::add problem node "job $1 ended on $(slurm::field NodeList "$shown") ($(slurm::field JobState "$shown")) and nothing of it is seen in $3" \
        "SCRATCH must be a folder that all nodes share; if it is, run on a node:  bash $2/doctor/doctor_node.sh"
    elif [[ $state == PENDING ]] && ((SECONDS >= deadline)); then
      findings::add note node "job $1 waits since ${options_value[wait]} s ($reason): no node was asked" 'call doctor.sh again later, with a longer --wait, or with another --partition'
    elif ((SECONDS >= deadline + 90)); then
      findings::add problem node "job $1 has not reported after 90 s ($state)" "look at it:  scontrol show job $1"
    else
      if [[ -t 2 && $state != "$said" ]]; then common::note "job $1: ${state,,}"; fi
      said=$state
      continue
    fi
    return 1
  done
}

# probe_node::judge FILE JOB PARTITION   Judges the report FILE.
probe_node::judge() {
  # These values hold if the report is truncated.
  local -A seen=([node]='the node' [time]='' [project]='' [local_disk]='' [modules]='the job broke off before they were loaded' [modules_loaded]='' [python]='' [container]='' [server]='the server' [internet]='')
  local -r profile=\~/.config/hpc_kit/clusters/${site[name]}.sh
  local name value shown
  while IFS=$'\t' read -r name value; do seen[$name]=$value; done <"$1"
  local -r node=${seen[node]} server=${seen[server]}
  if [[ -n ${seen[project]} ]]; then
    findings::add problem node "$node does not see ${seen[project]}" 'the project must lie on a file system that all nodes share'
    return
  fi
  # Seconds since 1970 do not depend on the time zone.
  SLURM_TIME_FORMAT=%s slurm::ask shown 10 scontrol --oneliner show job "$2" || shown=''
  if [[ $shown == *' Requeue='* ]]; then probe_slurm::requeue "$(slurm::field Requeue "$shown")"; fi
  findings::about "$3"
  findings::add ok node "$node sees the project and scratch; job $2"
  probe_node::clock "$node" "${seen[time]}" "$(slurm::field StartTime "$shown")"
  probe_node::local_disk "$node" "$profile" "${seen[local_disk]}"
  findings::judge "${seen[modules_loaded]}" modules "${site[modules]:-none to load}" \
    problem "${seen[modules]}" "correct site[modules] or node_setup in $profile (module spider shows what there is)"
  findings::judge "${seen[python]}" python "${seen[python]} on $node" \
    note "no python3 of 3.6 or later on $node: jobs take that of their environment" "to load one: site[modules]=python/… in $profile"
  findings::judge "${seen[container]}" container "${seen[container]}" \
    note "neither apptainer nor singularity on $node: no --singularity-container" "if the site has it as a module: site[modules]=apptainer in $profile"
  findings::judge "${seen[internet]}" internet "$node reaches $server" \
    note "$node does not reach $server" 'W&B with --offline, then  bash hpc/sync_wandb.sh  here; download data and weights before you submit'
  if [[ -n ${site[internet]} && ${site[internet]/proxy/yes} != "${seen[internet]:-no}" ]]; then
    common::note "note: the profile ${site[name]} says otherwise: site[internet]=${site[internet]}"
  fi
}

# probe_node::clock NODE TIME START   Compares the clocks: TIME of the node must be between the controller's time at the job's start
# and this machine's time. Ten seconds are allowed for the start and for a network file system.
probe_node::clock() {
  local -i off=0
  local now
  printf -v now '%(%s)T' -1
  if [[ ! $2 =~ ^[0-9]+$ || ! $3 =~ ^[0-9]+$ ]]; then return; fi
  if (($2 < $3)); then off=$(($2 - $3)); elif (($2 > now)); then off=$(($2 - now)); fi
  findings::judge "$((-10 <= off && off <= 10))" clock "$1's agrees with the controller's, within 10 s" \
    problem "$1 is ${off#-} s $( ((off > 0)) && echo ahead || echo behind)" \
    'tell the site (chrony or ntp on the node): times of files mislead, hangs are seen wrongly, and from 300 s on Slurm refuses the node'
}

# probe_node::local_disk NODE PROFILE PATH|MEGABYTES_FREE|MEGABYTES|KIND   Judges the node's own disk.
probe_node::local_disk() {
  local path free size kind value level=note fix
  IFS='|' read -r path free size kind <<<"$3"
  value="$path, $(probe_login::amount "${free:-0}") free of $(probe_login::amount "${size:-0}"), $kind"
  if [[ -z $free ]]; then
    level=problem value="${path:-the folder} cannot be written on $1" fix="set site[node_local_directory] in $2 to the folder of the nodes' own disks"
  elif [[ $kind == @(nfs*|lustre|gpfs|beegfs|ceph|fuse.*) ]]; then
    value+=": a network's" fix="if the nodes have disks, set site[node_local_directory] in $2; else leave --data out"
  elif [[ $kind == tmpfs ]]; then
    value+=": it is memory, and counts as the job's" fix='ask for that much more memory with --data'
  else
    level=$( ((free < 1024)) && echo note || echo ok) fix='too little for --data: tell the site, or exclude the node (--exclude)'
  fi
  findings::add "$level" local_disk "$value" "$fix"
}
