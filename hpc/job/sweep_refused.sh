#!/usr/bin/env bash
# sweep_refused.sh WORDS
#
# For a trial whose command cannot run: the ranks run this instead (sweep_trial.sh), and the log says why. Exit status 2.
set -euo pipefail

printf 'the command of the sweep: %s\n' "$1" >&2
exit 2
