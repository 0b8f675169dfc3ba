#!/usr/bin/env bash
# dataloader_takes_a_global_random_number.sh
#
# torch 2.13.0 (CPU). Each pass over a DataLoader takes a number of torch's global generator, also one that neither shuffles
# nor has workers: it is the seed of workers that there may be. An evaluation between two epochs therefore changes the dropout and
# the augmentation of the next one, and a run that is resumed behind it differs from one that was not interrupted. A DataLoader with
# a generator of its own takes none.
#
# Output seen on 2026-11-29:
#   without a loader 0.496257, after a pass 0.088477, after a pass with a generator of its own 0.496257
#
# Exit status 0 while it is so, 1 when it has changed. Run by people; it needs pip's package index.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
seen=$(
  "$work/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from torch.utils.data import DataLoader, TensorDataset

data = TensorDataset(torch.arange(4.0))


def next_number(**named):
    torch.manual_seed(0)
    if named:
        list(DataLoader(data, **named))
    return torch.rand(1).item()


print("without a loader %.6f, after a pass %.6f, after a pass with a generator of its own %.6f" % (
    next_number(),
    next_number(shuffle=False, num_workers=0),
    next_number(shuffle=False, num_workers=0, generator=torch.Generator()),
))
PYTHON
)
printf '%s\n' "$seen"
[[ $seen == 'without a loader 0.496257, after a pass 0.088477, after a pass with a generator of its own 0.496257' ]]
