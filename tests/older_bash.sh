# shellcheck shell=bash
# The tests set BASH_ENV to this file. It unsets what bash 4.4 lacks in every script, and in the jobs of cluster tests. (helpers.bash)
unset EPOCHSECONDS EPOCHREALTIME SRANDOM BASH_ARGV0 BASH_MONOSECONDS
