"""Asked at each step boundary and at each batch of an evaluation: shall the run stop here?

All ranks get the same answer at the same place.

Notices come from STOP_FILE (which hpc/ makes before the time limit and at preemption), SIGTERM, and the
clouds. Nothing is saved in a signal handler; the program saves where it asked, and exits with `NOT_FINISHED`.

How the ranks agree. While nothing happens a step costs a counter and a comparison: a thread of each rank
looks for notices, and for those of the others in the process group's key-value store. Once there is one,
each rank's thread promises through the store that its rank does not pass its next boundary, the highest of
these becomes the step at which all stop, and ranks that come to their promise earlier wait there for that
answer. So there is no collective on any step, no message but a poll of the store, and a wait (of a poll or
two) only at the end. An all-reduce started at one step and read at the next took 117 microseconds of a step
in the median and 658 on average, this takes 4 and 5: tests/benchmarks/README.md.
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
"""Exit status (EX_TEMPFAIL of sysexits.h): not finished, run me again."""

POLL_SECONDS = 0.5
AGREEMENT_SECONDS = 60.0
LEAVING_SECONDS = 10.0

_serial = itertools.count()


def in_order(error: BaseException | None) -> bool:
    """Whether a block is left as it should be: at its end, by return, or by sys.exit(0) or sys.exit(75)."""
    return error is None or (isinstance(error, SystemExit) and error.code in (None, 0, NOT_FINISHED))


class InterruptionError(RuntimeError):
    """The ranks could not agree on where to stop: one is gone, or the store is."""


class Interruption:
    """Made by all ranks inside the process group, asked by all at each step boundary, closed by all.

        with Interruption(environment) as interruption:
            for batch in loader:
                ...
                if interruption.agreed():
                    ...  # save
                    return NOT_FINISHED

    SIGTERM is held back until the end of the block, and further while the process leaves after a notice, so
    that a launcher which ends the last ranks does not turn their status into a failure.
    """

    def __init__(self, environment: JobEnvironment, asked: Iterable[notices.Source] | None = None) -> None:
        """Start to watch.

        Args:
            environment: names the stop file, the heartbeat file and the clouds whose notices are polled.
            asked: sources of notices other than those of the environment, for tests.
        """
        self.reason: str | None = None
        """Why to stop: what the first rank that noticed something saw. None until the ranks have agreed."""
        self.heartbeat = Heartbeat(environment)
        """Beats with `agreed` and `alive`. Its `patience` is for what can call neither, as a compilation."""
        self._environment = environment
        self._notice: str | None = None
        self._step = 0
        self._beat = 0
        self._bound = sys.maxsize  # The boundary that this rank does not pass before the answer is there.
        self._stop_at = sys.maxsize
        self._counted = False
        self._answered, self._ended, self._wake = threading.Event(), threading.Event(), threading.Event()
        self._lock = threading.Lock()  # Between this rank's step and its promise.
        self._store: Any = None
        if environment.several:
            self._store = dist.PrefixStore(f"interruption {next(_serial)}", default_store())  # type: ignore[attr-defined]
        self._previous: Any = None
        self._handles_signal = threading.current_thread() is threading.main_thread()
        if self._handles_signal:
            self._previous = signal.signal(signal.SIGTERM, self._on_signal)
        self.heartbeat.beat()
        self._threads = [threading.Thread(target=self._watch, name="interruption", daemon=True)]
        if environment.local_rank == 0:  # A node's notice is asked for once.
            if asked is None:
                clouds = environment.spot_notices
                asked = notices.sources(notices.detect() if clouds is None else clouds)
            asked = list(asked)
            if asked:
                arguments = (asked, self._on_notice, self._ended)
                self._threads.append(threading.Thread(target=notices.poll, args=arguments, daemon=True))
        for thread in self._threads:
            thread.start()

    def agreed(self) -> bool:
        """Whether to stop here: the same on all ranks, which must all ask as often.

        At a step boundary, and wherever else all ranks come by and can save, as between the batches of an evaluation.

        Raises:
            InterruptionError: there was a notice, and within a minute no agreement.
        """
        with self._lock:
            self._step += 1
            bound = self._bound
        if self._store is None:
            self.reason = self._notice
            return self.reason is not None
        if self._notice and bound == sys.maxsize:
            self._wake.set()  # Here, as a signal handler must not.
        if self._step < bound:
            return False
        if not self._answered.wait(AGREEMENT_SECONDS) or self.reason is None:
            raise InterruptionError(f"told to stop ({self._notice}), and no answer from all ranks: is one gone?")
        return self._step >= self._stop_at

    def alive(self) -> None:
        """Say that there is progress where nobody can stop: for the heartbeat alone."""
        self._beat += 1

    def close(self) -> None:
        """End the threads, give SIGTERM back unless the run stops, and let the peers do so first on rank 0.

        A rank that has no more steps no longer holds up where the others stop. Rank 0 counts their promises,
        and may hold the store, which their threads read until they are here: it waits for them, for 10 s at
        most.
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
        """The thread: heartbeat and stop file, and with several ranks the notices of the others."""
        # Many ranks poll one store: a thousand of them make 2,000 requests a second of it.
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
                if self._store is not None and not self._answered.is_set() and self._told_to_stop():
                    self._agree()
                self._wake.wait(seconds)
                self._wake.clear()
        except RuntimeError as error:  # torch.distributed's errors are of this kind.
            if not self._ended.is_set():
                print(f"train.interruption: cannot ask the other ranks any more: {error}", file=sys.stderr, flush=True)
        finally:
            self._answered.set()

    def _told_to_stop(self) -> bool:
        """By this rank's own notice, which the others learn, or by one of theirs."""
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
        """Once, be it by the thread at a notice, or at the end of the steps."""
        with self._lock:
            if self._bound != sys.maxsize:
                return
            self._bound = self._step + 1
        self._store.set(f"promise {self._environment.rank}", str(self._bound))
        self._store.add("promises", 1)

    def _count(self, key: str) -> int:
        return int(self._store.add(key, 0))

    def _poll_until(self, condition: Callable[[], bool], seconds: float) -> None:
        """On rank 0 give the answer meanwhile, once all ranks have promised.

        Never a blocking read: that would hold the store's connection against the rest of the process.

        Raises:
            InterruptionError: it did not become so in time.
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
            # NFS remembers for up to a minute that a file was not there. Opening its folder makes it ask.
            os.close(os.open(path.parent, os.O_RDONLY))
        return path.exists()
