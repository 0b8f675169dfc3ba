#!/usr/bin/env bash
# tests/roots.sh [VERSION]... [SUITE|FILE]...
#
# Runs tests on other versions of Slurm, each in the root file system of another Debian release. Ends with a table of the tests that passed
# on each version and the line `N passed, N failed`. Run by root, through tests/run.sh sites.
#   VERSION   24.11 (Debian 13), 26.05 (Debian unstable); default: all
#   SUITE     as for tests/run.sh; default: cluster and faults
# A root is made once, which takes minutes, in ${XDG_CACHE_HOME:-~/.cache}/hpc_kit_roots. To make it again, for example after unstable has
# moved on, remove its folder. The output of each version stays beside it, in VERSION.log.
#
# The tests run in namespaces on an overlay. They cannot change the root, the checkout or this machine, no process of theirs stays, and they
# cannot reach other networks. The kit runs with the root's own bash, Python and Slurm. Jobs that train need torch, which has no packages
# for every Python, so they use the checkout's environment and the Python that made it.
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
project=${here%/*}
source "$project/hpc/lib/common.sh"
source "$project/hpc/lib/help.sh"
source "$project/hpc/lib/packages.sh"
source "$project/venv/environment.sh"
source "$here/mirror.bash"

declare -rA roots_release=([24.11]=trixie [26.05]=unstable)
readonly -a roots_packages=(
  slurm-wlm munge slurmdbd mariadb-server iproute2 # the pocket cluster
  bats shellcheck shfmt git chromium               # tests/run.sh
  squashfs-tools squashfuse fuse3 zstd e2fsprogs   # images and archives
  zsh fish python3 python3-venv python3-yaml util-linux procps rsync curl strace openssh-client ca-certificates
)
readonly roots_cache=${XDG_CACHE_HOME:-$HOME/.cache}/hpc_kit_roots
roots_logs='' # the folder of this call: another may run the same version meanwhile
roots_run=''  # the process group that holds the namespaces, while there is one

main() {
  local name
  local -a versions=() tests=()
  if [[ ${1:-} == inside ]]; then
    roots::inside "${@:2}"
    return
  fi
  help::answer "$project" "${BASH_SOURCE[0]}" "$@"
  for name in "$@"; do
    if [[ -v roots_release[$name] ]]; then
      versions+=("$name")
    elif [[ $name == sites ]]; then
      tests+=(sites.bats) # as its first argument run.sh takes the word for this command
    else
      tests+=("$name")
    fi
  done
  ((${#versions[@]} > 0)) || mapfile -t versions < <(printf '%s\n' "${!roots_release[@]}" | sort -V)
  ((${#tests[@]} > 0)) || tests=(cluster faults)
  ((EUID == 0)) || common::die 'the roots of other releases are made and entered by root: run this as root'

  roots::prepare "${tests[@]}"
  roots_logs=$(mktemp -d "$roots_cache/logs.XXXXXX")
  trap 'rm -rf -- "$roots_logs"' EXIT
  for name in "${versions[@]}"; do
    roots::make "$name"
    roots::run "$name" "${tests[@]}"
  done
  roots::table "${versions[@]}"
}

# roots::prepare TEST...   Makes what the tests cannot make inside a root.
roots::prepare() {
  local folder
  local -r checkout=$project
  common::has_command mmdebstrap || packages::install mmdebstrap
  mkdir -p -- "$roots_cache"
  if [[ " $* " == *@(" cluster "|containers|sweeps)* ]]; then
    folder=$(bash "$here/install_apptainer.sh")
    PATH=$folder:$PATH bash "$here/make_image.sh" >/dev/null
  fi
  if [[ " $* " == *@(" cluster "|launchers)* ]]; then
    source "$here/cluster/reports.bash"
    lightning_environment >/dev/null
  fi
  if [[ " $* " == *@(" cluster "|meetings)* ]]; then
    source "$here/cluster/reports.bash"
    meetings_environment >/dev/null
  fi
}

# roots::folder VERSION   Prints the folder of its root; another list of packages gives another folder.
roots::folder() {
  local key
  key=$(printf '%s\n' "${roots_release[$1]}" "${roots_packages[@]}" | sha256sum)
  printf '%s/%s-%s\n' "$roots_cache" "$1" "${key:0:12}"
}

# roots::make VERSION   Makes its root if there is none. The folder is renamed into place when it is complete.
roots::make() {
  local -r version=$1
  local root lock include mirror
  local -a options=()
  root=$(roots::folder "$version")
  mirror=$(mirror::debian)
  printf -v include '%s,' "${roots_packages[@]}"
  mapfile -t options < <(mirror::options | sed 's/\(.*\)=\(.*\)/--aptopt=\1 "\2"/') # as apt.conf has them
  exec {lock}>"$root.lock"
  flock "$lock"
  if [[ ! -d $root ]]; then
    common::note "making the root of Debian's ${roots_release[$version]} for Slurm $version (once; minutes) …"
    rm -rf --one-file-system -- "$root.partial"
    # The mounts of mmdebstrap disappear with the namespaces, however it ends.
    unshare --mount --pid --fork --kill-child --mount-proc -- \
      mmdebstrap --quiet --mode=root --variant=minbase --include="${include%,}" "${options[@]}" \
      "${roots_release[$version]}" "$root.partial" "$mirror" >&2 {lock}>&- ||
      common::die "mmdebstrap could not make the root of Debian's ${roots_release[$version]} (its words are above)"
    mv -T -- "$root.partial" "$root"
  fi
  exec {lock}>&-
}

# roots::run VERSION TEST...   Runs the tests in the root, on a copy of the checkout without the files that git ignores.
roots::run() {
  local -r version=$1
  local root work environments
  root=$(roots::folder "$version")
  work=$(mktemp -d "$roots_cache/run.XXXXXX")
  trap 'roots::end; rm -rf --one-file-system -- "$work" "$roots_logs"' EXIT
  trap 'exit 130' INT TERM
  environments=$(realpath -- "$project/.venv")
  mkdir -p -- "$work"/{merged,work,upper"$project",lower"${environments%/*}"}
  chmod 755 -- "$work" "$work"/{upper,lower}
  # Nothing writes to this layer, so hard links to the checkout's files are enough. All is one file system, as on this machine.
  cp --archive --link -- "$environments" "$work/lower${environments%/*}/" 2>/dev/null || {
    rm -rf -- "$work/lower$environments"
    cp --archive -- "$environments" "$work/lower${environments%/*}/"
  }
  git -C "$project" ls-files -z --cached --others --exclude-standard |
    tar --directory="$project" --create --null --files-from=- --ignore-failed-read 2>/dev/null |
    tar --directory="$work/upper$project" --extract
  common::note "running ${*:2} in $root …"
  set -m
  unshare --mount --uts --ipc --net --pid --fork --kill-child -- bash "$here/roots.sh" inside "$root" "$work" "${@:2}" \
    2>&1 </dev/null | tee -- "$work/log" &
  roots_run=$(jobs -p)
  set +m
  wait || true
  roots::end
  cp -- "$work/log" "$roots_cache/$version.log"
  mv -- "$work/log" "$roots_logs/$version.log"
  rm -rf --one-file-system -- "$work"
  trap 'rm -rf -- "$roots_logs"' EXIT
  trap - INT TERM
}

roots::end() {
  if [[ -n $roots_run ]]; then kill -s KILL -- "-$roots_run" 2>/dev/null || true; fi
  roots_run=''
}

# roots::inside ROOT WORK TEST...   Runs in the namespaces as process 1, which reaps the processes that a test leaves behind.
roots::inside() {
  local -ar clean=(env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8)
  local -r root=$1 work=$2 merged=$2/merged
  local path environments
  local -a shown=()
  shift 2
  environments=$(realpath -- "$project/.venv")
  mapfile -t shown < <(roots::python_paths)
  if [[ -d /opt/hpc_kit_apptainer ]]; then shown+=(/opt/hpc_kit_apptainer); fi

  mount -t overlay -o "lowerdir=$work/lower:$root,upperdir=$work/upper,workdir=$work/work" overlay "$merged"
  mount --rbind /dev "$merged/dev"
  mount -t tmpfs -o mode=1777 tmpfs "$merged/dev/shm"
  mount -t proc proc "$merged/proc"
  mount -t sysfs sysfs "$merged/sys"
  cp --dereference -- /etc/hosts "$merged/etc/"
  for path in "${shown[@]}"; do
    mkdir -p -- "$merged/${path%/*}"
    if [[ -d $path ]]; then mkdir -p -- "$merged$path"; else : >>"$merged$path"; fi
    mount --bind -o ro "$path" "$merged$path"
  done
  # The name with the version belongs to this machine's C library. The root takes the file under the name without it, where that works.
  path=$(environment::folder "$project" cpu '')
  ln -sfn -- "$(environment::made "$project" cpu)" "$merged$environments/${path##*/}"
  # Environments lead to /usr/bin/python3, which is another Python in the root.
  for path in "$environments"/*/bin/python*; do
    if [[ $(readlink -- "$path") == /* ]]; then ln -sfn -- "$(realpath -- "$path")" "$merged$path"; fi
  done
  if [[ $environments != "$project/.venv" ]]; then ln -sfn -- "$environments" "$merged$project/.venv"; fi

  # chroot would not do: inside one no user can make a namespace, which Apptainer does.
  ip link set lo up
  cd -- "$merged"
  pivot_root . .
  umount --lazy .
  cd -- "$project"
  "${clean[@]}" slurmd -V
  "${clean[@]}" bash --version | sed -n 1p
  "${clean[@]}" python3 --version
  "${clean[@]}" bash tests/run.sh "$@" &
  wait "$!"
}

# The folder of the Python that made the environment.
roots::python_paths() {
  "$(bash "$project/venv/create.sh" cpu)/bin/python" - <<'PYTHON'
import os, sys, sysconfig
if sys.base_prefix != "/usr":
    print(sys.base_prefix)
else:
    print(os.path.realpath(sys.executable), sysconfig.get_path("stdlib"), sep="\n")
PYTHON
}

# roots::table VERSION...   Prints a table, by file, of the tests that passed on each version.
roots::table() {
  (cd -- "$roots_logs" && awk -v versions="$*" '
    BEGIN { count = split(versions, version) }
    FNR == 1 { file = "" }
    /^== .*, [0-9]+ s$/ { file = substr($2, 1, length($2) - 1); if (!seen[file]++) files[++lines] = file }
    /^(in [0-9]+ s|Failed:)$/ { file = "" }
    file != "" && /^ok / { $0 ~ /# skip/ ? skipped[file, FILENAME]++ : passed[file, FILENAME]++ }
    file != "" && /^not ok / { failed[file, FILENAME]++; bad[++bads] = file ": " FILENAME ": " $0 }
    /: the runner itself, status [0-9]+$/ { wrong++; bad[++bads] = FILENAME ": " $0 }
    /^[0-9]+ passed, [0-9]+ failed/ { ended[FILENAME] = 1 }
    END {
      for (i = 1; i <= count; i++) if (!ended[version[i] ".log"]) { wrong++; bad[++bads] = version[i] ".log: the run has no end" }
      printf "\n| tests |"; for (i = 1; i <= count; i++) printf " %s |", version[i]
      printf "\n| --- |"; for (i = 1; i <= count; i++) printf " --- |"
      for (l = 1; l <= lines; l++) {
        printf "\n| %s |", files[l]
        for (i = 1; i <= count; i++) {
          key = files[l] SUBSEP version[i] ".log"
          printf " %d%s%s |", passed[key], failed[key] ? ", " failed[key] " failed" : "", skipped[key] ? ", " skipped[key] " skipped" : ""
          all += passed[key]; wrong += failed[key]
        }
      }
      print "\n"
      for (l = 1; l <= bads; l++) print bad[l]
      printf "%s%d passed, %d failed\n", bads ? "\n" : "", all, wrong
      exit wrong > 0 || all == 0
    }' "${@/%/.log}")
}

main "$@"
