"""make_runs.py OUTPUTS COUNT   Makes run directories as jobs leave them, with one task, one attempt, 20 epochs and a
result.
"""

import json
import sys
from pathlib import Path

outputs, count = Path(sys.argv[1]), int(sys.argv[2])
for number in range(1, count + 1):
    run_id = f"made_{20260101 + number // 1000}-{number % 1000:06}_{number}"
    folder = outputs / run_id
    (folder / "task_1" / "output").mkdir(parents=True)
    (folder / "task_1" / "attempt_0").mkdir()
    facts = {
        "exp_name": f"experiment {number}",
        "job_name": "made",
        "run_id": run_id,
        "run_directory": folder,
        "tasks": 1,
        "nodes": 2,
        "time": "0-01:00:00",
        "launcher": "torchrun",
        **{f"other_{name}": "a value as long as they are" for name in range(30)},
    }
    epochs = [
        {"epoch": epoch, "validation_loss": 1 / epoch, "validation_accuracy": 1 - 1 / epoch} for epoch in range(1, 21)
    ]
    for name, text in {
        "facts": "".join(f"fact[{name}]='{value}'\n" for name, value in facts.items()),
        "job_id": f"{number}\n",
        "tasks": "1\ttask_1\tpython -m train\n",
        "task_1/state": "completed\n",
        "task_1/log.txt": "epoch 1/20: loss 1.0\n" * 200,
        "task_1/output/metrics.jsonl": "".join(json.dumps(line) + "\n" for line in epochs),
        "task_1/output/result.json": json.dumps(epochs[-1]),
        "task_1/attempt_0/nodes": "node[1-2]\n",
        "task_1/attempt_0/cause": "finished\n",
    }.items():
        (folder / name).write_text(text)
