"""Prints how SkyPilot's own parser reads task files, a line for each.

sky_parser.py FILE...   with a Python that has SkyPilot
"""

import sys
from pathlib import Path

import sky
import yaml

for path in sys.argv[1:]:
    config = yaml.safe_load(Path(path).read_text())
    secrets = [(name, "value") for name in config.get("secrets", {})]
    task = sky.Task.from_yaml_config(config, secrets_overrides=secrets)
    (resources,) = task.resources
    print(task.num_nodes, resources.use_spot, resources.accelerators, resources.disk_size, resources.job_recovery)
