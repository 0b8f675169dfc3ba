#!/usr/bin/env python3
"""Translates an .isc file (TOML, of Strong Compute's ISC, both generations) into options of job_submitter.sh.

isc.py FILE PROJECT GPUS_PER_NODE [GPUS [NODES]]   GPUS (of a node) and NODES: as given on the command line, or ''

Called by isc.sh. Standard library only, Python 3.9 or later (3.11 has a TOML reader; earlier versions use that of
tomli or pip). Prints words that each end with a NUL: KEY --OPTION=VALUE for each option, `--`, and the words of the
command in the form of argv files (lib/command.sh). Standard error gets one line for each key that Slurm has no use
for. Exit status 2: the file is wrong; 1: this Python cannot read it.
"""

import difflib
import importlib
import math
import os
import re
import shlex
import sys

NAME, WHOLE, LIST = "a text in quotes", "a whole number from 1 up", "a list of texts"
EXAMPLES = {NAME: '"…"', WHOLE: "8", LIST: '["…", "…"]'}
# gpu_type, nnodes, venv_path and output_path are from the first generation. Files mix both generations.
KEYS = {
    "experiment_name": NAME,
    "command": NAME,
    "gpus": WHOLE,
    "nnodes": WHOLE,
    "gpu_type": NAME,
    "compute_mode": NAME,
    "_cycle_count": WHOLE,
    "_time_per_cycle_ms": WHOLE,
    "venv_path": NAME,
    "output_path": NAME,
    "dataset_id": NAME,
    "dataset_id_list": LIST,
    "input_artifact_id_list": LIST,
    "isc_project_id": NAME,
    "burst_shape_priority_list": LIST,
}
LEFT_ASIDE = {
    "isc_project_id": "left aside: a job is charged to --account",
    "burst_shape_priority_list": "left aside: machines are chosen by --partition, --gpu-type and --constraint",
}
MODES = ("cycle", "burst", "interruptible")
# On the ISC a line break was a blank. Here it also ends a command, if no operator does: after a line that matches this,
SET_UP = re.compile(r"(source|\.|cd|export|unset|set|ulimit|module|conda|pip3?|python3? -m pip|mkdir|echo)(\s|$)|#")
# and before a line that matches this.
PROGRAM = re.compile(r"(torchrun|python3?|accelerate|deepspeed|bash|sh|exec|wait)(\s|$)")
# Text that can only be a script: its lines are not joined.
SCRIPT = re.compile(r"^\s*(#!|if|for|while|until|case|function)\b|^\s*#!|<<", re.MULTILINE)
ACTIVATE = re.compile(r"(?:^|[\s;&])(?:source|\.)\s+(['\"]?)([^\s;&'\"]+)/bin/activate\1(?=[\s;&]|$)")
FOR_THE_SHELL = re.compile(r"[$`~*?;&|<>(){}\[\]!#]")
VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))", re.ASCII)


notes = []  # printed if nothing is wrong


class WrongFileError(Exception):
    """The message says what is wrong, without the file's name."""


def load(path):
    """Return the file's keys with their values, and the line of each key."""
    for name in ("tomllib", "tomli", "pip._vendor.tomli"):
        try:
            toml = importlib.import_module(name)
            break
        except ImportError:
            continue
    else:
        version = sys.version.split()[0]
        print(
            "job_submitter.sh: error: python3 is %s and has no reader of TOML: take 3.11 or later, or install tomli"
            % version,
            file=sys.stderr,
        )
        sys.exit(1)
    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8")
    except OSError as error:
        raise WrongFileError("cannot be read: %s (--isc)" % error.strerror) from None
    except UnicodeDecodeError:
        raise WrongFileError("is not a text file in UTF-8 (--isc)") from None
    try:
        values = toml.loads(text)
    except toml.TOMLDecodeError as error:
        raise WrongFileError("is not TOML: %s" % error) from None
    lines = {}
    for key in values:
        found = re.search(r"^[ \t]*[\"']?%s[\"']?[ \t]*[=.\]]" % re.escape(key), text, re.MULTILINE)
        lines[key] = "line %d: " % (text.count("\n", 0, found.start()) + 1) if found else ""
    return values, lines


def shown(value):
    """Return the value as TOML writes it."""
    return str(value).lower() if isinstance(value, bool) else repr(value)


def fits(value, kind):
    if kind == WHOLE:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if kind == NAME:
        return isinstance(value, str) and bool(value.strip()) and "\0" not in value
    return isinstance(value, list) and all(fits(text, NAME) for text in value)


def check(values, lines):
    for key, value in values.items():
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, 1)
            raise WrongFileError(
                "%sunknown key %s: %s"
                % (lines[key], key, "did you mean %s?" % near[0] if near else "the keys are " + ", ".join(KEYS))
            )
        if not fits(value, KEYS[key]):
            raise WrongFileError(
                "%s%s = %s is not %s: write it like  %s = %s"
                % (lines[key], key, shown(value), KEYS[key], key, EXAMPLES[KEYS[key]])
            )
    if "command" not in values:
        raise WrongFileError('has no command: add  command = "train.py …"')
    mode = values.get("compute_mode", "cycle")
    if mode not in MODES:
        where = lines["compute_mode"]
        raise WrongFileError("%scompute_mode = %s is none of: %s" % (where, shown(mode), ", ".join(MODES)))


def note(key, value, text):
    said = "note: no %s: %s" % (key, text) if value is None else "note: %s = %s: %s" % (key, shown(value), text)
    notes.append(said)


def machines(values, lines, per_node, gpus, nodes):
    """Return (nodes, GPUs of each). The command line wins over the file; None means that neither says it."""
    total, wanted = values.get("gpus"), values.get("nnodes")
    nodes = nodes if nodes is not None else wanted
    if total is None:
        # In the first generation a job had whole nodes.
        return nodes, gpus if gpus is not None or wanted is None else per_node
    if nodes is None and gpus is None:
        nodes = next(count for count in range(-(-total // per_node), total + 1) if total % count == 0)
    elif nodes is None:
        nodes = total // gpus if gpus and total % gpus == 0 else None if gpus else 1
    if nodes is None or (gpus is None and total % nodes):
        raise WrongFileError(
            "%sgpus = %d cannot be shared evenly by %s: give another --gpus (of each node) or --num-nodes"
            % (lines["gpus"], total, "%d nodes" % nodes if nodes else "nodes of %d GPUs" % gpus)
        )
    if gpus is None:
        gpus = total // nodes
    note("gpus", total, "--num-nodes %d --gpus %d" % (nodes, gpus))
    return nodes, gpus


def cycles(values):
    """Return the value of --rapid-cycle for the compute mode."""
    mode = values.get("compute_mode", "cycle")
    if mode != "cycle":
        for key in ("_cycle_count", "_time_per_cycle_ms"):
            if key in values:
                note(key, values[key], 'left aside: compute_mode = "%s" has no cycles' % mode)
        return "none"
    count, milliseconds = values.get("_cycle_count", 5), values.get("_time_per_cycle_ms", 90_000)
    return "%dx%d" % (count, math.ceil(milliseconds / 1000))


def one_script(text):
    """Return the command's lines in the form that bash reads."""
    text = text.replace("\r\n", "\n").replace("\\\n", "").strip()
    if SCRIPT.search(text):
        return text
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    script = lines[0]
    for before, line in zip(lines, lines[1:]):
        ends = SET_UP.match(before) or SET_UP.match(line) or PROGRAM.match(line)
        script += ("\n" if ends and not re.search(r"(&&|\|\||[|;&])$", before) else " ") + line
    return script


def command(text, identities):
    """Return the words of the command, and whether the kit's torchrun starts it."""
    script = one_script(text)
    first = script.split(None, 1)[0]
    bare = first == "-m" or first.endswith(".py")
    if bare:
        script = "python " + script
    at = re.compile(r"/data/(%s)(?![\w.-])" % "|".join(map(re.escape, identities))) if identities else None
    # Avoid the shell if possible: then a value with blanks stays one word.
    if bare and not FOR_THE_SHELL.search(script if "'" in script else VARIABLE.sub("", script)):
        try:
            words = shlex.split(script)
        except ValueError as error:
            raise WrongFileError("command: %s" % error) from None
        words = [VARIABLE.sub(lambda found: "${%s}" % (found[1] or found[2]), word) for word in words]
        return [at.sub(r"${SLURM_TMPDIR}/\1", word) if at else word for word in words], True
    if at:
        script = at.sub(r"${SLURM_TMPDIR}/\1", script)
    return ["bash", "-c", ("exec " if bare else "") + script.replace("$", "$$")], bare


def check_torchrun(words, nodes, gpus):
    """Refuse a torchrun with other numbers than the job's: it would wait for nodes that never come."""
    for flag, number, variable in (("nnodes", nodes, "NNODES"), ("nproc[-_]per[-_]node", max(gpus or 1, 1), "N_PROC")):
        found = re.search(r"torchrun\s.*--(%s)[= ](\d+)(?![\d:])" % flag, words[-1], re.DOTALL)
        if found and number is not None and int(found[2]) != number:
            raise WrongFileError(
                "the command says --%s=%s, and this job has %d: write --%s=$%s"
                % (found[1], found[2], number, found[1], variable)
            )


def folder(path, base):
    """Return the folder of an environment, given its path or that of its activate script."""
    path = os.path.expandvars(os.path.expanduser(path))
    if path.endswith("/bin/activate"):
        path = path[: -len("/bin/activate")]
    return os.path.join(base, path)


def use_environment(words, environment):
    """Remove the `source …/activate` from the command if another environment is given."""
    sourced = ACTIVATE.search(words[-1])
    if sourced and environment:
        rest = re.sub(r"^[ \t]*(&&|;|\n)?\s*", "", words[-1][sourced.end() :])
        words[-1] = words[-1][: sourced.start()] + " " * bool(words[-1][: sourced.start()].strip()) + rest
        notes.append("note: command: %s is left out, as --environment is given" % sourced[0].strip())


def say_missing(words, project):
    """Note a program that is named by its absolute path on another machine."""
    found = re.findall(r"(?<![\w$}./~-])/[\w./-]+\.py\b", words[-1] if words[0] == "bash" else words[1])
    if not found or os.path.exists(found[0]):
        return
    parts = found[0].split("/")
    inner = ["/".join(parts[i:]) for i in range(1, len(parts))]
    near = [name for name in inner if os.path.exists(os.path.join(project, name))]
    where = "write  $source_dir/%s" % near[0] if near else "a job runs a copy of the project, $source_dir"
    notes.append("note: command: there is no %s on this machine: %s" % (found[0], where))


def options(path, project, per_node, gpus, nodes, environment, container):
    """Return pairs (key, option), and the command's words."""
    values, lines = load(path)
    check(values, lines)
    base = os.path.dirname(os.path.realpath(path))
    found = []

    def say(key, option, value):
        found.append((key, "--%s=%s" % (option, value)))

    identities = [*([values["dataset_id"]] if "dataset_id" in values else []), *values.get("dataset_id_list", [])]
    for key in ("dataset_id", "dataset_id_list", "input_artifact_id_list"):
        listed = values.get(key, [])
        for identity in [listed] if isinstance(listed, str) else listed:
            say(key, "data", identity)
    words, bare = command(values["command"], [*identities, *values.get("input_artifact_id_list", [])])

    if identities and not container and not any("SLURM_TMPDIR" in word for word in words):
        key = "dataset_id_list" if "dataset_id_list" in values else "dataset_id"
        text = "on each node it is SLURM_TMPDIR/ID; a program that opens /data/ID finds it in a container alone"
        note(key, values[key], text + " (--singularity-container)")
    use_environment(words, environment)
    if not container:
        say_missing(words, project)
    nodes, gpus = machines(values, lines, per_node, gpus, nodes)
    if not bare:
        check_torchrun(words, 1 if nodes is None else nodes, 1 if gpus is None else gpus)
    for option, value in (("num-nodes", nodes), ("gpus", gpus)):
        if value is not None:
            say("gpus" if "gpus" in values else "nnodes", option, value)
    if "experiment_name" in values:
        say("experiment_name", "exp-name", values["experiment_name"])
    say("command", "which-distributed", "torchrun" if bare else "node")
    if "gpu_type" in values:
        if re.fullmatch(r"\d+ ?GB VRAM GPU", values["gpu_type"]):
            note("gpu_type", values["gpu_type"], "any GPU: --gpu-type takes Slurm's own names")
        else:
            say("gpu_type", "gpu-type", values["gpu_type"])

    say("compute_mode", "rapid-cycle", cycles(values))
    say("compute_mode", "interrupt", "kill")
    if values.get("compute_mode") == "interruptible":
        say("compute_mode", "max-restarts", 50)
    elif "compute_mode" not in values:
        note("compute_mode", None, "cycles come first, as on the ISC; without them:  --rapid-cycle none")
    if "venv_path" in values:
        say("venv_path", "environment", folder(values["venv_path"], base))
    elif not bare:
        sourced = ACTIVATE.search(words[-1].replace("$$", "$"))
        if sourced:  # A relative one is relative to the folder that the command changed to.
            environment = folder(sourced[2], base)
            if os.path.isabs(folder(sourced[2], "")) or os.path.isdir(environment):
                say("command", "environment", environment)
    if "output_path" in values:
        say("output_path", "output-path", os.path.join(base, os.path.expanduser(values["output_path"])))
    inside = os.path.relpath(base, os.path.realpath(project))
    if inside not in (".", "..") and not inside.startswith("../"):
        say("command", "chdir", inside)
    for key, text in LEFT_ASIDE.items():
        if key in values:
            note(key, values[key], text)
    return found, words


def main(arguments):
    path, project, per_node, *given = arguments
    gpus, nodes = [int(number) if number else None for number in [*given, "", ""][:2]]
    environment, container = [*given, "", "", "", ""][2:4]
    try:
        found, words = options(path, project, int(per_node), gpus, nodes, environment, container)
    except WrongFileError as error:
        message = " ".join(str(error).split("\n"))
        print("job_submitter.sh: error: %s: %s" % (repr(path)[:1000], message), file=sys.stderr)
        return 2
    print("".join(text + "\n" for text in notes), end="", file=sys.stderr)
    out = [part for pair in found for part in pair] + ["--"] + words
    sys.stdout.buffer.write(b"".join(os.fsencode(word) + b"\0" for word in out))
    return 0


sys.exit(main(sys.argv[1:]))
