#!/usr/bin/env bash
# object_collectives_need_numpy.sh
#
# torch 2.13.0 (CPU), which installs no numpy. Without it the collectives for Python objects fail, "Numpy is not available", for a dictionary of
# a float too. all_gather_object fails on every rank; broadcast_object_list on those that receive alone: the rank that sends goes on, into the
# next collective, and waits there for the others until the time-out of the group.
#
# Output seen on 2026-11-29:
#   all_gather_object: rank 0 RuntimeError: Numpy is not available; rank 1 RuntimeError: Numpy is not available
#   broadcast_object_list: rank 0 ends well; rank 1 RuntimeError: Numpy is not available
#
# Exit status 0 while it is so, 1 when it has changed. Run by people; it needs pip's package index.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
cat >"$work/collect.py" <<'PYTHON'
import sys

import torch.distributed as dist

dist.init_process_group("gloo")
rank = dist.get_rank()
told = {"loss": 1.0}
calls = {
    "all_gather_object": lambda: dist.all_gather_object([None, None], told),
    "broadcast_object_list": lambda: dist.broadcast_object_list([told if rank == 0 else None], src=0),
}
for name, call in calls.items():
    try:
        call()
        end = "ends well"
    except RuntimeError as error:
        end = "RuntimeError: %s" % error
    with open("%s/%s.%d" % (sys.argv[1], name, rank), "w") as file:
        file.write("rank %d %s" % (rank, end))
dist.destroy_process_group()
PYTHON
"$work/venv/bin/python" -W ignore -m torch.distributed.run --log-dir "$work" --nproc-per-node 2 "$work/collect.py" "$work" >"$work/log" 2>&1 ||
  { cat -- "$work/log" && exit 1; }
seen=''
for name in all_gather_object broadcast_object_list; do seen+="$name: $(<"$work/$name.0"); $(<"$work/$name.1")"$'\n'; done
printf '%s' "$seen"
why='RuntimeError: Numpy is not available'
[[ $seen == "all_gather_object: rank 0 $why; rank 1 $why"$'\n'"broadcast_object_list: rank 0 ends well; rank 1 $why"$'\n' ]]
