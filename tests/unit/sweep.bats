#!/usr/bin/env bats
# The points of a sweep, listed without W&B (hpc/sweep/sweep.py, hpc/sweep/sweep_points.py), and what the agent's wrapper records.

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup_file() {
  kit_environment=$(bash "$checkout/venv/create.sh" cpu)
  export kit_environment
}

setup() {
  use_libraries common command
  cd -- "$BATS_TEST_TMPDIR" || return
}

sweep() {
  "$kit_environment/bin/python" "$checkout/hpc/sweep/sweep.py" "$@" 3>&-
}

# yaml LINE...   Writes the file s.yaml, with a program.
yaml() {
  printf '%s\n' 'program: train.py' "$@" >s.yaml
}

# listed [OPTION...]   Writes the points of s.yaml into run/, with folders for 40.
listed() {
  local -i task
  rm -rf -- run
  for ((task = 1; task <= 40; task++)); do mkdir -p -- "run/task_$task"; done
  sweep write s.yaml run "$@"
}

# words FILE   Prints an argv file, one word a line.
words() {
  tr '\n\0' ' \n' <"$1"
}

# W&B's engine needs an old numpy, so it has its own Python environment, which is made once.
engine() {
  local -ra requirements=('sweeps==0.3.0' 'numpy<2')
  local key environment lock
  key=$(sha256sum <<<"${requirements[*]}")
  environment=$checkout/.venv/sweeps-${key:0:12}
  exec {lock}>"$environment.lock"
  flock "$lock"
  if [[ ! -e $environment/complete ]]; then
    rm -rf -- "$environment"
    python3 -m venv "$environment"
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check "${requirements[@]}" >&2
    touch -- "$environment/complete"
  fi
  exec {lock}>&-
  printf '%s\n' "$environment"
}

@test "2,000 generated grids, and each distribution, equal those of W&B's own engine" {
  local environment
  environment=$(engine)
  run -0 --separate-stderr "$environment/bin/python" "$checkout/tests/unit/sweep_oracle.py" 2000
  [[ $output == '2000 grids equal' ]]
}

@test "the number of points" {
  yaml 'method: grid' 'parameters: {a: {values: [1, 2, 1.0]}, b: {min: -1, max: 1}, c: {value: 3}}'
  run -0 sweep count s.yaml
  [[ $output == 6 ]]
  run -0 sweep count s.yaml --runs 4
  [[ $output == 4 ]]
  yaml 'method: grid' 'run_cap: 2' 'parameters: {a: {parameters: {x: {values: [1, 2]}, y: {values: [a, b]}}}}'
  run -0 sweep count s.yaml
  [[ $output == 2 ]]
  yaml 'method: random' 'run_cap: 20' 'parameters: {a: {min: 0.0, max: 1.0}}'
  run -0 sweep count s.yaml --runs 30
  [[ $output == 20 ]]
  # They are counted, not listed.
  yaml 'method: grid' 'parameters: {a: {min: 1, max: 3000}, b: {min: 1, max: 3000}, c: {min: 1, max: 3000}}'
  run -0 sweep count s.yaml
  [[ $output == 27000000000 ]]
}

# refused PATTERN LINE...   The file must be refused in one line.
refused() {
  yaml "${@:2}"
  fails_with 2 "$1" sweep count s.yaml
}

@test "each error in a file gives a message of one line" {
  fails_with 2 'none.yaml: No such file' sweep count none.yaml
  printf '[' >s.yaml
  fails_with 2 's.yaml is no YAML' sweep count s.yaml
  printf 'just text\n' >s.yaml
  fails_with 2 'is no sweep: write method, program and parameters' sweep count s.yaml
  refused 'method: None' 'parameters: {a: {value: 1}}'
  refused "method: 'gird'" 'method: gird' 'parameters: {a: {value: 1}}'
  refused 'no parameters' 'method: grid'
  refused 'parameter a is 3: write  a: \{value: 3\}' 'method: grid' 'parameters: {a: 3}'
  refused 'parameter a\.b: it needs value' 'method: grid' 'parameters: {a: {parameters: {b: {}}}}'
  refused 'parameter a: values must be a list with at least one' 'method: grid' 'parameters: {a: {values: []}}'
  refused 'on a grid uniform has no finite set' 'method: grid' 'parameters: {a: {min: 0.0, max: 1.0}}'
  refused 'probabilities are not allowed' 'method: grid' 'parameters: {a: {values: [1, 2], probabilities: [0.5, 0.5]}}'
  refused 'add up to 0.9, not to 1' 'method: random' 'run_cap: 3' 'parameters: {a: {values: [1, 2], probabilities: [0.5, 0.4]}}'
  refused 'min 3 is not below max 1' 'method: grid' 'parameters: {a: {min: 3, max: 1}}'
  refused 'min 0 and max 1.0: write both' 'method: random' 'run_cap: 3' 'parameters: {a: {min: 0, max: 1.0}}'
  refused "min is '1e-4', not a number; to YAML 1e-4 is text: write 1.0e-4" 'method: random' 'run_cap: 3' 'parameters: {a: {min: 1e-4, max: 1.0}}'
  refused "no distribution 'gauss'; there are: constant" 'method: random' 'parameters: {a: {distribution: gauss}}'
  refused 'uniform has no step' 'method: random' 'parameters: {a: {min: 0.0, max: 1.0, step: 2}}'
  refused 'above 0; min is 0' 'method: random' 'run_cap: 3' 'parameters: {a: {distribution: log_uniform_values, min: 0, max: 1}}'
  yaml 'method: random' 'parameters: {a: {min: 0.0, max: 1.0}}'
  fails_with 3 'random has no end: give the number' sweep count s.yaml
  refused 'bayes chooses each point by the results of those before' 'method: bayes' 'parameters: {a: {min: 0.0, max: 1.0}}'
  refused "run_cap: 'many'" 'method: grid' 'run_cap: many' 'parameters: {a: {value: 1}}'
  refused 'W&B drops the word \$\{scratch_dir\}; write it behind an option' 'method: grid' 'parameters: {a: {value: 1}}' 'command: [ls, "${scratch_dir}"]'
  refused "command: 'python train.py': write a list" 'method: grid' 'parameters: {a: {value: 1}}' 'command: python train.py'
  printf 'method: grid\nparameters: {a: {value: 1}}\n' >s.yaml
  fails_with 2 'no program' sweep count s.yaml
  yaml 'method: grid' 'parameters: {a: {value: 1}}'
  run -2 sweep count s.yaml --runs 0
  [[ $output == *"'0' is not a whole number above 0"* ]]
}

@test "a point has its command, parameters and environment" {
  yaml 'method: grid' 'parameters:' '  lr: {values: [0.5, -1.0e-5]}' '  new: {value: true}' '  net: {parameters: {depth: {value: 3}}}'
  listed --seed 1
  run -0 words run/task_2/command
  [[ $output == $'/usr/bin/env\npython\ntrain.py\n--lr=-1e-05\n--net={\'depth\': 3}\n--new=True' ]]
  run -0 "$kit_environment/bin/python" -c 'import sys; from wandb.sdk.lib.config_util import dict_from_config_file as read; print(read(sys.argv[1]))' run/task_2/parameters.yaml
  [[ $output == "{'lr': -1e-05, 'net': {'depth': 3}, 'new': True}" ]]
  run -0 words run/task_1/environment
  [[ ${output//$'\n'/ } =~ ^WANDB_RUN_ID=[0-9a-f]{12}\ WANDB_RESUME=allow$ ]]
  [[ $(cut -f 1,3 run/tasks) == $'1\tlr=0.5 net.depth=3 new=True\n2\tlr=-1e-05 net.depth=3 new=True' ]]
  [[ ! -e run/task_3/command ]]
}

@test "the command's macros are those of W&B" {
  local -a macros=(args args_no_hyphens args_no_equals args_no_boolean_flags args_append_hydra args_override_hydra args_json)
  yaml 'method: grid' 'parameters: {b: {value: true}, c: {value: false}, x: {value: -1.5}, y: {value: a b}, z: {value: null}}' \
    "command: ['\${env}', '\${interpreter}', '\${program}'$(printf ", '\${%s}', --" "${macros[@]}")]"
  listed
  words run/task_1/command >ours
  "$kit_environment/bin/python" - "${macros[@]}" >theirs <<'PYTHON'
import sys
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args
point = {"b": True, "c": False, "x": -1.5, "y": "a b", "z": None}
made = create_sweep_command_args({"args": {key: {"value": value} for key, value in point.items()}})
print("/usr/bin/env", "python", "train.py", sep="\n")
for macro in sys.argv[1:]:
    print(*made[macro], "--", sep="\n")
PYTHON
  diff ours theirs
}

@test "dollars: names are replaced on the rank, everything else is text; a file of the arguments" {
  yaml 'method: grid' 'parameters: {x: {value: "$5 ${scratch_dir} $$ ${1}"}}' \
    'command: [run, "--a=${scratch_dir}/x", "$HOME", "${envvar:USER}", "${args}", "${args_json_file}"]'
  listed
  scratch_dir=/s USER=me OUTPUT_PATH=$PWD/run/task_1/output
  export scratch_dir USER OUTPUT_PATH
  mkdir -- "$OUTPUT_PATH" # as the job makes it
  local -a read=()
  command::read run/task_1/command read
  [[ ${read[*]@Q} == "'run' '--a=/s/x' '\$HOME' 'me' '--x=\$5 /s \$\$ \${1}' '$PWD/run/task_1/output/../parameters.json'" ]]
  [[ $(<"${read[5]}") == '{"x": "$5 ${scratch_dir} $$ ${1}"}' ]]
  # The agent's wrapper does the same in bash.
  local escaped word
  for word in '$' '$$' '${x}' '${x}${y}$' '${1}' 'a${x' '$x' '' 'a$${x}b' '${envvar:X}'; do
    command::escape escaped "$word"
    [[ $escaped == "$(cd -- "$checkout/hpc/sweep" && python3 -c 'import sys; sys.dont_write_bytecode = True; import sweep_points; print(sweep_points.escape(sys.argv[1]))' "$word")" ]]
  done
}

@test "ids and order do not change when the file is written in another order" {
  yaml 'method: grid' 'parameters: {lr: {values: [0.1, 2.0]}, net: {parameters: {b: {values: [x, y]}, a: {value: 1}}}}'
  listed
  cp -- run/tasks before
  printf '%s\n' 'parameters:' '  net:' '    parameters:' '      a: {distribution: constant, value: 1.0}' '      b: {values: [x, y]}' \
    '  lr:' '    values: [0.1, 2]' 'method: grid' 'program: other.py' >s.yaml
  listed
  diff <(cut -f 1,2 before) <(cut -f 1,2 run/tasks)
  [[ $(cut -f 2 run/tasks | sort -u | wc -l) == 4 ]]
  # The W&B run belongs to the experiment if that has a name.
  words run/task_1/environment >unnamed
  listed --experiment mine
  diff <(cut -f 1,2 before) <(cut -f 1,2 run/tasks)
  run -1 diff -q unnamed <(words run/task_1/environment)
}

@test "random points depend only on the seed, and not on their number" {
  yaml 'method: random' 'parameters: {lr: {distribution: log_uniform_values, min: 1.0e-4, max: 1}, n: {min: 1, max: 3}, k: {values: [a, b]}}'
  listed --runs 10 --seed 7
  cp -- run/tasks ten
  listed --runs 40 --seed 7
  diff ten <(head -n 10 run/tasks)
  [[ $(cut -f 2 run/tasks | sort -u | wc -l) == 40 ]]
  listed --runs 10 --seed 8
  run -1 diff -q ten run/tasks
  # Two equal points are two runs.
  yaml 'method: random' 'parameters: {k: {values: [a, b]}}'
  listed --runs 40
  [[ $(cut -f 2 run/tasks | sort -u | wc -l) == 40 && $(cut -f 3 run/tasks | sort -u | wc -l) == 2 ]]
}

@test "the template is a valid sweep, and its commands are commands of train" {
  run -0 sweep count "$checkout/hpc/sweeper.yml"
  [[ $output == 12 ]]
  mkdir -p -- run/task_{1..12}
  sweep write "$checkout/hpc/sweeper.yml" run
  mapfile -d '' -t flags <run/task_12/command
  [[ ${flags[*]:0:4} == '/usr/bin/env python -m train' ]]
  cd -- "$checkout" || return
  "$kit_environment/bin/python" -c '
import sys
from train.config import parse
from train.tasks.digits import Config
config = parse(Config, sys.argv[1:], "train")
assert (config.learning_rate, config.batch_size, config.seed, config.epochs) == (0.01, 64, 1, 10), config
' "${flags[@]:4}" 3>&-
}
