from __future__ import annotations

import contextlib
import http.server
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from ranks import Ranks
from runner import Runner, patience, until

from train import heartbeat, notices
from train import interruption as module
from train.distributed import sum_over_ranks
from train.environment import JobEnvironment
from train.interruption import Interruption


@pytest.fixture(autouse=True)
def _signal() -> Iterator[None]:
    """Restore the handler. A process that is asked to stop keeps its handler until it ends, but this one continues."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def environment_of(**values: object) -> JobEnvironment:
    return JobEnvironment.from_environment({"SPOT_NOTICES": "none", **{k: str(v) for k, v in values.items()}})


def test_one_process_and_a_stop_file(tmp_path: Path) -> None:
    stop_file = tmp_path / "run's folder" / "stop"
    stop_file.parent.mkdir()
    with Interruption(environment_of(STOP_FILE=stop_file)) as interruption:
        assert not interruption.agreed()
        stop_file.touch()
        until(interruption.agreed)
        assert interruption.reason == f"the stop file {stop_file}"
        assert interruption.agreed()
    assert not any(thread.is_alive() for thread in interruption._threads)


def test_one_process_and_sigterm(tmp_path: Path) -> None:
    stop_file = tmp_path / "stop"
    before = signal.getsignal(signal.SIGTERM)
    with Interruption(environment_of(STOP_FILE=stop_file)) as interruption:
        assert not interruption.agreed()
    assert signal.getsignal(signal.SIGTERM) is before
    with Interruption(environment_of(STOP_FILE=stop_file)) as interruption:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.agreed()
        assert interruption.reason == "SIGTERM"
    # An impatient launcher may send another signal: the status must still be the program's own.
    assert signal.getsignal(signal.SIGTERM) == interruption._on_signal
    assert list(tmp_path.iterdir()) == []


def steps(
    environment: JobEnvironment, count: int, notice: tuple[str, int, int], synchronous: bool
) -> tuple[int, bool, str | None]:
    """Do steps of uneven length; one rank gets a notice at one of them. Return where it ended and why."""
    kind, whose, when = notice
    generator = random.Random(environment.rank)
    module.POLL_SECONDS = 0.05
    with Interruption(environment) as interruption:
        for step in range(1, count + 1):
            time.sleep(generator.uniform(0, 0.01))
            if synchronous:
                sum_over_ranks(torch.ones(1))
            if environment.rank == whose and step == when:
                if kind == "signal":
                    os.kill(os.getpid(), signal.SIGTERM)
                else:
                    environment.stop_file.touch()
            if interruption.agreed():
                return step, True, interruption.reason
    return count, False, None


@pytest.mark.parametrize(
    ("notice", "synchronous"),
    [
        (("signal", 2, 20), True),
        (("signal", 0, 20), False),
        (("file", 1, 20), True),
        (("signal", 1, 1), True),
        (("none", 0, 0), True),
    ],
)
def test_all_ranks_stop_at_the_same_step(tmp_path: Path, notice: tuple[str, int, int], synchronous: bool) -> None:
    """With steps that synchronize the ranks, and with steps that do not."""
    results = Ranks(3, steps, 150, notice, synchronous, folder=tmp_path, STOP_FILE=tmp_path / "stop").results()
    assert len(set(results)) == 1
    step, stopped, reason = results[0]
    if notice[0] == "none":
        assert (step, stopped, reason) == (150, False, None)
    else:
        assert stopped
        assert notice[2] <= step < 140
        assert reason == ("SIGTERM" if notice[0] == "signal" else f"the stop file {tmp_path / 'stop'}")


def ends(environment: JobEnvironment, rounds: int) -> list[tuple[int, bool, str | None]]:
    """Run a few steps several times, with a notice near their end."""
    generator, results = random.Random(7), []
    for _ in range(rounds):
        count = generator.randint(1, 12)
        results.append(steps(environment, count, ("signal", generator.randrange(3), generator.randint(1, count)), True))
    return results


def test_a_notice_near_the_end_hangs_nobody(tmp_path: Path) -> None:
    """All stop at one step, or all have finished before they could agree."""
    ranks = Ranks(3, ends, 30, folder=tmp_path)
    first, *others = ranks.results(90)
    assert others == [first, first]
    assert {stopped for _, stopped, _ in first} == {True, False}
    assert ranks.errors() == ""


def lonely(environment: JobEnvironment) -> str:
    module.AGREEMENT_SECONDS = 1.0
    module.POLL_SECONDS = 0.05
    if environment.rank == 1:
        time.sleep(4)
        return "asleep"
    try:
        interruption = Interruption(environment)
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(200):
            time.sleep(0.02)
            interruption.agreed()
    except module.InterruptionError as error:
        return str(error)
    return "no error"


def test_a_rank_that_is_gone_is_told(tmp_path: Path) -> None:
    error, _ = Ranks(2, lonely, folder=tmp_path).results()
    assert error == "asked to stop (SIGTERM), and no answer from all ranks: is one gone?"


def test_the_check_costs_little() -> None:
    with Interruption(environment_of()) as interruption:
        started = time.thread_time()
        for _ in range(10_000):
            interruption.agreed()
        assert (time.thread_time() - started) / 10_000 < 50e-6  # a tenth of a percent of 50 ms


def test_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "TOUCH_SECONDS", 0.1)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    beat = tmp_path / "the beat"
    with Interruption(environment_of(HEARTBEAT_FILE=beat)) as interruption:
        assert beat.exists()
        for progress in (interruption.agreed, interruption.alive):
            os.utime(beat, (0, 0))
            time.sleep(0.4)
            assert beat.stat().st_mtime == 0  # without a step there is no heartbeat
            progress()
            until(lambda: beat.stat().st_mtime > 0)
            time.sleep(0.2)
        beat.unlink()
        beat.mkdir()
        interruption.agreed()
    with Interruption(environment_of(HEARTBEAT_FILE=tmp_path / "no folder" / "beat")) as interruption:
        assert not interruption.agreed()


# Clouds. A server here replaces their metadata services, because there is no other way to get their notices.


class Metadata(http.server.BaseHTTPRequestHandler):
    answers: dict[str, tuple[int, str]]
    asked: list[tuple[str, str, dict[str, str]]]
    delay = 0.0

    def _answer(self) -> None:
        time.sleep(self.delay)
        path = self.path.split("?")[0]
        self.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        status, body = self.answers.get(f"{self.command} {path}", (404, "not found"))
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

    do_GET = do_PUT = _answer  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def metadata() -> Iterator[type[Metadata]]:
    class Handler(Metadata):
        answers, asked = {}, []

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    Handler.address = f"127.0.0.1:{server.server_port}"
    yield Handler
    server.shutdown()
    server.server_close()
    thread.join()


def test_gcp_notice_from_a_mocked_metadata_server(metadata: type[Metadata]) -> None:
    (source,) = notices.sources(["gcp"], metadata.address)
    path = "/computeMetadata/v1/instance/preempted"
    for answer, expected in (((200, "FALSE"), None), ((503, "TRUE"), None), ((200, "TRUE\n"), "GCP preempts")):
        metadata.answers["GET " + path] = answer
        notice = source()
        assert (notice or "").startswith(expected or "")
        assert (notice is None) == (expected is None)
    assert metadata.asked[0][:2] == ("GET", path)
    assert metadata.asked[0][2]["metadata-flavor"] == "Google"


def test_aws_notice_from_a_mocked_metadata_server(metadata: type[Metadata]) -> None:
    (source,) = notices.sources(["aws"], metadata.address)
    assert source() is None  # no token
    metadata.answers["PUT /latest/api/token"] = (200, "first")
    assert source() is None
    assert metadata.asked[-2][2]["x-aws-ec2-metadata-token-ttl-seconds"] == "21600"
    assert metadata.asked[-1][:2] == ("GET", "/latest/meta-data/spot/instance-action")
    assert metadata.asked[-1][2]["x-aws-ec2-metadata-token"] == "first"
    metadata.answers["PUT /latest/api/token"] = (200, "second")
    metadata.answers["GET /latest/meta-data/spot/instance-action"] = (401, "")
    assert source() is None  # the token had expired: a new one was requested
    assert metadata.asked[-1][2]["x-aws-ec2-metadata-token"] == "second"
    metadata.answers["GET /latest/meta-data/spot/instance-action"] = (200, '{"action": "terminate"}')
    assert source() == 'AWS takes this machine: {"action": "terminate"}'


def test_azure_notice_from_a_mocked_metadata_server(metadata: type[Metadata]) -> None:
    (source,) = notices.sources(["azure"], metadata.address)
    assert source() is None
    metadata.answers["GET /metadata/instance/compute/name"] = (200, "vm-3")

    def event(kind: str, machine: str) -> dict[str, object]:
        return {"EventType": kind, "Resources": ["vm-1", machine], "NotBefore": "soon"}

    for events, expected in (
        ([], None),
        ([event("Preempt", "vm-2")], None),
        ([event("Freeze", "vm-3")], None),
        ([event("Preempt", "vm-2"), event("Preempt", "vm-3")], "Azure announces Preempt of this machine"),
    ):
        metadata.answers["GET /metadata/scheduledevents"] = (200, json.dumps({"Events": events}))
        notice = source()
        assert (notice is None) == (expected is None)
        assert (notice or "").startswith(expected or "")
    assert {request[2]["metadata"] for request in metadata.asked} == {"true"}


def test_polling_a_mocked_metadata_server(metadata: type[Metadata], monkeypatch: pytest.MonkeyPatch) -> None:
    """Invalid answers and time-outs are no notices and delay nothing."""
    monkeypatch.setattr(notices, "TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(notices, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(notices.poll, "__defaults__", (0.05,))
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    metadata.answers["GET /metadata/instance/compute/name"] = (200, "vm")
    metadata.answers["GET /metadata/scheduledevents"] = (200, "[nonsense")
    metadata.delay = 0.5
    sources = notices.sources(["azure", "gcp"], metadata.address)
    with Interruption(environment_of(), sources) as interruption:
        time.sleep(0.6)
        assert not interruption.agreed()
        metadata.delay = 0.0
        time.sleep(0.3)
        assert not interruption.agreed()
        metadata.answers["GET /computeMetadata/v1/instance/preempted"] = (200, "TRUE")
        until(interruption.agreed)
        assert interruption.reason == "GCP preempts this machine"
    assert not any(thread.is_alive() for thread in interruption._threads)
    time.sleep(0.6)  # the server may still work on a request that was given up
    count = len(metadata.asked)
    time.sleep(0.3)
    assert len(metadata.asked) == count


@pytest.mark.parametrize(
    ("firmware", "expected"),
    [
        ({"sys_vendor": "Google"}, ("gcp",)),
        ({"sys_vendor": "Amazon EC2"}, ("aws",)),
        ({"sys_vendor": "Microsoft Corporation", "chassis_asset_tag": notices._AZURE_TAG}, ("azure",)),
        ({"sys_vendor": "Microsoft Corporation", "chassis_asset_tag": "a laptop"}, ()),
        ({"sys_vendor": "Dell Inc."}, ()),
        ({}, ()),
    ],
)
def test_which_cloud_this_is(tmp_path: Path, firmware: dict[str, str], expected: tuple[str, ...]) -> None:
    for name, content in firmware.items():
        (tmp_path / name).write_text(content + "\n")
    assert notices.detect(tmp_path) == expected


def test_nobody_is_asked_unless_it_is_that_cloud_s_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(notices, "request", lambda *values: asked.append(values[2]) or (404, ""))
    monkeypatch.setattr(notices, "detect", lambda: ())
    for environment in (environment_of(), JobEnvironment.from_environment({})):
        with Interruption(environment):
            time.sleep(0.1)
    assert asked == []
    with Interruption(environment_of(SPOT_NOTICES="gcp")):
        until(lambda: asked)
    assert asked == ["/computeMetadata/v1/instance/preempted"]


# The digits.


def finish(process: object) -> tuple[int, str, str]:
    try:
        stdout, stderr = process.communicate(timeout=patience(60))
    finally:
        process.kill()
    return process.returncode, stdout, stderr


def kept(runner: Runner) -> tuple[bytes, list[dict]]:
    """Return weights and metrics, without what depends on the time and the attempt."""
    lines = [json.loads(line) for line in (runner.outputs / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["samples_per_second"], line["attempt"]
    return (runner.checkpoints / "final.pt").read_bytes(), lines


def test_interrupted_digits_end_with_the_same_weights(project: Path, python: Runner, digits: Path) -> None:
    """Interrupt with SIGKILL, SIGTERM and the stop file, one in each epoch; the metrics are those of one run."""
    whole = Runner(project, python.work / "whole")
    whole.work.mkdir()
    flags = ("-m", "train", "--data-dir", digits, "--epochs", "5")
    assert whole(*flags).returncode == 0
    stop_file = python.work / "stop"
    for attempt, how in enumerate(("SIGKILL", "SIGTERM", "stop file", "")):
        process = python.start(*flags, "--save-every", "5", ATTEMPT=str(attempt), STOP_FILE=str(stop_file))
        lines = []
        while how and not (lines and lines[-1].startswith("epoch")):
            lines.append(process.stdout.readline())
            assert lines[-1]
        if how == "stop file":
            stop_file.touch()
        elif how:
            process.send_signal(getattr(signal, how))
        status, stdout, stderr = finish(process)
        stdout = "".join(lines) + stdout
        assert stderr == ""
        assert stdout.startswith("resumed at step ") == (attempt > 0)
        assert status == {"SIGKILL": -signal.SIGKILL, "": 0}.get(how, 75)
        assert (f" by {'the ' if ' ' in how else ''}{how}" in stdout) == (status == 75)
        stop_file.unlink(missing_ok=True)
    assert kept(python) == kept(whole)
    assert python.checkpoints.joinpath("latest").is_symlink()
