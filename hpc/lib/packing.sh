# shellcheck shell=bash
# The archives in ${scratch_dir}/.staging. KEY.FORMAT is made once for each state of a tree: it is written beside its final
# name, flushed, then renamed. KEY.FORMAT.manifest is made last; an archive with a manifest is complete. A tree of many files
# is packed as several parts (KEY.FORMAT, KEY.FORMAT.2, …), which nodes unpack at the same time. The last part then holds only
# the folders, because their modes may forbid writing into them. FOLDER and START name a tree: `.` is the whole
# folder, ./NAME is a file in it.

declare -gA packing_tree+=()
declare -g packing_store+='' packing_list+='' packing_partial+='' # of packing::open; the archive that is being written

declare -g packing_part_files=20000 packing_most_parts=8 packing_login_processors=4
declare -g packing_sample_files=256 packing_sample_bytes=131072 packing_least_gain=20 # percent

# packing::open STORE   Sets packing_store, and packing_list, which is the list of the tree described last.
packing::open() {
  packing_store=$1
  files::check_writable "$packing_store"
  mkdir -p -- "$packing_store"
  packing_list=$(mktemp -- "$packing_store/.list.XXXXXX")
  packing_partial=''
  trap packing::remove_unfinished EXIT
  common::end_on_signals
}

packing::close() {
  packing::remove_unfinished
  trap - EXIT HUP INT TERM
}

packing::remove_unfinished() {
  local process
  for process in $(jobs -p); do kill -- "-$process" 2>/dev/null || true; done
  wait || true
  rm -rf -- "$packing_list" ${packing_partial:+"$packing_partial"}
}

packing::is_packed() {
  [[ -e $packing_store/$1.$2.manifest ]]
}

# packing::list FOLDER START   Prints a record for each file, folder and link of the tree: type, mode, size, time and
# name, sorted by name. The nodes list what they unpack in the same way.
packing::list() {
  (cd -- "$1" && find "$2" \( -type f -printf 'f %m %s %T@ %p\0' \) -o \( -type d -printf 'd %m 0 0 %p\0' \) \
    -o \( -type l -printf 'l 0 %s %T@ %p\0' \) -o -printf 'other 0 0 0 %p\0') | LC_ALL=C sort -z -k 5
}

# packing::describe FOLDER START   Fills packing_tree: files, folders, links, others, entries, bytes, key. The path is part of
# the key, because two folders may have files with the same names, sizes and times.
packing::describe() {
  packing::list "$1" "$2" >"$packing_list"
  packing::count <"$packing_list"
  packing_tree[key]=$(printf '%s\0' "$1" | cat - "$packing_list" | sha256sum)
  packing_tree[key]=${packing_tree[key]:0:32}
}

# Reads a list and fills the numbers of packing_tree.
packing::count() {
  read -r 'packing_tree[files]' 'packing_tree[folders]' 'packing_tree[links]' 'packing_tree[others]' 'packing_tree[bytes]' < <(
    LC_ALL=C awk 'BEGIN { RS = "\0" } { n[$1]++; if ($1 == "f") bytes += $3 }
      END { printf "%d %d %d %d %.0f\n", n["f"], n["d"], n["l"], n["other"], bytes }'
  )
  packing_tree[entries]=$((packing_tree[files] + packing_tree[folders] + packing_tree[links]))
}

# Prints the fingerprint that the unpacked tree must have. Archives keep times in whole seconds.
packing::fingerprint() {
  LC_ALL=C sed -z -E '/^[fl]/s/\.[0-9]+ / /' | sha256sum | cut -d ' ' -f 1
}

# packing::compresses FOLDER   Whether compression makes a sample of the tree described last so much smaller that it pays.
packing::compresses() {
  local -i before after
  if ((packing_tree[bytes] < (1 << 20))) || ! common::has_command zstd; then return 1; fi
  before=$(packing::sample "$1" | wc -c)
  after=$(packing::sample "$1" | zstd -q -1 -c | wc -c)
  ((after * 100 <= before * (100 - packing_least_gain)))
}

# Prints the beginnings of files from all over the tree.
packing::sample() {
  local -r step=$((packing_tree[files] / packing_sample_files + 1))
  cd -- "$1" || return
  LC_ALL=C grep -az '^f' "$packing_list" | LC_ALL=C awk -v step="$step" 'BEGIN { RS = "\0"; ORS = "\0" } NR % step == 0' |
    cut -z -d ' ' -f 5- | xargs -0 --no-run-if-empty head -q -c "$packing_sample_bytes" --
}

# packing::pack KEY FORMAT FOLDER START NAME   Packs the tree described last, unless it is packed already. NAME is the
# name that the user gave.
packing::pack() {
  local -r key=$1 format=$2 folder=$3 start=$4 name=$5
  local -r archive=$packing_store/$key.$format
  local lock='' started tenths
  files::lock lock "$packing_store/.$key.lock" try || {
    common::note "${name@Q}: another submitter is packing it; waiting"
    flock "$lock"
  }
  rm -rf -- "$archive"{,.manifest}.partial.* 2>/dev/null || true # of a packer that was killed, perhaps after it had written everything
  if packing::is_packed "$key" "$format"; then
    touch -- "$archive.manifest" 2>/dev/null || true # marks it as used, for staging::prune; the file may belong to another user
    common::note "${name@Q}: packed before, unchanged"
  else
    common::note "packing ${name@Q} as $format: ${packing_tree[files]} files, $(packing::size "${packing_tree[bytes]}")"
    started=$(date +%s%N)
    packing_partial=$archive.partial.$BASHPID
    mkdir -- "$packing_partial"
    packing::check_space "$name"
    packing::fill "$packing_partial" "$format" "$folder" "$start" ||
      common::die "cannot pack ${name@Q}; why is said above"
    packing::install "$key" "$archive" "$folder" "$start" "$name"
    tenths=$((($(date +%s%N) - started) / 100000000 + 1))
    common::note "packed ${name@Q} in $((tenths / 10)).$((tenths % 10)) s ($(packing::size $((packing_tree[bytes] * 10 / tenths)))/s)"
  fi
  exec {lock}>&-
}

# packing::size BYTES   1.5GB
packing::size() {
  numfmt --to=si --suffix=B -- "$1"
}

packing::check_space() {
  local free
  free=$(df --output=avail --block-size=1 -- "$packing_store" 2>/dev/null) || return 0
  free=${free##*[!0-9]}
  # A sparse file needs less space than its size, so only warn if there seems to be too little, and do not refuse.
  if ((free < packing_tree[bytes])); then
    common::warn "${1@Q} has $(packing::size "${packing_tree[bytes]}"); $(packing::size "$free") are free in $packing_store"
  fi
}

# packing::fill PARTIAL FORMAT FOLDER START   Makes part 1, 2, … in PARTIAL. Status 1 if one fails.
packing::fill() {
  local -r partial=$1 format=$2 folder=$3 start=$4
  local process watch='' list failed=0 processors
  local -a processes=()
  set -m # each part is a process group, so that it can be ended with all that it has started
  if [[ -t 2 ]]; then
    packing::watch "$partial" "${packing_tree[bytes]}" &
    watch=$!
  fi
  if [[ $format == squashfs ]]; then
    packing::image "$folder" "$partial/1" &
    processes+=("$!")
  else
    packing::divide "$partial" "$folder" "$start"
    processors=$(packing::processors)
    for list in "$partial"/list.*; do
      packing::tar "$format" "$folder" "$list" "$partial/${list##*.}" &
      processes+=("$!")
      # Run as many at a time as there are processors.
      if ((${#processes[@]} % processors == 0)); then wait "${processes[-1]}" || failed=1; fi
    done
  fi
  set +m
  for process in "${processes[@]}"; do wait "$process" || failed=1; done
  if [[ -n $watch ]]; then
    kill -- "-$watch" 2>/dev/null || true
    wait "$watch" 2>/dev/null || true
    printf '\r\e[K' >&2
  fi
  return "$failed"
}

# Prints the number of processors to use: those of the job; outside a job at most four, because others work on the login node. By default
# zstd and squashfs-tools use all processors of the machine.
packing::processors() {
  local -r most=${SLURM_CPUS_PER_TASK:-${SLURM_CPUS_ON_NODE:-$packing_login_processors}}
  local usable
  usable=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)
  if ((most < usable)); then usable=$most; fi
  printf '%s\n' "$usable"
}

# packing::divide PARTIAL FOLDER START   Writes the names to pack into PARTIAL/list.N. Hard links of a file stay in one part.
packing::divide() {
  local -r partial=$1 folder=$2 start=$3
  local parts=$(((packing_tree[files] + packing_part_files - 1) / packing_part_files))
  if ((parts > packing_most_parts)); then parts=$packing_most_parts; fi
  if ((parts > 1)) && [[ -n $(cd -- "$folder" && find "$start" -type f -links +1 -print -quit | tr '\0\n' '??') ]]; then parts=1; fi
  if ((parts <= 1)); then
    cut -z -d ' ' -f 5- "$packing_list" >"$partial/list.1"
    return
  fi
  LC_ALL=C grep -avz '^d' "$packing_list" | cut -z -d ' ' -f 5- >"$partial/files"
  split --separator='\0' --number="l/$parts" --numeric-suffixes=1 --suffix-length=1 "$partial/files" "$partial/list."
  LC_ALL=C grep -az '^d' "$packing_list" | cut -z -d ' ' -f 5- >"$partial/list.$((parts + 1))"
  rm -- "$partial/files"
}

# packing::tar FORMAT FOLDER LIST OUTPUT
packing::tar() {
  # Pieces of a megabyte suit parallel file systems. --sparse keeps holes.
  local -ra options=(--create --format=gnu --sparse --no-recursion --blocking-factor=2048
    --directory="$2" --null --verbatim-files-from --files-from="$3")
  if [[ $1 == tar.zst ]]; then
    common::has_command zstd || common::die "no zstd on this machine: omit --data-format, or give --data-format tar"
    tar "${options[@]}" | zstd -q -1 --threads="$(packing::processors)" -o "$4"
  else
    tar "${options[@]}" --file="$4"
  fi
}

# packing::image FOLDER OUTPUT
packing::image() {
  local answer status=0
  # Small files are stored separately, not together in blocks of 128 kB, because they are read separately.
  local -a options=(-noI -noD -noF -noX -no-fragments)
  common::has_command mksquashfs || common::die "no mksquashfs on this machine (squashfs-tools): omit --data-format, or give --data-format tar"
  if packing::compresses "$1" && [[ $(mksquashfs -help 2>&1) == *zstd* ]]; then options=(-comp zstd -Xcompression-level 1); fi
  # mksquashfs continues without a file that it cannot read, and prints so. Among many files of one size its search for
  # equal files never ends.
  answer=$(mksquashfs "$1" "$2" -noappend -no-progress -no-xattrs -no-duplicates -mem 1G -processors "$(packing::processors)" -quiet "${options[@]}" 2>&1) || status=$?
  if [[ -n $answer ]] || ((status != 0)); then common::die "mksquashfs (exit status $status): ${answer//$'\n'/; }"; fi
}

# packing::install KEY ARCHIVE FOLDER START NAME   Checks that the tree has not changed, and gives the parts their names.
packing::install() {
  local -r key=$1 archive=$2 folder=$3 start=$4 name=$5
  local -i parts=0 bytes=0 unpacked
  local part fingerprint
  local -A packed=()
  for part in "${!packing_tree[@]}"; do packed[$part]=${packing_tree[$part]}; done
  fingerprint=$(packing::fingerprint <"$packing_list")
  packing::describe "$folder" "$start"
  [[ ${packing_tree[key]} == "$key" ]] || common::die "${name@Q} was changed while it was packed: submit again when nobody writes to it"
  while [[ -e $packing_partial/$((parts + 1)) ]]; do
    parts+=1
    bytes+=$(stat --format=%s -- "$packing_partial/$parts")
    sync -- "$packing_partial/$parts"
  done
  # The size on a node's disk: a tar archive stores the files without their holes.
  unpacked=$bytes
  if [[ $archive == *.zst ]]; then unpacked=${packed[bytes]}; fi
  for ((part = 2; part <= parts; part++)); do mv -fT -- "$packing_partial/$part" "$archive.$part"; done
  mv -fT -- "$packing_partial/1" "$archive"
  rm -rf -- "$packing_partial"
  packing_partial=''
  common::write_atomically "$archive.manifest" <<MANIFEST
parts $parts
archive_bytes $bytes
unpacked_bytes $unpacked
files ${packed[files]}
folders ${packed[folders]}
links ${packed[links]}
bytes ${packed[bytes]}
fingerprint $fingerprint
MANIFEST
}

# packing::record_image KEY PATH   Writes a manifest for an image, which is used as it is and not packed.
packing::record_image() {
  local -r manifest=$packing_store/$1.sif.manifest
  local hash sum
  if packing::is_packed "$1" sif && grep -q '^cksum ' -- "$manifest"; then # older kits did not record it
    touch -- "$manifest" 2>/dev/null || true
    return
  fi
  common::note "reading the image ${2@Q} once, for its hash: $(packing::size "${packing_tree[bytes]}")"
  hash=$(sha256sum <"$2")
  sum=$(cksum <"$2")
  printf '%s\n' "archive_bytes ${packing_tree[bytes]}" "sha256 ${hash%% *}" "cksum $sum" | common::write_atomically "$manifest"
}

# packing::watch PARTIAL BYTES   Shows the progress on the terminal.
packing::watch() {
  local -r partial=$1 total=$2 started=$SECONDS
  local -i done_bytes seconds rate
  while sleep 0.5 && kill -0 "$$" 2>/dev/null; do # the main script may have been killed
    done_bytes=$(find "$partial" -name '[0-9]*' -printf '%s\n' | awk '{ n += $1 } END { printf "%.0f", n }')
    seconds=$((SECONDS - started + 1))
    rate=$((done_bytes / seconds))
    if ((rate == 0 || done_bytes > total)); then continue; fi
    printf '\r\e[K%d %% of %s, %s/s, %d s left' $((done_bytes * 100 / total)) "$(packing::size "$total")" \
      "$(packing::size "$rate")" $(((total - done_bytes) / rate)) >&2
  done
}
