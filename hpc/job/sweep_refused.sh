#!/usr/bin/env bash
# sweep_refused.sh WORDS
#
# A trial whose command cannot run: the ranks run this in its place (sweep_trial.sh), and the log says why. Exit status 2.
set -euo pipefail

printf 'the command of the sweep: %s\n' "$1" >&2
exit 2
