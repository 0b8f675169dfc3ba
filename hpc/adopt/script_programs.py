"""Finds the programs that an sbatch script starts, also in srun, mpirun, a container or another shell. Python 3.6."""

import os
import re

from shell_text import TextError, moved, parse, set_of
from shell_values import literal, text

NEEDLESS = set_of(
    """echo printf date hostname pwd true false : which type nvidia-smi rocm-smi env printenv lscpu uname
    free df du ls cat head tail wc grep sleep sync whoami id uptime nvcc clear logger set shopt exit
    return break continue wait kill getent ping squeue sinfo sacct seq local read shift tee getopts
    dirname basename readlink realpath numactl-show sort uniq tr cut sed awk popd deactivate hash alias
    unalias stty disown jobs let sattach sstat sprio seff nvidia-cuda-mps-control lspci lsof ps top
    history"""
)
FILES = set_of(
    """cp rsync tar unzip mv rm rmdir ln mkdir touch chmod wget curl git scp zstd gunzip dd rclone aws
    gsutil squashfuse gzip pigz"""
)
PYTHON = re.compile(r"python[0-9.]*$")
LAUNCHERS = set_of("srun torchrun accelerate deepspeed mpirun mpiexec horovodrun orterun")
MPI = set_of("mpirun mpiexec horovodrun orterun")
MPI_FLAGS = set_of(
    """--oversubscribe --allow-run-as-root -oversubscribe --tag-output -tag-output --verbose -v
    --report-bindings"""
)
CONTAINER_VALUED = set_of(
    "-B --bind --env --env-file -H --home --pwd --cwd -W --workdir --overlay -S --scratch --network --app"
)
SRUN_MORE = set_of(
    "export mpi chdir D accel-bind tres-bind het-group"
)  # options with a value that launchers.sh does not list
KEY_OPTION = re.compile(r"--?([\w.-]*[_.-])?(api[-_]?key|token|password|passwd|secret)$", re.IGNORECASE)


class Run:
    """A program that the script starts."""

    def __init__(self, line, words, exports, folder, srun):
        self.line = line
        self.words = words
        self.exports = exports
        self.folder = folder
        self.srun = srun  # srun and its options

    @property
    def program(self):
        """Return the script or module of the program, or else its name."""
        words = [word for word in self.words if not re.match(r"\w+=", word)]
        for before, word in zip(["", *words], words):
            if word.endswith((".py", ".sh")) or before == "-m":
                return word
        return words[0] if words else ""

    @property
    def score(self):
        """Return how likely this is the training."""
        program = os.path.basename(self.program.replace("::", "/"))
        launched = any(os.path.basename(word) in LAUNCHERS or "torch.distributed" in word for word in self.words[:8])
        score = 4 * launched + 2 * any(PYTHON.match(os.path.basename(word)) or word in LAUNCHERS for word in self.words)
        score += 2 * bool(re.search(r"train|finetune|main|run|sft|fit", program.lower()))
        return score - 5 * bool(
            re.search(
                r"(^|[_-])(eval|test|plot|prep|download|convert|summar|report|export|upload|process|check)",
                program.lower(),
            )
        )


class Programs:
    """The part of script_flow.Script for programs."""

    def inner(self, value, line, settings=()):
        """Read text for another shell: bash -c, eval, a here-document."""
        content = re.sub(r"\$(\$|\{)", lambda found: "$" if found.group(1) == "$" else "${", value)
        if self.depth > 5:
            return
        outer, self.depth = dict(self.exports), self.depth + 1
        before = len(self.runs)
        try:
            self.walk(moved(parse(content), line))
        except TextError as error:
            self.say("left", line, "%s: %s" % (self.shown(line), error))
        for run in self.runs[before:]:
            run.words = [*settings, *run.words]
        self.exports, self.depth = outer, self.depth - 1

    def program(self, line, words, settings, documents):
        prefix = list(self.prefix)
        if os.path.basename(words[0]) == "srun":
            prefix, words, more = self.split_srun(line, words)
            settings = settings + more
            if any(re.match(r"--container|--multi-prog", word) for word in prefix):
                self.say(
                    "left", line, "%s: give the image by --singularity-container, as a SIF file" % self.shown(line)
                )
                prefix = ["srun"]
        elif os.path.basename(words[0]) in MPI:
            prefix, words = ["srun"], self.without_mpi(words)
            self.say(
                "kit",
                line,
                "mpirun: the job starts the processes itself; the program finds RANK, WORLD_SIZE and LOCAL_RANK",
            )
        words = self.without_container(line, words, settings)
        name = os.path.basename(words[0]) if words else ""
        if name in ("bash", "sh") and (re.match(r"-\w*c$", (words[1:] or [""])[0]) or (documents and len(words) < 3)):
            outer, self.prefix = self.prefix, prefix
            self.inner(
                words[2] if len(words) > 2 else text(documents[0]) if not words[1:2] or words[1:2] == ["-s"] else "",
                line,
                settings,
            )
            self.prefix = outer
        elif not words and documents:
            self.inner(text(documents[0]), line, settings)
        elif words and words != prefix and name not in NEEDLESS:
            if (
                name in FILES
                or self.is_installer(words)
                or words[:2] in (["wandb", "login"], ["huggingface-cli", "login"])
            ):
                self.called(name, words, line, settings, documents)
                return
            if PYTHON.match(name) and (words[1:2] in (["-c"], ["--version"], ["-V"])):
                if not re.search(r"import torch|print", " ".join(words)):
                    self.step(line)
                return
            if documents:
                self.say(
                    "left",
                    line,
                    "%s: a program inside of the script: write it into a file of the project" % self.shown(line),
                )
                return
            self.runs.append(
                Run(
                    line, [*settings, *prefix, *self.without_keys(line, words)], dict(self.exports), self.folder, prefix
                )
            )

    def split_srun(self, line, words):
        """Return (srun and its options, the program, settings of --export)."""
        prefix, settings, at = ["srun"], [], 1
        valued, flags = self.srun  # srun's options with and without a value
        while at < len(words) and words[at].startswith("-") and words[at] != "-":
            word = words[at]
            name, joined, value = word.lstrip("-").partition("=")
            name = name.replace("_", "-")
            count = 1
            if not joined and (name in valued or name in SRUN_MORE or name.startswith("container-")):
                count, value = 2, (words[at + 1 : at + 2] or [""])[0]
            if name == "export":
                settings += [part for part in value.split(",") if re.match(r"[A-Za-z_]\w*=", part)]
            elif name in ("chdir", "D"):
                self.say("left", line, "srun %s: the folder is --chdir" % " ".join(words[at : at + count]))
            elif (
                word.startswith("--")
                and name not in valued | flags
                and not name.startswith(("container-", "multi-prog"))
            ):
                self.say("kit", line, "srun %s: it concerns only srun" % word)
            else:
                prefix += words[at : at + count]
            at += count
        return prefix, words[at:], settings

    @staticmethod
    def without_mpi(words):
        at = 1
        while at < len(words) and words[at].startswith("-"):
            at += 1 if words[at] in MPI_FLAGS or "=" in words[at] else 3 if words[at] in ("--mca", "-mca") else 2
        return words[at:]

    def without_container(self, line, words, settings):
        """Remove `singularity exec`; its image and folders become options."""
        if (
            len(words) < 3
            or os.path.basename(words[0]) not in ("singularity", "apptainer")
            or words[1] not in ("exec", "run")
        ):
            return words
        at = 2
        while at < len(words) and words[at].startswith("-"):
            name, joined, value = words[at].partition("=")
            if name in CONTAINER_VALUED and not joined:
                at += 1
                value = (words[at : at + 1] or [""])[0]
            if name in ("-B", "--bind"):
                for part in value.split(","):
                    known = self.here(part)
                    if known and not known.startswith("."):
                        self.say("option", line, "bind", known)
                    elif not known:
                        self.say("left", line, "%s %s: give it by --bind" % (name, part))
            elif name == "--env":
                settings += [part for part in value.split(",") if re.match(r"[A-Za-z_]\w*=", part)]
            elif name in ("--pwd", "--cwd"):
                self.cd(line, value)
            at += 1
        image = self.here(words[at]) if at < len(words) else None
        if image:
            self.say(
                "option",
                line,
                "singularity-container",
                os.path.normpath(os.path.join(self.project, self.folder, image)),
            )
        else:
            self.say("left", line, "%s: give the image by --singularity-container" % self.shown(line))
        return words[at + 1 :]

    def without_keys(self, line, words):
        """Replace keys in the line by variables: a key belongs into .env."""
        found = []
        for before, word in zip(["", *words], words):
            option, joined, value = word.partition("=")
            if not joined:
                option, value = before, word
            known = literal(value)
            if known and len(known) > 7 and KEY_OPTION.match(option) and not known.isdigit():
                name = re.sub(r"\W", "_", option.lstrip("-")).upper()
                self.secrets[name] = known
                self.exports[name] = (line, value)
                found.append("%s${%s}" % (option + "=" if joined else "", name))
            else:
                found.append(word)
        return found
