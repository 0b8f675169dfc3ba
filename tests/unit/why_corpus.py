"""why_corpus.py EXPERIMENTS CORPUS FOLDER [--show]

Runs `why` on recorded ends of programs and measures how often its answer is right. EXPERIMENTS: hpc/experiments;
CORPUS: a folder of ends (tests/why/README.md describes their format); FOLDER: an empty folder for their run
directories. Prints a line for each wrong answer, and the counts. Exit status 1 if fewer answers are right than
required.
"""

import contextlib
import io
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

FACTS = {
    "tasks": 1,
    "nodes": 2,
    "gpus": 1,
    "mem_megabytes": 4096,
    "time": "0-01:00:00",
    "hang_seconds": 1800,
    "max_restarts": 0,
    "sweep": "",
}
LEAST = 0.95  # of the causes; everything else must be right in all ends


class End:
    """One recorded end: its head and its parts."""

    def __init__(self, path):
        self.name = path.stem
        head, _, body = path.read_text(encoding="utf-8").partition("\n\n")
        self.head = dict(line[2:].split(": ", 1) for line in head.splitlines() if ": " in line)
        own, *others = re.split(r"^== rank_(\d+)\n", body, flags=re.MULTILINE)
        self.others = dict(zip(map(int, others[::2]), others[1::2]))
        lines = own.splitlines()
        self.joint = [line[5:] for line in lines if line.startswith("log: ")]
        self.own = [line for line in lines if not line.startswith("log: ")]

    def lay(self, outputs, number):
        """Makes the run directory that a job with this end would leave."""
        folder = outputs / f"{self.name}_20260101-{number:06}_1"
        task, attempt = folder / "task_1", folder / "task_1/attempt_0"
        attempt.mkdir(parents=True)
        (task / "output").mkdir()
        known = {
            **FACTS,
            **dict.fromkeys(("exp_name", "job_name"), self.name),
            "run_id": folder.name,
            "run_directory": folder,
            "launcher": self.head.get("launcher", "srun"),
            "scratch_dir": outputs.parent,
            "source_dir": folder / "source",
            "checkpoint_directory": outputs.parent / self.name / "checkpoints",
        }
        (folder / "facts").write_text("".join(f"fact[{name}]='{value}'\n" for name, value in known.items()))
        (folder / "job_id").write_text(f"{number}\n")
        (folder / "tasks").write_text("1\ttask_1\tpython train.py\n")
        (folder / "sbatch_argv").write_text("sbatch\0--parsable\0")
        (task / "state").write_text("failed\n")
        (attempt / "nodes").write_text(self.head.get("nodes", "node[1-2]") + "\n")
        (attempt / "times").write_text("began 1767225600\nended 1767226200\n")
        failed = self.head.get("failed_rank", "").split()
        cause = self.head.get("cause", "failed 1 - -").split()
        if cause[0] == "failed" and failed:
            cause = ["failed", failed[2], failed[0], failed[1]]
        (attempt / "cause").write_text(" ".join(cause) + "\n")
        text = {0: self.own} if not failed else {int(failed[0]): self.own}
        if self.head.get("split"):
            text = {}
            for line in self.own:
                rank = re.match(r"\[rank(\d+)\]: ", line)
                text.setdefault(int(rank[1]) if rank else -1, []).append(line)
        text.update({rank: part.splitlines() for rank, part in self.others.items()})
        everything = [f"== job {number}, attempt 0, on node[1-2], now", *self.own, *self.joint]
        for part in self.others.values():
            everything += part.splitlines()
        for rank, lines in text.items():
            if rank >= 0 and failed:
                node = failed[1] if rank == int(failed[0]) else f"node{1 + (rank > 1 or not self.head.get('split'))}"
                first = f"rank {rank} of 4: node {node[-1]}, {node} (10.0.0.2), local rank 0, 2 CPUs, GPUs 0"
                self.write(task / f"rank_{rank}.txt", ["== attempt 0", first, *lines], folder, outputs)
        self.write(task / "log.txt", everything, folder, outputs)
        if failed:
            (attempt / "failed_rank").write_text(f"{self.head['failed_rank']}\n")
        return str(folder)

    @staticmethod
    def write(path, lines, folder, outputs):
        text = "\n".join(lines) + "\n"
        path.write_text(text.replace("@SOURCE@", f"{folder}/source").replace("@SCRATCH@", str(outputs.parent)))

    def faults(self, told):
        """Returns what `why` says wrongly about this end: (about what, words)."""
        word, _, rest = told.partition("): ")[2].partition(": ")
        remedy = told.partition("\nto do: ")[2]
        wanted = self.head["want"].split("|")
        if word not in wanted:
            yield "cause", f"{word!r}, not {' or '.join(wanted)}"
        for name, pattern in (
            ("rank", r"^first to (?:fail|give up): rank (\w+)"),
            ("node", r"^first to (?:fail|give up): .* on ([^,\s]+)"),
        ):
            expected = self.head.get(name)
            if expected:
                found = re.search(pattern, told, re.MULTILINE) or re.search(
                    rf"\b{'rank' if name == 'rank' else 'on'} (\w+)", rest
                )
                if not found or found[1] != expected:
                    yield name, f"{found and found[1]}, not {expected}"
        if not re.search(self.head.get("says", ""), rest.partition("\n")[0]):
            yield "sentence", f"not {self.head['says']}"
        if "raised" in self.head and self.head["raised"] not in told.partition("\nto do")[0].replace("\n", " "):
            yield "exception", f"not {self.head['raised']}"
        if "where" in self.head and self.head["where"] not in told.partition(":\n    ")[0]:
            yield "place", f"not {self.head['where']}"
        if not re.search(self.head["remedy"], remedy):
            yield "remedy", f"{remedy.strip()[:150]!r}, not {self.head['remedy']}"
        if ("resubmit" in remedy and self.head["resubmit"] == "no") or (
            "resubmit" not in remedy and self.head["resubmit"] == "yes"
        ):
            yield "resubmit", "proposed" if "resubmit" in remedy else "not proposed"


def main(experiments, corpus, folder, show=None):
    sys.path.insert(0, experiments)
    import why  # it lies where the first argument points

    outputs = Path(folder) / "hpc_outputs"
    paths = sorted(Path(corpus).glob("*.txt"))
    wrong = {}
    for number, path in enumerate(paths, 1):
        end = End(path)
        run = end.lay(outputs, number)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            why.main(str(outputs), SimpleNamespace(job=run, task=None, json=False))
        if show:
            print(f"=== {end.name}\n{printed.getvalue()}")
        for about, words in end.faults(printed.getvalue()):
            wrong.setdefault(about, []).append(end.name)
            print(f"{end.name}: {about}: {words}")
    right = len(paths) - len(wrong.get("cause", []))
    counts = ", ".join(f"{len(names)} wrong {about}" for about, names in wrong.items() if about != "cause")
    print(f"{right} of {len(paths)} causes{', ' * bool(counts)}{counts}")
    return 0 if right >= LEAST * len(paths) and set(wrong) <= {"cause"} else 1


if __name__ == "__main__":
    os.environ["TZ"] = "UTC"
    sys.exit(main(*sys.argv[1:]))
