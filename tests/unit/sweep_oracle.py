"""Compares hpc/sweep/sweep_points.py with W&B's own engine, the package `sweeps`, in whose environment this runs.

sweep_oracle.py [GRIDS]     GRIDS generated grids, and every distribution; status 1 at the first difference
"""

import json
import random
import sys
from pathlib import Path

from sweeps.grid_search import grid_search_next_runs
from sweeps.params import HyperParameter

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "hpc" / "sweep"))
import sweep_points

STRINGS = ["adam", "sgd-momentum", "--flag", "-1", "1", "1e-3", "a b", "it's", "", "true", "é", "$HOME", "${NAME}"]
NAMES = ["lr", "learning-rate", "batch_size", "a.b", "Z", "_x", "x1", "value", "values", "min", "e-"]


def value(generator, depth=0):
    kinds = [
        lambda: generator.randint(-20, 20),
        lambda: float(generator.randint(-3, 3)),
        lambda: generator.uniform(-1, 1) * 10 ** generator.randint(-8, 8),
        lambda: generator.choice(STRINGS),
        lambda: generator.choice([True, False, None]),
        lambda: [value(generator, 1) for _ in range(generator.randint(0, 3))],
        lambda: {generator.choice(NAMES): value(generator, 1) for _ in range(generator.randint(1, 2))},
    ]
    return generator.choice(kinds[:5] if depth else kinds)()


def parameter(generator, depth=0):
    kind = generator.choice(["value", "values", "values", "int", "int_uniform", "q_uniform", "nested"])
    if kind == "nested" and depth < 3:
        return {"parameters": parameters(generator, depth + 1)}
    if kind == "value":
        return {"value": value(generator)}
    low = generator.randint(-5, 5)
    if kind == "int":
        return {"min": low, "max": low + generator.randint(1, 3)}
    if kind == "int_uniform":
        return {"distribution": "int_uniform", "min": low, "max": low + generator.randint(1, 3)}
    if kind == "q_uniform":
        step = generator.choice([1, 2, 0.5, 0.3, 0.1, 0.25])
        start = generator.choice([low, low / 4])
        return {
            "distribution": kind,
            "min": start,
            "max": start + step * generator.choice([0.5, 1, 2, 2.5, 3]),
            "q": step,
        }
    return {"values": [value(generator) for _ in range(generator.randint(1, 4))]}


def parameters(generator, depth=0):
    names = generator.sample(NAMES, generator.randint(1, 4 - depth))
    return {name: parameter(generator, depth) for name in names}


def theirs(sweep, number):
    runs = grid_search_next_runs([], sweep, n=number + 1)
    assert runs[-1] is None, "they have more"
    return [run.config for run in runs[:-1]]


def as_text(configurations):
    return [json.dumps(configuration, sort_keys=True) for configuration in configurations]


def compare_grid(seed):
    sweep = {"method": "grid", "program": "t.py", "parameters": parameters(random.Random(seed))}
    if sweep_points.count(sweep) > 300:
        return 0
    mine = list(sweep_points.points(sweep))
    assert len(mine) == sweep_points.count(sweep), sweep
    wrapped = as_text({name: {"value": inner} for name, inner in point.items()} for point in mine)
    assert wrapped == as_text(theirs(sweep, len(mine))), sweep
    return 1


def compare_distributions():
    bounds = {"uniform": (-2, 3), "int_uniform": (-3, 9), "q_uniform": (-1, 4)}
    for name, (required, defaults) in sweep_points.DISTRIBUTIONS.items():
        keys = dict(defaults)
        if "min" in required:
            keys["min"], keys["max"] = bounds.get(name, (0.5, 7.5))
        if "value" in required:
            keys["value"] = "x"
        if "values" in required:
            keys["values"] = [3, 1, "two", None]
        if "probabilities" in required:
            keys["probabilities"] = [0.1, 0.2, 0.3, 0.4]
        if name.endswith("beta"):
            continue  # drawn by the standard library
        for q in (keys["q"], 2, 0.3) if "q" in keys else (None,):
            keys.update({} if q is None else {"q": q})
            for x in (0.001, 0.0999, 0.2501, 0.5001, 0.777, 0.9999):
                mine = sweep_points.quantile(name, keys, x)
                engine = HyperParameter("p", {"distribution": name, **keys}).ppf(x)
                near = (
                    abs(mine - engine) <= 1e-9 * max(1, abs(engine))
                    if isinstance(mine, (int, float))
                    else mine == engine
                )
                assert near, (name, keys, x, mine, engine)


wanted, seed, compared = int(sys.argv[1]), 0, 0
compare_distributions()
while compared < wanted:
    compared += compare_grid(seed)
    seed += 1
print(f"{compared} grids equal")
