# shellcheck shell=bash
# Owns the shapes (--shape NAME): clusters that are asked, refuse and lack as real sites do. A folder shapes/NAME has
#
#   slurm.conf        its head says what is emulated, what is not, and where such sites are; then lines of Slurm. They take
#                     the place of the plain cluster's; `KEY=` takes one away. ETC stands for the cluster's folder etc/, GROUP
#                     for the group of whoever started it.
#   job_submit.lua    the site's rules, behind ../common.lua;  cli_filter.lua: what sbatch itself does there
#   facts             KEY=VALUE: options of `up` that are part of the shape, and gpu_flags, a word of gres.conf
#   login             NAME=VALUE: what people have in their environment there
#   prolog, epilog, task_prolog, node_setup    run on nodes; the last before slurmd. bash_env: for BASH_ENV
#   home, interfaces  the homes that nodes have; the names of a node's cable and of an interface that leads nowhere: machine.sh
#   bin/              commands that stand before those of the machine, on the login node and on nodes
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

# shape::require NAME   Ends with status 2 when there is no such shape, or one that cannot be so.
shape::require() {
  local -a known
  local nearest
  mapfile -t known < <(shape::names)
  if [[ " ${known[*]} " == *" $1 "* ]]; then
    cluster[shape]=$1
    shape::refuse_options
    # What is recorded of a cluster that is up counts: cluster::locate.
    cluster[shape]=''
    return
  fi
  nearest=$(options::nearest "$1" "${known[@]}" 2>/dev/null) || true
  common::die_usage "--shape ${1@Q}: no such shape${nearest:+: did you mean $nearest?} (there are: ${known[*]})"
}

# What a shape is made of is no option: one that says otherwise ends it with status 2.
shape::refuse_options() {
  local key value
  for key in nodes gpus_per_node gpu_type; do
    [[ -z ${options_value[$key]:-} ]] ||
      common::die_usage "--${key//_/-} is not possible with --shape ${cluster[shape]}, which has nodes of its own: leave it out"
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

# shape::read FILE   Its lines without comments, with the place of etc/; nothing when the shape has no such file.
shape::read() {
  local file
  file=$(shape::folder)/$1
  [[ -e $file ]] || return 0
  sed -e '/^ *#/d; /^ *$/d' -e "s|\\bETC\\b|${cluster[slurm_dir]:-}/etc|g; s|\\bGROUP\\b|$(id -gn)|g" -- "$file"
}

shape::node_lines() {
  shape::read slurm.conf | sed -n 's/^NodeName=//p'
}

# Of each line the nodes: `cn-a[001-004] CPUs=…` are cn-a001 to cn-a004.
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

# The folder of its commands; nothing where it has none.
shape::bin() {
  [[ ! -d ${cluster[dir]}/etc/bin ]] || printf '%s/etc/bin\n' "${cluster[slurm_dir]}"
}

# The lines of slurm.conf, without nodes.
shape::slurm() {
  printf 'ClusterName=%s\n' "${cluster[shape]}"
  if [[ -e $(shape::folder)/job_submit.lua ]]; then printf 'JobSubmitPlugins=lua\n'; fi
  if [[ -e $(shape::folder)/cli_filter.lua ]]; then printf 'CliFilterPlugins=lua\n'; fi
  shape::read slurm.conf | grep -v '^NodeName='
}

# Copies: a job's user may not be able to read this checkout.
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
