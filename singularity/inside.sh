#!/bin/sh
# singularity/inside.sh IMAGE HOME DIRECTORY NEEDS COMMAND [ARGUMENT...]
#
# run.sh runs it inside the container, with the image's sh. It prints in one line which of NEEDS (`bash`, `bash torch`,
# or nothing) the image lacks, changes to DIRECTORY, and becomes COMMAND. (Runtimes take HOME from the user database, and
# continue in / if the folder does not exist.) The submitter also runs it, before it queues the job.
set -eu

image=$1 HOME=$2 directory=$3 needs=$4
export HOME
shift 4

fail() {
  printf 'inside.sh: error: %s\n' "$1" >&2
  exit 1
}

case $needs in
  *torch*) programs="bash python" ;;
  *) programs=$needs ;;
esac
for program in $programs; do
  command -v "$program" >/dev/null 2>&1 ||
    fail "the image $image has no $program inside: the kit needs bash, and its launchers need python and torch; singularity/build.sh makes an image that has them"
done
if [ "$needs" != "${needs#*torch}" ]; then
  python -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' ||
    fail "the python of the image $image has no torch, of which torchrun is a part: singularity/build.sh makes an image that has it"
fi
cd "$directory" || fail "--chdir: there is no folder $directory in the container"
exec "$@"
