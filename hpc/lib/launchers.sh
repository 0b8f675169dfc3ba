# shellcheck shell=bash
# Launchers in a command line (torchrun, accelerate launch, deepspeed, srun). The job starts the processes itself, so each launcher is
# removed from the line, or refused if it also says how to train. Tables describe the options. Used by line.sh.

if declare -p launchers_valued >/dev/null 2>&1; then return; fi
declare -ga line_words+=() line_left_out+=()
declare -ga line_own+=() # if a launcher must stay: the words to write for -W node
declare -g line_refusal line_launcher

# The options of each launcher that only say how many processes there are, where they meet and what they print. They are written
# without leading dashes and with - for _: first those with a value, then the others. Any other option says more. Taken from torch
# 2.13 (distributed/run.py and launch.py), accelerate 1.15 (commands/launch.py), DeepSpeed 0.18 (launcher/runner.py), and srun 22.05
# to 26.05.
declare -gA launchers_valued=(
  [torchrun]='nnodes nproc-per-node rdzv-backend rdzv-endpoint rdzv-id rdzv-conf max-restarts monitor-interval start-method
    event-log-handler role log-dir r redirects t tee local-ranks-filter duplicate-stdout-filters duplicate-stderr-filters
    node-rank master-addr master-port local-addr logs-specs numa-binding signals-to-handle shutdown-timeout'
  [accelerate]='num-processes num-machines num-cpu-threads-per-process gpu-ids machine-rank main-process-ip main-process-port t tee
    log-dir role rdzv-backend rdzv-conf max-restarts monitor-interval mixed-precision'
  [deepspeed]='H hostfile i include e exclude num-nodes num-gpus num-accelerators master-port master-addr node-rank launcher
    launcher-args enable-each-rank-log comment account bind-core-list ssh-port'
  [srun]='A account acctg-freq bb bbf b begin c cpus-per-task comment cpu-freq cpu-bind d dependency deadline delay-boot e error
    gpu-bind gpu-freq gpus-per-node gpus-per-socket gpus-per-task G gpus cpus-per-gpu gres gres-flags hint jobid J job-name L
    licenses M clusters m distribution mail-type mail-user mcs-label mem mem-bind mem-per-cpu mem-per-gpu mincpus n ntasks network
    ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket N nodes w nodelist x exclude o output p partition power prefer
    priority profile q qos r relative reservation S core-spec cores-per-socket signal slurmd-debug sockets-per-node switches
    thread-spec T threads threads-per-core t time time-min tmp treewidth B extra-node-info W wait wckey C constraint
    cluster-constraint'
)
declare -gA launchers_flags=(
  [torchrun]='standalone m module no-python use-env'
  [accelerate]='quiet q multi-gpu enable-cpu-affinity same-network m module no-python'
  [deepspeed]='module no-python no-local-rank no-ssh no-ssh-check force-multi save-pid bind-cores-to-rank'
  [srun]='E preserve-env exact exclusive H hold I immediate k no-kill K kill-on-bad-exit l label nice O overcommit overlap s
    oversubscribe propagate pty quit-on-interrupt Q quiet reboot resv-ports spread-job u unbuffered use-min-nodes v verbose X
    disable-status contiguous'
)
# How to run the same launcher once on each node of a job (-W node), and the options that it needs one of if there are several nodes.
# shellcheck disable=SC2016 # the rank expands them
declare -gA launchers_own=(
  [torchrun]='torchrun --nnodes=${NNODES} --nproc-per-node=${N_PROC} --node-rank=${NODE_RANK} --master-addr=${MASTER_ADDR} --master-port=${MASTER_PORT}'
  [accelerate]='accelerate launch --num_machines ${NNODES} --num_processes {processes} --machine_rank ${NODE_RANK} --main_process_ip ${MASTER_ADDR} --main_process_port ${MASTER_PORT}'
  [deepspeed]='deepspeed --no_ssh --num_nodes ${NNODES} --num_gpus ${N_PROC} --node_rank ${NODE_RANK} --master_addr ${MASTER_ADDR} --master_port ${MASTER_PORT}'
)
declare -gA launchers_needs=([torchrun]='nnodes' [accelerate]='num-machines config-file' [deepspeed]='no-ssh hostfile')
# These also start processes; their options are not known here.
declare -g launchers_others=' mpirun mpiexec mpiexec.hydra orterun prterun jsrun aprun ibrun horovodrun fabric '
declare -g launchers_starts='(^|[;&|[:space:]])(torchrun|deepspeed|mpirun|mpiexec|srun|accelerate[[:space:]]+launch|python[0-9.]*[[:space:]]+(-[A-Za-z]+[[:space:]]+)*-m[[:space:]]+torch[.]distributed[.](run|launch))[[:space:]]'

# Functions of this file share the variables of line::read and launchers::take, by bash's dynamic scope: `at`, the index of the current
# word in line_words; `begin`, that of the launcher's first word; `kind`, its name in the tables; `python`, which starts its program;
# `launcher` and `nodes`, those of the request.

# Moves `at` to the program, past the words that set variables, priorities or an environment for it.
launchers::skip_settings() {
  local word
  while word=${line_words[at]:-} && [[ -n $word ]]; do
    case $word in
      [A-Za-z_]*=*) [[ $word =~ ^[A-Za-z_][A-Za-z0-9_]*= ]] || return 0 ;;
      env | */env)
        while [[ ${line_words[at + 1]:-} == -* ]]; do
          at+=1
          if [[ ${line_words[at]} == @(-u|-C|--unset|--chdir) ]]; then at+=1; fi
        done
        ;;
      nohup | stdbuf | nice | ionice)
        while [[ ${line_words[at + 1]:-} == -* ]]; do
          at+=1
          if [[ ${line_words[at]} == -[ncioe] ]]; then at+=1; fi
        done
        ;;
      uv | poetry | pipenv | pixi | pdm | rye | hatch)
        [[ ${line_words[at + 1]:-} == run ]] || return 0
        at+=1
        ;;
      *) return 0 ;;
    esac
    at+=1
  done
}

# launchers::take LAUNCHER NODES   Removes a launcher at `at` in line_words, and one that srun starts.
launchers::take() {
  local -r launcher=$1 nodes=$2
  local kind='' python=python
  local -i begin=at
  launchers::find
  case $kind in
    '') launchers::check_wrapper ;;
    other)
      line_launcher=${line_words[begin]##*/}
      if [[ $launcher == node ]]; then return; fi
      line_refusal="${line_launcher@Q} starts processes itself, as the job does: write the line without it and its options, such as  python train.py , with -W srun; or keep it with -W node, which runs the line once on each node"
      ;;
    *) launchers::read_options ;;
  esac
}

# Sets `kind` to the launcher's name in the tables, and `at` to the word after it.
launchers::find() {
  local -r word=${line_words[at]:-}
  local -i i
  case ${word##*/} in
    torchrun | deepspeed | srun) kind=${word##*/} ;;
    accelerate-launch) kind=accelerate ;;
    accelerate)
      if [[ ${line_words[at + 1]:-} == launch ]]; then kind=accelerate at+=1; fi
      ;;
    python*)
      for ((i = at + 1; i < ${#line_words[@]}; i++)); do
        case ${line_words[i]} in
          -m) break ;;
          -X | -W) i+=1 ;;
          -*) ;;
          *) return 0 ;;
        esac
      done
      case ${line_words[i + 1]:-} in
        torch.distributed.run | torch.distributed.launch) kind=torchrun ;;
        accelerate.commands.launch) kind=accelerate ;;
        deepspeed.launcher.runner) kind=deepspeed ;;
        *) return 0 ;;
      esac
      python=$word at=i+1
      ;;
    *) if [[ $launchers_others == *" ${word##*/} "* ]]; then kind=other; fi ;;
  esac
  if [[ -n $kind ]]; then at+=1; fi
}

# Reads the options at `at` with the tables, up to the program.
launchers::read_options() {
  local -r started=${line_words[at - 1]}
  local word name value full joined
  local -a program=() settings=() given=()
  local mode=script rank=''
  if [[ $started == torch.distributed.launch ]]; then rank=--local-rank; fi
  if [[ $kind == deepspeed ]]; then rank=--local_rank; fi
  line_launcher=$kind
  while word=${line_words[at]:-} && [[ $word == -?* ]]; do
    at+=1
    if [[ $word == -- ]]; then break; fi
    joined='' value='' name=${word#-}
    if [[ $word == --*=* ]]; then
      joined=1 value=${word#*=} name=${word%%=*}
      name=${name#--}
    elif [[ $word == --* ]]; then
      name=${word#--}
    elif ((${#word} > 2)); then # -n4
      joined=1 value=${word:2} name=${word:1:1}
    fi
    launchers::find_option full "$kind" "${name//_/-}"
    case $full in
      '')
        launchers::refuse_option "$word"
        return 0
        ;;
      valued\ *) if [[ -z $joined ]]; then value=${line_words[at]:-} at+=1; fi ;;
    esac
    given+=("${full#* }")
    case ${full#* } in
      m | module)
        mode=module
        if [[ $word == -m?* ]]; then program=("$value"); fi
        ;;
      no-python) mode='command' ;;
      use-env | no-local-rank) rank='' ;;
      mixed-precision) if [[ $value != no ]]; then settings+=("ACCELERATE_MIXED_PRECISION=$value"); fi ;; # as accelerate launch sets it
    esac
  done
  if [[ $launcher == node ]]; then
    launchers::check_own
    return
  fi
  program+=("${line_words[@]:at}")
  if ((${#program[@]} == 0)); then
    line_refusal="$kind starts no program: write it behind the options"
    return
  fi
  if [[ $kind == srun ]]; then
    launchers::leave_srun
    return
  fi
  launchers::check_defaults
  case $mode in
    script) program=("$python" -u "${program[@]:0:1}" ${rank:+"$rank=\${LOCAL_RANK}"} "${program[@]:1}") ;;
    module) program=("$python" -u -m "${program[@]:0:1}" ${rank:+"$rank=\${LOCAL_RANK}"} "${program[@]:1}") ;;
    command) program=("${program[@]:0:1}" ${rank:+"$rank=\${LOCAL_RANK}"} "${program[@]:1}") ;;
  esac
  line_left_out+=("${line_words[@]:begin:at-begin}")
  if ((${#settings[@]} > 0)); then settings=(env "${settings[@]}"); fi
  line_words=("${line_words[@]:0:begin}" "${settings[@]}" "${program[@]}")
}

# launchers::find_option VARIABLE LAUNCHER NAME   Sets VARIABLE to `valued NAME` or `flag NAME`, with the full name, because argparse and
# getopt accept the beginning of a name. Sets it to nothing if the option is in no table.
launchers::find_option() {
  local candidate
  local -a valued flags
  read -rd '' -a valued <<<"${launchers_valued[$2]}" || true
  read -rd '' -a flags <<<"${launchers_flags[$2]}" || true
  printf -v "$1" ''
  for candidate in "${valued[@]/#/valued }" "${flags[@]/#/flag }"; do
    if [[ ${candidate#* } == "$3" ]]; then
      printf -v "$1" '%s' "$candidate"
      return
    elif ((${#3} > 1)) && [[ ${candidate#* } == "$3"* ]]; then
      printf -v "$1" '%s' "$candidate"
    fi
  done
}

# launchers::refuse_option OPTION   Refuses an option that says more than how many processes there are, and where.
launchers::refuse_option() {
  local word option
  local -a others=()
  if [[ $launcher == node ]]; then return; fi
  if [[ $kind == srun ]]; then
    line_refusal="srun's $1 has no place in the line, as the job starts the processes itself: write the line without srun, with -W srun; variables stand before the program, the folder is --chdir"
    return
  fi
  # Drop the options that the launcher's new options replace.
  for ((at -= 1; at < ${#line_words[@]}; at++)); do
    word=${line_words[at]}
    if [[ $word != --* ]]; then break; fi
    option=${word%%=*} option=${option#--}
    launchers::find_option option "$kind" "${option//_/-}"
    case $option in
      '' | 'valued mixed-precision' | *module | *no-python | *no-local-rank)
        others+=("$word")
        if [[ $word != *=* && ${line_words[at + 1]:-} == !(-*|*.py|'') && $option != flag* ]]; then others+=("${line_words[at += 1]}"); fi
        ;;
      valued*) if [[ $word != *=* ]]; then at+=1; fi ;;
    esac
  done
  launchers::keep "${others[@]}"
  line_refusal="$kind's $1 says more than how many processes there are, so $kind must stay: give -W node, which runs the line once on each node, and write it as  ${launchers_own[$kind]} ${others[*]} ${line_words[*]:at}"
}

# launchers::keep OPTION...   Sets line_own, with the words that stood before the launcher.
launchers::keep() {
  read -ra line_own <<<"${launchers_own[$kind]//\{processes\}/\$\{N_PROCESSES\}}"
  line_own=("${line_words[@]:0:begin}" "${line_own[@]}" "$@" "${line_words[@]:at}")
}

# With -W node the launcher stays. On several nodes, a launcher that does not know the other nodes trains separately on each.
launchers::check_own() {
  local need name
  if ((nodes < 2)) || [[ -z ${launchers_needs[$kind]:-} ]]; then return; fi
  for need in ${launchers_needs[$kind]}; do
    for name in "${given[@]}"; do
      if [[ $name == "$need" ]]; then return; fi
    done
  done
  line_refusal="with -W node $kind would train on each of the $nodes nodes alone: write  ${launchers_own[$kind]} ${line_words[*]:at}  , or omit -W node"
}

# srun is removed, and the program that it starts may be a launcher.
launchers::leave_srun() {
  line_left_out+=("${line_words[@]:begin:at-begin}")
  line_words=("${line_words[@]:0:begin}" "${line_words[@]:at}")
  at=begin
  launchers::skip_settings
  line_launcher=srun
  launchers::take "$launcher" "$nodes"
  if [[ -z $line_refusal && $line_launcher == srun && $launcher == torchrun ]]; then
    line_refusal="srun starts a process for each task, with Slurm's variables: give -W srun, and the line  ${line_words[*]}"
  fi
}

# accelerate's own configuration file may say how to train.
launchers::check_defaults() {
  local -r file=${HF_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/huggingface}/accelerate/default_config.yaml
  if [[ $kind != accelerate || ! -r $file ]]; then return; fi
  if grep -qE "^(distributed_type: *'?(FSDP|DEEPSPEED|MEGATRON_LM|TPU|XLA)|(mixed_precision|.*dynamo_backend): *'?[a-mo-z])" "$file"; then
    launchers::keep --config_file "$file"
    line_refusal="${file@Q} says how accelerate trains, and would not count: give -W node, and the line  ${launchers_own[accelerate]} --config_file ${file@Q} ${line_words[*]:at}"
  fi
}

# Refuses a launcher behind a program that the line starts: in bash -c 'SCRIPT', or after nsys, numactl and the like.
launchers::check_wrapper() {
  local -r word=${line_words[at]:-} next=${line_words[at + 1]:-}
  if [[ $launcher == node ]]; then return; fi
  case ${word##*/} in
    bash | sh | zsh) if [[ $next == -*c && "${line_words[at + 2]:-} " =~ $launchers_starts ]]; then
      line_refusal="the script in the line starts ${BASH_REMATCH[2]@Q}, once for each of the job's processes: give -W node, which runs the line once on each node, or write the program alone:  python train.py"
    fi ;;
    nsys | ncu | numactl | taskset | timeout | time | strace | conda | micromamba | mamba)
      if [[ "${line_words[*]:at+1} " =~ $launchers_starts ]]; then
        line_refusal="${word##*/} starts ${BASH_REMATCH[2]@Q}, once for each of the job's processes: give -W node, which runs the line once on each node, or remove the launcher and its options"
      fi
      ;;
  esac
}

# launchers::check_script FILE   Refuses a launcher in FILE, a shell script that the line starts.
launchers::check_script() {
  local line first=1
  while IFS= read -r line; do
    if [[ -n $first && $line == '#!'* && $line != *sh* ]]; then return; fi
    first=''
    if [[ ! $line =~ ^[[:space:]]*# && "$line " =~ $launchers_starts ]]; then
      line_refusal="${1##*/} starts ${BASH_REMATCH[2]@Q}, and would do so in each of the job's processes: give -W node, which runs the line once on each node"
      return
    fi
  done < <(LC_ALL=C tr -d '\0' <"$1" 2>/dev/null)
}
