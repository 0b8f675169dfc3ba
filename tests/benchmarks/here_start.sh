#!/usr/bin/env bash
# here_start.sh PROJECT
#
# Runs in the shell of salloc for here.bash: prints the time and becomes the submitter.
set -euo pipefail

date +%s.%N
exec bash "$1/hpc/job_submitter.sh" --here
