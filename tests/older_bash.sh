# shellcheck shell=bash
# BASH_ENV of the tests: what bash 4.4 lacks is not set in any script, nor in the jobs of cluster tests. (helpers.bash)
unset EPOCHSECONDS EPOCHREALTIME SRANDOM BASH_ARGV0 BASH_MONOSECONDS
