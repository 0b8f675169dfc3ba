# shellcheck shell=bash
# The project at submission, unpacked for the job (job_submitter/snapshot.sh packs it).

declare -gA fact+=()

# sources::unpack RUN_DIRECTORY   If tasks of an array start together, each unpacks, and one of them renames its copy into place. Files
# that git ignores (data, weights) are links to the live project.
sources::unpack() {
  local -r folder=${fact[source_dir]}
  local partial name
  if [[ ! -e $1/source.tar || -d $folder ]]; then return; fi
  partial=$(mktemp -d -- "$folder.XXXXXX")
  tar --extract --no-unquote --directory="$partial" --file="$1/source.tar" ||
    common::die "cannot unpack ${1@Q}/source.tar on $(common::node); tar's words are above"
  while LC_ALL=C IFS= read -r -d '' name; do # bytes: a name may end in half a character
    name=${name%/}
    mkdir -p -- "$partial/$(dirname -- "$name")"
    ln -s -- "${fact[project_directory]}/$name" "$partial/$name"
  done <"$1/source.tar.ignored"
  sources::keep_folders "$partial"
  chmod 755 -- "$partial"
  : >"$partial.unpacked" # any later change comes from the program
  if mv -T -- "$partial" "$folder" 2>/dev/null; then
    mv -T -- "$partial.unpacked" "$1/unpacked"
  else
    rm -rf -- "$partial" "$partial.unpacked"
  fi
}

# sources::keep_folders SOURCES   Moves the folders of --keep-folders beside the experiment's checkpoints, which --resume and --fresh
# handle. A program that saves beside itself then finds there what the run before has saved.
sources::keep_folders() {
  local name kept here real
  local -a names=()
  real=$(realpath -- "$1")
  IFS=, read -ra names <<<"${fact[keep_folders]:-}"
  for name in "${names[@]}"; do
    name=${name%/}
    kept=${fact[checkpoint_directory]}/$name
    here=$1/${fact[working_directory]}/$name
    # A folder that git ignores is a link to the project's own folder, which must not be changed.
    [[ $(realpath -m -- "${here%/*}")/ == "$real"/* ]] ||
      common::die "--keep-folders ${name@Q}: git ignores the folder that it is in, so the program writes into the project's own folder, which stays: omit it, or name that folder"
    mkdir -p -- "$kept" "${here%/*}"
    # Copy the files that the project has in it, but overwrite nothing.
    if [[ -d $here && ! -L $here ]]; then tar --create --directory="$here" . | tar --extract --skip-old-files --directory="$kept"; fi
    rm -rf -- "$here"
    ln -sT -- "$kept" "$here"
  done
}

# sources::note_written RUN_DIRECTORY   Prints the files that the program has written into the run's own copy, where no other run looks for
# them, and writes their names into RUN_DIRECTORY/written, each with a NUL.
sources::note_written() {
  local -r folder=${fact[source_dir]}
  local -a found=()
  local more=''
  if [[ ! -e $1/unpacked || ! -d $folder ]]; then return; fi
  mapfile -d '' -t found < <(find "$folder" \( -name __pycache__ -o -name '.*_cache' -o -name .git \) -prune -o \
    -type f -cnewer "$1/unpacked" -printf '%P\0' | LC_ALL=C sort -z)
  if ((${#found[@]} == 0)); then return; fi
  printf '%s\0' "${found[@]}" | common::write_atomically "$1/written"
  if ((${#found[@]} > 3)); then more=', …'; fi
  common::note "files that were written into the run's own copy of the sources: ${#found[@]} ($(IFS=, && printf '%s' "${found[*]:0:3}")$more), in $folder. A later run does not see them: save below CHECKPOINT_DIRECTORY or OUTPUT_PATH, or name their folders by --keep-folders"
}
