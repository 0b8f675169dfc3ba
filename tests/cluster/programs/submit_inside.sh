#!/usr/bin/env bash
# submit_inside.sh
#
# Run by a job, in a step that is bound to one CPU, in the snapshot: submits the project, its lines of
# inner.txt, and leaves the id of that job in OUTPUT_PATH/inner_job.
set -euo pipefail

printf 'bound by %s, %s threads\n' "${SLURM_CPU_BIND:?}" "${OMP_NUM_THREADS:?}"
bash hpc/job_submitter.sh -W srun --gpus 2 --cpus 6 --configs "$OUTER_PROJECT/inner.txt" >"$OUTPUT_PATH/inner_job"
