#!/usr/bin/env bash
# dcp_keeps_files_of_a_larger_world.sh
#
# torch 2.13.0 (CPU). torch.distributed.checkpoint.save into the folder of an earlier checkpoint replaces the files of the ranks that
# there are, and leaves those of a larger world. They are of no use, count against the quota, and a tool that reads a
# checkpoint by its *.distcp files takes them for a part of it.
#
# Output seen on 2026-11-29:
#   world of 4: .metadata __0_0.distcp __1_0.distcp __2_0.distcp __3_0.distcp
#   world of 2: .metadata __0_0.distcp __1_0.distcp __2_0.distcp __3_0.distcp
#
# Exit status 0 while it is so, 1 when it has changed. Run by people; it needs pip's package index.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat >"$work/save.py" <<'PYTHON'
import sys

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

dist.init_process_group("gloo")
mesh = init_device_mesh("cpu", (dist.get_world_size(),))
dcp.save({"weights": distribute_tensor(torch.arange(8.0), mesh, [Shard(0)])}, checkpoint_id=sys.argv[1])
dist.destroy_process_group()
PYTHON
seen=''
for world in 4 2; do
  "$work/venv/bin/python" -W ignore -m torch.distributed.run --log-dir "$work" --nproc-per-node "$world" "$work/save.py" "$work/checkpoint" 2>"$work/errors" ||
    { cat -- "$work/errors" && exit 1; }
  seen+="world of $world: $(find "$work/checkpoint" -type f -printf '%f\n' | LC_ALL=C sort | paste -sd ' ')"$'\n'
done
printf '%s' "$seen"
files='.metadata __0_0.distcp __1_0.distcp __2_0.distcp __3_0.distcp'
[[ $seen == "world of 4: $files"$'\n'"world of 2: $files"$'\n' ]]
