"""random_jobs.py --jobs N --seed S --at-once N --shims FOLDER WORK   The jobs of random.sh, and the table.

WORK/project is the project and WORK/environment its environment. The environment variables name the pocket cluster. The
fault of a job depends only on the seed and its number; what else runs at that moment differs from run to run.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from random_oracle import DONE, FAILED, KILLED, SAVED, Attempt, Experiment

FINAL = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "TIMEOUT",
    "PREEMPTED",
)
PATIENCE = 240  # seconds for a job, while the controller answers
PROGRAM = ("programs.short",)
GENERAL, URGENT, DYING = "node[1-3]", ("node4", "node5"), ("node6",)


def say(text: str) -> None:
    print(f"{time.strftime('%T')} {text}", file=sys.stderr, flush=True)


class Controller:
    """Stops and restarts slurmctld, one fault at a time. `away` is the total time without it."""

    def __init__(self) -> None:
        self.pocket = Path(os.environ["POCKET_CLUSTER_DIR"])
        self.lock, self.asking = threading.RLock(), threading.Lock()
        self.away, self.came_back, self.asked, self.listed = 0.0, 0.0, 0.0, {}
        self.killed: list[float] = []

    def process_of(self, name: str) -> int:
        return int((self.pocket / "pids" / name).read_text().split()[0])

    def up(self) -> None:
        """Start what is missing; try again if the machine is too busy for the first try."""
        for _ in range(3):
            done = subprocess.run(
                ["bash", "hpc/pocket_cluster.sh", "up"], capture_output=True, text=True, timeout=300, check=False
            )
            if done.returncode == 0:
                return
            say(f"pocket_cluster.sh up: {done.stderr}")
        sys.exit("the pocket cluster does not come back")

    def end(self, name: str, how: signal.Signals) -> None:
        process = self.process_of(name)
        os.kill(process, how)
        while Path(f"/proc/{process}/cmdline").exists() and Path(f"/proc/{process}/cmdline").read_bytes():
            time.sleep(0.1)

    def tend(self) -> None:
        """Bring nodes back, as an administrator does. Slurm drains a node if a job takes too long to end there."""
        while True:
            time.sleep(5)
            for line in (self.call("sinfo", "--noheader", "--Node", "--format=%N %T %E") or "").splitlines():
                node, state, reason = line.split(" ", 2)
                if "drain" in state and reason.startswith("Kill task failed"):
                    say(f"{node} was drained by Slurm ({reason}): resumed")
                    self.call("scontrol", "update", f"nodename={node}", "state=resume")

    def rest(self) -> None:
        """Let the controller work for a while between two faults; otherwise it would be away for minutes."""
        time.sleep(max(0.0, self.came_back + 15 - time.time()))

    def stop(self, seconds: float) -> None:
        with self.lock:
            self.rest()
            process = self.process_of("slurmctld")
            os.kill(process, signal.SIGSTOP)
            try:
                time.sleep(seconds)
            finally:
                self.away += seconds
                os.kill(process, signal.SIGCONT)
                self.came_back = time.time()

    def restart(self, how: signal.Signals) -> None:
        """Restart it. SIGKILL loses unsaved state, which is no fault of the kit, so it is sent right after a save."""
        with self.lock:
            self.rest()
            begun = time.time()
            if how == signal.SIGKILL:
                state = self.pocket / "state" / "job_state"
                while time.time() - state.stat().st_mtime > 0.5 and time.time() < begun + 15:
                    time.sleep(0.05)
                self.killed.append(time.time())
            self.end("slurmctld", how)
            time.sleep(1)
            self.up()
            self.came_back = time.time()
            self.away += self.came_back - begun

    def end_node(self, node: str) -> None:
        with self.lock:
            self.end(node, signal.SIGKILL)
            self.up()

    def call(self, *words: str, seconds: float = 60) -> str | None:
        """Return the output, or None if the controller does not answer or refuses."""
        done = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)
        return done.stdout if done and done.returncode == 0 else None

    def jobs(self) -> dict[str, dict[str, str]] | None:
        """Return job -> its fields, at most a second old."""
        with self.asking:
            if time.time() - self.asked > 1:
                text = self.call("scontrol", "--oneliner", "show", "job")
                if text is None:
                    return None
                rows = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in text.splitlines() if "JobId=" in line]
                self.listed = {row["JobId"]: row for row in rows if "WorkDir" in row}
                self.asked = time.time()
            return self.listed


@dataclass
class Kind:
    """What can happen to a job.

    allow: how the program's attempts may end -> causes that are right then. DONE is always `finished`, and FAILED names
    the status, the rank and the node. goes_on: the job must complete without help; otherwise it ends and is submitted
    again.
    """

    weight: int
    strike: Callable[[Trial], None]
    allow: dict[str, str] = field(default_factory=dict)
    goes_on: bool = True
    words: str = ""  # arguments of the program
    options: tuple[str, ...] = ()
    shim: str = ""
    nodes: tuple[str, ...] = ()  # nodes that only one such job may use at a time
    steps: int = 12


class Trial:
    """One job of the run, with its fault."""

    def __init__(self, options: argparse.Namespace, controller: Controller, number: int) -> None:
        self.draw = random.Random(f"{options.seed} {number}")
        self.kind_name = self.draw.choices(list(KINDS), [kind.weight for kind in KINDS.values()])[0]
        self.kind = KINDS[self.kind_name]
        self.name, self.controller, self.options = f"j{number}_{self.kind_name}", controller, options
        # (where two ranks must be on one node, there is one node)
        self.ranks = 1 if self.kind.nodes else self.draw.choice((1, 1, 2))
        self.scratch = Path(os.environ["SCRATCH"], "project")
        self.experiment = Experiment(self.scratch, self.name, self.ranks)
        self.moment = self.draw.uniform(0, 5)
        self.controller_fault = self.draw.choices(("", "stop", "restart", "kill"), (80, 12, 4, 4))[0]
        self.controller_seconds = self.draw.uniform(5, 45)
        self.controller_delay = self.draw.uniform(-1, 1.5)
        self.collects = self.draw.random() < 0.3
        self.struck: list[str] = []
        self.resent = False
        self.lost: list[str] = []
        self.wrong: list[str] = []
        self.doubled: list[str] = []

    def command(self) -> list[str]:
        words = self.kind.words.replace("RANK", str(self.draw.randrange(self.ranks)))
        words = words.replace("STATUS", str(self.draw.choice((1, 2, 3, 7, 42, 124, 130, 137))))
        path = Path(self.options.work, f"{self.name}.txt")
        path.write_text(f"python -m {PROGRAM[0]} {self.kind.steps} 0.3 {words}\n")
        nodes = ["--nodelist", self.node] if self.kind.nodes else ["--exclude", "node[4-6]"]
        return [
            *(
                "bash",
                f"{self.options.work}/project/hpc/job_submitter.sh",
                "--exp-name",
                self.name,
                "--configs",
                str(path),
            ),
            *(
                "--environment",
                f"{self.options.work}/environment",
                "-W",
                "srun",
                "--gpus",
                "0",
                "--cpus",
                "1",
                "--mem",
                "300M",
            ),
            *("--time", "10", "--grace-seconds", "20", "--num-nodes", str(self.ranks), *nodes),
            *(("--collect", "nothing*") if self.collects else ()),
            *self.kind.options,
        ]

    def environment(self) -> dict[str, str]:
        shims = {
            "RANDOM_SBATCH": self.kind.shim,
            "RANDOM_ONCE": f"{self.options.work}/once_{self.name}",
            "RANDOM_REAL": "/usr/bin",
        }
        if not self.kind.shim:
            return dict(os.environ)
        if self.kind_name.startswith("forbidden"):
            shims["RANDOM_REQUEUE"] = "forbidden"
        return {**os.environ, **shims, "PATH": f"{self.options.shims}:{os.environ['PATH']}"}

    # Submission.

    def start(self, *more: str) -> subprocess.Popen[str]:
        place = Path(self.options.work, f"{self.name}.err")
        with place.open("a") as errors:
            return subprocess.Popen(
                [*self.command(), *more],
                env=self.environment(),
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )

    def send(self, *more: str) -> None:
        """Submit like a user: after a refusal, submit again when Slurm answers, unless a job has the experiment."""
        # A controller that was just restarted knows no nodes: `sbatch --test-only` refuses everything, for up to a
        # minute here.
        begun, away, turn = time.time(), self.controller.away, -1
        while time.time() - begun - (self.controller.away - away) < PATIENCE:
            turn += 1
            status = self.start(*more, *(["--resume"] if turn and "--resume" not in more else [])).wait(400)
            if status == 0:
                return
            if "belongs to job" in self.last_error():
                if turn:
                    return  # from an earlier try
                time.sleep(2)
            if status == 2:
                break
            self.wait_for_controller()
            time.sleep(1)
        self.lost.append(f"cannot be sent: {self.last_error()}")

    def last_error(self) -> str:
        return (Path(self.options.work, f"{self.name}.err").read_text().splitlines() or [""])[-1]

    def wait_for_controller(self) -> None:
        while self.controller.call("squeue", "--noheader", seconds=10) is None:
            time.sleep(1)

    # Observation.

    def jobs(self) -> dict[str, dict[str, str]] | None:
        listed = self.controller.jobs()
        if listed is None:
            return None
        runs = f"{self.scratch}/hpc_outputs/{self.name}_"
        return {job: row for job, row in listed.items() if row["WorkDir"].startswith(runs)}

    def live(self) -> list[str] | None:
        jobs = self.jobs()
        return None if jobs is None else [job for job, row in jobs.items() if row["JobState"] not in FINAL]

    def wait_for(self, what: Callable[[], object], seconds: float = 100) -> object:
        """Return what it returns once that is true, or None after the time."""
        begun, away = time.time(), self.controller.away
        while time.time() - begun - (self.controller.away - away) < seconds:
            if found := what():
                return found
            time.sleep(0.1)
        return None

    def attempt(self) -> Path | None:
        found = sorted(
            self.scratch.glob(f"hpc_outputs/{self.name}_*/task_1/attempt_*"), key=lambda path: path.stat().st_mtime
        )
        return found[-1] if found else None

    def job(self) -> str:
        """Return the job that has the experiment now."""
        return self.experiment.events[-1].job if self.experiment.events else (self.live() or ["0"])[-1]

    def begins(self) -> bool:
        """Return whether all ranks have made a step; False if the job has gone."""

        def ready() -> bool:
            return {event.rank for event in self.experiment.events if event.name == "step"} == set(range(self.ranks))

        return bool(self.wait_for(ready))

    def wait_for_end(self) -> bool:
        ended = 0

        def has_ended() -> bool:
            nonlocal ended
            live = self.live()
            ended = ended + 1 if live == [] else 0
            time.sleep(1)
            return ended > 2

        return bool(self.wait_for(has_ended, PATIENCE))

    def processes(self, job: str) -> Iterator[tuple[int, list[str]]]:
        # Another cluster on this machine may have jobs of the same numbers.
        wanted = {f"SLURM_JOB_ID={job}".encode(), b"SLURM_CONF=" + os.environ["SLURM_CONF"].encode()}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if wanted <= set((path / "environ").read_bytes().split(b"\0")):
                    yield int(path.name), (path / "cmdline").read_bytes().decode().split("\0")[:-1]

    def kill(self, sort: str, number: signal.Signals) -> bool:
        """Send the signal to the batch script ("batch") or to one of the ranks ("rank")."""
        found = []
        for process, words in self.processes(self.job()):
            parent = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1]
            if sort == "batch" and any(word.endswith("/slurm_script") for word in words[:3]):
                if b"slurmstepd" in Path(f"/proc/{parent}/cmdline").read_bytes():
                    found.append(process)
            elif sort == "rank" and words[1:3] == ["-m", PROGRAM[0]]:
                found.append(process)
        if not found:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.draw.choice(sorted(found)), number)
            self.struck.append(f"kill {number.name} {sort}")
            return True
        return False

    # The whole life of a job.

    def run(self) -> None:
        with contextlib.ExitStack() as stack:
            if self.kind.nodes:
                self.node = self.draw.choice(self.kind.nodes)
                stack.enter_context(NODES[self.node])
            if self.kind_name.startswith("submitter"):
                self.kind.strike(self)
            else:
                self.send()
            if self.controller_fault and self.kind_name != "node_down":
                stack.enter_context(self.disturbed())
            if not self.kind_name.startswith("submitter"):
                self.kind.strike(self)
            if not self.wait_for_end():
                self.lost.append(f"job {self.live()} has not ended after {PATIENCE} s")
                return
            self.judge_first()
            if not self.is_over and not self.lost:
                self.resent = True
                self.send("--resume")
                if not self.wait_for_end() or not self.is_over:
                    self.lost.append("sent again, it has not completed")
            self.judge()

    @contextlib.contextmanager
    def disturbed(self) -> Iterator[None]:
        """Cause the controller's fault at the same time as the job's."""

        def fault() -> None:
            if self.kind_name not in ("plain", "sbatch"):
                self.begins()
            time.sleep(max(0.0, self.moment + self.controller_delay))
            if self.controller_fault == "stop":
                self.controller.stop(self.controller_seconds)
            else:
                self.controller.restart(signal.SIGTERM if self.controller_fault == "restart" else signal.SIGKILL)

        thread = threading.Thread(target=fault)
        thread.start()
        try:
            yield
        finally:
            thread.join()

    @property
    def is_over(self) -> bool:
        """Whether program and kit are done. A batch script that was killed as the program ended could not record its
        end.
        """
        runs = self.experiment.runs
        return bool(runs) and self.experiment.is_complete and self.experiment.state(runs[-1]) == "completed"

    def judge_first(self) -> None:
        """Judge what has happened before the job was submitted again."""
        if self.experiment.is_complete:
            return
        attempts = self.experiment.attempts(self.experiment.runs[-1]) if self.experiment.runs else []
        if self.kind.goes_on and not ("--time" in self.kind.options and not self.experiment.events):
            self.lost.append("it has not gone on: " + ", ".join(attempt.cause for attempt in attempts))

    def judge(self) -> None:
        jobs = self.jobs() or self.jobs() or {}
        self.doubled += self.experiment.doubled(jobs)
        self.wrong += self.experiment.lost_steps() if SAVED in self.kind.allow or not self.kind.allow else []
        last = self.experiment.runs[-1]
        for run in self.experiment.runs:
            attempts = self.experiment.attempts(run)
            for attempt in attempts:
                self.judge_cause(attempt)
            # The job of a submitter that was killed may have completed before the next submitter asked for it.
            right = ("completed",) if self.kind_name == "submitter" else ("failed", "running")
            if attempts and run != last and self.experiment.state(run) not in right:
                self.wrong.append(f"{run.name}: state {self.experiment.state(run)}")
        if self.experiment.state(last) != "completed":
            self.wrong.append(f"{last.name}: state {self.experiment.state(last)}")
        left = lambda: [words[:3] for job in jobs for _, words in self.processes(job)]  # noqa: E731
        if not self.wait_for(lambda: not left(), 20):
            self.wrong.append(f"processes are left: {left()}")

    def judge_cause(self, attempt: Attempt) -> None:
        outcome = attempt.outcome(self.ranks)
        if not attempt.events and "--time" in self.kind.options and self.controller.away > 0:
            return  # the controller was away for the whole two minutes
        right = {DONE: "finished", FAILED: attempt.failure if outcome == FAILED else ""}.get(
            outcome, self.kind.allow.get(outcome)
        )
        if outcome in (DONE, FAILED) and outcome in self.kind.allow:
            right = f"{right}|{self.kind.allow[outcome]}"
        if right is None or not re.fullmatch(right, attempt.cause):
            self.wrong.append(
                f"{attempt.folder.parent.parent.name}/{attempt.folder.name}: {attempt.cause!r} of {outcome}, "
                f"right is {right!r}"
            )

    @property
    def verdict(self) -> str:
        return "; ".join(
            [
                *(f"LOST {text}" for text in self.lost),
                *(f"DOUBLED {text}" for text in self.doubled),
                *(f"WRONG {text}" for text in self.wrong),
            ]
        )


# The faults.


def nothing(_: Trial) -> None:
    pass


def at_its_moment(act: Callable[[Trial], None]) -> Callable[[Trial], None]:
    """Act in the first seconds of the program's work."""

    def strike(trial: Trial) -> None:
        if trial.begins():
            time.sleep(trial.moment * 0.6)
            act(trial)

    return strike


def stop_file(trial: Trial) -> None:
    attempt = trial.attempt()
    if attempt:
        (attempt / "stop").touch()


def signal_ranks(trial: Trial) -> None:
    trial.controller.call("scancel", "--signal=TERM", trial.job())


def cancel(trial: Trial) -> None:
    trial.controller.call("scancel", trial.job())


def cancel_early(trial: Trial) -> None:
    """Cancel the job while it waits or starts."""
    time.sleep(trial.moment / 2)
    for job in trial.live() or []:
        trial.controller.call("scancel", job)


def preempt(trial: Trial) -> None:
    trial.controller.call(
        *(
            "sbatch",
            "--partition=urgent",
            f"--nodelist={trial.node}",
            "--exclusive",
            "--output=/dev/null",
            "--chdir=/",
            "--wrap",
            "sleep 1",
        )
    )


def end_node(trial: Trial) -> None:
    trial.controller.end_node(trial.node)


def suspend(trial: Trial) -> None:
    job = trial.job()
    trial.controller.call("scontrol", "suspend", job)
    time.sleep(trial.draw.uniform(2, 15))
    if trial.draw.random() < 0.3:
        stop_file(trial)
    for _ in range(60):
        if trial.controller.call("scontrol", "resume", job) is not None or job not in (trial.live() or []):
            return
        time.sleep(1)


def kill(sort: str, *signals: signal.Signals) -> Callable[[Trial], None]:
    return at_its_moment(lambda trial: trial.kill(sort, trial.draw.choice(signals)) and None)


def kill_batch_anywhen(trial: Trial) -> None:
    """Kill the batch script at any moment from its start on."""
    if trial.wait_for(trial.attempt):
        time.sleep(trial.moment)
        trial.kill("batch", signal.SIGKILL)


def kill_submitter(trial: Trial) -> None:
    """Send a signal to the submitter alone or to its whole process group, then submit the same again at once."""
    submitter = trial.start()
    time.sleep(trial.draw.uniform(0, 2.5))
    number = trial.draw.choice((signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM))
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if trial.draw.random() < 0.6 else os.kill)(submitter.pid, number)
    trial.struck.append(number.name)
    submitter.wait(300)
    trial.send("--resume")


def deaf(cause: str) -> dict[str, str]:
    """Causes for a program that ignores a request to stop and may finish at that moment: Slurm's record counts."""
    return {KILLED: cause, DONE: cause}


NOTICE = {SAVED: "notice request"}
KINDS = {
    "plain": Kind(8, nothing),
    "stop": Kind(20, at_its_moment(stop_file), NOTICE),
    "signal": Kind(8, at_its_moment(signal_ranks), {SAVED: "notice signal"}),
    "fail": Kind(14, nothing, {KILLED: r"failed \d+ \d node\d"}, goes_on=False, words="fail=6,STATUS,RANK"),
    # When a signal ends one rank, srun sends it to the others, too; they may save.
    "kill_rank": Kind(
        14,
        kill("rank", signal.SIGKILL, signal.SIGHUP, signal.SIGINT),
        {KILLED: r"failed (137|129|130) \d node\d"},
        goes_on=False,
    ),
    # Nobody can record a cause. A cause that was recorded before the question to Slurm may stay.
    "kill_batch": Kind(
        14, kill_batch_anywhen, {SAVED: "none|notice signal", KILLED: "none|failed .*", DONE: "none"}, goes_on=False
    ),
    # It creates the stop file, which nobody else does here.
    "term_batch": Kind(12, kill("batch", signal.SIGTERM, signal.SIGINT, signal.SIGHUP), NOTICE),
    "cancel": Kind(10, at_its_moment(cancel), {SAVED: "cancelled", KILLED: "cancelled"}, goes_on=False),
    "cancel_deaf": Kind(6, at_its_moment(cancel), deaf("cancelled"), goes_on=False, words="deaf", steps=60),
    "cancel_early": Kind(6, cancel_early, {SAVED: "cancelled", KILLED: "cancelled"}, goes_on=False),
    "preempt": Kind(10, at_its_moment(preempt), {SAVED: "preempted", KILLED: "preempted"}, nodes=URGENT, steps=20),
    "preempt_deaf": Kind(6, at_its_moment(preempt), deaf("preempted"), nodes=URGENT, words="deaf", steps=60),
    "node_down": Kind(8, at_its_moment(end_node), {KILLED: "node_failed"}, nodes=DYING, steps=20),
    "suspend": Kind(12, at_its_moment(suspend), NOTICE),
    "time_limit": Kind(3, nothing, deaf("time_limit"), goes_on=False, words="deaf slow=14", options=("--time", "2")),
    "warned": Kind(3, nothing, {SAVED: "notice time_limit"}, words="slow=10", options=("--time", "2")),
    "hung": Kind(3, nothing, {KILLED: "hung"}, words="hang=5", options=("--hang-minutes", "1")),
    "submitter": Kind(20, kill_submitter),
    **{
        f"sbatch_{shim.removeprefix('once_')}": Kind(4, nothing, shim=shim)
        for shim in ("banner", "errors", "once_hidden", "once_timed_out", "once_not_sent", "once_late", "once_refused")
    },
    # The continuing job meets the shim. RANDOM_ONCE is created by hand for the first job.
    "forbidden": Kind(6, at_its_moment(stop_file), NOTICE, shim="plain"),
    **{f"forbidden_{shim}": Kind(4, at_its_moment(stop_file), NOTICE, shim=shim) for shim in ("banner", "errors")},
}
NODES = {node: threading.Lock() for node in (*URGENT, *DYING)}


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("jobs", "seed", "at-once"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--shims", required=True)
    parser.add_argument("work")
    options = parser.parse_args()
    os.chdir(Path(options.work, "project"))
    controller, begun = Controller(), time.time()
    trials = [Trial(options, controller, number) for number in range(options.jobs)]
    waiting = collections.deque(trials)
    threading.Thread(target=controller.tend, daemon=True).start()

    def work() -> None:
        while True:
            try:
                trial = waiting.popleft()
            except IndexError:
                return
            try:
                trial.run()
            except Exception as error:  # noqa: BLE001 (an error of this script; the other jobs continue)
                trial.lost.append(f"{type(error).__name__}: {error}")
            say(f"{trial.name} {trial.controller_fault} {' '.join(trial.struck)}: {trial.verdict or 'right'}")

    threads = [threading.Thread(target=work) for _ in range(options.at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{'FAULT':18} JOBS  LOST  DOUBLED  WRONG  SENT AGAIN  CONTROLLER STOPPED, RESTARTED")
    for name in KINDS:
        mine = [trial for trial in trials if trial.kind_name == name]
        if mine:
            faults = collections.Counter(trial.controller_fault for trial in mine)
            counts = [
                sum(bool(getattr(trial, what)) for trial in mine) for what in ("lost", "doubled", "wrong", "resent")
            ]
            print(
                "{:18} {:4}  {:4}  {:7}  {:5}  {:10}  {}, {}".format(
                    name, len(mine), *counts, faults["stop"], faults["restart"] + faults["kill"]
                )
            )
    failed = [trial for trial in trials if trial.verdict]
    for trial in failed:
        print(f"{trial.name}: {trial.verdict}")
    print(f"seed {options.seed}, {time.time() - begun:.0f} s, of which the controller was away {controller.away:.0f} s")
    print(f"{len(trials) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
