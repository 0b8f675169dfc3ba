# shellcheck shell=bash
# Checks a request for a container as far as possible before the job is queued, and sets the facts that singularity/run.sh reads.

declare -gA options_value+=() options_source+=() fact+=()
declare -ga options_list_bind+=()

# container::choose PROJECT   Sets the facts container, container_workdir and container_binds. Ends with status 2 if the request
# cannot work.
container::choose() {
  local -r project=$1 image=${options_value[singularity_container]} workdir=${options_value[workdir]}
  local bind
  if [[ ${options_source[stage_venv]} == option ]]; then
    common::die_usage "--stage-venv and --singularity-container contradict each other: a container has no virtual environment"
  fi
  fact[stage_venv]=''
  [[ -r $project/singularity/run.sh ]] ||
    common::die "there is no singularity/ in ${project@Q}, which --singularity-container needs: copy it from the kit, as hpc/ was"
  container::check_image "$project" "$image"
  fact[container]=$(realpath -- "$image")
  fact[container_workdir]=''
  if [[ -n $workdir ]]; then
    if [[ $workdir != /?* || $workdir == *[[:cntrl:]]* ]]; then
      common::die_usage "--workdir ${workdir@Q}: give the folder's path inside the container, from / on"
    fi
    fact[container_workdir]=$(realpath -ms -- "$workdir")
  fi
  fact[container_binds]=''
  for bind in "${options_list_bind[@]}"; do container::add_bind "$bind"; done
}

# container::add_bind SOURCE[:DESTINATION[:ro|rw]]   Appends one line to the fact container_binds.
container::add_bind() {
  local source destination mode
  [[ $1 != *[[:cntrl:]]* ]] || common::die_usage "--bind ${1@Q}: control characters are not possible in it"
  IFS=: read -r source destination mode <<<"$1"
  [[ -n $source && -e $source ]] || common::die_usage "--bind ${1@Q}: there is no file or folder ${source@Q}"
  source=$(realpath -s -- "$source")
  destination=${destination:-$source}
  if [[ $destination != /?* || $source == *:* || ! $mode =~ ^(ro|rw)?$ ]]; then
    common::die_usage "--bind ${1@Q}: write SOURCE, SOURCE:DESTINATION or SOURCE:DESTINATION:ro, the destination from / on; a name with a colon is not possible"
  fi
  fact[container_binds]+=${fact[container_binds]:+$'\n'}$source:$(realpath -ms -- "$destination")${mode:+:$mode}
}

# container::check_image PROJECT IMAGE
container::check_image() {
  local -r image=$2
  local -r what="--singularity-container ${image@Q}"
  local fault
  if [[ ! -e $image ]]; then
    if [[ $image == *://* ]]; then
      common::die_usage "$what: pull it into a file first, such as  apptainer pull image.sif ${image@Q}"
    fi
    common::die_usage "$what: there is no such image; singularity/build.sh makes one"
  elif [[ -d $image ]]; then
    [[ -d $image/.singularity.d ]] ||
      common::die_usage "$what is a folder, and not one that  apptainer build --sandbox  made"
  elif [[ ! -f $image || ! -r $image ]]; then
    common::die_usage "$what is not a file that you can read"
  else
    fault=$(python3 "$1/hpc/job_submitter/sif.py" "$image")
    [[ -z $fault ]] || common::die_usage "$what $fault"
  fi
}

# container::ask PROJECT   If this node has a container runtime, checks that the image has what the launcher needs. Only an answer
# from inside the image refuses the request: many login nodes do not run containers.
container::ask() {
  local runtime answer needs=bash status=0
  if ! runtime=$(container_runtime::find); then return; fi
  if [[ ${fact[launcher]} != @(srun|node) ]]; then needs='bash torch'; fi
  answer=$(timeout 20 "$runtime" --quiet exec --cleanenv --no-home --no-mount cwd --pwd / "${fact[container]}" \
    /bin/sh -s "${fact[container]}" / / "$needs" true <"$1/singularity/inside.sh" 2>&1) || status=$?
  if ((status == 0)); then return; fi
  answer=${answer##*$'\n'}
  [[ $answer != 'inside.sh: error: '* ]] || common::die_usage "--singularity-container: ${answer#inside.sh: error: }"
  common::note "note: the image could not be tried on this node: $answer"
}
