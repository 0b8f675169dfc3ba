# shellcheck shell=bash
# The plan of the entries that a node copies to its own disk (lib/staging.sh), and the current entry.

declare -gA fact+=()
# Indexed by the number of the entry; plan_there: the entries that are on the node already.
declare -ga plan_kinds+=() plan_keys+=() plan_formats+=() plan_paths+=() plan_there+=()
declare -gA plan_manifest+=()
declare -g plan_archive+='' plan_image+='' plan_target+=''

# plan::read PLAN   Sets plan_kinds, plan_keys, plan_formats and plan_paths, with one element for each entry.
plan::read() {
  local kind key format path
  declare -ga plan_kinds=() plan_keys=() plan_formats=() plan_paths=()
  [[ -e $1 ]] || return 0
  while LC_ALL=C IFS= read -r -d '' kind && LC_ALL=C IFS= read -r -d '' key && LC_ALL=C IFS= read -r -d '' format && LC_ALL=C IFS= read -r -d '' path; do
    plan_kinds+=("$kind") plan_keys+=("$key") plan_formats+=("$format") plan_paths+=("$path")
  done <"$1"
}

# plan::load ENTRY   Sets plan_manifest, plan_archive (on the shared file system), plan_image (on the node) and plan_target.
plan::load() {
  local -r entry=$1
  local name value
  plan_manifest=()
  plan_archive=${fact[scratch_dir]}/.staging/${plan_keys[entry]}.${plan_formats[entry]}
  plan_image=$SLURM_TMPDIR/.hpc_kit/archives/${plan_archive##*/}
  plan_target=$SLURM_TMPDIR/${plan_paths[entry]}
  if [[ ${plan_kinds[entry]} == environment ]]; then plan_target=$SLURM_TMPDIR/.hpc_kit/environment.tree; fi
  [[ -r $plan_archive.manifest ]] || common::die "${plan_paths[entry]@Q}: its archive ${plan_archive@Q} is gone: submit the job again"
  while read -r name value; do plan_manifest[$name]=$value; done <"$plan_archive.manifest"
}
