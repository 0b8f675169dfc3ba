#!/usr/bin/env bash
# submit_inside.sh
#
# A job runs it in the snapshot, in a step that is bound to one CPU. It submits the project with the lines of inner.txt and writes the id of
# that job to OUTPUT_PATH/inner_job.
set -euo pipefail

printf 'bound by %s, %s threads\n' "${SLURM_CPU_BIND:?}" "${OMP_NUM_THREADS:?}"
bash hpc/job_submitter.sh -W srun --gpus 2 --cpus 6 --configs "$OUTER_PROJECT/inner.txt" >"$OUTPUT_PATH/inner_job"
