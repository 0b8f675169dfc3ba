#!/bin/bash
# What each node of a job should not do: a launcher that knows of this node alone.
exec python -m torch.distributed.run --standalone --nproc-per-node=1 programs/meetings.py ddp
