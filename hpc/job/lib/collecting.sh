# shellcheck shell=bash
# --collect: copies what the program has written into SLURM_TMPDIR to attempt_K/collected/NODE of the run
# directory, when the ranks have ended, also after a failure. The copy appears as a whole.

declare -ga plan_kinds+=() plan_paths+=()

# collecting::collect RUN_DIRECTORY ATTEMPT_DIRECTORY
collecting::collect() {
  local -r patterns=$1/collect destination=$2/collected
  local node pattern path entry
  local -a found=() excluded=(--exclude=.hpc_kit)
  if [[ ! -e $patterns || ! -d $SLURM_TMPDIR ]]; then return; fi
  node=$(common::node)
  cd -- "$SLURM_TMPDIR" || return
  while LC_ALL=C IFS= read -r -d '' pattern; do
    local -a matches=()
    collecting::expand matches "$pattern"
    if ((${#matches[@]} == 0)); then common::note "--collect ${pattern@Q}: nothing on $node"; fi
    found+=("${matches[@]}")
  done <"$patterns"
  # Skip the data that the kit brought there.
  for entry in "${!plan_paths[@]}"; do
    if [[ ${plan_kinds[entry]} == data ]]; then excluded+=("--exclude=${plan_paths[entry]}"); fi
  done
  if ((${#found[@]} == 0)); then return; fi
  rm -rf -- "$destination/.$node.partial"
  mkdir -p -- "$destination/.$node.partial"
  path=$destination/.$node.partial
  if ! printf '%s\0' "${found[@]}" |
    tar --create --anchored --no-wildcards "${excluded[@]}" --null --verbatim-files-from --files-from=- --sparse --file=- |
    tar --extract --no-unquote --no-same-owner --directory="$path" --file=-; then
    common::warn "$node: --collect: not all could be copied; what could is in $path"
    return
  fi
  sync --file-system -- "$path"
  rm -rf -- "${destination:?}/$node"
  mv -T -- "$path" "$destination/$node"
}

# collecting::expand ARRAY PATTERN   Expands PATTERN as the shell does, with **.
collecting::expand() {
  local -n paths_found=$1
  local expand_path IFS=''
  shopt -s nullglob globstar
  for expand_path in $2; do paths_found+=("$expand_path"); done
  shopt -u nullglob globstar
}
