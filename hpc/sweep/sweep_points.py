"""Lists the points of a W&B sweep without W&B. The points of a grid, and their order, are those of W&B's own engine.

Used by hpc/sweep/sweep.py. Standard library only, Python 3.9 or later. A sweep is the dictionary of its YAML file; a
point is a dictionary of parameter values. `SweepError` says in one line what is wrong in the file, and the remedy.
"""

import hashlib
import itertools
import json
import math
import random
import re
import statistics

# Distribution -> (required keys, optional keys with their defaults).
DISTRIBUTIONS = {
    "constant": (("value",), {}),
    "categorical": (("values",), {}),
    "categorical_w_probabilities": (("values", "probabilities"), {}),
    "int_uniform": (("min", "max"), {}),
    "uniform": (("min", "max"), {}),
    "q_uniform": (("min", "max"), {"q": 1.0}),
    "log_uniform": (("min", "max"), {}),
    "log_uniform_values": (("min", "max"), {}),
    "q_log_uniform": (("min", "max"), {"q": 1.0}),
    "q_log_uniform_values": (("min", "max"), {"q": 1.0}),
    "inv_log_uniform": (("min", "max"), {}),
    "inv_log_uniform_values": (("min", "max"), {}),
    "normal": ((), {"mu": 0.0, "sigma": 1.0}),
    "q_normal": ((), {"mu": 0.0, "sigma": 1.0, "q": 1.0}),
    "log_normal": ((), {"mu": 0.0, "sigma": 1.0}),
    "q_log_normal": ((), {"mu": 0.0, "sigma": 1.0, "q": 1.0}),
    "beta": ((), {"a": 1, "b": 1}),
    "q_beta": ((), {"a": 1, "b": 1, "q": 1.0}),
}
ON_A_GRID = ("constant", "categorical", "int_uniform", "q_uniform")


class SweepError(ValueError):
    """The sweep's file cannot be used as it is."""


class EndlessError(SweepError):
    """The sweep has no end, so the number of points must be given."""


def leaves(sweep):
    """Return each parameter as (path, distribution, keys) in W&B's order; a nested one has a path of several names."""
    found = sweep.get("parameters")
    if not isinstance(found, dict) or not found:
        raise SweepError("no parameters: write  parameters: {lr: {values: [0.1, 0.2]}}")
    return list(_leaves(found, ()))


def _leaves(parameters, prefix):
    for name in parameters:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name):
            raise SweepError("parameter %r: a name begins with a letter, and has letters, digits, _ . and -" % (name,))
    for name in sorted(parameters):
        parameter, path = parameters[name], (*prefix, name)
        if not isinstance(parameter, dict):
            raise SweepError(
                "parameter %s is %r: write  %s: {value: %r}" % (".".join(path), parameter, name, parameter)
            )
        if set(parameter) == {"parameters"} and isinstance(parameter["parameters"], dict) and parameter["parameters"]:
            yield from _leaves(parameter["parameters"], path)
        else:
            yield (path, *_distribution(".".join(path), parameter))


def _distribution(name, parameter):
    """Return the name of the distribution, which the file may omit, and its keys with their defaults."""
    kind = parameter.get("distribution")
    if kind is None:
        kind = _implied(name, parameter)
    if kind not in DISTRIBUTIONS:
        raise SweepError("parameter %s: no distribution %r; there are: %s" % (name, kind, ", ".join(DISTRIBUTIONS)))
    required, defaults = DISTRIBUTIONS[kind]
    for key in required:
        if key not in parameter:
            raise SweepError("parameter %s: %s needs %s" % (name, kind, " and ".join(required)))
    extra = set(parameter) - {"distribution", *required, *defaults}
    if extra:
        raise SweepError("parameter %s: %s has no %s" % (name, kind, ", ".join(sorted(map(str, extra)))))
    keys = {**defaults, **{key: value for key, value in parameter.items() if key != "distribution"}}
    _check(name, kind, keys)
    return kind, keys


def _implied(name, parameter):
    if "values" in parameter:
        return "categorical_w_probabilities" if "probabilities" in parameter else "categorical"
    if "value" in parameter:
        return "constant"
    if "min" in parameter and "max" in parameter:
        kinds = {type(parameter["min"]), type(parameter["max"])}
        if kinds == {int, float}:
            raise SweepError(
                "parameter %s: min %r and max %r: write both as whole numbers, or both with a point"
                % (name, parameter["min"], parameter["max"])
            )
        return "uniform" if float in kinds else "int_uniform"
    raise SweepError("parameter %s: it needs value, values, min and max, or a distribution" % name)


def _check(name, kind, keys):
    values = keys.get("values", keys.get("probabilities"))
    if "values" in keys and (not isinstance(values, list) or not values):
        raise SweepError("parameter %s: values must be a list with at least one entry" % name)
    if "probabilities" in keys:
        odds = keys["probabilities"]
        if not isinstance(odds, list) or len(odds) != len(values):
            raise SweepError("parameter %s: %d values need as many probabilities" % (name, len(values)))
        for value in odds:
            _check_number(name, "probabilities", value)
        if min(odds) < 0 or not math.isclose(sum(odds), 1, rel_tol=1e-5):
            raise SweepError("parameter %s: the probabilities add up to %s, not to 1" % (name, sum(odds)))
    for key in ("min", "max", "q", "mu", "sigma", "a", "b"):
        if key in keys:
            _check_number(name, key, keys[key])
    if "min" in keys and keys["min"] >= keys["max"]:
        raise SweepError("parameter %s: min %s is not below max %s" % (name, keys["min"], keys["max"]))
    if kind == "int_uniform" and {type(keys["min"]), type(keys["max"])} != {int}:
        raise SweepError("parameter %s: int_uniform takes whole numbers for min and max" % name)
    if kind.endswith("log_uniform_values") and keys["min"] <= 0:
        raise SweepError("parameter %s: %s takes numbers above 0; min is %s" % (name, kind, keys["min"]))
    if keys.get("q", 1) <= 0 or keys.get("sigma", 0) < 0 or min(keys.get("a", 1), keys.get("b", 1)) <= 0:
        raise SweepError("parameter %s: q, a and b must be above 0, sigma not below" % name)


def _check_number(name, key, value):
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        hint = "; to YAML 1e-4 is text: write 1.0e-4" if isinstance(value, str) and _is_number(value) else ""
        raise SweepError("parameter %s: %s is %r, not a number%s" % (name, key, value, hint))


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def count(sweep, runs=None):
    """Return how many points `points` yields."""
    found, method = leaves(sweep), sweep.get("method")
    limits = [limit for limit in (runs, _run_cap(sweep)) if limit is not None]
    if method == "grid":
        limits.append(math.prod(len(_choices(*leaf)) for leaf in found))
    elif method == "bayes":
        raise SweepError(
            "method: bayes chooses each point by the results of those before, which needs W&B's server: "
            "run it online (--wandb-sweepid), or write  method: random"
        )
    elif method != "random":
        raise SweepError("method: %r: write grid or random (bayes only online)" % (method,))
    elif not limits:
        raise EndlessError(
            "method: random has no end: give the number of runs (--sweep-runs N, or run_cap: N in the file)"
        )
    return min(limits)


def _run_cap(sweep):
    cap = sweep.get("run_cap")
    if cap is not None and (type(cap) is not int or cap < 1):
        raise SweepError("run_cap: %r: write a whole number above 0" % (cap,))
    return cap


def points(sweep, runs=None, seed=0):
    """Yield the points in order. Point N of a random sweep does not depend on the number of points."""
    number, found = count(sweep, runs), leaves(sweep)
    if sweep["method"] == "grid":
        chosen = itertools.product(*(_choices(*leaf) for leaf in found))
    else:
        chosen = ([_draw(seed, n, *leaf) for leaf in found] for n in itertools.count())
    for values in itertools.islice(chosen, number):
        point = {}
        for (path, _, _), value in zip(found, values):
            inner = point
            for name in path[:-1]:
                inner = inner.setdefault(name, {})
            inner[path[-1]] = value
        yield point


def _choices(path, kind, keys):
    """Return the values of a parameter on a grid."""
    name = ".".join(path)
    if kind not in ON_A_GRID:
        reason = "probabilities are not allowed" if kind.startswith("categorical") else "%s has no finite set" % kind
        raise SweepError("parameter %s: on a grid %s: write values, or  method: random" % (name, reason))
    if kind == "constant":
        return [keys["value"]]
    if kind == "categorical":
        values = keys["values"]
    elif kind == "int_uniform":
        values = range(keys["min"], keys["max"] + 1)
    else:  # rounds as numpy.arange does: a multiple of the difference of the first two
        low = keys["min"] if {type(keys[key]) for key in ("min", "max", "q")} == {int} else float(keys["min"])
        step = (low + keys["q"]) - low
        values = [low + n * step for n in range(math.ceil((keys["max"] - low) / keys["q"]))]
    # Equal values count once, also 1 and 1.0; the later spelling wins.
    return list({_canonical(value): value for value in values}.values())


def _draw(seed, number, path, kind, keys):
    generator = random.Random("%s %s %s" % (seed, number, json.dumps(path)))
    if kind in ("beta", "q_beta"):
        value = generator.betavariate(keys["a"], keys["b"])
        return _to_steps(value, keys["q"]) if kind == "q_beta" else value
    return quantile(kind, keys, max(generator.random(), 1e-16))


def quantile(kind, keys, x):
    """Return the value below which the share `x` of the distribution lies."""
    if kind == "constant":
        return keys["value"]
    if kind == "categorical":
        return keys["values"][int(x * len(keys["values"]))]
    if kind == "categorical_w_probabilities":
        sums = itertools.accumulate(keys["probabilities"])
        return next((value for value, total in zip(keys["values"], sums) if x < total), keys["values"][-1])
    if kind == "int_uniform":
        return keys["min"] + int(x * (keys["max"] + 1 - keys["min"]))
    if kind.startswith("q_"):
        rest = {key: value for key, value in keys.items() if key != "q"}
        return _to_steps(quantile(kind[2:], rest, x), keys["q"])
    if kind.endswith("normal"):
        value = keys["mu"]
        if keys["sigma"] > 0:
            value = statistics.NormalDist(keys["mu"], keys["sigma"]).inv_cdf(x)
        return math.exp(value) if kind == "log_normal" else value
    low, high = keys["min"], keys["max"]
    if kind.endswith("_values"):
        low, high = math.log(low), math.log(high)
    if kind == "inv_log_uniform":
        return math.exp(-(low + (1 - x) * (high - low)))
    value = low + x * (high - low)
    return value if kind == "uniform" else math.exp(value)


def _to_steps(value, step):
    rounded = round(value / step) * step
    return int(rounded) if isinstance(step, int) else rounded


def identity(point, occurrence=0):
    """Return twelve hexadecimal digits that depend only on the parameters' values, not on their order in the file."""
    text = _canonical(point) + ("#%d" % occurrence if occurrence else "")
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _canonical(value):
    return json.dumps(_whole(value), sort_keys=True, default=str)


def _whole(value):
    """Turn 3.0 into 3, as W&B does."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {str(key): _whole(inner) for key, inner in value.items()}
    return [_whole(inner) for inner in value] if isinstance(value, list) else value


# The command with W&B's macros.
DEFAULT_COMMAND = ("${env}", "${interpreter}", "${program}", "${args}")
ENVIRONMENT_MACRO = re.compile(r"\$\{envvar:([A-Z0-9_]+)\}")
NAME = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")


def check_command(sweep):
    """Return the words of the sweep's command; refuse words that W&B's agent would silently drop."""
    words = sweep.get("command") or DEFAULT_COMMAND
    if not isinstance(words, (list, tuple)):
        raise SweepError("command: %r: write a list of words" % (words,))
    words = [str(word) for word in words]
    known = set(_macros({}, "", ""))
    for word in words:
        if word.startswith("${") and word.endswith("}") and word not in known and not ENVIRONMENT_MACRO.search(word):
            raise SweepError(
                "command: W&B drops the word %s; write it behind an option, as in --folder=%s" % (word, word)
            )
    if "${program}" in words and not sweep.get("program"):
        raise SweepError("no program: write  program: train.py , or a command without ${program}")
    return words


def command(sweep, point, json_file):
    """Return the words for one point in the form of hpc/lib/command.sh: ${NAME} is replaced on the rank."""
    words, found = [], _macros(point, sweep.get("program"), json_file)
    for word in check_command(sweep):
        words += found.get(word, [ENVIRONMENT_MACRO.sub(r"${\1}", word)])
    return [escape(word) for word in words]


def _macros(point, program, json_file):
    flags = ["%s=%s" % (name, value) for name, value in point.items()]
    return {
        "${env}": ["/usr/bin/env"],
        "${interpreter}": ["python"],
        "${program}": [program],
        "${args}": ["--" + flag for flag in flags],
        "${args_no_hyphens}": flags,
        "${args_no_equals}": [word for name, value in point.items() for word in ("--" + name, str(value))],
        "${args_no_boolean_flags}": [
            "--" + (name if value is True else flag)
            for (name, value), flag in zip(point.items(), flags)
            if value is not False
        ],
        "${args_append_hydra}": ["+" + flag for flag in flags],
        "${args_override_hydra}": ["++" + flag for flag in flags],
        "${args_json}": [json.dumps(point, default=str)],
        "${args_json_file}": [json_file],
    }


def escape(word):
    """Escape each dollar that does not begin ${NAME}."""
    kept = NAME.findall(word)
    texts = NAME.split(word)
    return "".join(text.replace("$", "$$") + name for text, name in itertools.zip_longest(texts, kept, fillvalue=""))


def summary(point):
    """Return one line for users: `lr=0.1 model.depth=3`."""
    return " ".join("%s=%s" % pair for pair in _flat(point, ""))


def _flat(point, prefix):
    for name, value in point.items():
        if isinstance(value, dict):
            yield from _flat(value, prefix + name + ".")
        else:
            text = str(value)
            yield prefix + name, json.dumps(text) if not text or re.search(r"[\s\"']", text) else text
