# shellcheck shell=bash
# Decides which files of the kit to write, keep and remove in a user's project. It compares three hashes of each file: that of the
# file in the project, that of the file installed before (the manifest), and that of the kit's current file.

if declare -p installing_order >/dev/null 2>&1; then return; fi
declare -ga installing_order=()    # the paths in the project, in order
declare -gA installing_source=()   # path -> the kit's file
declare -gA installing_offered=()  # path -> hash of the kit's file; link:TARGET for a symbolic link
declare -gA installing_put=()      # path -> hash of the file installed before
declare -gA installing_manifest=() # path -> hash, for the next upgrade
declare -gA installing_there=()    # path -> hash of the file in the project
declare -ga installing_writes=()   # alternates: source, path
declare -ga installing_removals=() # paths
declare -gA installing_left_out=() # folders that are not installed
declare -gA installing_homes=()    # name of a file in the older layout -> its current path
declare -gA installing_edits=()    # path -> sed script that changes the file when it is installed
declare -gA installing_new=()      # top folder -> its new files, one a line
declare -gA installing_held=()     # path -> why it must not be removed yet

installing::say() {
  printf '%-9s %s\n' "$1" "$2"
}

# installing::offer KIT SOURCE PATH
installing::offer() {
  if [[ ! -e $1/$2 && ! -L $1/$2 ]]; then return; fi # deleted, but still in git's index
  installing_order+=("$3")
  installing_source[$3]=$2
  # Kits from before hpc/job/ had these files in hpc/ or in one of its folders.
  if [[ $3 == @(hpc/!(lib|clusters)/*|train/*/*|singularity/container_*) && $3 != */@(README.md|__init__.py) ]]; then
    local name=${3##*/}
    name=${name/#option_table/submit_options}
    installing_homes[$name]+=${installing_homes[$name]:+ or }$3
  fi
}

# installing::hash ARRAY ROOT NAME...   Sets ARRAY[NAME] to the hash of ROOT/NAME, for each that exists.
installing::hash() {
  local -n hashes=$1
  local -r root=$2
  local name hash
  local -a files=()
  shift 2
  for name in "$@"; do
    if [[ -L $root/$name ]]; then
      hashes+=(["$name"]=link:$(readlink -- "$root/$name"))
    elif [[ -f $root/$name ]]; then
      files+=("$name")
    elif [[ -e $root/$name ]]; then
      hashes+=(["$name"]=folder)
    fi
  done
  if ((${#files[@]} == 0)); then return; fi
  while read -r hash name; do hashes+=(["$name"]=$hash); done < <(cd -- "$root" && sha256sum -- "${files[@]}")
}

# installing::hash_offers KIT   Hashes the offered files. Call it after the last installing::offer.
installing::hash_offers() {
  local path
  local -A of_source=()
  installing::hash of_source "$1" "${installing_source[@]}"
  for path in "${installing_order[@]}"; do installing_offered[$path]=${of_source[${installing_source[$path]}]}; done
  for path in "${!installing_edits[@]}"; do
    if [[ -n ${installing_source[$path]:-} ]]; then
      read -r "installing_offered[$path]" _ < <(sed "${installing_edits[$path]}" -- "$1/${installing_source[$path]}" | sha256sum)
    fi
  done
}

# installing::list_old ROOT   Prints the files of the older layout that exist and are not in the manifest.
installing::list_old() {
  local path
  for path in "$1"/hpc/* "$1"/hpc/{lib,pocket,reports,shims}/*; do
    path=${path#"$1/"}
    if [[ -n ${installing_homes[${path##*/}]:-} && -z ${installing_offered[$path]:-}${installing_put[$path]:-} && ! -d $1/$path ]]; then echo "$path"; fi
  done
}

# installing::recognize KIT ROOT   Replaces a missing manifest, as after a copy by hand: a file with the content of any version of the
# kit counts as unchanged. A user's link stays.
installing::recognize() {
  local path blob
  local -A history=()
  local -a known=()
  # --git-dir: a repository around the kit must not count, because it may have the user's versions.
  while read -r blob _; do history[x$blob]=1; done < <(git --git-dir="$1/.git" rev-list --objects HEAD 2>/dev/null)
  if ((${#history[@]} == 0)); then return; fi
  while read -r path; do
    if [[ ! -f $2/$path || ! -s $2/$path || -L $2/$path && -n ${installing_offered[$path]:-} ]]; then continue; fi
    if [[ -n ${history[x$(git hash-object --no-filters -- "$2/$path")]:-} ]]; then known+=("$path"); fi
  done < <(installing::list_old "$2" && printf '%s\n' "${installing_order[@]}")
  installing::hash installing_put "$2" "${known[@]}"
}

# installing::read_manifest FILE
installing::read_manifest() {
  local hash path
  while read -r hash path; do
    if [[ $hash != '#' && -n $path ]]; then installing_put[$path]=$hash; fi
  done <"$1"
}

# installing::is_ours KIT PART FOLDER   Whether FOLDER has only files of that PART, of any version: an adoption was interrupted, or the
# files were copied by hand.
installing::is_ours() {
  local file
  [[ -d $3 && ! -L $3 ]] || return 1
  while LC_ALL=C IFS= read -r -d '' file; do
    # An empty file proves nothing: git always knows it.
    cmp --quiet -- "$1/$2/$file" "$3/$file" || { [[ -s $3/$file ]] &&
      git --git-dir="$1/.git" cat-file -e "$(git hash-object --no-filters -- "$3/$file")" 2>/dev/null; } || return 1
  done < <(cd -- "$3" && find . -name __pycache__ -prune -o ! -type d -print0)
}

# installing::decide ROOT   Fills installing_writes, installing_removals and installing_manifest, and prints the decisions.
installing::decide() {
  local path
  installing::hash installing_there "$1" "${installing_order[@]}" "${installing_order[@]/%/.new}" "${!installing_put[@]}"
  for path in "${installing_order[@]}"; do
    if [[ -z ${installing_left_out[${path%%/*}]:-} ]]; then installing::decide_one "$path"; fi
  done
  installing::say_new
  while IFS= read -r path; do
    if [[ -n $path && -z ${installing_manifest[$path]:-} ]]; then installing::retire "$path"; fi
  done < <(printf '%s\n' "${!installing_put[@]}" | LC_ALL=C sort)
}

installing::decide_one() {
  local -r path=$1 offered=${installing_offered[$1]} put=${installing_put[$1]:-} there=${installing_there[$1]:-}
  installing_manifest[$path]=$offered
  if [[ -z $there ]]; then
    installing_writes+=("${installing_source[$path]}" "$path")
    installing_new[${path%%/*}]+=$path$'\n'
  elif [[ $there == "$offered" ]]; then
    return
  elif [[ $there == "$put" ]]; then
    installing::write "$path" "$path" upgraded
  else
    installing::offer_beside
  fi
}

# Prints one line for a folder with many new files, because 300 names would hide the lines that matter.
installing::say_new() {
  local folder path
  local -a paths=()
  while IFS= read -r folder; do
    if [[ -z $folder ]]; then continue; fi
    mapfile -t paths <<<"${installing_new[$folder]%$'\n'}"
    if ((${#paths[@]} > 10)); then
      installing::say new "$folder/: ${#paths[@]} files"
    else
      for path in "${paths[@]}"; do installing::say new "$path"; done
    fi
  done < <(printf '%s\n' "${!installing_new[@]}" | LC_ALL=C sort)
}

# The user has changed this file. A new version is put beside it once; the user may then merge or remove it.
installing::offer_beside() {
  local -r beside=$path.new
  local -r old=${installing_put[$beside]:-} lies=${installing_there[$beside]:-}
  if [[ $put == "$offered" ]]; then
    if [[ -n $lies && $lies == "$old" ]]; then installing_manifest[$beside]=$old; fi
  elif [[ $lies == "$offered" ]]; then
    installing_manifest[$beside]=$offered
  elif [[ -n $lies && $lies != "$old" ]]; then
    installing::say kept "$path and $beside: you have changed both: remove $beside and run this again to get the new version"
    installing_manifest[$path]=${put:--}
  else
    installing::write "$path" "$beside" kept "$path: it is not as the kit left it; the new version is $beside"
    installing_manifest[$beside]=$offered
  fi
}

# installing::write PATH TARGET WHAT [WORDS]
installing::write() {
  installing_writes+=("${installing_source[$1]}" "$2")
  installing::say "$3" "${4:-$2}"
}

# installing::retire PATH   Handles a file that was installed before and that the kit no longer has, or whose new version the user has
# merged.
installing::retire() {
  local -r path=$1 put=${installing_put[$1]} there=${installing_there[$1]:-}
  local -r home=${installing_homes[${path##*/}]:-}
  local why="the kit does not have it any more"
  if [[ -n $home ]]; then why="it is $home now"; fi
  if [[ -n ${installing_offered[${path%.new}]:-} ]]; then why="you have that version now"; fi
  if [[ -n ${installing_left_out[${path%%/*}]:-} ]]; then
    installing_manifest[$path]=$put
  elif [[ $there == "$put" && -n ${installing_held[$path]:-} ]]; then
    installing_manifest[$path]=$put
    installing::say kept "$path: ${installing_held[$path]}"
  elif [[ $there == "$put" ]]; then
    installing_removals+=("$path")
    installing::say removed "$path: $why"
  elif [[ -n $there && $path != *.new ]]; then
    installing::say kept "$path: you have changed it; $why${home:+, and this file is not used any more: carry your change over}"
  fi
}

# installing::apply KIT ROOT STAGE VERSION   Writes and removes the files. The manifest comes last, so the next upgrade completes an
# interrupted one.
installing::apply() {
  local -r kit=$1 root=$2 stage=$3 version=$4
  local -i i
  local path manifest
  for ((i = 0; i < ${#installing_writes[@]}; i += 2)); do
    cp -P --preserve=mode -- "$kit/${installing_writes[i]}" "$stage/$i"
    path=${installing_writes[i + 1]%.new}
    if [[ -n ${installing_edits[$path]:-} ]]; then sed -i "${installing_edits[$path]}" -- "$stage/$i"; fi
  done
  for ((i = 0; i < ${#installing_writes[@]}; i += 2)); do
    path=$root/${installing_writes[i + 1]}
    [[ -d ${path%/*} ]] || mkdir -p -- "${path%/*}"
    mv -fT -- "$stage/$i" "$path"
  done
  rm -rf -- "$root"/hpc/{,reports/}__pycache__ # in the older layout: they would keep its folders from being removed
  for path in "${installing_removals[@]}"; do
    rm -f -- "$root/$path"
    (cd -- "$root" && rmdir --parents --ignore-fail-on-non-empty -- "${path%/*}")
  done
  rmdir -- "$root"/hpc/{pocket,reports,shims} 2>/dev/null || true # left by an interrupted upgrade
  manifest=$(for path in "${!installing_manifest[@]}"; do printf '%s  %s\n' "${installing_manifest[$path]}" "$path"; done | LC_ALL=C sort -k 2)
  if [[ $manifest != "$(sed 1d "$root/hpc/.installed" 2>/dev/null)" ]]; then
    printf '# hpc kit %s; hpc/adopt.sh tells by these hashes what you have changed.\n%s\n' "$version" "$manifest" |
      common::write_atomically "$root/hpc/.installed"
  fi
  common::note "$((${#installing_writes[@]} / 2)) files written, ${#installing_removals[@]} removed, in $root"
}
