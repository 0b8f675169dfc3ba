#!/usr/bin/env bats
# Removes what killed jobs leave on a node (hpc/job/lib/leftovers.sh).

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup() {
  user=$((54000 + BATS_TEST_NUMBER)) # a user without other processes
  if ((EUID != 0)); then skip 'needs root, to be another user'; fi
  name=hpc_kit_$BATS_ROOT_PID
  open=$(mktemp -d) # the checkout, and the folder of bats, may be closed to others
  chmod 755 -- "$open"
  mkdir -p -- "$open/hpc/job"
  cp -R -- "$checkout/hpc/lib" "$open/hpc/"
  cp -R -- "$checkout/hpc/job/lib" "$open/hpc/job/"
}

teardown() {
  if [[ -n ${open:-} ]]; then rm -rf -- /dev/shm/*"$name"* "$open"; fi
}

# as_user SCRIPT   Runs it with the library, as the test's own user, in a job.
as_user() {
  SLURM_JOB_ID=4711 setpriv --reuid="$user" --clear-groups --no-new-privs bash -c '
    set -euo pipefail
    source "$1/hpc/lib/common.sh"
    source "$1/hpc/job/lib/leftovers.sh"
    name=$2
    cd /dev/shm
    '"$1" - "$open" "$name" 3>&- 4>&-
}

@test "shared memory that no process uses is removed with the job that made it; all else stays" {
  chmod 755 -- "$BATS_TEST_TMPDIR"
  : >"/dev/shm/psm_${name}_roots"
  run -0 as_user '
    : >psm_${name}_before
    sleep 0.02
    mark=psm_${name}_mark
    : >"$mark"
    sleep 0.02
    for kind in psm_ torch_ nccl- sem.mp- my_dataset_; do echo x >"$kind$name"; done
    echo x >psm_${name}_open
    exec {open}<psm_${name}_open
    leftovers::remove_shared_memory "$mark"
    ls -d *"$name"*'
  [[ $output == *"removed /dev/shm/psm_$name, which nobody uses any more"* ]]
  [[ $(printf '%s\n' "${lines[@]}" | grep -v removed) == "$(printf '%s\n' "my_dataset_$name" "psm_${name}_before" "psm_${name}_mark" "psm_${name}_open" "psm_${name}_roots")" ]]
}

@test "a semaphore that waits for a loader's worker is in use" {
  chmod 755 -- "$BATS_TEST_TMPDIR"
  run -0 as_user '
    mark=psm_${name}_mark
    : >"$mark"
    sleep 0.02
    coproc python3 -c "
import multiprocessing
semaphore = multiprocessing.get_context(\"spawn\").Semaphore()
print(semaphore._semlock.name, flush=True)
input()"
    read -r made <&"${COPROC[0]}"
    leftovers::remove_shared_memory "$mark"
    ls "sem.${made#/}"
    rm -- "$mark"'
  [[ $output == sem.mp-* ]]
}

@test "nothing is removed while the user has another job on the node, because it may belong to that job" {
  run -0 as_user '
    mark=psm_${name}_mark
    : >"$mark"
    sleep 0.02
    : >psm_$name
    SLURM_JOB_ID=4712 sleep 60 &
    other=$!
    while ! grep -qz SLURM_JOB_ID=4712 "/proc/$other/environ"; do sleep 0.05; done
    leftovers::remove_shared_memory "$mark"
    ls psm_$name
    kill "$other"
    wait "$other" || true
    leftovers::remove_shared_memory "$mark"
    ls psm_$name || echo gone'
  [[ ${lines[0]} == "psm_$name" && ${lines[-1]} == gone ]]
}
