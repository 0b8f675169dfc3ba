"""Decides at each step, and at each batch of an evaluation, whether the run must stop there.

All ranks get the same answer at the same step.

Notices come from STOP_FILE (which hpc/ creates before the time limit and at a preemption), SIGTERM, and the
clouds. Nothing is saved in a signal handler. The program saves where it asks, and exits with `NOT_FINISHED`.

The ranks agree as follows. Without a notice, a step costs a counter and a comparison. A thread of each rank looks
for notices, its own and those of other ranks in the key-value store of the process group. After a notice, the
thread of each rank promises through the store that its rank will not pass its next boundary. The highest promise
becomes the step at which all stop. Ranks that reach their promise earlier wait there for this answer. No step
needs a collective, the only messages are polls of the store, and the only wait (one or two polls) is at the end.
An all-reduce that is started at one step and read at the next took 117 microseconds per step in the median and 658
on average; this takes 4 and 5 (tests/benchmarks/README.md).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import Any, Callable

import torch.distributed as dist

from . import notices
from .environment import JobEnvironment
from .heartbeat import Heartbeat
from .torch_private import default_store

NOT_FINISHED = 75
"""Exit status (EX_TEMPFAIL of sysexits.h): not finished, run again."""

POLL_SECONDS = 0.5
AGREEMENT_SECONDS = 60.0
LEAVING_SECONDS = 10.0

_serial = itertools.count()


def in_order(error: BaseException | None) -> bool:
    """Whether a block ended normally: at its end, by return, or by sys.exit(0) or sys.exit(75)."""
    return error is None or (isinstance(error, SystemExit) and error.code in (None, 0, NOT_FINISHED))


class InterruptionError(RuntimeError):
    """The ranks could not agree where to stop, because a rank or the store has disappeared."""


class Interruption:
    """Watches for notices. All ranks create it inside the process group, call `agreed` at each step, and close it.

        with Interruption(environment) as interruption:
            for batch in loader:
                ...
                if interruption.agreed():
                    ...  # save
                    return NOT_FINISHED

    SIGTERM is caught until the end of the block. After a notice it stays caught until the process has ended, because
    a launcher that terminates the last ranks would otherwise turn their status into a failure.
    """

    def __init__(self, environment: JobEnvironment, sources: Iterable[notices.Source] | None = None) -> None:
        """Start watching.

        Args:
            environment: names the stop file, the heartbeat file and the clouds whose notices are polled.
            sources: of notices, instead of those of the environment's clouds; for tests.
        """
        self.reason: str | None = None
        """Why to stop: the notice that the first rank saw. None until the ranks have agreed."""
        self.heartbeat = Heartbeat(environment)
        """Beats with `agreed` and `alive`. Its `patience` is for code that can call neither, such as a compilation."""
        self._environment = environment
        self._notice: str | None = None
        self._step = 0
        self._beat = 0
        self._bound = sys.maxsize  # This rank does not pass this boundary before it has the answer.
        self._stop_at = sys.maxsize
        self._counted = False
        self._answered, self._ended, self._wake = threading.Event(), threading.Event(), threading.Event()
        self._lock = threading.Lock()  # Guards _step and _bound: a rank must not pass the boundary that it promises.
        self._store: Any = None
        if environment.several:
            self._store = dist.PrefixStore(f"interruption {next(_serial)}", default_store())  # type: ignore[attr-defined]
        self._previous: Any = None
        self._handles_signal = threading.current_thread() is threading.main_thread()
        if self._handles_signal:
            self._previous = signal.signal(signal.SIGTERM, self._on_signal)
        self.heartbeat.beat()
        self._threads = [threading.Thread(target=self._watch, name="interruption", daemon=True)]
        if environment.local_rank == 0:  # One rank per node polls for the node's notices.
            if sources is None:
                clouds = environment.spot_notices
                sources = notices.sources(notices.detect() if clouds is None else clouds)
            sources = list(sources)
            if sources:
                arguments = (sources, self._on_notice, self._ended)
                self._threads.append(threading.Thread(target=notices.poll, args=arguments, daemon=True))
        for thread in self._threads:
            thread.start()

    def agreed(self) -> bool:
        """Whether to stop here. All ranks get the same answer, and must call this equally often.

        Call it at each step, and wherever else all ranks can save, such as between the batches of an evaluation.

        Raises:
            InterruptionError: there was a notice, but the ranks did not agree within a minute.
        """
        with self._lock:
            self._step += 1
            bound = self._bound
        if self._store is None:
            self.reason = self._notice
            return self.reason is not None
        if self._notice and bound == sys.maxsize:
            self._wake.set()  # Here, because a signal handler must not do it.
        if self._step < bound:
            return False
        if not self._answered.wait(AGREEMENT_SECONDS) or self.reason is None:
            raise InterruptionError(f"asked to stop ({self._notice}), and no answer from all ranks: is one gone?")
        return self._step >= self._stop_at

    def alive(self) -> None:
        """Report progress where the run cannot stop. Only the heartbeat uses it."""
        self._beat += 1

    def close(self) -> None:
        """End the threads, and restore the handler of SIGTERM unless the run stops.

        A rank without further steps does not delay the agreement of the others. Rank 0 counts their promises and may
        host the store, which their threads read until they close too. It waits for them, at most 10 s.
        """
        self._leave()
        if self._store is not None and self._environment.rank == 0:
            with contextlib.suppress(RuntimeError):
                self._poll_until(lambda: self._count("closed") == self._environment.world_size, LEAVING_SECONDS)

    def __enter__(self) -> Interruption:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if in_order(error):
            self.close()
        else:
            self._leave()

    def _leave(self) -> None:
        self._ended.set()
        self._wake.set()
        for thread in self._threads:
            thread.join(2 * notices.TIMEOUT_SECONDS)
        if self._store is not None:
            with contextlib.suppress(RuntimeError):
                self._promise()
                self._store.add("closed", 1)
        if self._handles_signal and self.reason is None:
            signal.signal(signal.SIGTERM, self._previous)
            self._handles_signal = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._notice = self._notice or signal.Signals(number).name

    def _on_notice(self, notice: str) -> None:
        self._notice = self._notice or notice
        self._wake.set()

    def _watch(self) -> None:
        """The thread: watches heartbeat and stop file, and with several ranks the notices of the others."""
        # Many ranks poll one store. The interval limits this to 2,000 requests per second.
        seconds = max(POLL_SECONDS, self._environment.world_size / 2000)
        seen = (0, 0)
        try:
            while not self._ended.is_set():
                now = (self._step, self._beat)
                if now != seen:
                    seen = now
                    self.heartbeat.beat()
                if self._notice is None and self._stop_file_is_there():
                    self._notice = f"the stop file {self._environment.stop_file}"
                if self._store is not None and not self._answered.is_set() and self._has_notice():
                    self._agree()
                self._wake.wait(seconds)
                self._wake.clear()
        except RuntimeError as error:  # torch.distributed's errors are of this kind.
            if not self._ended.is_set():
                print(f"train.interruption: cannot ask the other ranks any more: {error}", file=sys.stderr, flush=True)
        finally:
            self._answered.set()

    def _has_notice(self) -> bool:
        """Whether this rank has a notice, which it then passes on, or another rank has one."""
        if self._notice is not None:
            self._store.compare_set("notice", "", self._notice)
            return True
        return bool(self._store.check(["notice"]))

    def _agree(self) -> None:
        self._promise()
        self._poll_until(lambda: bool(self._store.check(["stop at"])), AGREEMENT_SECONDS)
        self._stop_at = int(self._store.get("stop at"))
        self._notice = self.reason = self._store.get("notice").decode()
        self._answered.set()

    def _promise(self) -> None:
        """Promise once: in the thread after a notice, or at the end of the steps."""
        with self._lock:
            if self._bound != sys.maxsize:
                return
            self._bound = self._step + 1
        self._store.set(f"promise {self._environment.rank}", str(self._bound))
        self._store.add("promises", 1)

    def _count(self, key: str) -> int:
        return int(self._store.add(key, 0))

    def _poll_until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Poll until `condition` is true. Meanwhile rank 0 publishes the answer once all ranks have promised.

        A blocking read would keep the connection to the store from the rest of the process.

        Raises:
            InterruptionError: it was not true in time.
        """
        limit, ranks = time.monotonic() + seconds, self._environment.world_size
        while not condition():
            if time.monotonic() > limit:
                raise InterruptionError("no answer from all ranks")
            if self._environment.rank == 0 and not self._counted and self._count("promises") == ranks:
                self._counted = True
                promises = self._store.multi_get([f"promise {rank}" for rank in range(ranks)])
                self._store.set("stop at", str(max(map(int, promises))))
            time.sleep(0.02)

    def _stop_file_is_there(self) -> bool:
        path = self._environment.stop_file
        if path is None or self._environment.local_rank != 0:
            return False
        with contextlib.suppress(OSError):
            # NFS caches for up to a minute that a file does not exist. Opening its folder makes it ask the server.
            os.close(os.open(path.parent, os.O_RDONLY))
        return path.exists()
