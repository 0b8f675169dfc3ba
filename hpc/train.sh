#!/usr/bin/env bash
# train.sh FILE.isc [OPTION...]
#
# Submits the experiment of an .isc file, as `isc train` did: job_submitter.sh --isc FILE.isc OPTION... Run by people, on
# a login node; `experiments.sh` shows what becomes of it. Standard output and exit status are job_submitter.sh's.
set -euo pipefail

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
source "$here/lib/common.sh"

common::answer_help "${BASH_SOURCE[0]}" "$@"
[[ ${1:-} == [!-]* ]] || common::die_usage "${1:+${1@Q} where the file should be: }train.sh FILE.isc [OPTION of job_submitter.sh...]"
exec bash "$here/job_submitter.sh" --isc "$@"
