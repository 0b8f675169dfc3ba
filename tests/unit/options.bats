#!/usr/bin/env bats
# The option table: how words become values (hpc/lib/options.sh), and the submitter's own rows.

source "$BATS_TEST_DIRNAME/../helpers.bash"

declare -gA options_names options_kind options_help # of options.sh
declare -gA nothing+=() profile+=()                 # given by name
declare -ga options_order options_list_files options_list_data

setup() {
  use_libraries common checks options
}

define_some() {
  options::heading 'Some'
  options::add size count 1 '--size --how-large -s' 'how large'
  options::add colour 'choice red green' red '--colour -c' 'which colour'
  options::add note text '' '--note -N' 'a text'
  options::add loud flag '' '--loud -l' 'louder'
  options::add files list '' '--files -f' 'some files'
}

define_submitters() {
  use_libraries option_table
  option_table::define
}

@test "an option's value follows it, or is joined to it" {
  local form
  local -a words
  for form in '--size 7' '--size=7' '-s 7' '-s7' '--how-large 7' '--how-large=7'; do
    options_value=() options_source=()
    define_some
    read -ra words <<<"$form"
    options::parse "${words[@]}"
    [[ ${options_value[size]} == 7 && ${options_source[size]} == option ]]
  done
}

@test "values arrive unchanged" {
  define_some
  local value
  for value in 'two words' "it's" '"' '$HOME' '*' '`id`' 'a=b=c' '--not-known' '-5' 'ü' '\n' ' '; do
    options::parse --note "$value"
    [[ ${options_value[note]} == "$value" ]]
    options::parse "--note=$value"
    [[ ${options_value[note]} == "$value" ]]
    options::parse "-N$value"
    [[ ${options_value[note]} == "$value" ]]
  done
}

@test "the last of several values counts" {
  define_some
  options::parse --size 1 -s 2 --how-large=3
  [[ ${options_value[size]} == 3 ]]
}

@test "a flag takes no value" {
  define_some
  options::parse --loud --size 2
  [[ ${options_value[loud]} == 1 && ${options_value[size]} == 2 ]]
  fails_with 2 "--loud takes no value, but got 'yes'" options::parse --loud=yes
  fails_with 2 "--loud takes no value, but got ''" options::parse --loud=
  fails_with 2 "-l takes no value, but got 'v'" options::parse -lv
  fails_with 2 "unexpected argument 'yes'" options::parse --loud yes
}

@test "a list ends at the next option, and may be repeated" {
  define_some
  options::parse --files a 'b c' --size 2 -f d --files=e -fg '--files=-h'
  [[ ${options_list_files[*]@Q} == "'a' 'b c' 'd' 'e' 'g' '-h'" ]]
  [[ ${options_value[size]} == 2 ]]
  fails_with 2 '--files needs a value' options::parse --files
  fails_with 2 '--files needs a value' options::parse --files --size 2
  fails_with 2 '--files: an empty value' options::parse --files=
  fails_with 2 '--files: an empty value' options::parse --files a ''
}

@test "a missing value" {
  define_some
  fails_with 2 'error: --size needs a value: -s\|--size\|--how-large N$' options::parse --size
  fails_with 2 '--size needs a value' options::parse --size --loud
  fails_with 2 '-s needs a value' options::parse -s -l
  fails_with 2 '--note needs a value' options::parse --note --size=2
  fails_with 2 '--note needs a value' options::parse --note -s2
  fails_with 2 "--size: '' is not a whole number" options::parse --size=
  fails_with 2 "--size: '' is not a whole number" options::parse --size ''
}

@test "a word that is no option" {
  define_some
  local word
  for word in gpus '' - 'a b' '$(touch x)'; do
    fails_with 2 'unexpected argument' options::parse --loud "$word" --size 2
    [[ $stderr == *"unexpected argument ${word@Q}: options start with a dash"* ]]
  done
}

@test "an unknown option, with the nearest known one" {
  define_submitters
  local -r wanted='--gpu --gpus
--gpsu --gpus
--num_node --num_nodes
--num-noeds --num-nodes
--tme --time
--exp_name --exp-name
--mem-per-gp --mem-per-gpu
--depndency --dependency
--configuration-file
--partitoin --partition
--dryrun --dry-run'
  local word nearest
  while read -r word nearest; do
    if [[ -n $nearest ]]; then
      fails_with 2 "unknown option '$word': did you mean $nearest\?" options::parse "$word" 1
    else
      fails_with 2 "unknown option '$word' \(see --help\)" options::parse "$word" 1
    fi
  done <<<"$wanted"
  fails_with 2 "unknown option '--gpsu': did you mean --gpus\?" options::parse --gpsu=1
  fails_with 2 "unknown option '-x' \\(see" options::parse -x # without the table of sbatch's names
  fails_with 2 "unknown option '-x' \\(see" options::parse -xyz
  fails_with 2 "unknown option '--' \\(see" options::parse --
}

@test "each option of sbatch is an option here, or the message names the option to use" {
  local name wanted
  define_submitters
  use_libraries sbatch_names
  sbatch_names::define
  while IFS='|' read -r name wanted; do
    fails_with 2 "unknown option '$name': that is an option of sbatch; here .*$wanted" options::parse "$name" 1
  done <<'NAMES'
-q|--qos
-x|--exclude
-J|--exp-name
-o|experiments.sh logs JOB
--output|experiments.sh logs JOB
--array|each line of the configuration file
--ntasks-per-node|--num-nodes N and --gpus N
--gpus-per-node|-g, --gpus N
--gres|-g, --gpus N
--cpus-per-task|-c, --cpus N
--mem-per-cpu|--mem-per-gpu SIZE
--signal|--grace-seconds N
--exclusive|--sbatch-arg=--exclusive
--requeue|--max-restarts N
--comment|--sbatch-arg=--comment=VALUE
NAMES
  fails_with 2 "'--gres': that is an option of sbatch" options::parse --gres=gpu:2
  common::has_command sbatch || skip 'no sbatch on this machine'
  printf 'ClusterName=x\nSlurmctldHost=localhost\nNodeName=x\nPartitionName=x Nodes=x\n' >"$BATS_TEST_TMPDIR/slurm.conf"
  local -i known=0
  while read -r name; do
    [[ -n ${options_owner[$name]:-}${options_instead[$name]:-} ]] || { echo "nothing is said of $name" >&2 && return 1; }
    known+=1
  done < <(SLURM_CONF=$BATS_TEST_TMPDIR/slurm.conf sbatch --help 2>&1 | sed -nE 's/^ {2}(-[A-Za-z]),? +(--[a-z-]+).*/\1\n\2/p; s/^ {6}(--[a-z-]+).*/\1/p')
  ((known > 100))
}

@test "a message about an unknown option with unusual characters or of 10 kB is one short line" {
  define_submitters
  fails_with 2 'unknown option' options::parse $'--gpus\nerror: x'
  fails_with 2 'unknown option' options::parse $'--\e[31m=3'
  fails_with 2 'unknown option' options::parse $'-\n'
  local long
  printf -v long '%010000d' 0
  fails_with 2 'unknown option' options::parse "--$long"
  ((${#stderr} < 2500))
  fails_with 2 'is not a whole number' options::parse --gpus "$long"
  ((${#stderr} < 2500))
}

@test "the order is option, environment, site, default" {
  define_some
  declare -A nothing=() profile=([size]=3 [colour]=green)
  options::complete nothing
  [[ ${options_value[size]}${options_source[size]} == 1default ]]
  [[ -z ${options_value[note]} && ${options_value[colour]} == red ]]
  [[ ${options_source[size]} == default ]]

  options_value=() options_source=()
  options::complete profile
  [[ ${options_value[size]}${options_source[size]} == 3site ]]
  [[ ${options_value[colour]}${options_source[colour]} == greensite ]]

  options_value=() options_source=()
  export HPC_SIZE=4 HPC_LOUD=1
  options::complete profile
  [[ ${options_value[size]}${options_source[size]} == 4environment ]]
  [[ -n ${options_value[loud]} ]]

  options_value=() options_source=()
  options::parse --size 5
  options::complete profile
  [[ ${options_value[size]}${options_source[size]} == 5option ]]
}

@test "an empty variable of the environment counts as not set" {
  define_some
  declare -A profile=([size]=3)
  HPC_SIZE='' options::complete profile
  [[ ${options_value[size]} == 3 ]]
}

@test "a flag of the environment or the site is 1 or 0" {
  local value
  declare -A nothing=() profile=([loud]=0)
  define_some
  for value in 1 yes true 0 no false; do
    options_value=() options_source=()
    HPC_LOUD=$value options::complete nothing
    [[ ${options_value[loud]} == "$([[ $value == [1yt]* ]] && echo 1)" && ${options_source[loud]} == environment ]]
  done
  options_value=() options_source=()
  options::complete profile
  [[ -z ${options_value[loud]} ]]
  options_value=() options_source=()
  HPC_LOUD=maybe fails_with 2 '\$HPC_LOUD: .maybe. is neither 1 nor 0' options::complete nothing
}

@test "values of the environment and the site are checked, and the message names their source" {
  define_some
  declare -A nothing=() profile=([size]=many)
  HPC_COLOUR=blue fails_with 2 '\$HPC_COLOUR: .blue. is none of: red, green' options::complete nothing
  fails_with 2 'site profile, size: .many. is not a whole number' options::complete profile
}

@test "help lists every option in all its spellings, with its default" {
  define_submitters
  local help words name spelling line
  help=$(bash "$checkout/hpc/job_submitter.sh" --help all)
  for line in '--bind SOURCE…' '-d, --data PATH…' '--collect PATTERN…' '--sbatch-arg ARG…' '--secret NAME…'; do grep -qxF -- "  $line" <<<"$help"; done
  words=$(tr -s ' \n' ' ' <<<"$help")
  for name in "${options_order[@]}"; do
    if [[ $name == '# '* ]]; then
      grep -qxF -- " ${name#'# '}:" <<<"$help"
      continue
    fi
    line=$(options::shown_names "$name")
    grep -qxF -- "  $line" <<<"$help"
    for spelling in ${options_names[$name]}; do
      [[ " ${line//,/} " == *" $spelling "* ]]
    done
    [[ $words == *" $line ${options_help[$name]}${options_default[$name]:+ [${options_default[$name]}]} "* ]]
  done
}

@test "job_submitter.sh --help needs no Slurm and ignores wrong options" {
  PATH=/usr/bin:/bin run -0 --separate-stderr env -u SCRATCH bash "$checkout/hpc/job_submitter.sh" --gpus 2 -h
  [[ ${lines[0]} == 'Usage: job_submitter.sh [OPTIONS]' && $output == *'--gpus N'* && -z $stderr ]]
}

@test "no spelling belongs to two options, and every row is complete" {
  define_submitters
  local name spelling
  local -A owners=()
  for name in "${!options_names[@]}"; do
    for spelling in ${options_names[$name]}; do
      [[ -z ${owners[$spelling]:-} ]]
      [[ $spelling =~ ^(--[a-z][a-z_-]+|-[a-zA-Z])$ ]]
      owners[$spelling]=$name
    done
    if [[ -n ${options_default[$name]} ]]; then
      checks::accept "${options_kind[$name]}" "${options_default[$name]}" "$name"
    fi
    case ${options_kind[$name]} in
      flag | list) ;;
      *) fails_with 2 "$name: " checks::accept "${options_kind[$name]}" '' "$name" ;;
    esac
  done
  ((${#owners[@]} > 40))
}

# The spellings of system 004, whose users move to this kit.
@test "the spellings of system 004 are known" {
  define_submitters
  options::parse -a acc -g 2 --cpu 4 --num_nodes 3 -t 10 -m 5G -G V100 -e name -j distributed -W script \
    -w id -d one two -s image.sif --workdir /w -C file
  local expected='account=acc gpus=2 cpus=4 num_nodes=3 time=10 mem_per_gpu=5G gpu_type=V100 exp_name=name
    job_type=distributed launcher=script wandb_sweepid=id singularity_container=image.sif workdir=/w configs=file'
  local pair
  for pair in $expected; do
    [[ ${options_value[${pair%%=*}]} == "${pair#*=}" ]]
  done
  [[ ${options_list_data[*]} == 'one two' ]]
}
