#!/usr/bin/env bash
# tests/device/run.sh [--device cuda|cpu] [--only CHECK,...] [--seconds N] [--small]
#
# Tests on one GPU what the other tests cannot, because they have none. It needs a machine with a GPU, no Slurm, no downloads and 10
# minutes. Prints each result as it comes, then a table and `N passed, N failed, N skipped`; exit status 0 when none failed. The table is
# also in $OUT/device.md, updated after each check (OUT: a folder; by default a new one, whose name is printed).
#   nccl           a group of one rank, the collectives
#   ddp, fsdp      the residual network in bfloat16: one rank in a group, two ranks with torchrun if one device can run them
#   checkpoint     state to and from the device, the pause of a save, a training that is killed and resumed
#   interruption   STOP_FILE and SIGTERM: saved, and resumed with the same bits as an uninterrupted training
#   usage          what hpc/job/usage.py sees of the GPU, through nvidia-smi
#   channels_last  the memory layout, and how much it gains
#   resnet         a step of the loop in bfloat16 beside a bare compiled loop
#   compile        python -m train --compile: alone, DDP, FSDP2
# --device cpu runs everything on a CPU, with Gloo and smaller sizes; checks that need a GPU are skipped. --small: still smaller.
# --seconds is the time for all checks together (570; on a CPU 1710); with more, each one gets more. Checks that get no time fail.
# The Python is $PYTHON, or else the first usable one of .venv's, python3 and python. It needs torch (for a GPU, a CUDA build) and numpy.
set -euo pipefail
shopt -s inherit_errexit

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
checkout=${here%/tests/device}
source "$checkout/hpc/lib/common.sh"
source "$checkout/hpc/lib/help.sh"
source "$checkout/venv/environment.sh"

checks=(nccl ddp fsdp checkpoint interruption usage channels_last resnet compile)
# Seconds after which a check is killed; on a CPU three times as many.
declare -A limit=([nccl]=60 [ddp]=120 [fsdp]=120 [checkpoint]=180 [interruption]=180 [usage]=60 [channels_last]=60 [resnet]=200 [compile]=240)
device=cuda seconds='' small='' python='' about='' process=''
slower=1 # a CPU, in whole times
work=$(mktemp -d)

main() {
  help::answer "$checkout" "$here/run.sh" "$@"
  local check
  while (($# > 0)); do
    case $1 in
      --device) [[ ${2:-} == @(cpu|cuda) ]] || common::die_usage "--device is cuda or cpu, not ${2@Q}" ;;
      --only) IFS=, read -r -a checks <<<"${2:-}" ;;
      --seconds) [[ ${2:-} =~ ^[1-9][0-9]{0,4}$ ]] || common::die_usage "--seconds needs a whole number, not ${2@Q}" ;;
      --small) ;;
      *) common::die_usage "unknown option ${1@Q}: --device, --only, --seconds, --small" ;;
    esac
    case $1 in
      --device) device=$2 ;;
      --seconds) seconds=$2 ;;
      --small) small=1 ;;
    esac
    if [[ $1 != --small ]]; then shift; fi
    shift
  done
  ((${#checks[@]} > 0)) || common::die_usage "--only needs names of checks, with commas between them"
  for check in "${checks[@]}"; do
    [[ -n $check && -v limit[$check] ]] || common::die_usage "no check ${check@Q}: they are $(run::names)"
  done
  if [[ $device == cpu ]]; then slower=3; fi
  seconds=${seconds:-$((570 * slower))}
  OUT=${OUT:-$(mktemp -d "${TMPDIR:-/tmp}/device-XXXXXX")}
  mkdir -p -- "$OUT"

  run::find_python
  printf '%s\n%s, %s CPUs\n' "$python" "$about" "$(nproc)"
  : >"$work/rows"
  mkdir -- "$work/tmp"
  export TMPDIR=$work/tmp # torchrun leaves folders of logs there
  for check in "${checks[@]}"; do
    run::check "$check"
    run::table >"$OUT/device.md"
  done
  printf '\n%s\n' "$(<"$OUT/device.md")"
  printf '\nThe table is in %s\n%s passed, %s failed, %s skipped\n' "$OUT/device.md" "$(run::count ok)" "$(run::count failed)" "$(run::count skipped)"
  (($(run::count failed) == 0 && $(run::count ok) > 0))
}

run::names() {
  printf '%s\n' "${!limit[@]}" | sort | paste -s -d ' '
}

# Sets `python` and `about`. If no Python is usable, prints what each lacks.
run::find_python() {
  local -a candidates=() lacks=()
  local candidate
  if [[ -n ${PYTHON:-} ]]; then
    candidates=("$PYTHON")
  else
    if candidate=$(environment::find "$checkout"); then candidates+=("$candidate/bin/python"); fi
    candidates+=(python3 python)
  fi
  for candidate in "${candidates[@]}"; do
    if ! python=$(common::first_python 9 "$candidate"); then
      about="is not there, or older than Python 3.9"
    elif about=$("$python" "$here/check.py" probe --device "$device" 2>&1); then
      return
    fi
    lacks+=("${candidate@Q}: $about")
  done
  common::die "no Python here can run the checks on the device ${device@Q}; set PYTHON to one with torch and numpy: $(printf '\n  %s' "${lacks[@]}")"
}

# run::check NAME   Runs it in its own process group; its rows are in $work/rows.
run::check() {
  local -i status=0 begun=$SECONDS left=$((seconds - SECONDS)) bound=$((limit[$1] * slower))
  if ((seconds > 570 * slower)); then bound=$((limit[$1] * seconds / 570)); fi
  if ((bound > left)); then bound=$left; fi
  printf '\n== %s\n' "$1"
  if ((left <= 0)); then
    run::row failed "$1" 'not run' "the $seconds s of all checks are over"
    return
  fi
  timeout --kill-after=20 "$bound" "$python" "$here/check.py" "$1" --device "$device" --folder "$work" --rows "$work/rows" \
    ${small:+--small} </dev/null 2>&1 &
  process=$!
  common::wait "$process" || status=$?
  process=''
  if ((status == 124 || status == 137)); then
    run::row failed "$1" 'in time' "ended after $bound s"
  elif ((status > 1)); then
    run::row failed "$1" 'the check broke' "status $status"
  fi
  printf '== %s: %s s\n' "$1" "$((SECONDS - begun))"
}

# run::row STATE CHECK WHAT FIGURES
run::row() {
  printf '%s: %s: %s: %s\n' "$@"
  (
    IFS=$'\t'
    printf '%s\n' "$*"
  ) >>"$work/rows"
}

run::count() {
  awk -F '\t' -v state="$1" '$1 == state { count++ } END { print count + 0 }' "$work/rows"
}

run::table() {
  printf '%s; %s; %s CPUs; commit %s\n\n' "$(date +%Y-%m-%d)" "$about" "$(nproc)" "$(git -C "$checkout" rev-parse --short HEAD 2>/dev/null || echo unknown)"
  printf '| check | what | result | figures |\n|---|---|---|---|\n'
  awk -F '\t' '{ gsub(/\|/, "\\|"); printf "| %s | %s | %s | %s |\n", $2, $3, $1, $4 }' "$work/rows"
}

run::leave() {
  trap '' INT TERM
  # timeout passes it on to all processes of the check.
  if [[ -n $process ]] && kill -- "$process" 2>/dev/null; then common::wait "$process" || true; fi
  rm -rf -- "$work"
}

trap run::leave EXIT
common::end_on_signals
main "$@"
