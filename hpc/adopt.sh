#!/usr/bin/env bash
# adopt.sh [--dry-run] [--force] PATH [-- COMMAND...]
#
# Puts the kit beside your program in the folder PATH: hpc/ (with this README), venv/, singularity/, train/, lines of
# .gitignore, and an experiment_configurations.txt with COMMAND. Run again from a newer kit, it upgrades: a file that you
# have changed stays, and the new version is put beside it, with .new at the end of its name. Prints a line for each file
# that it writes, keeps or removes; --dry-run only prints. PATH/hpc/.installed has the hash of each file that was put
# there. It refuses an upgrade while queued or running jobs need the old files; --force upgrades all the same. Run by
# people, in a clone of the kit; if it was interrupted, run it again. Exit status: 0, 1 the folder cannot be written, or
# jobs need it, 2 the request is wrong.
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
kit=${here%/*}
source "$here/lib/common.sh"
source "$here/lib/slurm.sh"
source "$here/adopt/installing.sh"
source "$here/adopt/live_jobs.sh"

readonly -a parts=(hpc venv singularity train)

main() {
  local path='' dry_run='' force='' first='' stage='' line='' continuing='' lock old
  local -a command=()
  adopt::read_arguments "$@"
  adopt::check_path
  adopt::choose_line
  if [[ -z $dry_run ]]; then adopt::take_lock; fi
  adopt::list_kit
  adopt::check_folders
  # Only an older kit has this file. Where a site forbids requeueing, a job with a snapshot is continued from there.
  if [[ -e $path/hpc/batch.sh && -z $force ]]; then continuing=$(live_jobs::check "$path" "$dry_run"); fi
  if [[ -n $continuing ]]; then installing_held["hpc/batch.sh"]="job $continuing may need it to continue; run this again when it has ended"; fi
  if [[ -e $path/hpc/.installed ]]; then installing::read_manifest "$path/hpc/.installed"; else first=1 && installing::recognize "$kit" "$path"; fi
  adopt::leave_out_parts
  installing::decide "$path"
  if [[ -z $dry_run ]]; then
    installing::apply "$kit" "$path" "$stage" "$(git -C "$kit" describe --always --dirty --abbrev=12 2>/dev/null || echo 'of no repository')"
  fi
  old=$(installing::list_old "$path" | paste -sd ' ')
  [[ -z $old ]] || common::note "note: this version of the kit does not use these files of an older one. Take over the .new files, if there are any, and what you have changed in these; then remove them:  cd ${path@Q} && rm -- $old"
  adopt::configuration
  adopt::ignore
  if [[ -n $dry_run ]]; then
    common::note 'nothing was written (--dry-run)'
  elif [[ -n $first ]]; then
    adopt::say_next
  fi
}

adopt::read_arguments() {
  while (($# > 0)); do
    case $1 in
      --dry-run) dry_run=1 ;;
      --force) force=1 ;;
      -h | --help) common::print_header "${BASH_SOURCE[0]}" && exit ;;
      --)
        command=("${@:2}")
        ((${#command[@]} > 0)) || common::die_usage "after -- the command is missing, such as  -- python train.py"
        break
        ;;
      -*) common::die_usage "unknown option ${1@Q}: adopt.sh [--dry-run] [--force] PATH [-- COMMAND...]" ;;
      *)
        [[ -z $path ]] || common::die_usage "one folder at a time: ${path@Q} and ${1@Q}; a command stands behind --"
        path=$1
        ;;
    esac
    shift
  done
  [[ -n $path ]] || common::die_usage "say where your program is: adopt.sh [--dry-run] [--force] PATH [-- COMMAND...]"
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
      common::die_usage "${folder@Q} is a link or a file, and the kit needs a folder there: move it away first"
    fi
    [[ ! -e $folder || -w $folder ]] || common::die "${folder@Q} cannot be written: whose is it? (ls -ld)"
  done < <(printf '%s\n' "${parts[@]}" "${installing_order[@]%/*}" | LC_ALL=C sort -u)
}

# Everything is written there first, on the same file system: a full disk leaves the project as it was.
adopt::take_lock() {
  local status=0
  exec {lock}<"$path"
  flock -n "$lock" 2>/dev/null || status=$?
  ((status != 1)) || common::die "another adopt.sh is at work in ${path@Q}" # another status: no locks there
  rm -rf -- "$path"/.adopt.??????
  stage=$(mktemp -d -- "$path/.adopt.XXXXXX")
  # shellcheck disable=SC2064 # as it is now
  trap "rm -rf -- ${stage@Q}" EXIT
  common::end_on_signals
}

# What of the kit goes where. Left out is what is about the kit alone: its tests, and its own example.
adopt::list_kit() {
  local file
  while IFS= read -r -d '' file; do
    case $file in
      hpc/adopt.sh | hpc/adopt/* | hpc/quickstart.sh | *.pyc | *.new) ;;
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
  local -r put=" ${!installing_put[*]}"
  local part why
  for part in train singularity; do
    why=''
    if [[ $put == *" $part/"* ]]; then
      if [[ ! -e $path/$part ]]; then why="you have removed it"; fi
    elif [[ $part == train && -e $path/train.py ]]; then
      why="your train.py would be hidden by it; nothing else of the kit needs it"
    elif [[ $part == train && -e $path/train ]]; then
      why="you have a folder of that name; nothing else of the kit needs it"
    fi
    if [[ -n $why ]]; then
      installing_left_out[$part]=1
      installing::say 'left out' "$part/: $why"
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
  local name
  printf -v name %q "$path"
  common::note "next: look at $name/experiment_configurations.txt, then
  bash $name/venv/create.sh
  bash $name/hpc/job_submitter.sh --gpus 2 --num-nodes 2"
}

main "$@"
