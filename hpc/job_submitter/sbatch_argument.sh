# shellcheck shell=bash
# Checks the options of sbatch that --sbatch-arg passes on. Options that the kit sets itself, or must know, are refused, and the
# message names the option to use. All spellings are refused: sbatch accepts short options and abbreviated long ones.

declare -ga options_list_sbatch_arg+=()
declare -g sbatch_argument_shorts='a:array A:account b:begin B:extra-node-info c:cpus-per-task C:constraint d:dependency D:chdir e:error
  F:nodefile G:gpus H:hold i:input J:job-name k:no-kill L:licenses m:distribution M:clusters n:ntasks N:nodes o:output O:overcommit
  p:partition q:qos Q:quiet s:oversubscribe S:core-spec t:time v:verbose V:version w:nodelist W:wait x:exclude h:help'

# sbatch_argument::check   Ends with status 2 at the first option that cannot be passed on.
sbatch_argument::check() {
  local argument name
  for argument in "${options_list_sbatch_arg[@]}"; do
    if [[ $argument =~ ^--([a-z][a-z0-9-]*)(=.*)?$ ]]; then
      sbatch_argument::refuse "$argument" "${BASH_REMATCH[1]}"
      continue
    fi
    name=$(sbatch_argument::long "$argument")
    if [[ -n $name ]]; then sbatch_argument::refuse "$argument" "$name"; fi
    common::die_usage "--sbatch-arg=${argument@Q}: write a long option of sbatch, as in --sbatch-arg=--${name:-licenses=matlab}"
  done
}

# sbatch_argument::refuse ARGUMENT NAME   Ends with status 2 if NAME, or an option that begins with NAME, is the kit's.
sbatch_argument::refuse() {
  local known instead
  if [[ $2 == gres && $1 != *[=,]gpu* || $1 == --gpu-bind=none ]]; then return; fi
  while IFS='|' read -r known instead; do
    if [[ $2 == @($known) ]]; then common::die_usage "--sbatch-arg=${1@Q}: $instead"; fi
    if [[ ${known%\*} == "$2"* ]]; then common::die_usage "--sbatch-arg=${1@Q}: to sbatch, --$2 may be --${known%%\*}, and $instead"; fi
  done < <(sbatch_argument::table)
}

# sbatch_argument::table   Prints lines PATTERN|WHAT TO USE INSTEAD.
sbatch_argument::table() {
  cat <<'TABLE'
nodes|the kit decides this itself: say --num-nodes
ntasks*|the kit decides this itself: say --gpus, and --which-distributed
cpus-per-*|the kit decides this itself: say --cpus
gpus*|the kit decides this itself: say --gpus, and --gpu-type
gres|the kit decides this itself: say --gpus, and --gpu-type
tres-per-task|the kit decides this itself: say --gpus, and --cpus
gpu-bind|the kit gives each process its GPU: bound otherwise, the processes of a node would see one GPU, or the same
tres-bind|the kit gives each process its GPU: bound otherwise, the processes of a node would see one GPU, or the same
mem|the kit decides this itself: say --mem
mem-per-*|the kit decides this itself: say --mem, or --mem-per-gpu
time|the kit decides this itself: say --time
output|the kit names the log itself: experiments.sh logs shows it
error|the kit searches the log for causes, so it keeps all output in one file: experiments.sh logs shows it
chdir|the kit decides this itself: say --chdir
array|the kit decides this itself: a line of the configuration is a task; --repeat makes more, --max-parallel says how many at once
export*|the kit decides this itself: write variables into the project's .env
get-user-env|the kit decides this itself: write variables into the project's .env
job-name|the kit decides this itself: say --exp-name
parsable|the kit decides this itself
quiet|the kit decides this itself
wrap|the kit decides this itself: write the command into the configuration file
test-only|the kit decides this itself: --dry-run shows the request
wait|the kit decides this itself: say --follow
open-mode|the kit decides this itself: a job that starts again goes on in its log
signal|the kit decides this itself: say --grace-seconds
requeue|the kit decides this itself: say --max-restarts
dependency|say --dependency: the kit adds the jobs that pack or run cycles
account|say --account
partition|say --partition
qos|say --qos
constraint|say --constraint
nodelist|say --nodelist
exclude|say --exclude
reservation|say --reservation
begin|say --begin
mail-user|say --mail-user
mail-type|say --mail-type
clusters|the kit finds its jobs in the cluster that it is called on: call it there
help|sbatch would send no job
usage|sbatch would send no job
version|sbatch would send no job
TABLE
}

# sbatch_argument::long SHORT   Prints the long name of a short option, such as -p or -pmain.
sbatch_argument::long() {
  local pair
  for pair in $sbatch_argument_shorts; do
    if [[ $1 == "-${pair%%:*}"* ]]; then printf '%s\n' "${pair#*:}"; fi
  done
}
