# shellcheck shell=bash
# The version of the kit with which a run was sent: the parts that run on nodes lie in hpc_outputs/.kits, once for each
# version, and each run has a link to its own, `kit`. So an upgrade, or an edit of the project, changes nothing for a job that
# waits or that is started again.

declare -gA fact+=()

# kit::link RUN_DIRECTORY   Makes RUN_DIRECTORY/kit, of the kit that this file is of, and what it leads to if there is none
# yet. A profile of the user's own travels with the run.
kit::link() {
  local -r run_directory=$1 project=${BASH_SOURCE[0]%/hpc/job_submitter/kit.sh}
  local -r store=${fact[scratch_dir]}/hpc_outputs/.kits users=${XDG_CONFIG_HOME:-$HOME/.config}/hpc_kit/clusters
  local key='' listed known=''
  listed=$(kit::with_files "$project" stat --format='%a %s %.9Y %n' 2>/dev/null) || true # without what is not there
  # The version that was sent last is known without reading any.
  if [[ -r $store/last ]]; then
    LC_ALL=C IFS= read -r -d '' known <"$store/last" || true # to its end
    known=${known%$'\n'}
    key=${known%%$'\n'*}
  fi
  if [[ $known != "$key"$'\n'"$listed" || ! -d $store/$key ]]; then
    key=$(sha256sum <<<"$listed")
    key=${key:0:16}
    if [[ ! -d $store/$key ]]; then kit::copy "$project" "$store" "$key"; fi
    printf '%s\n' "$key" "$listed" | common::write_atomically "$store/last"
  fi
  ln -s -- "../.kits/$key" "$run_directory/kit" 2>/dev/null || cp -R -- "$store/$key" "$run_directory/kit" # where there are no links
  # Of the user's own profiles that count before the kit's (site::load).
  if [[ -r $users/${fact[site]}.sh && ! -e $run_directory/profile.sh ]]; then cp -- "$users/${fact[site]}.sh" "$run_directory/profile.sh"; fi
}

# kit::with_files PROJECT COMMAND...   Runs it in PROJECT, with the files that run on nodes as its last arguments.
kit::with_files() (
  cd -- "$1" || exit
  shopt -s nullglob
  exec "${@:2}" -- hpc/job/*.sh hpc/job/*.py hpc/job/lib/* hpc/job/hook/*.py hpc/job/shims/* hpc/lib/*.sh hpc/clusters/*.sh \
    venv/run.sh venv/environment.sh singularity/*.sh
)

# kit::copy PROJECT STORE KEY
kit::copy() {
  local partial
  mkdir -p -- "$2"
  partial=$(mktemp -d -- "$2/$3.XXXXXX")
  kit::with_files "$1" cp -P --parents --preserve=mode,timestamps --target-directory="$partial" ||
    common::die "cannot copy the kit's own parts from ${1@Q} to ${2@Q}; cp's words are above"
  chmod 755 -- "$partial"
  mv -T -- "$partial" "$2/$3" 2>/dev/null || rm -rf -- "$partial" # another submitter was first
}
