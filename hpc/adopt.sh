#!/usr/bin/env bash
# adopt.sh [--dry-run] PATH [-- COMMAND...]
#
# Puts the kit beside your program in the folder PATH: hpc/ (with this README), venv/, singularity/, train/, what git
# shall ignore, and an experiment_configurations.txt with COMMAND. Run again, from a newer kit, it upgrades: what you have
# changed stays as it is, and the new version is put beside it, with .new at the end of its name. Prints a line for each
# file that it writes, keeps or removes; --dry-run does no more than that. PATH/hpc/.installed has the hash of each file
# that it has put there. Run by people, in a clone of the kit; if it was interrupted, run it again. Exit status: 0, 1 the
# folder cannot be written, 2 the request is wrong.
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
kit=${here%/*}
source "$here/lib/common.sh"
source "$here/adopt/installing.sh"

readonly -a parts=(hpc venv singularity train)

main() {
  local path='' dry_run='' stage='' line='' lock
  local -a command=()
  adopt::read_arguments "$@"
  adopt::check_path
  adopt::choose_line
  if [[ -z $dry_run ]]; then adopt::take_lock; fi
  adopt::list_kit
  adopt::check_folders
  installing::read_manifest "$path/hpc/.installed"
  adopt::leave_out_parts
  installing::decide "$path"
  if [[ -z $dry_run ]]; then
    installing::apply "$kit" "$path" "$stage" "$(git -C "$kit" describe --always --dirty --abbrev=12 2>/dev/null || echo 'of no repository')"
  fi
  adopt::configuration
  adopt::ignore
  if [[ -n $dry_run ]]; then
    common::note 'nothing was written (--dry-run)'
  elif ((${#installing_put[@]} == 0)); then
    adopt::say_next
  fi
}

adopt::read_arguments() {
  while (($# > 0)); do
    case $1 in
      --dry-run) dry_run=1 ;;
      -h | --help)
        common::print_header "${BASH_SOURCE[0]}"
        exit
        ;;
      --)
        command=("${@:2}")
        ((${#command[@]} > 0)) || common::die_usage "after -- the command is missing, such as  -- python train.py"
        break
        ;;
      -*) common::die_usage "unknown option ${1@Q}: adopt.sh [--dry-run] PATH [-- COMMAND...]" ;;
      *)
        [[ -z $path ]] || common::die_usage "one folder at a time: ${path@Q} and ${1@Q}; a command stands behind --"
        [[ -n $1 ]] || common::die_usage "the folder's name is empty"
        path=$1
        ;;
    esac
    shift
  done
  [[ -n $path ]] || common::die_usage "say where your program is: adopt.sh [--dry-run] PATH [-- COMMAND...]"
  [[ ${command[*]} != *[[:cntrl:]]* ]] || common::die_usage "control characters are not possible in the command"
}

adopt::check_path() {
  [[ -d $path ]] || common::die_usage "${path@Q} is not a folder: give that of your program"
  path=$(CDPATH='' cd -- "$path" && pwd -P)
  [[ $path/ != "$kit"/* ]] || common::die_usage "${path@Q} is the kit itself, or in it: give the folder of your program"
  [[ -w $path && -x $path ]] || common::die "${path@Q} cannot be written: whose is it? (ls -ld)"
}

# Of each folder that the kit's files go to. A link would lead out of the project.
adopt::check_folders() {
  local folder
  while IFS= read -r folder; do
    folder=$path/$folder
    if [[ -L $folder || -e $folder && ! -d $folder ]]; then
      common::die_usage "${folder@Q} is a link or a file, where a folder of the kit shall be: move it away first"
    fi
    [[ ! -e $folder || -w $folder ]] || common::die "${folder@Q} cannot be written: whose is it? (ls -ld)"
  done < <(printf '%s\n' "${parts[@]}" "${installing_order[@]%/*}" | LC_ALL=C sort -u)
}

# Everything is written there first, on the same file system: a full disk leaves the project as it was.
adopt::take_lock() {
  exec {lock}<"$path"
  flock -n "$lock" || common::die "another adopt.sh is at work in ${path@Q}"
  rm -rf -- "$path"/.adopt.??????
  stage=$(mktemp -d -- "$path/.adopt.XXXXXX")
  # shellcheck disable=SC2064 # as it is now
  trap "rm -rf -- ${stage@Q}" EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
}

# What of the kit goes where. Left out is what is about the kit alone: its tests, and its own example.
adopt::list_kit() {
  local file
  while IFS= read -r -d '' file; do
    case $file in
      hpc/adopt.sh | hpc/adopt/installing.sh | hpc/quickstart.sh | *.pyc | *.new) ;;
      README.md | LICENSE) installing::offer "$kit" "$file" "hpc/$file" ;;
      *) installing::offer "$kit" "$file" "$file" ;;
    esac
  done < <(adopt::files)
  # What is not there would be taken for gone, and be removed from the project.
  [[ -n ${installing_source["hpc/job/batch.sh"]:-} ]] || common::die "${kit@Q} is not a whole kit: it has no hpc/job/batch.sh"
  installing::hash_offers "$kit"
}

# A repository around the kit may not know its files.
adopt::files() {
  cd -- "$kit"
  if [[ -e .git ]] && git ls-files -z --cached --others --exclude-standard -- README.md LICENSE "${parts[@]}" 2>/dev/null; then return; fi
  find README.md LICENSE "${parts[@]}" -name __pycache__ -prune -o ! -type d -print0 2>/dev/null || true
}

# train/ would hide a train.py from  import train ; and a part that somebody has removed stays away.
adopt::leave_out_parts() {
  local part
  if ! installing::has_put train/; then
    if [[ -e $path/train.py ]]; then
      installing::leave_out train/ "your train.py would be hidden by it; nothing else of the kit needs it"
    elif [[ -e $path/train ]]; then
      installing::leave_out train/ "you have a folder of that name; nothing else of the kit needs it"
    fi
  fi
  for part in train singularity; do
    if installing::has_put "$part/" && [[ ! -e $path/$part ]]; then
      installing::leave_out "$part/" "you have removed it"
    fi
  done
}

# Sets line, of the configuration.
adopt::choose_line() {
  local -r file=$path/experiment_configurations.txt
  local word name
  for word in "${command[@]}"; do
    # In double quotes ${NAME} is replaced in the job, as it is in a file that was written by hand.
    if [[ ! $word =~ ^[A-Za-z0-9_./=,:@%+{}-]+$ ]]; then
      word=${word//\\/\\\\}
      word=\"${word//\"/\\\"}\"
    fi
    line+="${line:+ }$word"
  done
  if [[ -n $line && -e $file ]] && ! grep -qxF -e "$line" -- "$file"; then
    common::die_usage "${file@Q} is there, without this command: write it into it yourself, or move it away"
  fi
  for name in train.py main.py; do
    if [[ -z $line && -e $path/$name ]]; then line="python $name"; fi
  done
}

# It is the user's from the beginning.
adopt::configuration() {
  local -r file=$path/experiment_configurations.txt
  if [[ -e $file || -L $file ]]; then return; fi
  installing::say new "experiment_configurations.txt: ${line:-no command yet}"
  if [[ -n $dry_run ]]; then return; fi
  {
    # shellcheck disable=SC2016 # the file's own words
    printf '%s\n' '# One experiment a line, as you would type it; several lines become an array job. hpc/README.md, "The' \
      '# configuration file", tells about ${NAME}, {nodes}, {gpus} and {seed}.' "${line:-# python my_program.py --my-flag 1}"
  } | common::write_atomically "$file"
}

# In a git repository: what the kit makes in the project, and what is secret.
adopt::ignore() {
  local line last='' ignored
  local -a lines=()
  if ! git -C "$path" rev-parse --is-inside-work-tree >/dev/null 2>&1; then return; fi
  for line in /.venv/ /.env __pycache__/; do
    # Of a folder, what is in it.
    if ! git -C "$path" check-ignore --quiet --no-index -- "${line#/}$([[ $line != */ ]] || echo x)"; then lines+=("$line"); fi
  done
  if ((${#lines[@]} > 0)); then
    installing::say added ".gitignore: ${lines[*]}"
    if [[ -z $dry_run ]]; then
      if [[ -s $path/.gitignore ]]; then last=$(tail -c 1 -- "$path/.gitignore"); fi
      printf '%s%s\n' "${last:+$'\n'}" "$(printf '%s\n' "${lines[@]}")" >>"$path/.gitignore"
    fi
  fi
  ignored=$(git -C "$path" check-ignore --no-index -- hpc/job/batch.sh venv/run.sh singularity/run.sh | paste -sd ' ') || true
  if [[ -n $ignored ]]; then
    common::note "note: your .gitignore leaves out files of the kit, such as $ignored: jobs take these as they are when the job starts"
  fi
}

adopt::say_next() {
  local name=${path@Q}
  if [[ $path =~ ^[A-Za-z0-9_./+-]+$ ]]; then name=$path; fi
  common::note "next: look at $name/experiment_configurations.txt, then
  bash $name/venv/create.sh
  bash $name/hpc/job_submitter.sh --gpus 2 --num-nodes 2"
}

main "$@"
