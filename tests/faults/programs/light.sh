# shellcheck shell=bash
# The first part of each program of rows.bats. It needs only bash. FLAGS is a folder of flag files with which the program and the test wait
# for each other.

told='' name=${0%.sh}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}
trap 'told=1' TERM

# says FLAG   Creates the flag.
says() {
  : >"$FLAGS/$1"
}

# comes FLAG   Waits for the flag and sends heartbeats meanwhile.
comes() {
  until [[ -e $FLAGS/$1 ]]; do beat; done
}

beat() {
  : >"$HEARTBEAT_FILE"
  sleep 0.1
}

# Waits for a request to stop, saves, and exits with 75, so that it is restarted.
save_when_asked() {
  until [[ -n $told || -e $STOP_FILE ]]; do beat; done
  printf 'saved in attempt %s\n' "$ATTEMPT" | tee -a -- "$CHECKPOINT_DIRECTORY/saved"
  exit 75
}

says "$name.$ATTEMPT"
