"""A stand-in for W&B's server, for tests: it answers the real client (0.31) for sweeps, runs and `wandb sync`.

    wandb_server.py FOLDER [ADDRESS]

Listens on a free port of ADDRESS (127.0.0.1), then writes its URL to FOLDER/url. Clients must send the key of the
server's own WANDB_API_KEY; any other key is refused. The tests themselves use these paths, without a key:

    GET  /_state             sweeps, agents, runs with their history, and unknown requests, as JSON
    POST /_stop/RUN          like the stop button of the web page: the run's agent receives a stop
    POST /_sweep/ID/STATE    like `wandb sweep --stop` and its siblings

It proves how the kit drives the client and how the kit treats the answers. It does not prove what W&B's own server
answers: the stand-in hands out a grid in the order of hpc/sweep/sweep_points.py to the first agent that asks, never
marks a run as crashed, and has no rate limits, no permissions but the key and no early termination.
tests/cluster/sweeps.bats has a check against the real service for people who have a key.
"""

import base64
import gzip
import json
import os
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "hpc" / "sweep"))
import sweep_points

ENTITY, PROJECT = "entity", "project"  # # for clients that name no entity
FILE_STREAM = re.compile(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream")


def snake_case(name):
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


class State:
    """The server's state and its answers. Each GraphQL operation has a method, which gets its variables."""

    def __init__(self, url):
        self.url = url
        self.sweeps, self.agents, self.runs, self.unknown = {}, {}, {}, []

    def answer(self, query, variables):
        operation = re.match(r"\s*(?:query|mutation)\s+(\w+)", query).group(1)
        method = getattr(self, snake_case(operation), None)
        if method is None:
            self.unknown.append({"operation": operation, "variables": variables})
            return {}
        return method(**{"own_id" if name == "id" else snake_case(name): value for name, value in variables.items()})

    def viewer(self, **_):
        teams = {"edges": [{"node": {"name": ENTITY}}]}
        user = {"id": "U", "entity": ENTITY, "username": "tester", "email": "t@example.org", "flags": "{}"}
        return {"viewer": {**user, "teams": teams, "defaultEntity": {"name": ENTITY}}}

    get_viewer = get_default_entity = viewer

    def server_features_query(self, **_):
        return {"serverInfo": {"features": []}}

    def organization_core_weave_organization_id(self, **_):
        return {"entity": None}

    # Sweeps and agents.

    def upsert_sweep(self, own_id=None, config=None, state=None, entity_name=None, project_name=None, **_):
        name = own_id or f"sweep{len(self.sweeps):03d}"
        new = {"name": name, "state": "PENDING", "todo": [], "entity": ENTITY, "project": PROJECT, "config": ""}
        sweep = self.sweeps.setdefault(name, new)
        if config:
            content = yaml.safe_load(config)
            endless = content["method"] != "grid" and not content.get("run_cap")
            listed = {**content, "method": "random"} if content["method"] == "bayes" else content
            sweep["todo"] = list(sweep_points.points(listed, 1000 if endless else None))
            sweep["expected"] = None if endless else len(sweep["todo"])
            sweep.update(config=config, entity=entity_name or ENTITY, project=project_name or PROJECT)
        if state:
            sweep["state"] = state
        return {
            "upsertSweep": {"configValidationWarnings": [], "sweep": {"name": name, "project": self._project(sweep)}}
        }

    def _project(self, thing):
        return {"id": "P", "name": thing["project"], "entity": {"id": "E", "name": thing["entity"]}}

    def get_sweep(self, name, entity=None, project=None, **_):
        sweep = self.sweeps.get(name)
        if sweep is None or (entity, project) != (sweep["entity"], sweep["project"]):
            return {"project": {"sweep": None}}
        begun = sum(run["sweep"] == name for run in self.runs.values())
        known = {"__typename": "Sweep", "id": name, "name": name, "displayName": name, "method": "grid"}
        known.update(
            {key: sweep[key] for key in ("state", "config")}, runCount=begun, runCountExpected=sweep["expected"]
        )
        return {"project": {"sweep": known}}

    get_sweep_legacy = get_sweep

    def sweep_with_runs(self, sweep, entity=None, project=None, **_):
        found = self.get_sweep(sweep, entity or ENTITY, project or PROJECT)
        if found["project"]["sweep"]:
            found["project"]["sweep"]["runs"] = {"edges": []}
        return found

    def create_agent(self, sweep, host, **_):
        name = f"agent{len(self.agents)}"
        self.agents[name] = {"sweep": sweep, "host": host, "runs": [], "seen": time.time()}
        return {"createAgent": {"agent": {"id": name}}}

    def heartbeat(self, own_id, run_state=None, **_):
        agent = self.agents[own_id]
        agent["seen"] = time.time()
        running = json.loads(run_state or "{}")
        if running:
            commands = [{"type": "stop", "run_id": name} for name in running if self.runs[name]["stop"]]
        else:
            commands = [self._next(agent)]
        return {"agentHeartbeat": {"agent": {"id": own_id}, "commands": json.dumps(commands)}}

    def _next(self, agent):
        sweep = self.sweeps[agent["sweep"]]
        if sweep["state"] == "PENDING":
            sweep["state"] = "RUNNING"
        if sweep["state"] != "RUNNING" or not sweep["todo"]:
            return {"type": "exit"}
        point, number = sweep["todo"].pop(0), sum(run["sweep"] == sweep["name"] for run in self.runs.values())
        name = f"{sweep['name']}r{number}"
        agent["runs"].append(name)
        self.runs[name] = self._new_run(name, sweep["entity"], sweep["project"], sweep=sweep["name"], point=point)
        program = yaml.safe_load(sweep["config"]).get("program")
        return {"type": "run", "run_id": name, "program": program, "args": {k: {"value": v} for k, v in point.items()}}

    # Runs.

    def _new_run(self, name, entity, project, **known):
        new = {"id": "R" + name, "name": name, "entity": entity, "project": project, "displayName": name}
        new.update(
            sweep=None,
            group=None,
            point=None,
            config={},
            history=[],
            summary={},
            state="pending",
            exitcode=None,
            starts=0,
            stop=False,
        )
        return {**new, "lines": 0, "files": [], **known}

    def upsert_bucket(
        self,
        name=None,
        own_id=None,
        entity=None,
        project=None,
        config=None,
        sweep=None,
        display_name=None,
        group_name=None,
        **_,
    ):
        name = name or next(run["name"] for run in self.runs.values() if run["id"] == own_id)
        run = self.runs.setdefault(name, self._new_run(name, entity or ENTITY, project or PROJECT))
        inserted = not run["starts"]
        run["config"].update(json.loads(config or "{}"))
        run["sweep"] = sweep or run["sweep"]
        run["displayName"] = display_name or run["displayName"]
        run["group"] = group_name or run["group"]
        if own_id is None:
            run["starts"] += 1
            run["state"] = "running"
        return {"upsertBucket": {"bucket": self._bucket(run), "inserted": inserted}}

    def _bucket(self, run):
        names = {key: run[key] for key in ("id", "name", "displayName")}
        known = {**names, "description": None, "config": json.dumps(run["config"]), "sweepName": run["sweep"]}
        return {**known, "project": self._project(run), "historyLineCount": len(run["history"])}

    def run_resume_status(self, name, project=None, entity=None, **_):
        run, bucket = self.runs.get(name), None
        if run and run["starts"]:
            tail = [json.dumps(line) for line in run["history"][-1:]]
            bucket = {
                **self._bucket(run),
                "summaryMetrics": json.dumps(run["summary"]),
                "historyTail": json.dumps(tail),
            }
            bucket.update(logLineCount=0, eventsLineCount=0, eventsTail="[]", tags=[], notes=None)
            bucket.update(wandbConfig=json.dumps({"t": 1}))
        model = {"id": "P", "name": project or PROJECT, "entity": {"id": "E", "name": entity or ENTITY}}
        return {"model": {**model, "bucket": bucket}}

    def create_run_files(self, entity, project, run, files, **_):
        base = f"{self.url}/_storage/{entity}/{project}/{run}/"
        sent = [{"name": name, "uploadUrl": base + name} for name in files]
        return {"createRunFiles": {"runID": "R" + run, "uploadHeaders": [], "files": sent}}

    def file_stream(self, name, body):
        run = self.runs.setdefault(name, self._new_run(name, ENTITY, PROJECT))
        for file, chunk in (body.get("files") or {}).items():
            lines = chunk.get("content", [])
            if file == "wandb-history.jsonl":
                run["lines"] += len(lines)
                run["history"][chunk["offset"] : chunk["offset"] + len(lines)] = [json.loads(line) for line in lines]
            elif file == "wandb-summary.json" and lines:
                run["summary"] = json.loads(lines[-1])
        if body.get("complete") or "exitcode" in body:
            run["exitcode"] = body.get("exitcode", 0)
            run["state"] = "failed" if run["exitcode"] else "finished"
        return {"exitcode": None, "limits": {}}

    def take_file(self, run, name):
        self.runs[run]["files"].append(name)
        return {}


class Handler(BaseHTTPRequestHandler):
    """Only one request at a time may change the state."""

    protocol_version = "HTTP/1.1"
    state = None
    lock = threading.Lock()
    key = os.environ.get("WANDB_API_KEY", "")

    def handle_any(self):
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            content = gzip.decompress(content)
        with self.lock:
            status, answer = self.route(content)
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_PATCH = do_HEAD = handle_any  # noqa: N815

    def route(self, content):
        state, parts = self.state, self.path.strip("/").split("/")
        if self.path == "/_state":
            known = ("sweeps", "agents", "runs", "unknown")
            return 200, {name: getattr(state, name) for name in known}
        if parts[0] == "_stop":
            state.runs[parts[1]]["stop"] = True
            return 200, {}
        if parts[0] == "_sweep":
            state.sweeps[parts[1]]["state"] = parts[2]
            return 200, {}
        if parts[0] == "_storage":
            return 200, state.take_file(parts[3], "/".join(parts[4:]))
        if not self.is_authorized():
            return 401, {"errors": [{"message": "user is not logged in"}]}
        if self.path == "/graphql":
            request = json.loads(content)
            return 200, {"data": state.answer(request["query"], request.get("variables") or {})}
        stream = FILE_STREAM.fullmatch(self.path)
        if stream:
            return 200, state.file_stream(stream.group(3), json.loads(content or b"{}"))
        state.unknown.append({"path": f"{self.command} {self.path}"})
        return 404, {"error": "not here"}

    def is_authorized(self):
        kind, _, given = self.headers.get("Authorization", "").partition(" ")
        return kind == "Basic" and base64.b64decode(given).decode().partition(":")[2] == self.key

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, *_):
        """Ignore dropped connections: clients drop theirs when they exit."""


def main(folder, address="127.0.0.1"):
    server = Server((address, 0), Handler)
    url = f"http://{server.server_address[0]}:{server.server_address[1]}"
    Handler.state = State(url)
    partial = Path(folder, "url.partial")
    partial.write_text(url)
    partial.rename(Path(folder, "url"))
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
