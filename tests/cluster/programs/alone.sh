#!/bin/bash
# A wrong launcher: on each node of a job it starts ranks that know of that node only.
exec python -m torch.distributed.run --standalone --nproc-per-node=1 programs/meetings.py ddp
