"""Reads the rest of an sbatch script: variables, modules, environments, folders, copies. Python 3.6."""

import os
import re

from script_programs import FILES, NEEDLESS, PYTHON
from shell_text import TextError, moved, parse, set_of
from shell_values import OURS, SECRET, literal, names, text

INSTALLERS = set_of("pip pip3 virtualenv venv uv poetry pipenv apt apt-get yum spack")
NODE_DISK = re.compile(r"\$\{SLURM_TMPDIR\}|^/(tmp|local|localscratch|scratch_local|dev/shm|lscratch|raid|nvme)(/|$)")


class Commands:
    """The part of script_flow.Script for these commands."""

    def called(self, name, words, line, settings, documents):
        if name in ("source", "."):
            self.source_file(line, words)
        elif name in ("module", "ml"):
            self.module(line, words)
        elif name in ("conda", "mamba", "micromamba") and words[1:2] != ["run"]:
            self.conda(line, words)
        elif name in ("cd", "pushd"):
            self.cd(line, words[1] if len(words) > 1 else "${HOME}")
        elif name == "set" and "--" in words:
            self.values.arguments = words[words.index("--") + 1 :]
        elif name == "let":
            for one in words[1:]:
                self.values.change(literal(one) or "0")
        elif name == "shift":
            count = literal(words[1]) if len(words) > 1 else "1"
            self.values.arguments = self.values.arguments[int(count) if count and count.isdigit() else 1 :]
        elif name == "unset":
            for one in words[1:]:
                self.values.variables.pop(one, None)
                self.exports.pop(one, None)
        elif name == "trap" or words[:2] == ["scontrol", "requeue"]:
            self.say(
                "kit", line, "%s: the job asks the program to stop, and starts it again, itself" % " ".join(words[:2])
            )
        elif name in ("ulimit", "umask"):
            self.say(
                "left",
                line,
                "%s: it belongs into node_setup of the site's profile (hpc/clusters/README.md)" % " ".join(words),
            )
        elif name == "sbatch":
            self.say(
                "left", line, "%s: a further job: send it yourself, with --dependency afterok:JOB" % self.shown(line)
            )
        elif name in FILES:
            self.files(line, words)
        elif self.is_installer(words):
            self.installs(line)
        elif words[:2] in (["wandb", "login"], ["huggingface-cli", "login"], ["hf", "auth"]):
            self.login(line, words)
        elif name == "cat" and documents:
            self.say("left", line, "%s: a file that the script writes: put it into the project" % self.shown(line))
        elif name not in NEEDLESS and name != "scontrol":
            self.program(line, words, settings, documents)

    @staticmethod
    def is_installer(words):
        name = os.path.basename(words[0])
        return (name in INSTALLERS and words[1:2] != ["run"]) or (
            PYTHON.match(name) and words[1:2] == ["-m"] and words[2:3] and words[2] in INSTALLERS
        )

    def installs(self, line):
        self.environment = True
        self.say(
            "kit", line, "the environment is made once, by  bash venv/create.sh  from requirements.txt, not by each job"
        )

    # Variables.

    def assign(self, command, exported):
        words = self.values.words(command.words)[1:] if command.words else []
        exported = exported or any(re.match(r"-\w*x", word) for word in words)
        for setting in command.settings:
            self.assign_one(command.line, setting)
            if exported or setting[0] in self.exports:
                self.exports[setting[0]] = (command.line, self.values.variables.get(setting[0], ""))
        for name in words:
            if exported and re.match(r"[A-Za-z_]\w*$", name) and name in self.values.variables:
                self.exports[name] = (command.line, self.values.variables[name])

    def assign_one(self, line, setting):
        name, index, more, content = setting
        if name in OURS:
            self.say("kit", line, "%s: the job sets it itself" % name)
            return
        value = (
            self.values.words(content) if isinstance(content, tuple) else self.values.word(content) if content else ""
        )
        pairs = [re.match(r"\[([^]]*)\]=(.*)$", word, re.DOTALL) for word in value] if isinstance(value, list) else []
        if pairs and all(pairs):
            value = {pair.group(1): pair.group(2) for pair in pairs}
        if isinstance(value, str) and "${UNKNOWN" in value:
            if "PORT" in name or re.search(r"MASTER|HEAD|ADDR", name):
                value = "${MASTER_PORT}" if "PORT" in name else "${MASTER_ADDR}"
            else:
                why = self.values.unknown.pop("UNKNOWN", "$(( )) with what the job alone knows")
                value = "${%s}" % name
                self.values.put(name, value)
                self.values.unknown[name] = why
                return
        if re.search(r"scontrol\s+show\s+hostname", str(content)):
            self.say("kit", line, "%s: the job finds its nodes itself" % name)
        old = self.values.variables.get(name)
        if index:
            at = self.values.sum(index[1:-1])
            values = old if isinstance(old, list) else []
            if at is not None and 0 <= at < 1000:
                values = values + [""] * (at + 1 - len(values))
                values[at] = value
            value = values
        elif more and old is not None:
            value = old + value if isinstance(old, type(value)) else value
        self.values.put(name, value)
        if SECRET.search(name.upper()) and isinstance(value, str) and literal(value):
            self.secrets[name] = literal(value)

    def own_settings(self, command):
        """Handle NAME=VALUE in front of a command."""
        found = []
        for name, _, _, content in command.settings:
            value = "" if isinstance(content, tuple) else self.values.word(content) if content else ""
            if SECRET.search(name.upper()) and literal(value):
                self.secrets[name] = literal(value)
                self.exports[name] = (command.line, value)
            elif name not in OURS:
                found.append("%s=%s" % (name, value))
        return found

    # Files, modules and environments that belong to the site or to the kit.

    def source_file(self, line, words):
        file = words[1] if len(words) > 1 else ""
        if re.search(r"(^|/)activate$", file):
            if len(words) > 2:
                self.conda(line, ["conda", "activate", words[2]], os.path.dirname(os.path.dirname(file)))
            elif file == "activate":
                self.say("left", line, "%s: give the environment by --environment FOLDER" % self.shown(line))
            else:
                self.use_environment(line, os.path.dirname(os.path.dirname(file)))
        elif re.search(r"conda\.sh$|mamba\.sh$", file):
            self.find_conda(file)
        elif os.path.basename(file).startswith(".env"):
            self.say("kit", line, "%s: the job reads the project's .env itself" % " ".join(words))
        elif re.search(r"bashrc$|profile$|/etc/profile\.d/|/init/(ba)?sh$|lmod", file):
            pass
        else:
            path = self.find_file(file)
            if not path or self.depth > 5:
                self.say(
                    "left",
                    line,
                    "%s: its variables belong into .env, its modules into the site's profile" % " ".join(words),
                )
                return
            with open(path, "rb") as opened:
                content = opened.read().decode("utf-8", "surrogateescape")
            self.depth += 1
            lines, self.lines = self.lines, [""] * (line - 1) + [self.lines[line - 1]]
            try:
                self.walk(moved(parse(content), line))
            except TextError as error:
                self.say("left", line, "%s, line %d: %s" % (file, error.line, error))
            self.depth -= 1
            self.lines = lines

    def module(self, line, words):
        rest = [word for word in words[1:] if not word.startswith("-")]
        verb = (
            rest.pop(0)
            if rest
            and (words[0].endswith("module") or rest[0] in ("load", "purge", "use", "list", "add", "unload", "reset"))
            else "load"
        )
        if verb in ("load", "add"):
            self.say("module", line, *filter(None, map(self.here, rest)))
        elif verb in ("use", "unload", "swap", "switch"):
            self.say(
                "left",
                line,
                "%s: write it into the profile:  node_setup() { %s; }  (after site[modules])"
                % ((" ".join(words),) * 2),
            )

    def find_conda(self, content):
        found = re.search(r"(\S*)/(?:etc/profile\.d|bin|condabin)/", content)
        if found:
            self.conda_root = self.here(self.values.inner(found.group(1).replace('"', "").lstrip("("))) or ""

    def conda(self, line, words, root=""):
        if words[1:2] != ["activate"]:
            if words[1:2] != ["deactivate"]:
                self.installs(line)
            return
        name = self.here(words[2]) if len(words) > 2 else "base"
        if not name or "/" in name:
            self.use_environment(line, words[2])
            return
        roots = [self.here(root) or self.conda_root] if root or self.conda_root else []
        roots += [
            os.path.expanduser("~/" + folder)
            for folder in ("miniconda3", "miniforge3", "anaconda3", "mambaforge", ".conda")
        ]
        folders = [base if name == "base" else os.path.join(base, "envs", name) for base in roots if base]
        found = next((folder for folder in folders if os.path.isdir(folder)), folders[0] if self.conda_root else "")
        if found:
            self.use_environment(line, text(found))
        else:
            self.say(
                "left",
                line,
                "conda activate %s: find its folder by  conda env list , and write it into the profile "
                "(site[environment]), or give --environment" % name,
            )

    def use_environment(self, line, folder):
        if self.environment or "SLURM_TMPDIR" in folder:
            self.installs(line)
            return
        known = self.here(folder)
        if not known:
            self.say("left", line, "%s: give the environment by --environment FOLDER" % self.shown(line))
            return
        self.say("site", line, "environment", os.path.normpath(os.path.join(self.project, self.folder, known)))

    def cd(self, line, value):
        known = self.here(value)
        if NODE_DISK.search(value):
            self.say(
                "left",
                line,
                "cd %s: the line runs in a copy of the project; the node's disk is ${SLURM_TMPDIR}" % value,
            )
        elif known is None:
            self.say("left", line, "cd %s: the line runs in the project's folder; another is --chdir" % value)
        elif known.startswith("/"):
            inside = os.path.relpath(os.path.realpath(known), os.path.realpath(self.project))
            if not inside.startswith(".."):
                self.folder = inside
            elif os.path.isdir(known):
                self.folder = known
            else:
                self.say("left", line, "cd %s: it is not here; the line runs in a copy of the project's folder" % known)
        elif known not in (".", ""):
            self.folder = os.path.normpath(os.path.join(self.folder, known))

    def files(self, line, words):
        if words[0] == "rm" and self.runs:
            return
        name, rest = os.path.basename(words[0]), [word for word in words[1:] if not word.startswith("-")]
        on_disk = [word for word in rest if NODE_DISK.search(word)]
        if name in ("mkdir", "touch", "chmod", "rm", "rmdir") and (
            on_disk or all(re.search(r"log|slurm|out", word) for word in rest)
        ):
            return
        if on_disk and rest and not NODE_DISK.search(rest[-1]) and name in ("cp", "rsync", "mv"):
            for word in on_disk:
                inner = re.sub(r"^\$\{SLURM_TMPDIR\}/?", "", word).rstrip("/")
                if word.startswith("${SLURM_TMPDIR}") and inner and "$" not in inner:
                    self.say("option", line, "collect", inner)
                    self.say(
                        "kit", line, "what it copies back from the node's disk goes to the run directory (--collect)"
                    )
                else:
                    self.say(
                        "left",
                        line,
                        "%s: what lies on the node's disk at the end is kept by --collect" % self.shown(line),
                    )
        elif on_disk:
            self.say(
                "left",
                line,
                "%s: --data brings folders of $SCRATCH/PROJECT to the same place in ${SLURM_TMPDIR} (see "
                "hpc/job_submitter/DATA.md)" % self.shown(line),
            )
        else:
            self.step(line)

    def step(self, line):
        self.say("step", line, self.shown(line))

    def login(self, line, words):
        name = "WANDB_API_KEY" if words[0] == "wandb" else "HF_TOKEN"
        keys = [word for word in words[2:] if not word.startswith("-") and word != "login"]
        if keys and literal(keys[-1]):
            self.secrets[name] = literal(keys[-1])
            self.exports[name] = (line, keys[-1])
        elif keys and names(keys[-1]) and names(keys[-1])[0] in self.secrets:
            self.exports[name] = (line, text(self.secrets[names(keys[-1])[0]]))
        self.say("kit", line, "%s: the program finds the key in %s (.env)" % (" ".join(words[:2]), name))
