"""The notices by which clouds announce that they will take a machine away.

Each notice is a request to an address that exists only inside that cloud. A cloud is polled only if this machine is
known to belong to it.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Callable, Protocol

METADATA_ADDRESS = "169.254.169.254"
"""The same for the three clouds. An address needs no name server and no proxy."""
TIMEOUT_SECONDS = 2.0
POLL_SECONDS = 5.0

DMI = Path("/sys/class/dmi/id")
_VENDORS = {"Google": "gcp", "Amazon EC2": "aws", "Microsoft Corporation": "azure"}
# Microsoft is also the vendor of its laptops and of every Hyper-V machine. Only Azure has this tag.
_AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"


class Source(Protocol):
    """The notices of one cloud."""

    def __call__(self) -> str | None:
        """Return what will happen to this machine, or None."""


def detect(folder: Path = DMI) -> tuple[str, ...]:
    """Return the cloud of this machine ("gcp", "aws", "azure") according to its firmware; () elsewhere."""

    def read(name: str) -> str:
        try:
            return (folder / name).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    cloud = _VENDORS.get(read("sys_vendor"))
    if cloud is None or (cloud == "azure" and read("chassis_asset_tag") != _AZURE_TAG):
        return ()
    return (cloud,)


def sources(clouds: Iterable[str], address: str = METADATA_ADDRESS) -> list[Source]:
    """Return a source for each of `clouds`, without a request yet."""
    kinds: dict[str, Callable[[str], Source]] = {"gcp": gcp, "aws": Aws, "azure": Azure}
    return [kinds[cloud](address) for cloud in clouds]


def request(address: str, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
    """Send a request. Return status and body.

    Raises:
        OSError: no answer in time.
        http.client.HTTPException: the answer is not HTTP.
    """
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_SECONDS)
    try:
        connection.request(method, path, headers=dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read(100_000).decode("utf-8", "replace")
    finally:
        connection.close()


def gcp(address: str) -> Source:
    """https://cloud.google.com/compute/docs/instances/create-use-spot#detect-preemption: TRUE or FALSE."""

    def ask() -> str | None:
        path = "/computeMetadata/v1/instance/preempted"
        status, body = request(address, "GET", path, {"Metadata-Flavor": "Google"})
        return "GCP preempts this machine" if status == 200 and body.strip() == "TRUE" else None

    return ask


class Aws:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html, by IMDSv2.

    The path is there (200) from two minutes before the end on, and 404 until then.
    """

    def __init__(self, address: str) -> None:
        self.address, self.token = address, ""

    def __call__(self) -> str | None:
        for _ in range(2):
            if not self.token:
                headers = {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}
                status, body = request(self.address, "PUT", "/latest/api/token", headers)
                if status != 200:
                    return None
                self.token = body
            headers = {"X-aws-ec2-metadata-token": self.token}
            status, body = request(self.address, "GET", "/latest/meta-data/spot/instance-action", headers)
            if status != 401:
                return f"AWS takes this machine: {body.strip()}" if status == 200 else None
            self.token = ""  # It has run out.
        return None


class Azure:
    """https://learn.microsoft.com/azure/virtual-machines/linux/scheduled-events: events of the machine's group.

    Only those that name this machine count, and of them only those that end or restart it.
    """

    ENDING = ("Preempt", "Terminate", "Reboot", "Redeploy")

    def __init__(self, address: str) -> None:
        self.address, self.name = address, ""

    def __call__(self) -> str | None:
        if not self.name:
            status, body = self._get("/metadata/instance/compute/name?api-version=2021-02-01&format=text")
            if status != 200:
                return None
            self.name = body.strip()
        status, body = self._get("/metadata/scheduledevents?api-version=2020-07-01")
        if status != 200:
            return None
        for event in json.loads(body).get("Events", []):
            if event.get("EventType") in self.ENDING and self.name in event.get("Resources", []):
                return f"Azure announces {event['EventType']} of this machine, not before {event.get('NotBefore')}"
        return None

    def _get(self, path: str) -> tuple[int, str]:
        return request(self.address, "GET", path, {"Metadata": "true"})


def poll(
    asked: Iterable[Source], noticed: Callable[[str], None], ended: threading.Event, seconds: float = POLL_SECONDS
) -> None:
    """Ask each source every `seconds` until one knows of something, or `ended`.

    No answer, or one that makes no sense, is no notice: the next round asks again.
    """
    asked = list(asked)
    while not ended.is_set():
        for source in asked:
            try:
                notice = source()
            except (OSError, http.client.HTTPException, ValueError, AttributeError, TypeError):
                continue
            if notice:
                noticed(notice)
                return
        ended.wait(seconds)
