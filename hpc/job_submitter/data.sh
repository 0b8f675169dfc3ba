# shellcheck shell=bash
# Checks the paths of --data.

declare -gA options_source+=() options_value+=() fact+=()
declare -ga options_list_data+=() staging_paths+=()

# data::check   Checks that each path of --data exists and can be staged. Sets staging_paths to the paths as the program will
# name them. Otherwise ends with status 1 or 2.
data::check() {
  local -r folder=${fact[scratch_dir]}
  local given path real base
  local -A seen=()
  if ((${#options_list_data[@]} == 0)); then
    data::check_alone
    return
  fi
  base=$(realpath -m -- "$folder")
  for given in "${options_list_data[@]}"; do
    [[ $given != /* ]] || common::die_usage "--data ${given@Q}: give the path below ${folder@Q}, not an absolute one"
    LC_ALL=C IFS= read -r -d '' path < <(realpath -zms -- "/$given") # ./a//b/ becomes /a/b
    path=${path#/}
    [[ -n $path && /$given/ != */../* ]] || common::die_usage "--data ${given@Q}: name a file or folder below ${folder@Q}, without '..'"
    [[ $path/ != .staging/* ]] || common::die_usage "--data ${given@Q}: .staging is the kit's own"
    [[ -e $folder/$path || -L $folder/$path ]] || common::die "--data ${given@Q}: there is no ${path@Q} in ${folder@Q}"
    [[ -e $folder/$path ]] || common::die "--data ${given@Q} is a symbolic link to nothing"
    LC_ALL=C IFS= read -r -d '' real < <(realpath -z -- "$folder/$path")
    [[ $real == "$base"/* ]] || common::die "--data ${given@Q} is a link that leads out of ${base@Q}, to ${real@Q}: copy or move the data there"
    [[ -f $real || -d $real ]] || common::die "--data ${given@Q} is neither a file nor a folder"
    [[ -r $real && (! -d $real || -x $real) ]] || common::die "--data ${given@Q}: you may not read it"
    if [[ -z ${seen[$path]:-} ]]; then staging_paths+=("$path"); fi
    seen[$path]=1
  done
  data::leave_out_inner
}

# Some options have no effect without --data. Those of the profile and the environment are for the jobs that have data.
data::check_alone() {
  local name
  if staging::is_wanted; then return; fi
  for name in pack_in_job data_format broadcast; do
    if [[ ${options_source[$name]} == option ]]; then
      common::die_usage "--${name//_/-} is about --data, --stage-venv and containers: give one of them"
    fi
  done
  options_value[pack_in_job]='' # else a job with nothing to pack would run first
}

# `a/b` is staged as a part of `a`.
data::leave_out_inner() {
  local inner outer
  local -a kept=()
  for inner in "${staging_paths[@]}"; do
    for outer in "${staging_paths[@]}"; do
      if [[ $inner == "$outer"/* ]]; then
        common::note "note: --data: ${inner@Q} is in ${outer@Q}"
        continue 2
      fi
    done
    kept+=("$inner")
  done
  staging_paths=("${kept[@]}")
}
