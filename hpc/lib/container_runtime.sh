# shellcheck shell=bash
# Finds the program that runs containers on this machine.

# container_runtime::find   Prints its name; status 1 if there is none.
container_runtime::find() {
  local name
  for name in apptainer singularity; do
    if common::has_command "$name"; then
      printf '%s\n' "$name"
      return
    fi
  done
  return 1
}
