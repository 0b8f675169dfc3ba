#!/usr/bin/env bats
# Three commands run a PyTorch program that knows nothing of the kit on two nodes.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/reports.bash"

setup_file() {
  cluster_up
}

teardown_file() {
  cluster_down
}

setup() {
  program=$BATS_TEST_TMPDIR/'my first project'
  mkdir -- "$program"
  cat >"$program/model.py" <<'PYTHON'
import torch


class Line(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(1, width), torch.nn.Tanh(), torch.nn.Linear(width, 1))

    def forward(self, x):
        return self.layers(x)
PYTHON
  cat >"$program/train.py" <<'PYTHON'
import argparse
import os

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from model import Line

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=100)
parser.add_argument("--lr", type=float, default=0.05)
parser.add_argument("--name", default="line")
arguments = parser.parse_args()

dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
torch.manual_seed(dist.get_rank())
model = DistributedDataParallel(Line(16))
optimizer = torch.optim.Adam(model.parameters(), lr=arguments.lr)
for step in range(arguments.steps):
    x = torch.rand(32, 1) * 2 - 1
    loss = ((model(x) - x**2) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
first_weight = next(model.parameters()).flatten()[:1].detach()
everybody = [torch.empty(1) for _ in range(dist.get_world_size())]
dist.all_gather(everybody, first_weight)
if dist.get_rank() == 0:
    same = all(torch.equal(weight, first_weight) for weight in everybody)
    print(f"{arguments.name}: {dist.get_world_size()} ranks, loss {loss.item():.4f}, the same weights: {same}", flush=True)
dist.destroy_process_group()
os._exit(0)  # when Python exits, gloo's threads sometimes abort the process (torch 2.13): 1 of 25 runs of four ranks
PYTHON
}

@test "adopt.sh, create.sh, job_submitter.sh: a two-file project trains on two nodes; an upgrade between changes nothing" {
  ln -s -- "$checkout/.venv" "$program/.venv" # made already, as it takes minutes
  local before
  before=$(cd -- "$program" && sha256sum -- *.py)

  bash "$checkout/hpc/adopt.sh" "$program" -- python train.py --steps 40 --name 'a "curved" line'
  bash "$program/venv/create.sh"
  job=$(bash "$program/hpc/job_submitter.sh" --gpus 2 --num-nodes 2 --time 5 3>&- 4>&-)

  run_directory=$(scontrol show job "$job" | sed -n 's/^ *WorkDir=//p')
  ended "$job" 180 COMPLETED 0:0
  job_log | grep -qE '^a "curved" line: 4 ranks, loss 0\.[0-9]+, the same weights: True$'
  [[ $(job_log | grep -oE '^rank [0-3] of 4: node [01], node[0-9]+' | sort -u | wc -l) == 4 ]]
  [[ $(job_log | sed -nE 's/^rank .* node [01], (node[0-9]+) .*/\1/p' | sort -u | wc -l) == 2 ]]
  [[ $(cd -- "$program" && sha256sum -- *.py) == "$before" ]]

  # The program has everything that the kit needs: no command misses a file that adopt.sh does not copy.
  run --separate-stderr bash "$checkout/hpc/adopt.sh" "$program"
  [[ $status == 0 && -z $output && $stderr == '0 files written, 0 removed'* ]]
  bash "$program/hpc/job_submitter.sh" --help >/dev/null
  XDG_STATE_HOME=$BATS_TEST_TMPDIR/state bash "$program/hpc/doctor.sh" --quick | grep -q '^ok  *slurm'
}

# old_job SCRIPT SOURCE_DIR   Submits a job of an old kit, whose scripts only sleep. Sets job.
old_job() {
  run_directory=$SCRATCH/${program##*/}/hpc_outputs/${1%.sh}_$RANDOM
  mkdir -p -- "$run_directory"
  printf 'fact[%s]=%s\n' project_directory "'$program'" source_dir "'${2:-$run_directory/source}'" >"$run_directory/facts"
  job=$(sbatch --parsable --mem=100M --chdir="$run_directory" --output=log.txt "${@:3}" "$program/hpc/$1" "$run_directory")
}

@test "an upgrade of the old layout is refused while jobs read the project's own files; it names them" {
  local reads packs has_snapshot
  mkdir -- "$program/hpc"
  printf '#!/bin/sh\nexec sleep 300\n' | tee "$program/hpc/batch.sh" >"$program/hpc/pack.sh"
  (cd -- "$program" && sha256sum hpc/{batch,pack}.sh >hpc/.installed)
  old_job batch.sh '' --array=1-2
  has_snapshot=$job
  old_job batch.sh "$program" --array=1-2
  reads=$job
  old_job pack.sh '' --dependency="afterany:$reads"
  packs=$job
  fails_with 1 "error: job $reads $packs needs the old files" bash "$checkout/hpc/adopt.sh" "$program"
  [[ -e $program/hpc/pack.sh && ! -e $program/hpc/job ]]
  scancel "$reads" "$packs"
  wait_for_job "$reads" 60
  run -0 bash "$checkout/hpc/adopt.sh" "$program"
  [[ $output == *"kept      hpc/batch.sh: job $has_snapshot may need it"* ]]
  [[ -e $program/hpc/batch.sh && ! -e $program/hpc/pack.sh ]]
  scancel "$has_snapshot"
  wait_for_job "$has_snapshot" 60
  run -0 bash "$checkout/hpc/adopt.sh" "$program"
  [[ ! -e $program/hpc/batch.sh ]]
}
