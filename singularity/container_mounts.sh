# shellcheck shell=bash
# The files of the node that a job's container sees.

declare -gA fact+=()
declare -gA container_mounts+=()  # path inside -> the runtime's option
declare -gA container_sources+=() # path inside -> the path of the node that is shown there
declare -ga options+=()

container_mounts::add_options() {
  local name
  local -a names
  container_mounts::job
  container_mounts::add "${fact[source_dir]}" /code ro
  container_mounts::users
  # Mount a folder before the folders inside it, or it would hide them.
  mapfile -d '' -t names < <(printf '%s\0' "${!container_mounts[@]}" | LC_ALL=C sort -z)
  for name in "${names[@]}"; do
    container_mounts::make_place "$name"
    options+=(--mount "${container_mounts[$name]}")
  done
}

# The runtime creates the mount point itself, but two runtimes that do so at the same time in a shared folder disturb
# each other. So a mount point inside another mount is created here.
container_mounts::make_place() {
  local name folder='' place
  for name in "${names[@]}"; do
    if [[ $1 == "$name"/* ]]; then folder=$name; fi # the last is the nearest, because they are sorted
  done
  if [[ -z $folder || ${container_sources[$folder]}/ != "${SLURM_TMPDIR:-/nowhere}"/* ]]; then return; fi
  place=${container_sources[$folder]}/${1#"$folder"/}
  if [[ -d ${container_sources[$1]} || ${container_mounts[$1]} == *image-src=* ]]; then
    mkdir -p -- "$place"
  else
    mkdir -p -- "${place%/*}" && : >>"$place"
  fi
}

# container_mounts::add SOURCE DESTINATION [OPTIONS]   Quotes the names as in CSV, because they may contain any character. If two
# mounts have the same destination, the later counts.
container_mounts::add() {
  container_sources[$2]=$1
  container_mounts[$2]="type=bind,\"source=${1//\"/\"\"}\",\"destination=${2//\"/\"\"}\"${3:+,$3}"
}

container_mounts::job() {
  if [[ -z ${RUN_DIRECTORY:-} ]]; then return; fi
  local -r disk=${SLURM_TMPDIR:?}/.hpc_kit/container
  local -r storage=${fact[scratch_dir]}/${fact[exp_name]}/singularity_${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:?}}_${SLURM_ARRAY_TASK_ID:-0}
  mkdir -p -- "$disk"/{tmp,var_tmp,db,home,workdir} "$storage"
  # Writable, and on the node's disk: the runtime's own folder would be in memory, and small.
  container_mounts::add "$disk/tmp" /tmp
  container_mounts::add "$disk/var_tmp" /var/tmp
  container_mounts::add "$disk/db" /db
  if [[ -n ${HOME:-} && $HOME != / ]]; then container_mounts::add "$disk/home" "$HOME"; fi
  if [[ -n ${fact[container_workdir]} ]]; then container_mounts::add "$disk/workdir" "${fact[container_workdir]}"; fi
  container_mounts::add "$SLURM_TMPDIR" "$SLURM_TMPDIR"
  container_mounts::add "$SLURM_TMPDIR" /data
  container_mounts::images "$SLURM_TMPDIR/.hpc_kit/images"
  container_mounts::add "$storage" /scratch_storage
  # The snapshot has links to files of the project that git ignores.
  if [[ -d ${fact[project_directory]} ]]; then container_mounts::add "${fact[project_directory]}" "${fact[project_directory]}" ro; fi
  container_mounts::add "${fact[scratch_dir]}" "${fact[scratch_dir]}"
  container_mounts::add "${fact[source_dir]}" "${fact[source_dir]}" ro
}

# container_mounts::images FILE   Mounts data that is staged as images and not unpacked. FILE holds IMAGE and its PATH, each
# followed by a NUL.
container_mounts::images() {
  local image path
  if [[ ! -e $1 ]]; then return; fi
  while LC_ALL=C IFS= read -r -d '' image && LC_ALL=C IFS= read -r -d '' path; do
    container_mounts::add "$image" "/data/$path" image-src=/,ro
    container_mounts::add "$image" "$SLURM_TMPDIR/$path" image-src=/,ro
  done <"$1"
}

# Adds the mounts of --bind: SOURCE:DESTINATION[:ro], one per line (container.sh).
container_mounts::users() {
  local bind source destination mode
  if [[ -z ${fact[container_binds]:-} ]]; then return; fi
  while IFS= read -r bind; do
    IFS=: read -r source destination mode <<<"$bind"
    [[ -e $source ]] || common::die "--bind ${bind@Q}: there is no ${source@Q} on $(common::node)"
    container_mounts::add "$source" "$destination" "${mode/rw/}"
  done <<<"${fact[container_binds]}"
}
