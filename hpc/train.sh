#!/usr/bin/env bash
# train.sh FILE.isc [OPTION...]
#
# Submits the experiment of an .isc file, as isc train did. It calls job_submitter.sh --isc FILE.isc OPTION...
#
# Run by people, on a login node; experiments.sh shows the run.
#
# Exit status: as for job_submitter.sh, which also writes the standard output.
#
# See also: job_submitter.sh, experiments.sh; README.md
set -euo pipefail

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
source "$here/lib/common.sh"
source "$here/lib/help.sh"

help::answer "${here%/*}" "${BASH_SOURCE[0]}" "$@"
[[ ${1:-} == [!-]* ]] || common::die_usage "${1:+${1@Q} where the file should be: }train.sh FILE.isc [OPTION of job_submitter.sh...]"
exec bash "$here/job_submitter.sh" --isc "$@"
