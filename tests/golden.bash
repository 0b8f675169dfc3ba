# shellcheck shell=bash
# Reads the golden table, tests/golden/sbatch_argv.txt, for unit/golden.bats and cluster/table.bats. Needs helpers.bash.

golden_file=${BASH_SOURCE[0]%/*}/golden/sbatch_argv.txt

# golden::read   Fills golden_options with the OPTIONS of the blocks, and golden_argv with their arguments, one a line.
golden::read() {
  local line
  local -i block=-1
  golden_options=() golden_argv=()
  while IFS= read -r line; do
    case $line in
      '# '* | '#' | '') ;;
      '$' | '$ '*)
        block+=1
        golden_options[block]=${line#\$}
        golden_options[block]=${golden_options[block]# }
        golden_argv[block]=''
        ;;
      *) golden_argv[block]+=$line$'\n' ;;
    esac
  done <"$golden_file"
}

# golden::words ARRAY OPTIONS   Splits OPTIONS into words, quoted or not. Environment settings in front of them go to the array
# golden_settings.
golden::words() {
  local -n words=$1
  mapfile -d '' words < <(xargs --no-run-if-empty printf '%s\0' <<<"$2")
  golden_settings=()
  while [[ ${words[0]:-} == [A-Z]*=* ]]; do
    golden_settings+=("${words[0]}")
    words=("${words[@]:1}")
  done
}

# golden::project   Sets `project` to a project with the files that the blocks name and its data in SCRATCH. The caller must change into its
# folder.
golden::project() {
  make_project
  local -r plain=$BATS_TEST_TMPDIR/project
  mv -- "$project" "$plain"
  project=$plain
  mkdir -p -- "$SCRATCH/project/one" "$SCRATCH/project/two words"
  printf 'true 1\n' >"$project/one.txt"
  make_sif "$project/image.sif"
  printf '%s\n' 'experiment_name = "old"' 'gpus = 1' 'compute_mode = "burst"' 'command = "train.py"' >"$project/old.isc"
  : >"$project/train.py"
  mkdir -p -- "$project/environment/bin"
  printf '#!/bin/sh\n' >"$project/environment/bin/python"
  chmod +x -- "$project/environment/bin/python"
  printf 'true 1\ntrue 2\n\ntrue 3\n' >"$project/three.txt"
}

# golden::shown WORD...   Prints the words, one a line; replaces what differs from run to run.
golden::shown() {
  local -r run_directory=${*: -1}
  local word
  for word in "$@"; do
    word=${word//"$run_directory"/RUN_DIRECTORY}
    printf '%s\n' "${word//"$project"/PROJECT}"
  done
}
