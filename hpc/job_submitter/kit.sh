# shellcheck shell=bash
# Keeps the version of the kit with which a run was sent. The parts that run on nodes are copied to hpc_outputs/.kits, once for each
# version, and each run has a link `kit` to its version. So an upgrade, or an edit of the project, does not change a job that waits
# or is restarted.

declare -gA fact+=()

# kit::link RUN_DIRECTORY   Makes the link RUN_DIRECTORY/kit for the kit of this file, and the copy that it points to, unless it
# exists. Copies the profile into the run if it is not the kit's own.
kit::link() {
  local -r run_directory=$1 project=${BASH_SOURCE[0]%/hpc/job_submitter/kit.sh}
  local -r store=${fact[scratch_dir]}/hpc_outputs/.kits
  local -a folders=()
  local folder key='' listed known=''
  listed=$(kit::with_files "$project" stat --format='%a %s %.9Y %n' 2>/dev/null) || true # ignores files that do not exist
  # If no file has changed since the last submission, the version is known without reading the files.
  if [[ -r $store/last ]]; then
    LC_ALL=C IFS= read -r -d '' known <"$store/last" || true # reads the whole file; without a NUL the status is 1
    known=${known%$'\n'}
    key=${known%%$'\n'*}
  fi
  if [[ $known != "$key"$'\n'"$listed" || ! -d $store/$key ]]; then
    key=$(sha256sum <<<"$listed")
    key=${key:0:16}
    if [[ ! -d $store/$key ]]; then kit::copy "$project" "$store" "$key"; fi
    printf '%s\n' "$key" "$listed" | common::write_atomically "$store/last"
  fi
  ln -s -- "../.kits/$key" "$run_directory/kit" 2>/dev/null || cp -R -- "$store/$key" "$run_directory/kit" # the file system has no links
  # The same order as in site::load; the kit's own profiles, in the last folder, are in the copy.
  site::folders folders "$project/hpc"
  for folder in "${folders[@]::${#folders[@]}-1}"; do
    if [[ -r $folder/${fact[site]}.sh && ! -e $run_directory/profile.sh ]]; then cp -- "$folder/${fact[site]}.sh" "$run_directory/profile.sh"; fi
  done
}

# kit::with_files PROJECT COMMAND...   Becomes COMMAND in PROJECT, so call it in a subshell; the files that run on nodes are its last
# arguments.
kit::with_files() {
  cd -- "$1" || exit
  shopt -s nullglob
  exec "${@:2}" -- hpc/job/*.sh hpc/job/*.py hpc/job/lib/* hpc/job/hook/*.py hpc/job/shims/* hpc/lib/*.sh hpc/clusters/*.sh \
    venv/run.sh venv/environment.sh singularity/*.sh
}

# kit::copy PROJECT STORE KEY
kit::copy() {
  local partial
  mkdir -p -- "$2"
  partial=$(mktemp -d -- "$2/$3.XXXXXX")
  (kit::with_files "$1" cp -P --parents --preserve=mode,timestamps --target-directory="$partial") ||
    common::die "cannot copy the kit's own parts from ${1@Q} to ${2@Q}; cp's message is above"
  chmod 755 -- "$partial"
  mv -T -- "$partial" "$2/$3" 2>/dev/null || rm -rf -- "$partial" # another submitter was first
}
