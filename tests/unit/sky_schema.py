"""Checks task files against the schemas of SkyPilot's parser (sky_schema.json). Prints the errors.

sky_schema.py FILE...         with a Python that has jsonschema and PyYAML
sky_schema.py --dump >FILE    with a Python that has SkyPilot: writes the schemas again
"""

import json
import sys
from pathlib import Path


def dump():
    import sky
    from sky.utils import schemas

    found = {
        "skypilot": sky.__version__,
        "task": schemas.get_task_schema(),
        "resources": schemas.get_resources_schema(),
    }
    print(json.dumps(found, sort_keys=True, separators=(",", ":")))


def check(paths):
    import jsonschema
    import yaml

    schemas = json.loads(Path(__file__).with_suffix(".json").read_text())
    for path in paths:
        task = yaml.safe_load(Path(path).read_text())
        jsonschema.validate(task, schemas["task"])
        jsonschema.validate(task["resources"], schemas["resources"])


if sys.argv[1] == "--dump":
    dump()
else:
    check(sys.argv[1:])
