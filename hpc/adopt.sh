#!/usr/bin/env bash
# adopt.sh [--dry-run] [--force] [--package NAME] PATH [-- COMMAND...]
# adopt.sh [--dry-run] [--force] [--package NAME] --from SCRIPT... [PATH]
#
# Copies the kit into the folder PATH of your program, or upgrades it there. Prints a line for each file that it upgrades,
# keeps or removes, and how many are new.
#
# The folder gets hpc/ (with its pages), venv/, singularity/, train/, lines of .gitignore, and an experiment_configurations.txt with
# COMMAND, without its launcher (torchrun). The kit checks whether the program can run as several processes, and proposes one or more. Run again from a
# newer kit, it upgrades: a file that you have changed stays, and the new version is stored beside it, with .new at the end of its name. Run
# by people, in a clone of the kit; if it was interrupted, run it again.
#
# --dry-run: only print what would be written, kept or removed
#
# --force: upgrade even if queued or running jobs need the old files
#
# --package: NAME of the Python package train/ in the project
# Without it the package is hpc_train if the project has a train.py or train/ of its own.
#
# --from: propose a request from scripts of sbatch, and run nothing of them
# SCRIPT is a file, or a folder of them. #SBATCH lines become the options of the job_submitter.sh command that it
# proposes; modules and the environment become a profile, hpc/clusters/from_SCRIPT.sh; exports become .env; the line that starts the training becomes the
# configuration. What is not converted is listed with its line. PATH is then the repository around the first script, or its folder.
#
# Files:
#   PATH/hpc/.installed    the hash of each file that was copied
#
# Exit status: 0, 1 the folder cannot be written, or jobs need it, 2 the request is wrong.
#
# See also: job_submitter.sh; README.md
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
kit=${here%/*}
source "$here/lib/common.sh"
source "$here/lib/slurm.sh"
source "$here/lib/launchers.sh"
source "$here/lib/line.sh"
source "$here/adopt/installing.sh"
source "$here/adopt/live_jobs.sh"
source "$here/adopt/from_scripts.sh"

readonly -a parts=(hpc venv singularity train)
stage='' # where everything is written first, and which goes at the end

main() {
  local path='' dry_run='' force='' first='' line='' continuing='' package='' named='' options='--gpus 2 --num-nodes 2' lock old
  local -a command=()
  if [[ " $* " == *' '@(-h|--help|--help=*|--version)' '* ]]; then
    source "$here/lib/help.sh"
    help::answer "$kit" "${BASH_SOURCE[0]}" "$@"
  fi
  adopt::read_arguments "$@"
  adopt::check_path
  if ((${#from_scripts_files[@]} > 0)); then adopt::prepare_from; fi
  adopt::understand_command
  adopt::choose_line
  if [[ -e $path/hpc/.installed ]]; then installing::read_manifest "$path/hpc/.installed"; fi
  adopt::choose_package
  if [[ -z $dry_run ]]; then adopt::take_lock; fi
  adopt::list_kit
  adopt::check_folders
  # Only an older kit has this file. Where a site forbids requeueing, a job with a snapshot is continued from there.
  if [[ -e $path/hpc/batch.sh && -z $force ]]; then continuing=$(live_jobs::check "$path" "$dry_run"); fi
  if [[ -n $continuing ]]; then installing_held["hpc/batch.sh"]="job $continuing may need it to continue; run this again when it has ended"; fi
  if [[ ! -e $path/hpc/.installed ]]; then first=1 && installing::recognize "$kit" "$path"; fi
  if [[ -n $named ]]; then installing::say named "$named"; fi
  adopt::leave_out_parts
  installing::decide "$path"
  if [[ -z $dry_run ]]; then
    installing::apply "$kit" "$path" "$stage" "$(git -C "$kit" describe --always --dirty --abbrev=12 2>/dev/null || echo 'of no repository')"
  fi
  old=$(installing::list_old "$path" | paste -sd ' ')
  [[ -z $old ]] || common::note "note: this version of the kit does not use these files of an older one. Take over the .new files, if there are any, and what you have changed in these; then remove them:  cd ${path@Q} && rm -- $old"
  if ((${#from_scripts_files[@]} > 0)); then
    from_scripts::propose "$path" "$kit" "$dry_run"
  else
    adopt::configuration
  fi
  adopt::ignore
  if [[ -n $dry_run ]]; then
    common::note 'nothing was written (--dry-run)'
  elif [[ -n $first || ${#from_scripts_files[@]} -gt 0 ]]; then
    adopt::say_next
  fi
}

adopt::read_arguments() {
  while (($# > 0)); do
    case $1 in
      --dry-run) dry_run=1 ;;
      --force) force=1 ;;
      --package)
        [[ ${2:-} =~ ^[A-Za-z_][A-Za-z0-9_]*$ && $2 != @(hpc|venv|singularity) ]] || common::die_usage "--package ${2@Q}: give a name that Python can import, such as hpc_train"
        package=$2
        shift
        ;;
      --from)
        (($# > 1)) || common::die_usage "--from: say which script of sbatch, or which folder of them"
        from_scripts::add "$2"
        shift
        ;;
      --)
        command=("${@:2}")
        ((${#command[@]} > 0)) || common::die_usage "after -- the command is missing, such as  -- python train.py"
        break
        ;;
      -*) common::die_usage "unknown option ${1@Q}: adopt.sh [--dry-run] [--force] [--package NAME] PATH [-- COMMAND...]" ;;
      *)
        if ((${#from_scripts_files[@]} > 0)) && [[ -f $1 ]]; then
          from_scripts::add "$1"
          shift
          continue
        fi
        [[ -z $path ]] || common::die_usage "one folder at a time: ${path@Q} and ${1@Q}; a command stands behind --"
        path=$1
        ;;
    esac
    shift
  done
  if ((${#from_scripts_files[@]} > 0)); then
    ((${#command[@]} == 0)) || common::die_usage "--from and a command behind -- contradict each other: the script says what runs"
    if [[ -z $path ]]; then
      path=${from_scripts_files[0]%/*}
      path=$(git -C "$path" rev-parse --show-toplevel 2>/dev/null || printf '%s\n' "$path")
    fi
  fi
  [[ -n $path ]] || common::die_usage "say where your program is: adopt.sh [--dry-run] [--force] [--package NAME] PATH [-- COMMAND...]"
  [[ ${command[*]} != *[[:cntrl:]]* ]] || common::die_usage "control characters are not possible in the command"
}

adopt::check_path() {
  [[ -d $path ]] || common::die_usage "${path@Q} is not a folder: give that of your program"
  path=$(CDPATH='' cd -- "$path" && pwd -P)
  [[ $path/ != "$kit"/* ]] || common::die_usage "${path@Q} is the kit itself, or in it: give the folder of your program"
  [[ -w $path && -x $path ]] || common::die "${path@Q} cannot be written: whose is it? (ls -ld)"
}

# What reads scripts is sourced here, as an adoption without them needs it not.
adopt::prepare_from() {
  source "$here/lib/checks.sh"
  source "$here/lib/options.sh"
  source "$here/lib/dotenv.sh"
  source "$here/lib/site.sh"
  source "$here/job_submitter/option_table.sh"
  source "$here/job_submitter/sbatch_names.sh"
  source "$here/job_submitter/sbatch_argument.sh"
  from_scripts::read "$path"
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
  done < <(printf '%s\n' "${parts[@]/#train/$package}" "${installing_order[@]%/*}" | LC_ALL=C sort -u)
}

# Everything is written there first, on the same file system: a full disk leaves the project as it was.
adopt::take_lock() {
  local status=0
  exec {lock}<"$path"
  flock -n "$lock" 2>/dev/null || status=$?
  ((status != 1)) || common::die "another adopt.sh is at work in ${path@Q}" # another status: no locks there
  rm -rf -- "$path"/.adopt.??????
  stage=$(mktemp -d -- "$path/.adopt.XXXXXX")
  trap adopt::remove_stage EXIT
  common::end_on_signals
}

adopt::remove_stage() {
  rm -rf -- "$stage"
}

# What of the kit goes where. Left out is what is about the kit alone: its tests, and its own example.
adopt::list_kit() {
  local file
  while LC_ALL=C IFS= read -r -d '' file; do
    case $file in
      hpc/adopt.sh | hpc/adopt/* | hpc/quickstart.sh | *.pyc | *.new) ;;
      LICENSE) installing::offer "$kit" "$file" "hpc/$file" ;;
      train/*) installing::offer "$kit" "$file" "$package/${file#train/}" ;;
      *) installing::offer "$kit" "$file" "$file" ;;
    esac
  done < <(adopt::files)
  # The template of a sweep starts the package. Under the name train it would start a train.py of the user's.
  if [[ $package != train ]]; then installing_edits["hpc/sweeper.yml"]="s/^  - train\$/  - $package/"; fi
  # What is not there would be taken for gone, and be removed from the project.
  [[ -n ${installing_source["hpc/job/batch.sh"]:-} ]] || common::die "${kit@Q} is not a whole kit: it has no hpc/job/batch.sh"
  installing::hash_offers "$kit"
}

# A repository around the kit may not know its files.
adopt::files() {
  cd -- "$kit"
  if [[ -e .git ]] && git ls-files -z --cached --others --exclude-standard -- LICENSE "${parts[@]}" 2>/dev/null; then return; fi
  find LICENSE "${parts[@]}" -name __pycache__ -prune -o ! -type d -print0 2>/dev/null || true
}

# Sets package, the name of train/ in the project: as it was put there before, else one that neither hides a train.py from  import train
# nor mixes with a folder of the user's.
adopt::choose_package() {
  local known name
  for known in "${!installing_put[@]}"; do
    if [[ $known != @(hpc|venv|singularity)/* && $known == */* ]]; then
      [[ ${package:-${known%%/*}} == "${known%%/*}" ]] || common::die_usage "--package $package: the package is here as ${known%%/*} already; rename its folder and the imports, or leave the option out"
      package=${known%%/*}
      return
    fi
  done
  for name in ${package:-train hpc_train}; do
    if [[ ! -e $path/$name.py && ! -e $path/$name ]] || installing::is_ours "$kit" train "$path/$name"; then
      if [[ $name == hpc_train && -z $package ]]; then
        named="train/ is $name/ here, beside your train: read \"from $name.checkpoint import …\", \"python -m $name\" in the kit's pages"
      fi
      package=$name
      return
    fi
  done
  common::die_usage "${path@Q} has a $name of its own: give the kit's package another name, by --package NAME"
}

# A part that somebody has removed stays away.
adopt::leave_out_parts() {
  local -r put=" ${!installing_put[*]}"
  local part
  for part in "$package" singularity; do
    if [[ $put == *" $part/"* && ! -e $path/$part ]]; then
      installing_left_out[$part]=1
      installing::say 'left out' "$part/: you have removed it"
    fi
  done
}

# The command as a job can run it, or status 2; sets options, to be proposed.
adopt::understand_command() {
  local i operator='' launcher=''
  if ((${#command[@]} == 0)); then return; fi
  for i in "${!command[@]}"; do
    if [[ -z $operator && ${command[i]} =~ ^([\;\&\|]+|[0-9]*[\<\>]+.*)$ ]]; then operator=$i; fi
  done
  # Who writes the job's own variables for the launcher means -W node, whatever the program.
  if [[ ${command[*]} == *"\${"@(NNODES|NODE_RANK|MASTER_ADDR)"}"* ]]; then launcher=node options+=' -W node'; fi
  line::read "$launcher" 1 "$operator" "${command[@]}"
  [[ -z $line_refusal ]] || common::die_usage "the command: $line_refusal"
  if ((${#line_left_out[@]} > 0)); then
    common::note "note: left out of the command, as the job starts the processes itself:  ${line_left_out[*]}"
    if [[ $line_launcher == srun ]]; then options+=' -W srun'; fi
  fi
  line::check_program "$launcher" "$path" .
  [[ -z $line_refusal ]] || common::die_usage "the command: $line_refusal"
  command=("${line_words[@]}")
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
    printf '# One experiment a line, as you would type it; several lines become an array job. hpc/README.md, "The\n'
    printf '# configuration file", tells about %s, {nodes}, {gpus} and {seed}.\n' "\${NAME}"
    printf '%s\n' "${line:-# python my_program.py --my-flag 1}"
  } | common::write_atomically "$file"
}

# What the kit makes in the project, and what is secret: also where there is no git repository yet, as one may be made later.
adopt::ignore() {
  local line name last='' ignored repository=1
  local -a lines=()
  git -C "$path" rev-parse --is-inside-work-tree >/dev/null 2>&1 || repository=''
  for line in /.venv/ /.env __pycache__/; do
    # A pattern with a slash at its end does not match a link, and git refuses paths beyond one.
    if [[ -L $path/${line//\//} ]]; then line=${line%/}; fi
    if [[ -z $repository ]]; then
      name=${line#/}
      grep -qxF -e "$line" -e "$name" -e "/${name%/}" -e "${name%/}" -- "$path/.gitignore" 2>/dev/null || lines+=("$line")
    # To ask about a folder, name a file in it.
    elif ! git -C "$path" check-ignore --quiet --no-index -- "${line#/}$([[ $line != */ ]] || echo x)"; then
      lines+=("$line")
    fi
  done
  if ((${#lines[@]} > 0)); then
    installing::say added ".gitignore: ${lines[*]}"
    if [[ -z $dry_run ]]; then
      if [[ -s $path/.gitignore ]]; then last=$(tail -c 1 -- "$path/.gitignore"); fi
      printf '%s%s\n' "${last:+$'\n'}" "$(printf '%s\n' "${lines[@]}")" >>"$path/.gitignore"
    fi
  fi
  if [[ -z $repository ]]; then return; fi
  ignored=$(git -C "$path" check-ignore --no-index -- hpc/job/batch.sh venv/run.sh singularity/run.sh | paste -sd ' ') || true
  if [[ -n $ignored ]]; then
    common::note "note: your .gitignore leaves out files of the kit, such as $ignored: jobs take these as they are when the job starts"
  fi
}

adopt::say_next() {
  local name found='' reason='' bare=''
  local -a words=("${command[@]}")
  printf -v name %q "$path"
  if ((${#from_scripts_files[@]} > 0)); then
    if [[ -n $first ]]; then bare=$from_scripts_bare; fi
    common::note "next: look at what was written, then
  cd $name${bare:+
  bash venv/create.sh}"
    printf '  %s\n' "${from_scripts_lines[@]}" >&2
    return
  fi
  if ((${#words[@]} == 0)); then read -ra words <<<"$line"; fi
  # Where there is no python3 that can, nothing is known, and nothing said.
  if found=$(python3 -I -S "$here/adopt/program.py" "$path" "$package" "${words[@]}" 2>/dev/null) && [[ -n $found && $options != *-W* ]]; then
    options=${found%%$'\n'*} reason=${found#*$'\n'}
    common::note "$reason"
  fi
  common::note "next: look at $name/experiment_configurations.txt, then
  bash $name/venv/create.sh
  bash $name/hpc/job_submitter.sh $options"
}

main "$@"
