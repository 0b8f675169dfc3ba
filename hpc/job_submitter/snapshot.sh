# shellcheck shell=bash
# Copies the project at submission, so that edits made while the job waits do not change the job. The copy has all files that git
# tracks, changed or not, and the untracked ones that git does not ignore; outside a repository it has all files. Each state of
# the sources is packed once. Every run has a link to its archive and unpacks it when it starts (job/lib/sources.sh).

declare -g snapshot_most_files=20000 snapshot_most_megabytes=200
# Patterns of files that the job reads in the project itself, and of files that may be keys. They apply at any depth, tracked or not.
declare -g snapshot_secrets='\.env|(.*/)?wandb_credentials\.txt|(.*/)?\.netrc'
declare -g snapshot_keys='(.*/)?(\.env(\..*)?|[^/]*\.(pem|key|p12|pfx|jks|keystore|kdbx)|id_(rsa|dsa|ecdsa|ed25519)(_sk)?|_netrc|\.git-credentials|\.pypirc|kaggle\.json|\.?credentials(\.(json|csv|ini|txt|ya?ml|toml))?|(client_secret|service[_-]account)[^/]*\.json)'
declare -g snapshot_samples='(.*/)?\.env\.(example|sample|template|dist)'

declare -g snapshot_answer='' # the descriptor of git's answer
declare -gi snapshot_since=0
# Prints size, time, mode and name of each file: the state of the sources, without reading them. git still lists a deleted file that
# it tracks; stat skips it, and xargs ends with status 123.
declare -ga snapshot_describe=(xargs -0 --no-run-if-empty stat --printf '%s %.9Y %f %n\0' --)

# snapshot::begin PROJECT   Asks git for the names of the files in the background; snapshot::pack reads the answer.
snapshot::begin() {
  # The top folder of a repository cannot be ignored by it, so snapshot::is_repository is not needed.
  if [[ -f $1/.git || -e $1/.git/HEAD ]]; then snapshot::ask_git "$1"; fi
}

# snapshot::pack PROJECT STORE DESTINATION   Makes the archive DESTINATION, and DESTINATION.ignored with the names of the excluded
# files, each with a NUL. Ends with status 1 if the sources are too large.
snapshot::pack() {
  local -r project=$1 store=$2 destination=$3
  local key archive
  snapshot::list "$project" "$destination"
  key=$(exec sha256sum <"$destination.described")
  archive=$store/${key%% *}.tar
  # Another submission may remove an unused archive at this moment (pruning.sh).
  if [[ ! -e $archive ]] || ! snapshot::take "$archive" "$destination" 2>/dev/null; then
    snapshot::check_size "$project" "$destination.described"
    snapshot::make "$project" "$archive" "$destination.described"
    snapshot::take "$archive" "$destination"
  fi
  rm -f -- "$destination".{described,keys,nested}
}

snapshot::take() {
  ln -- "$1" "$2" 2>/dev/null || cp -- "$1" "$2"
}

# snapshot::make PROJECT ARCHIVE DESCRIBED
snapshot::make() {
  local -r project=$1 archive=$2 partial=$2.partial.$BASHPID
  [[ -d ${archive%/*} ]] || mkdir -p -- "${archive%/*}"
  # Blocks of 128 kB are faster on parallel file systems.
  if ! cut -z -d ' ' -f 4- "$3" | tar --create --directory="$project" --null \
    --no-recursion --verbatim-files-from --files-from=- --blocking-factor=256 --file="$partial"; then
    rm -f -- "$partial"
    common::die "tar cannot pack ${project@Q}; its message is above"
  fi
  sync -- "$partial"
  mv -T -- "$partial" "$archive"
}

# snapshot::list PROJECT DESTINATION   Writes the sources to DESTINATION.described (snapshot_describe), and to DESTINATION.ignored the
# names of files that git ignores or that may be keys, each with a NUL. Secrets are in neither: the job reads .env in the project.
snapshot::list() {
  # git's answer is out of date if the user took time to answer a question, or data were packed, since then.
  if [[ -z $snapshot_answer ]] || ((SECONDS - snapshot_since > 5)); then snapshot::begin "$1"; fi
  if [[ -z $snapshot_answer ]] || ! snapshot::read_git "$1" "$2"; then
    if snapshot::is_repository "$1"; then
      snapshot::ask_git "$1"
      snapshot::read_git "$1" "$2" || common::die "git could not list the files of ${1@Q}; its message is above"
    else
      (cd -- "$1" && find . -name __pycache__ -prune -o -path ./.venv -prune -o -path ./.git -prune -o ! -type d -printf '%P\0' |
        LC_ALL=C sort -z | { "${snapshot_describe[@]}" 2>/dev/null || (($? == 123)); }) | snapshot::sort_out "$2" >"$2.described"
    fi
  fi
  if [[ -s $2.keys ]]; then snapshot::leave_out_keys "$2.keys" "$2.ignored"; fi
}

# snapshot::ask_git PROJECT   The answer has the sources (snapshot_describe), an empty name, the names of ignored files, and another
# empty name if all went well.
snapshot::ask_git() {
  local -a kinds=('--cached --others --exclude-standard')
  # With --recurse-submodules git does not list untracked files.
  if [[ -e $1/.gitmodules || ! -e $1/.git ]]; then kinds=('--cached --recurse-submodules' '--others --exclude-standard'); fi
  exec {snapshot_answer}< <(
    cd -- "$1" || exit
    for kind in "${kinds[@]}"; do
      read -ra options <<<"$kind"
      snapshot::git "$1" ls-files -z "${options[@]}" | "${snapshot_describe[@]}" 2>/dev/null || [[ ${PIPESTATUS[*]} == '0 123' ]] || exit
    done
    printf '\0'
    (snapshot::git "$1" ls-files -z --others --ignored --exclude-standard --directory) && printf '\0'
  )
  snapshot_since=SECONDS
}

# snapshot::read_git PROJECT DESTINATION   Status 1: the answer is incomplete, and git's message is on standard error.
snapshot::read_git() {
  local status=0
  snapshot::sort_out "$2" <&"$snapshot_answer" >"$2.described" || status=$?
  exec {snapshot_answer}<&-
  snapshot_answer=''
  ((status == 9)) || return 1
  if [[ -s $2.nested ]]; then snapshot::list_nested "$1" "$2"; fi
}

# snapshot::sort_out DESTINATION   Reads an answer of snapshot::ask_git from standard input and prints the sources without secrets.
# Files that may be keys go to DESTINATION.keys, folders that are repositories (git ends their names with a slash) to
# DESTINATION.nested, the names of ignored files to DESTINATION.ignored. Status 9: the answer is complete.
snapshot::sort_out() {
  local -r begin='^[^ ]+ [^ ]+ [^ ]+ '
  LC_ALL=C sed -zEn -e '0,/^$/{' -e '/^$/d' -e "\\~$begin($snapshot_secrets)\$~d" -e "\\~$begin($snapshot_samples)\$~b print" \
    -e "\\~$begin($snapshot_keys)\$~{w /dev/fd/3" -e 'd}' -e '\~/$~{w /dev/fd/4' -e 'd}' -e ': print' -e 'p' -e 'd}' -e '/^$/Q9' \
    -e "\\~^($snapshot_secrets|(.*/)?(__pycache__|\.[^/]*_cache|[^/]*\.egg-info|\.venv)/|.*\.pyc)\$~d" -e 'w /dev/fd/5' \
    3>"$1.keys" 4>"$1.nested" 5>"$1.ignored"
}

# snapshot::list_nested PROJECT DESTINATION   Lists the files of repositories inside the project; git lists each as one name.
snapshot::list_nested() {
  local -a nested=()
  mapfile -d '' -t nested <"$2.nested"
  nested=("${nested[@]#* * * }")
  (cd -- "$1" && find "${nested[@]/#/./}" -name .git -prune -o ! -type d -print0 | { "${snapshot_describe[@]}" 2>/dev/null || (($? == 123)); }) |
    snapshot::sort_out "$2.inner" >>"$2.described" || return 1
  cat -- "$2.inner.keys" >>"$2.keys"
  rm -- "$2".inner.{keys,nested,ignored}
}

# snapshot::is_repository PROJECT   Status 1: PROJECT is in no repository, or in one that ignores it (a home directory under git).
# Ends if git cannot tell: otherwise ignored files would count as sources.
snapshot::is_repository() {
  local words status=0 folder
  words=$(LC_ALL=C snapshot::git "$1" check-ignore --quiet . 2>&1) || status=$?
  case $status in
    0) return 1 ;;
    1) return 0 ;;
  esac
  folder=$(cd -- "$1" && pwd -P)
  # git found no repository. If .git looks like one all the same, it is damaged.
  if [[ $words == 'fatal: not a git repository (or any '* && ! -f $folder/.git && ! -e $folder/.git/HEAD && ! -e $folder/.git/config ]]; then return 1; fi
  until [[ -e $folder/.git ]]; do
    if [[ -z $folder ]]; then return 1; fi
    folder=${folder%/*}
  done
  common::die "git cannot read the repository $folder, so the kit cannot tell which files are sources (exit status $status): ${words:-no message}"$'\n''  mend that, or take another git (module load git), or submit with --no-snapshot'
}

# snapshot::git PROJECT WORD...   Becomes git, so call it in a subshell. It also reads a PROJECT of another user (a group's folder): the
# user runs its scripts anyway. This holds only for this command, and only for the project's own repository.
snapshot::git() {
  cd -P -- "$1" || exit 128
  exec git -c safe.directory="$PWD" "${@:2}"
}

# snapshot::leave_out_keys KEYS IGNORED   Files that may be keys are not copied. The job gets links to them, as to ignored files.
snapshot::leave_out_keys() {
  local -a keys=()
  mapfile -d '' -t keys <"$1"
  keys=("${keys[@]#* * * }")
  printf '%s\0' "${keys[@]}" >>"$2"
  common::note "linked, not copied into the snapshot, as they may be keys:$(printf ' %q' "${keys[@]:0:5}")$( ((${#keys[@]} <= 5)) || printf ' and %d more' $((${#keys[@]} - 5)))"
}

snapshot::check_size() {
  local -r project=$1 described=$2
  local files megabytes
  read -r files megabytes < <(awk -v RS='\0' '{ bytes += $1 } END { printf "%d %d\n", NR, bytes / 1048576 }' "$described")
  if ((files <= snapshot_most_files && megabytes <= snapshot_most_megabytes)); then
    if [[ -t 2 ]] && ((files > 2000 || megabytes > 20)); then common::note "packing the sources: $files files, $megabytes MB …"; fi
    return
  fi
  common::warn "the sources are $files files of $megabytes MB; a snapshot holds $snapshot_most_files files of $snapshot_most_megabytes MB. The heaviest:"
  # awk reads to the end, where head would break the pipe
  LC_ALL=C sort -z -rn "$described" | awk -v RS='\0' 'NR <= 8 { size = $1; sub(/^[^ ]+ [^ ]+ [^ ]+ /, ""); printf "  %8.1f MB  %s\n", size / 1048576, $0 }' >&2
  cut -z -d ' ' -f 4- "$described" | awk -v RS='\0' -F / 'NF > 1 { n[$1]++ } END { for (d in n) if (n[d] > 1000) printf "  %d files  %s/\n", n[d], d }' >&2
  common::die "move data out of ${project@Q} (to \$SCRATCH), name it in .gitignore, or submit with --no-snapshot"
}

# snapshot::commit PROJECT   Prints the commit, with a mark if there are changes; nothing outside a repository. Call it in a subshell.
snapshot::commit() {
  snapshot::git "$1" describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null
}
