# shellcheck shell=bash
# Owns the shapes (--shape NAME): clusters with the requirements, refusals and gaps of real sites. A folder shapes/NAME has
#
#   slurm.conf        its head says what is emulated, what is not, and which sites are like this; then lines of Slurm. They
#                     replace the plain cluster's lines; `KEY=` removes one. ETC stands for the cluster's folder etc/, GROUP
#                     for the group of the user who started it.
#   job_submit.lua    the site's rules, loaded after ../common.lua;  cli_filter.lua: the behaviour of sbatch there
#   facts             KEY=VALUE: options of `up` that belong to the shape, and gpu_flags, a word of gres.conf
#   login             NAME=VALUE: the environment of people there
#   prolog, epilog, task_prolog, node_setup    run on nodes; node_setup before slurmd. bash_env: for BASH_ENV
#   home, interfaces  the homes that nodes have; the names of a node's cable and of an interface that leads nowhere: machine.sh
#   bin/              commands that come before those of the machine, on the login node and on nodes
#   elastic           its nodes start when jobs wait for them: elastic.sh

declare -gA cluster

shape::folder() {
  printf '%s/shapes/%s\n' "${BASH_SOURCE[0]%/*}" "${cluster[shape]}"
}

shape::names() {
  local folder
  for folder in "${BASH_SOURCE[0]%/*}"/shapes/*/; do
    folder=${folder%/}
    printf '%s\n' "${folder##*/}"
  done
}

# shape::require NAME   Exits with status 2 if there is no such shape, or if this cluster cannot have it.
shape::require() {
  local -a known
  local nearest
  mapfile -t known < <(shape::names)
  if [[ " ${known[*]} " == *" $1 "* ]]; then
    cluster[shape]=$1
    shape::refuse_options
    # If a cluster is up, its recorded facts count: cluster::locate.
    cluster[shape]=''
    return
  fi
  nearest=$(options::nearest "$1" "${known[@]}" 2>/dev/null) || true
  common::die_usage "--shape ${1@Q}: no such shape${nearest:+: did you mean $nearest?} (there are: ${known[*]})"
}

# The facts of a shape are not options: an option that contradicts one exits with status 2.
shape::refuse_options() {
  local key value
  for key in nodes gpus_per_node gpu_type; do
    [[ -z ${options_value[$key]:-} ]] ||
      common::die_usage "--${key//_/-} is not possible with --shape ${cluster[shape]}, which has its own nodes: omit the option"
  done
  while IFS='=' read -r key value; do
    [[ -z ${options_value[$key]:-} || ${options_value[$key]} == "$value" || ${options_value[$key]} == auto ]] ||
      common::die_usage "--${key//_/-} ${options_value[$key]} is not possible with --shape ${cluster[shape]}, which needs $value"
  done < <(shape::read facts)
}

shape::take_facts() {
  local key value
  shape::refuse_options
  while IFS='=' read -r key value; do
    cluster[$key]=$value
  done < <(shape::read facts)
  cluster[gpus_per_node]=0 cluster[gpu_type]=''
  cluster[names]=$(shape::node_lines | shape::expand)
  cluster[names]=${cluster[names]//$'\n'/ }
  cluster[nodes]=$(wc -w <<<"${cluster[names]}")
}

# shape::read FILE   Prints its lines without comments, with the path of etc/; nothing if the shape has no such file.
shape::read() {
  local file
  file=$(shape::folder)/$1
  [[ -e $file ]] || return 0
  sed -e '/^ *#/d; /^ *$/d' -e "s|\\bETC\\b|${cluster[slurm_dir]:-}/etc|g; s|\\bGROUP\\b|$(id -gn)|g" -- "$file"
}

shape::node_lines() {
  shape::read slurm.conf | sed -n 's/^NodeName=//p'
}

# Prints the nodes of each line: `cn-a[001-004] CPUs=…` are cn-a001 to cn-a004.
shape::expand() {
  local line name
  while IFS= read -r line; do
    name=${line%% *}
    if [[ $name =~ ^(.*)\[([0-9]+)-([0-9]+)\]$ ]]; then
      seq --format="${BASH_REMATCH[1]}%0${#BASH_REMATCH[2]}.0f" "$((10#${BASH_REMATCH[2]}))" "$((10#${BASH_REMATCH[3]}))"
    else
      printf '%s\n' "$name"
    fi
  done
}

# Prints the folder of its commands; nothing if it has none.
shape::bin() {
  [[ ! -d ${cluster[dir]}/etc/bin ]] || printf '%s/etc/bin\n' "${cluster[slurm_dir]}"
}

# Prints the lines of slurm.conf, without nodes.
shape::slurm() {
  printf 'ClusterName=%s\n' "${cluster[shape]}"
  if [[ -e $(shape::folder)/job_submit.lua ]]; then printf 'JobSubmitPlugins=lua\n'; fi
  if [[ -e $(shape::folder)/cli_filter.lua ]]; then printf 'CliFilterPlugins=lua\n'; fi
  shape::read slurm.conf | grep -v '^NodeName='
}

# Copy them, because a job's user may not be able to read this checkout.
shape::install() {
  local -r etc=${cluster[dir]}/etc
  local file folder
  folder=$(shape::folder)
  if [[ -e $folder/job_submit.lua ]]; then
    cat -- "$folder/../common.lua" "$folder/job_submit.lua" >"$etc/job_submit.lua"
  fi
  for file in prolog epilog task_prolog node_setup bash_env; do
    if [[ -e $folder/$file ]]; then install -m 755 -- "$folder/$file" "$etc/shape_$file"; fi
  done
  for file in cli_filter.lua home interfaces elastic; do
    if [[ -e $folder/$file ]]; then install -m 644 -- "$folder/$file" "$etc/$file"; fi
  done
  if cluster::is_elastic; then
    for file in resume suspend; do ln -sfn -- "$(realpath -- "${BASH_SOURCE[0]%/*}/elastic.sh")" "$etc/$file"; done
  fi
  if [[ -d $folder/bin ]]; then
    mkdir -p -- "$etc/bin"
    install -m 755 -- "$folder"/bin/* "$etc/bin/"
  fi
}
