#!/usr/bin/env python3
"""Prints SkyPilot's task for a run (sky.sh) as JSON, which is also YAML. Standard library only.

sky_task.py --run-directory FOLDER --name NAME --nodes N [OPTION...]

On each machine the run directory with the sources is in ~/hpc_run, and data are in ~/hpc_data. The task has no secret:
`secrets` has only names, and SkyPilot takes the values from the environment that launches it.
"""

import argparse
import json
import re

RUN, DATA = "~/hpc_run", "~/hpc_data"
SETUP = """\
mkdir -p {run}/source
tar --extract --no-unquote --file {run}/source.tar --directory {run}/source
bash {run}/source/venv/create.sh
"""
AGAIN = 75  # job/lib/interruption.sh


def resources(arguments):
    found = {"cpus": "%d+" % arguments.cpus, "memory": "%d+" % -(-arguments.megabytes // 1024)}
    if arguments.accelerators:
        found["accelerators"] = arguments.accelerators
    if arguments.infra:
        found["infra"] = arguments.infra
    found["use_spot"] = not arguments.on_demand
    found["disk_size"] = arguments.disk_gigabytes
    found["job_recovery"] = {"recover_on_exit_codes": [AGAIN]}
    return found


def task(arguments):
    name = re.sub("[^A-Za-z0-9]+", "-", arguments.name).strip("-") or "job"
    found = {"name": name, "num_nodes": arguments.nodes, "resources": resources(arguments)}
    found["file_mounts"] = {RUN: arguments.run_directory}
    for path in arguments.data:
        found["file_mounts"]["%s/%s" % (DATA, path)] = "%s/%s" % (arguments.scratch, path)
    if arguments.mount:
        found["file_mounts"][RUN + "/checkpoints"] = {"source": arguments.mount, "mode": "MOUNT"}
    if arguments.url:
        found["envs"] = {"CHECKPOINT_URL": arguments.url}
    if arguments.secret:
        found["secrets"] = dict.fromkeys(arguments.secret)
    found["setup"] = SETUP.format(run=RUN)
    found["run"] = f"bash {RUN}/source/hpc/job/sky_node.sh {RUN} {DATA}\n"
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--run-directory", "--scratch", "--name"):
        parser.add_argument(name, required=True)
    for name in ("--nodes", "--cpus", "--megabytes", "--disk-gigabytes"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--accelerators", help="TYPE:NUMBER")
    parser.add_argument("--infra")
    parser.add_argument("--on-demand", action="store_true")
    parser.add_argument("--url", help="CHECKPOINT_URL")
    parser.add_argument("--mount", help="bucket that is the folder of checkpoints")
    parser.add_argument("--data", action="append", default=[])
    parser.add_argument("--secret", action="append", default=[])
    print(json.dumps(task(parser.parse_args()), indent=1))


if __name__ == "__main__":
    main()
