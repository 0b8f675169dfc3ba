#!/usr/bin/env bash
# lightning_looks_at_the_jobs_name.sh
#
# lightning 2.6.6. Whether a Trainer takes its ranks from Slurm depends on the name of the job: one that is named bash or interactive, as people
# name what they start from a shell, is taken for a shell, and each task of srun trains alone, as rank 0 of 1. Only the name differs.
#
# Output seen on 2026-11-29:
#   train: SLURMEnvironment; bash: LightningEnvironment; interactive: LightningEnvironment
#
# Exit status 0 while it is so, 1 when it has changed. Run by people; it needs pip's package index.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 lightning==2.6.6
seen=''
for name in train bash interactive; do
  # What srun gives the first of two tasks.
  seen+="${seen:+; }$name: $(
    SLURM_JOB_NAME=$name SLURM_JOB_ID=1 SLURM_NTASKS=2 SLURM_NTASKS_PER_NODE=2 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 \
      SLURM_NODELIST=localhost "$work/venv/bin/python" -W ignore - 2>"$work/errors" <<'PYTHON'
from lightning.fabric import Fabric

fabric = Fabric(accelerator="cpu", devices=2, num_nodes=1)
print(type(fabric.strategy.cluster_environment).__name__)
PYTHON
  )" || { cat -- "$work/errors" && exit 1; }
done
printf '%s\n' "$seen"
[[ $seen == 'train: SLURMEnvironment; bash: LightningEnvironment; interactive: LightningEnvironment' ]]
