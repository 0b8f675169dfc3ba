# shellcheck shell=bash
# Reads a command line that people copy from a README or a script, before it is queued. It refuses what only a shell can do, and says
# where that belongs; it removes or refuses a launcher (launchers.sh); it looks for the program. The words are those of argv files
# (command.sh).

declare -ga line_words+=() line_left_out+=()  # set by line::read: the words that stay, and the removed words of the launcher
declare -ga line_own+=()                      # the line for -W node, if a refused launcher must stay
declare -g line_refusal+='' line_launcher+='' # why the line cannot run, and what to write; the launcher, if there is one
declare -g line_module+=''                    # line::check_program: the module of python -m, if the project does not have it
declare -gA line_builtins+=()

# line::read LAUNCHER NODES OPERATOR WORD...   LAUNCHER is the job's launcher, or empty if none is chosen yet. OPERATOR is the index of the
# first word with a shell operator, or empty. The results are in the variables above.
line::read() {
  local -i at=0
  line_words=("${@:4}") line_left_out=() line_own=() line_refusal='' line_launcher=''
  line::refuse_shell "$3"
  if [[ -n $line_refusal ]]; then return; fi
  launchers::skip_settings
  launchers::take "$1" "$2"
}

line::refuse_shell() {
  local -r first=${line_words[0]} operator=$1
  local place='' word
  line::find_advice place "$first" "${line_words[1]:-}"
  if [[ -n $place ]]; then
    line_refusal="${first@Q} is the shell's, and no shell reads the line: $place"
  elif [[ -n $operator ]]; then
    line_refusal="${line_words[operator]@Q} has an operator of the shell, and no shell reads the line: "
    case ${line_words[operator]} in
      *[\<\>]*) line_refusal+='remove it: the kit keeps the output (experiments.sh logs), and the program itself can open its input' ;;
      *) line_refusal+='write the steps into a script, with the line  bash script.sh' ;;
    esac
    line_refusal+='. In quotes it is text'
  elif [[ $first =~ ^[A-Za-z_][A-Za-z0-9_]*= ]]; then
    for word in "${line_words[@]}"; do
      if [[ ! $word =~ ^[A-Za-z_][A-Za-z0-9_]*= ]]; then return; fi
    done
    line::find_advice place export
    line_refusal="${line_words[*]@Q} sets variables and runs nothing: $place"
  fi
}

# line::find_advice VARIABLE WORD [NEXT]   Sets VARIABLE to the advice for a line that begins with WORD; to nothing if WORD is a program.
line::find_advice() {
  local advice=''
  case $2 in
    export | declare | typeset | readonly | local | unset | set)
      advice="put variables into the project's .env, or before the program:  NAME=value python train.py"
      ;;
    cd | pushd | popd) advice="give the folder by --chdir ${3:-FOLDER}, and the line without it" ;;
    source | .)
      advice="an environment is given by --environment FOLDER, variables by the project's .env, modules by the site's profile (site[modules])"
      if [[ ${3:-} == */bin/activate ]]; then advice="give the environment by --environment ${3%/bin/activate}, and the line without it"; fi
      ;;
    module | ml | spack) advice="name modules in the site's profile: site[modules], or node_setup (hpc/clusters/README.md)" ;;
    conda | mamba | micromamba)
      if [[ ${3:-} == @(activate|deactivate|init|shell) ]]; then advice='give the environment by --environment FOLDER, and the line without it'; fi
      ;;
    ulimit | umask) advice="it belongs into node_setup of the site's profile (hpc/clusters/README.md)" ;;
    for | while | until | select)
      advice='write the loop into a script, with the line  bash script.sh ; or each of its commands on a line of its own, which makes an array (seeds: --repeat N)'
      ;;
    exec | time | command | builtin | eval | coproc) advice='remove this word: the rest runs without it' ;;
    *)
      # No builtin has such a name, and the list is slow to make.
      if [[ $2 != @(python|*[/0-9]*) ]] && ((${#line_builtins[@]} == 0)); then line::list_builtins; fi
      if [[ -n ${line_builtins[x$2]:-} ]]; then advice='write the steps into a script, with the line  bash script.sh'; fi
      ;;
  esac
  printf -v "$1" '%s' "$advice"
}

# For words that are both builtins and programs, the builtin does the same.
line::list_builtins() {
  local word
  while IFS= read -r word; do
    if [[ $word != @(true|false|echo|printf|test|\[|pwd|kill) ]]; then line_builtins[x$word]=1; fi
  done < <(compgen -b && compgen -k)
}

# line::check_program LAUNCHER PROJECT FOLDER   Sets line_refusal if the program of line_words is a file that PROJECT does not have in
# FOLDER (--chdir), or a script that starts a launcher.
line::check_program() {
  local -r project=$2 folder=$3
  local -i at=0
  local file='' base=$project/$folder near
  if [[ $folder == /* ]]; then base=$folder; fi
  base=${base%/.}
  line_module=''
  launchers::skip_settings
  line::find_file
  # A path outside the project may exist only on the nodes, or only inside a container.
  if [[ -z $file || $file == *\$* || $file == /* ]]; then return; fi
  if [[ -e $base/$file ]]; then
    if [[ $1 != node && $file != *.py && -f $base/$file ]]; then launchers::check_script "$base/$file"; fi
    return
  fi
  near=$(line::list_near "$base" "$file")
  line_refusal="there is no ${file@Q} in ${base@Q}${near:+: did you mean  $near ?}"
  if [[ -e $project/$file ]]; then line_refusal+=" (it is in the project's folder: --chdir ${folder@Q} is where the line runs)"; fi
}

# For line::check_program, whose variables it uses: sets `file` to the script of the line, or line_module to its module.
line::find_file() {
  local -r word=${line_words[at]:-}
  case ${word##*/} in
    python | python[0-9]*)
      while at+=1 && [[ ${line_words[at]:-} == -?* ]]; do
        if [[ ! ${line_words[at]} =~ ^-[bBdEhiIOPqRsSuvVx]*([mcWX])(.*)$ ]]; then continue; fi # -u, -O, --version
        case ${BASH_REMATCH[1]} in
          c) return ;;
          m) line::find_module "${BASH_REMATCH[2]:-${line_words[at + 1]:-}}" && return ;;
          *) if [[ -z ${BASH_REMATCH[2]} ]]; then at+=1; fi ;;
        esac
      done
      file=${line_words[at]:-}
      if [[ $file == - ]]; then file=''; fi
      ;;
    bash | sh | zsh)
      if [[ ${line_words[at + 1]:-} != -* ]]; then file=${line_words[at + 1]:-}; fi
      ;;
    *) if [[ $word == */* ]]; then file=$word; fi ;;
  esac
}

line::find_module() {
  local -r path=$base/${1//.//}
  if [[ $1 != *\$* && ! -e $path.py && ! -e $path/__main__.py && ! -d $base/${1%%.*} ]]; then line_module=$1; fi
}

# line::list_near FOLDER FILE   Prints up to three files with that name, or with a similar one.
line::list_near() {
  (cd -- "$1" && find . -maxdepth 4 \( -name '.?*' -o -name __pycache__ -o -path ./hpc -o -path ./venv -o -path ./singularity \) -prune -o -type f -printf '%P\0') 2>/dev/null |
    python3 -c '
import difflib, os, sys
stem = lambda path: os.path.splitext(os.path.basename(path))[0]
files = {}
for path in sorted(os.fsdecode(sys.stdin.buffer.read()).split("\0")[:-1], key=len)[:20000]:
    if os.path.splitext(path)[1] == os.path.splitext(sys.argv[1])[1]:
        files.setdefault(stem(path), path)
print(*[files[name] for name in difflib.get_close_matches(stem(sys.argv[1]), files, 3, 0.7)])
' "$2" 2>/dev/null || true
}

# line::list_outside FOLDER   Prints the words that lead out of the project from FOLDER, one per line: a job runs in a copy of the project.
line::list_outside() {
  local word path part
  local -i depth
  local -a parts
  for word in "${line_words[@]}"; do
    path=${word#-*=}
    if [[ $path != @(..|../*|*/../*|*/..) || $path == /* || $path == *\$* || $path == *://* ]]; then continue; fi
    depth=0
    IFS=/ read -ra parts <<<"$1/$path"
    for part in "${parts[@]}"; do
      case $part in
        '' | .) ;;
        ..) depth+=-1 ;;
        *) depth+=1 ;;
      esac
      if ((depth < 0)); then
        printf '%s\n' "$path"
        break
      fi
    done
  done
}
