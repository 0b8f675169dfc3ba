# shellcheck shell=bash
# The head of each program of rows.bats, which needs no more than bash. FLAGS: a folder by which the program and the test wait
# for each other.

told='' name=${0%.sh}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}
trap 'told=1' TERM

# says FLAG
says() {
  : >"$FLAGS/$1"
}

# comes FLAG   Waits for it, and beats.
comes() {
  until [[ -e $FLAGS/$1 ]]; do beat; done
}

beat() {
  : >"$HEARTBEAT_FILE"
  sleep 0.1
}

# Until it is asked to stop; then it saves, to go on later.
save_when_asked() {
  until [[ -n $told || -e $STOP_FILE ]]; do beat; done
  printf 'saved in attempt %s\n' "$ATTEMPT" | tee -a -- "$CHECKPOINT_DIRECTORY/saved"
  exit 75
}

says "$name.$ATTEMPT"
