#!/usr/bin/env bats
# The run's own copy of the sources: folders that stay (--keep-folders), and files that the program has written beside the sources
# (hpc/job/lib/sources.sh), which the job's end, --resume and why report.

source "$BATS_TEST_DIRNAME/../helpers.bash"

declare -gA fact+=() # the libraries read it
source "$BATS_TEST_DIRNAME/made_runs.bash"

setup() {
  use_libraries common sources
  run_directory=$BATS_TEST_TMPDIR/"the run's"
  project=$BATS_TEST_TMPDIR/project
  mkdir -p -- "$run_directory" "$project"/{src,out,ignored,tracked}
  touch -- "$project"/{src/x.py,out/live.pt,ignored/data}
  echo old >"$project/tracked/log"
  declare -gA fact=([source_dir]=$run_directory/source [project_directory]=$project [working_directory]=. [keep_folders]=''
    [checkpoint_directory]=$BATS_TEST_TMPDIR/checkpoints)
  tar --create --directory="$project" --file="$run_directory/source.tar" src/x.py tracked/log
  printf 'out/\0ignored/\0' >"$run_directory/source.tar.ignored"
}

@test "files that the program writes into its copy are counted and named; given files, caches and links are not" {
  sources::unpack "$run_directory"
  local -r source=$run_directory/source
  mkdir -- "$source/src/__pycache__"
  touch -- "$source/src/__pycache__/x.pyc" "$source/out/in_the_project"
  run -0 sources::note_written "$run_directory"
  [[ -z $output && ! -e $run_directory/written ]]
  sleep 0.02
  touch -- "$source/snapshot.pt"
  echo new >>"$source/tracked/log"
  cp --preserve=timestamps -- "$source/src/x.py" "$source/copy of x.py"
  mkdir -- "$source/runs"
  touch -- "$source/runs/events"
  run -0 sources::note_written "$run_directory"
  [[ $output == "files that were written into the run's own copy of the sources: 4 (copy of x.py,runs/events,snapshot.pt, …), in $source."*'--keep-folders' ]]
  [[ $(tr '\0' ' ' <"$run_directory/written") == 'copy of x.py runs/events snapshot.pt tracked/log ' ]]
}

@test "kept folders: the next run finds what this one has saved in them, whatever the project has under that name" {
  fact[keep_folders]=out,tracked/,new/inner
  sources::unpack "$run_directory"
  local -r source=$run_directory/source kept=$BATS_TEST_TMPDIR/checkpoints
  [[ $source/out -ef $kept/out && $source/tracked -ef $kept/tracked && $source/new/inner -ef $kept/new/inner ]]
  [[ $(<"$source/tracked/log") == old && ! -e $source/out/live.pt && -e $project/out/live.pt ]]
  sleep 0.02
  echo saved | tee -- "$source/out/ckpt.pt" "$source/tracked/log" >"$source/new/inner/a"
  run -0 sources::note_written "$run_directory"
  [[ -z $output ]]
  mv -- "$source" "$run_directory/gone"
  sources::unpack "$run_directory"
  [[ $(cat -- "$source"/{out/ckpt.pt,tracked/log,new/inner/a}) == $'saved\nsaved\nsaved' ]]
}

@test "kept folders are relative to the folder of the command; they are never inside of the project itself" {
  fact[keep_folders]=out fact[working_directory]=src
  sources::unpack "$run_directory"
  [[ $run_directory/source/src/out -ef $BATS_TEST_TMPDIR/checkpoints/out && $run_directory/source/out -ef $project/out ]]
  rm -r -- "$run_directory/source"
  fact[keep_folders]=ignored/data fact[working_directory]=.
  run -1 sources::unpack "$run_directory"
  [[ $output == *"--keep-folders 'ignored/data': git ignores the folder that it is in"* && -f $project/ignored/data ]]
}

@test "--keep-folders: invalid values" {
  make_project
  stub_slurm
  export SCRATCH=$BATS_TEST_TMPDIR/scratch HPC_CLUSTER=default
  mkdir -- "$SCRATCH"
  local folder
  for folder in .. /tmp out,../x . '' a/../../b; do
    fails_with 2 '--keep-folders' submitter --keep-folders "$folder"
  done
  fails_with 2 '--keep-folders and --no-snapshot contradict' submitter --keep-folders out --no-snapshot
  fails_with 2 'is not a copy, so its files stay' submitter --keep-folders out --chdir /tmp
  submit --keep-folders out,checkpoints
  grep -qxF "fact[keep_folders]='out,checkpoints'" "$run_directory/facts"
  run -0 --separate-stderr submitter --dry-run --keep-folders out --repeat 2
  [[ $stderr == *'all of the 2 tasks write into the same folders'* ]]
}

@test "--resume and why name what the last run has written into its copy" {
  made_runs_setup
  stub_slurm
  export HPC_CLUSTER=default
  made_run mine 1 1
  state 1 failed
  attempt 1 0 'failed 1 0 node1'
  printf '%s\0' out/a.pt out/b.pt out/c.pt snapshot.pt >"$run/written"
  run -0 --separate-stderr command_of why mine
  [[ $output == *"note: 4 files were written into the run's own copy of the sources (out/a.pt, out/b.pt, out/c.pt, …), in $run/source;"* ]]
  mkdir -p -- "${outputs%/*}/mine"
  echo "${run##*/}" >"${outputs%/*}/mine/runs"
  run -0 --separate-stderr submitter --exp-name mine --resume
  [[ $stderr == *"note: mine has no checkpoints yet: it starts from the beginning. Its last run has written 4 files, such as 'out/a.pt', into its own copy of the sources, $run/source: "*'--keep-folders FOLDER'* ]]
}
