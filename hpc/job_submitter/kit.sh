# shellcheck shell=bash
# The version of the kit with which a run was sent: the parts that run on nodes lie in hpc_outputs/.kits, once for each
# version, and each run has a link to its own, `kit`. So an upgrade, or an edit of the project, changes nothing for a job that
# waits or that is started again.

declare -gA fact+=()
declare -ga kit_parts=(hpc/job hpc/lib hpc/clusters venv/run.sh venv/environment.sh singularity)

# kit::link RUN_DIRECTORY   Makes RUN_DIRECTORY/kit, of the kit that this file is of, and what it leads to if there is none
# yet. A profile of the user's own travels with the run.
kit::link() {
  local -r run_directory=$1 project=${BASH_SOURCE[0]%/hpc/job_submitter/kit.sh}
  local -r store=${fact[scratch_dir]}/hpc_outputs/.kits users=${XDG_CONFIG_HOME:-$HOME/.config}/hpc_kit/clusters
  local key partial
  local -a parts=()
  local part
  for part in "${kit_parts[@]}"; do
    if [[ -e $project/$part ]]; then parts+=("$part"); fi
  done
  key=$(cd -- "$project" && find "${parts[@]}" -name __pycache__ -prune -o -printf '%p %m %s %T@ %l\0' | LC_ALL=C sort -z | sha256sum)
  key=${key:0:16}
  if [[ ! -d $store/$key ]]; then
    mkdir -p -- "$store"
    partial=$(mktemp -d -- "$store/$key.XXXXXX")
    (cd -- "$project" && cp -RP --parents --preserve=mode,timestamps -- "${parts[@]}" "$partial/") ||
      common::die "cannot copy the kit's own parts from ${project@Q} to ${store@Q}; cp's words are above"
    chmod 755 -- "$partial"
    mv -T -- "$partial" "$store/$key" 2>/dev/null || rm -rf -- "$partial" # another submitter was first
  fi
  ln -s -- "../.kits/$key" "$run_directory/kit" 2>/dev/null || cp -R -- "$store/$key" "$run_directory/kit" # where there are no links
  # Of the user's own profiles that count before the kit's (site::load).
  if [[ -r $users/${fact[site]}.sh && ! -e $run_directory/profile.sh ]]; then cp -- "$users/${fact[site]}.sh" "$run_directory/profile.sh"; fi
}
