# shellcheck shell=bash
# A copy of the project as it is at submission, for the job to run whatever is edited while it waits: all
# files that git tracks, changed or not, and the untracked ones that it does not ignore; in a folder that
# is no repository, all files. Packed once for each state of the sources; every run has a link to its
# archive and unpacks it when it starts (batch.sh).

declare -g snapshot_most_files=20000 snapshot_most_megabytes=200
declare -g snapshot_secrets='\.env|(.*/)?wandb_credentials\.txt|(.*/)?\.netrc'

# snapshot::pack PROJECT STORE DESTINATION   DESTINATION becomes the archive, DESTINATION.ignored the
# names of what is left out, each with a NUL. Status 1 when the sources are too large.
snapshot::pack() {
  local -r project=$1 store=$2 destination=$3
  local key archive partial
  snapshot::list "$project" "$destination.ignored" | snapshot::describe "$project" >"$destination.described"
  snapshot::check_size "$project" "$destination.described"
  key=$(sha256sum <"$destination.described")
  archive=$store/${key%% *}.tar
  if [[ ! -e $archive ]]; then
    [[ -d $store ]] || mkdir -p -- "$store"
    partial=$archive.partial.$BASHPID
    # Written in pieces of 128 kB, as parallel file systems like it.
    if ! cut -z -d ' ' -f 4- "$destination.described" | tar --create --directory="$project" --null \
      --no-recursion --verbatim-files-from --files-from=- --blocking-factor=256 --file="$partial"; then
      rm -f -- "$partial"
      common::die "tar cannot pack ${project@Q}; its own words are above"
    fi
    sync -- "$partial"
    mv -T -- "$partial" "$archive"
  fi
  ln -- "$archive" "$destination" 2>/dev/null || cp -- "$archive" "$destination"
  rm -- "$destination.described"
}

# snapshot::list PROJECT IGNORED   Prints the names of the sources, each with a NUL; those of what git ignores
# become IGNORED. Secrets are in neither: the job reads .env in the project itself.
snapshot::list() {
  local -r project=$1 ignored=$2
  # A project that a repository around it ignores (a home directory under git) is in none.
  local status=0
  git -C "$project" check-ignore --quiet . 2>/dev/null || status=$?
  if ((status == 1)); then # 0: ignored; 128: no repository
    git -C "$project" ls-files -z --others --ignored --exclude-standard --directory |
      snapshot::without "$snapshot_secrets|(.*/)?(__pycache__|\.[^/]*_cache|[^/]*\.egg-info|\.venv)/|.*\.pyc" >"$ignored" &
    {
      git -C "$project" ls-files -z --cached --recurse-submodules
      snapshot::list_untracked "$project"
    } | snapshot::without "$snapshot_secrets"
    wait "$!"
  else
    (cd -- "$project" && find . -name __pycache__ -prune -o -path ./.venv -prune -o -path ./.git -prune -o ! -type d -printf '%P\0') |
      LC_ALL=C sort -z | snapshot::without "$snapshot_secrets"
    : >"$ignored"
  fi
}

# To git a repository inside of the project is one name, with a slash behind: its files are listed.
snapshot::list_untracked() {
  local name
  git -C "$1" ls-files -z --others --exclude-standard | while IFS= read -r -d '' name; do
    if [[ $name == */ ]]; then
      (cd -- "$1" && find "./$name" -name .git -prune -o ! -type d -print0)
    else
      printf '%s\0' "$name"
    fi
  done
}

snapshot::without() {
  LC_ALL=C grep -zvxE "$1" || (($? == 1)) # 1: nothing is left
}

# Size, time, mode and name of each file: the state of the sources, without reading them. A deleted file is
# tracked still: what is not there any more is passed over.
snapshot::describe() {
  (cd -- "$1" && xargs -0 --no-run-if-empty stat --printf '%s %.9Y %f %n\0' -- 2>/dev/null) || (($? == 123))
}

snapshot::check_size() {
  local -r project=$1 described=$2
  local files megabytes
  read -r files megabytes < <(awk -v RS='\0' '{ bytes += $1 } END { printf "%d %d\n", NR, bytes / 1048576 }' "$described")
  if ((files <= snapshot_most_files && megabytes <= snapshot_most_megabytes)); then return; fi
  common::warn "the sources are $files files of $megabytes MB; a snapshot holds $snapshot_most_files files of $snapshot_most_megabytes MB. The heaviest:"
  # awk reads to the end, where head would break the pipe
  LC_ALL=C sort -z -rn "$described" | awk -v RS='\0' 'NR <= 8 { size = $1; sub(/^[^ ]+ [^ ]+ [^ ]+ /, ""); printf "  %8.1f MB  %s\n", size / 1048576, $0 }' >&2
  cut -z -d ' ' -f 4- "$described" | awk -v RS='\0' -F / 'NF > 1 { n[$1]++ } END { for (d in n) if (n[d] > 1000) printf "  %d files  %s/\n", n[d], d }' >&2
  common::die "move data out of ${project@Q} (to \$SCRATCH), name it in .gitignore, or submit with --no-snapshot"
}

# snapshot::commit PROJECT   The commit, with a mark when there are changes; nothing outside a repository.
snapshot::commit() {
  git -C "$1" describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || true
}
