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

declare -ga snapshot_git+=()                     # snapshot::git
declare -g snapshot_git_of='' snapshot_answer='' # of what project; where git's answer comes
declare -gi snapshot_since=0
# Size, time, mode and name of each file: the state of the sources, without reading them. A deleted file is tracked still: what is
# not there any more is passed over, with status 123.
declare -ga snapshot_describe=(xargs -0 --no-run-if-empty stat --printf '%s %.9Y %f %n\0' --)

# snapshot::begin PROJECT   Asks git for the names of the files; they come while other things are looked at (snapshot::pack).
snapshot::begin() {
  # The top of a repository cannot be ignored by it: git need not be asked whether it is one.
  if [[ -f $1/.git || -e $1/.git/HEAD ]]; then snapshot::ask_git "$1"; fi
}

# snapshot::pack PROJECT STORE DESTINATION   DESTINATION becomes the archive, DESTINATION.ignored the
# names of what is left out, each with a NUL. Status 1 when the sources are too large.
snapshot::pack() {
  local -r project=$1 store=$2 destination=$3
  local key archive
  snapshot::list "$project" "$destination"
  key=$(sha256sum <"$destination.described")
  archive=$store/${key%% *}.tar
  # Another submission may remove it at this moment, as one that no run has (pruning.sh).
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
  # Written in pieces of 128 kB, as parallel file systems like it.
  if ! cut -z -d ' ' -f 4- "$3" | tar --create --directory="$project" --null \
    --no-recursion --verbatim-files-from --files-from=- --blocking-factor=256 --file="$partial"; then
    rm -f -- "$partial"
    common::die "tar cannot pack ${project@Q}; its own words are above"
  fi
  sync -- "$partial"
  mv -T -- "$partial" "$archive"
}

# snapshot::list PROJECT DESTINATION   The sources become DESTINATION.described (snapshot_describe), and DESTINATION.ignored the names of
# what git ignores, or may be a key, each with a NUL. Secrets are in neither: the job reads .env in the project itself.
snapshot::list() {
  # What git has said before a question was answered, or data was packed, is old.
  if [[ -z $snapshot_answer ]] || ((SECONDS - snapshot_since > 5)); then snapshot::begin "$1"; fi
  if [[ -z $snapshot_answer ]] || ! snapshot::read_git "$1" "$2"; then
    if snapshot::is_repository "$1"; then
      snapshot::ask_git "$1"
      snapshot::read_git "$1" "$2" || common::die "git could not list the files of ${1@Q}; its words are above"
    else
      (cd -- "$1" && find . -name __pycache__ -prune -o -path ./.venv -prune -o -path ./.git -prune -o ! -type d -printf '%P\0' |
        LC_ALL=C sort -z | { "${snapshot_describe[@]}" 2>/dev/null || (($? == 123)); }) | snapshot::sort_out "$2" >"$2.described"
    fi
  fi
  if [[ -s $2.keys ]]; then snapshot::leave_out_keys "$2.keys" "$2.ignored"; fi
}

# snapshot::ask_git PROJECT   Its answer is the sources (snapshot_describe), an empty name, the names of what git ignores, and if all
# went well one more empty name.
snapshot::ask_git() {
  local -a kinds=('--cached --others --exclude-standard')
  # With submodules it lists no others.
  if [[ -e $1/.gitmodules || ! -e $1/.git ]]; then kinds=('--cached --recurse-submodules' '--others --exclude-standard'); fi
  snapshot::git "$1"
  exec {snapshot_answer}< <(
    cd -- "$1" || exit
    for kind in "${kinds[@]}"; do
      read -ra options <<<"$kind"
      "${snapshot_git[@]}" ls-files -z "${options[@]}" | "${snapshot_describe[@]}" 2>/dev/null || [[ ${PIPESTATUS[*]} == '0 123' ]] || exit
    done
    printf '\0'
    "${snapshot_git[@]}" ls-files -z --others --ignored --exclude-standard --directory && printf '\0'
  )
  snapshot_since=SECONDS
}

# snapshot::read_git PROJECT DESTINATION   Status 1 when the answer is not complete: git's words are on standard error.
snapshot::read_git() {
  local status=0
  snapshot::sort_out "$2" <&"$snapshot_answer" >"$2.described" || status=$?
  exec {snapshot_answer}<&-
  snapshot_answer=''
  ((status == 9)) || return 1
  if [[ -s $2.nested ]]; then snapshot::list_nested "$1" "$2"; fi
}

# snapshot::sort_out DESTINATION   Of standard input, an answer as of snapshot::ask_git, prints the sources. Without secrets; what may be
# keys goes to DESTINATION.keys, and to DESTINATION.nested the folders with repositories of their own, which end with a slash to
# git. The names of what git ignores become DESTINATION.ignored. Status 9 when the answer is complete.
snapshot::sort_out() {
  local -r begin='^[^ ]+ [^ ]+ [^ ]+ '
  LC_ALL=C sed -zEn -e '0,/^$/{' -e '/^$/d' -e "\\~$begin($snapshot_secrets)\$~d" -e "\\~$begin($snapshot_samples)\$~b print" \
    -e "\\~$begin($snapshot_keys)\$~{w /dev/fd/3" -e 'd}' -e '\~/$~{w /dev/fd/4' -e 'd}' -e ': print' -e 'p' -e 'd}' -e '/^$/Q9' \
    -e "\\~^($snapshot_secrets|(.*/)?(__pycache__|\.[^/]*_cache|[^/]*\.egg-info|\.venv)/|.*\.pyc)\$~d" -e 'w /dev/fd/5' \
    3>"$1.keys" 4>"$1.nested" 5>"$1.ignored"
}

# snapshot::list_nested PROJECT DESTINATION   To git a repository inside of the project is one name: its files are listed.
snapshot::list_nested() {
  local -a nested=()
  mapfile -d '' -t nested <"$2.nested"
  nested=("${nested[@]#* * * }")
  (cd -- "$1" && find "${nested[@]/#/./}" -name .git -prune -o ! -type d -print0 | { "${snapshot_describe[@]}" 2>/dev/null || (($? == 123)); }) |
    snapshot::sort_out "$2.inner" >>"$2.described" || return 1
  cat -- "$2.inner.keys" >>"$2.keys"
  rm -- "$2".inner.{keys,nested,ignored}
}

# snapshot::is_repository PROJECT   Status 1 when git knows nothing of it: it lies in no repository, or in one that ignores it (a home
# directory under git). Ends when git cannot tell: without it all that it ignores would be taken for sources.
snapshot::is_repository() {
  local words status=0 folder
  snapshot::git "$1"
  words=$(LC_ALL=C "${snapshot_git[@]}" check-ignore --quiet . 2>&1) || status=$?
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

# snapshot::git PROJECT   snapshot_git becomes the words of a git that reads PROJECT also where it is another user's (a group's folder):
# whoever submits it runs its scripts anyway. For this call, and for the project's own repository alone.
snapshot::git() {
  if [[ $snapshot_git_of == "$1" ]]; then return; fi
  snapshot_git_of=$1 snapshot_git=(git -C "$1" -c safe.directory="$(cd -- "$1" && pwd -P)")
}

# snapshot::leave_out_keys KEYS IGNORED   What may be a key is not copied: a link leads to it, as to what git ignores.
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

# snapshot::commit PROJECT   The commit, with a mark when there are changes; nothing outside a repository.
snapshot::commit() {
  snapshot::git "$1"
  "${snapshot_git[@]}" describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || true
}
