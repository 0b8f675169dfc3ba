# shellcheck shell=bash
# A copy of the project as it is at submission, for the job to run whatever is edited while it waits: all
# files that git tracks, changed or not, and the untracked ones that it does not ignore; in a folder that
# is no repository, all files. Packed once for each state of the sources; every run has a link to its
# archive and unpacks it when it starts (batch.sh).

declare -g snapshot_most_files=20000 snapshot_most_megabytes=200
# What the job reads in the project itself, and what may be a key: at any depth, whether git knows it or not.
declare -g snapshot_secrets='\.env|(.*/)?wandb_credentials\.txt|(.*/)?\.netrc'
declare -g snapshot_keys='(.*/)?(\.env(\..*)?|[^/]*\.(pem|key|p12|pfx|jks|keystore|kdbx)|id_(rsa|dsa|ecdsa|ed25519)(_sk)?|_netrc|\.git-credentials|\.pypirc|kaggle\.json|\.?credentials(\.(json|csv|ini|txt|ya?ml|toml))?|(client_secret|service[_-]account)[^/]*\.json)'
declare -g snapshot_samples='(.*/)?\.env\.(example|sample|template|dist)'

# snapshot::pack PROJECT STORE DESTINATION   DESTINATION becomes the archive, DESTINATION.ignored the
# names of what is left out, each with a NUL. Status 1 when the sources are too large.
snapshot::pack() {
  local -r project=$1 store=$2 destination=$3
  local key archive
  snapshot::list "$project" "$destination.ignored" >"$destination.names"
  snapshot::leave_out_keys "$destination.names" "$destination.ignored"
  snapshot::describe "$project" <"$destination.names" >"$destination.described"
  rm -- "$destination.names"
  snapshot::check_size "$project" "$destination.described"
  key=$(sha256sum <"$destination.described")
  archive=$store/${key%% *}.tar
  # Another submission may remove it at this moment, as one that no run has (pruning.sh).
  if [[ ! -e $archive ]] || ! snapshot::take "$archive" "$destination" 2>/dev/null; then
    snapshot::make "$project" "$archive" "$destination.described"
    snapshot::take "$archive" "$destination"
  fi
  rm -- "$destination.described"
}

snapshot::take() {
  ln -- "$1" "$2" 2>/dev/null || cp -- "$1" "$2"
}

# snapshot::make PROJECT ARCHIVE DESCRIBED
snapshot::make() {
  local -r project=$1 archive=$2 partial=$2.partial.$BASHPID
  [[ -d ${archive%/*} ]] || mkdir -p -- "${archive%/*}"
  # Written in pieces of 128 kB, as parallel file systems like it.
  if ! cut -z -d ' ' -f 4- "$3" | tar --create --directory="$project" --null \
    --no-recursion --verbatim-files-from --files-from=- --blocking-factor=256 --file="$partial"; then
    rm -f -- "$partial"
    common::die "tar cannot pack ${project@Q}; its own words are above"
  fi
  sync -- "$partial"
  mv -T -- "$partial" "$archive"
}

# snapshot::list PROJECT IGNORED   Prints the names of the sources, each with a NUL; those of what git ignores
# become IGNORED. Secrets are in neither: the job reads .env in the project itself.
snapshot::list() {
  local -r project=$1 ignored=$2
  if snapshot::is_repository "$project"; then
    snapshot::git "$project" ls-files -z --others --ignored --exclude-standard --directory |
      snapshot::without "$snapshot_secrets|(.*/)?(__pycache__|\.[^/]*_cache|[^/]*\.egg-info|\.venv)/|.*\.pyc" >"$ignored" &
    if ! { snapshot::git "$project" ls-files -z --cached --recurse-submodules && snapshot::list_untracked "$project"; } |
      snapshot::without "$snapshot_secrets" || ! wait "$!"; then
      common::die "git could not list the files of ${project@Q}; its words are above"
    fi
  else
    (cd -- "$project" && find . -name __pycache__ -prune -o -path ./.venv -prune -o -path ./.git -prune -o ! -type d -printf '%P\0') |
      LC_ALL=C sort -z | snapshot::without "$snapshot_secrets"
    : >"$ignored"
  fi
}

# snapshot::is_repository PROJECT   Status 1 when git knows nothing of it: it lies in no repository, or in one that ignores it (a home
# directory under git). Ends when git cannot tell: without it all that it ignores would be taken for sources.
snapshot::is_repository() {
  local words status=0 folder
  words=$(LC_ALL=C snapshot::git "$1" check-ignore --quiet . 2>&1) || status=$?
  case $status in
    0) return 1 ;;
    1) return 0 ;;
  esac
  folder=$(cd -- "$1" && pwd -P)
  # Words of a git that has looked: what lies there is no repository. A folder .git that has one is a damaged one.
  if [[ $words == 'fatal: not a git repository (or any '* && ! -f $folder/.git && ! -e $folder/.git/HEAD && ! -e $folder/.git/config ]]; then return 1; fi
  until [[ -e $folder/.git ]]; do
    if [[ -z $folder ]]; then return 1; fi
    folder=${folder%/*}
  done
  common::die "git cannot read the repository $folder, and knows what belongs to the sources (exit status $status): ${words:-it says nothing}"$'\n''  mend that, or take another git (module load git), or submit with --no-snapshot'
}

# snapshot::git PROJECT ARGUMENT...   Also where the project is another user's (a group's folder): whoever submits it runs its
# scripts anyway. For this call, and for the project's own repository alone.
snapshot::git() {
  local folder
  folder=$(cd -- "$1" && pwd -P)
  git -C "$1" -c safe.directory="$folder" "${@:2}"
}

# snapshot::leave_out_keys NAMES IGNORED   What may be a key is not copied: a link leads to it, as to what git ignores.
snapshot::leave_out_keys() {
  local -a keys=()
  LC_ALL=C KEYS="^($snapshot_keys)\$" SAMPLES="^($snapshot_samples)\$" FILE=$1.keys awk 'BEGIN { RS = ORS = "\0" }
    $0 ~ ENVIRON["KEYS"] && $0 !~ ENVIRON["SAMPLES"] { print >ENVIRON["FILE"]; next }
    { print }' "$1" >"$1.others"
  mv -T -- "$1.others" "$1"
  if [[ ! -e $1.keys ]]; then return; fi
  mapfile -d '' -t keys <"$1.keys"
  cat -- "$1.keys" >>"$2"
  rm -- "$1.keys"
  common::note "linked, not copied into the snapshot, as they may be keys:$(printf ' %q' "${keys[@]:0:5}")$( ((${#keys[@]} <= 5)) || printf ' and %d more' $((${#keys[@]} - 5)))"
}

# To git a repository inside of the project is one name, with a slash behind: its files are listed.
snapshot::list_untracked() {
  local name
  snapshot::git "$1" ls-files -z --others --exclude-standard | while IFS= read -r -d '' name; do
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
  snapshot::git "$1" describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || true
}
