# shellcheck shell=bash
# A request for a container: what can be known of it before the queue, and the facts that singularity/run.sh
# reads.

declare -gA options_value+=() options_source+=() fact+=()
declare -ga options_list_bind+=()

# container::choose PROJECT   Sets the facts container, container_workdir and container_binds. Status 2 when what was
# asked for cannot work.
container::choose() {
  local -r project=$1 image=${options_value[singularity_container]} workdir=${options_value[workdir]}
  local bind
  if [[ ${options_source[stage_venv]} == option ]]; then
    common::die_usage "--stage-venv and --singularity-container contradict each other: a container has no virtual environment"
  fi
  fact[stage_venv]=''
  [[ -r $project/singularity/run.sh ]] ||
    common::die "there is no singularity/ in ${project@Q}, which --singularity-container needs: copy it from the kit, as hpc/ was"
  if [[ -n ${options_value[stage_venv]:-} ]]; then
    common::die_usage "--stage-venv and --singularity-container contradict each other: a container has no virtual environment"
  fi
  container::check_image "$image"
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

container::refuse_options_of_it() {
  if [[ ${options_source[stage_image]} == option ]]; then common::die_usage "--stage-image is about a container's image: give --singularity-container too"; fi
  if [[ -n ${options_value[workdir]} ]]; then common::die_usage "--workdir is a folder in a container: give --singularity-container too"; fi
  if ((${#options_list_bind[@]} > 0)); then common::die_usage "--bind is for a container: give --singularity-container too"; fi
}

# SOURCE[:DESTINATION[:ro|rw]], a line each.
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

container::check_image() {
  local -r image=$1
  local -r what="--singularity-container ${image@Q}"
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
    container::check_sif
  fi
}

# A SIF is a header, a table of descriptors of 585 bytes each, and the data that they point to, all numbers with the
# low byte first. A copy that broke off, or was damaged where it begins, shows here; the runtime itself looks at
# no more.
container::check_sif() {
  local LC_ALL=C
  local size header table
  local -i number offset length total place system=0
  size=$(stat --dereference --format=%s -- "$image")
  header=$(container::hex 0 128)
  [[ ${header:64:20} == 5349465f4d4147494300 ]] || common::die_usage "$what is not a container image (SIF)"
  local -r corrupt="$what is corrupt"
  total=$((16#$(container::little_endian "$header" 88 8)))
  place=$((16#$(container::little_endian "$header" 96 8)))
  ((total > 0 && total < 10000 && place > 0 && place + 585 * total <= size)) || common::die_usage "$corrupt: it ends within its table, after $size bytes"
  table=$(container::hex "$place" $((585 * total)))
  for ((number = 0; number < total; number++)); do
    local descriptor=${table:1170*number:1170}
    if [[ ${descriptor:8:2} == 00 ]]; then continue; fi
    offset=$((16#$(container::little_endian "$descriptor" 17 8)))
    length=$((16#$(container::little_endian "$descriptor" 25 8)))
    ((offset >= 0 && length >= 0 && offset + length <= size)) ||
      common::die_usage "$corrupt: it has $size bytes of $((offset + length)) at least (was it copied to its end?)"
    # A partition (0x4004) of squashfs (1) that is the system (2) begins with squashfs's own mark.
    if [[ ${descriptor:0:8} == 04400000 && ${descriptor:410:8} == 02000000 ]]; then
      system=1
      [[ ${descriptor:402:8} != 01000000 || $(container::hex "$offset" 4) == 68737173 ]] ||
        common::die_usage "$corrupt: its file system does not begin as it must"
    fi
  done
  ((system)) || common::die_usage "$corrupt: it has no file system to run"
}

# container::hex OFFSET LENGTH   Of the image, as hexadecimal digits.
container::hex() {
  od -An -v -t x1 -j "$1" -N "$2" -- "$image" | tr -d ' \n'
}

# container::little_endian HEX OFFSET LENGTH   In the order of digits as people write them.
container::little_endian() {
  local number='' byte
  for ((byte = $2 + $3 - 1; byte >= $2; byte--)); do number+=${1:2*byte:2}; done
  printf '%s' "$number"
}

# container::ask PROJECT   Where this node has a runtime too, whether the image has what the launcher needs. Only what
# the image itself says counts: nodes for logging in often may not run containers.
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
