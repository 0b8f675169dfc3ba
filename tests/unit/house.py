"""house.py ROOT

Checks the rules of the house on the files of a checkout: which side may use which file, cycles, dead code, sourcing,
and what bash 4.4 lacks. Prints a line `FILE:LINE: words` for each violation; exit status 1 if there is any.

A definition starts with `name::function() {` at the start of a line and ends at the first `}` or `)` at the start of a
line, which is how shfmt formats it. A use is `name::function` anywhere outside of comments.
"""

import re
import sys
from pathlib import Path

# Files that may be used across the sides, each with the reason.
EXCEPTIONS = {
    ("hpc/adopt.sh", "hpc/job_submitter/option_table.sh"): "it proposes the options of the submitter",
    ("hpc/adopt.sh", "hpc/job_submitter/sbatch_names.sh"): "it proposes the options of the submitter",
    ("hpc/adopt.sh", "hpc/job_submitter/sbatch_argument.sh"): "it proposes the options of the submitter",
    ("hpc/adopt/from_scripts.sh", "hpc/job_submitter/option_table.sh"): "it proposes the options of the submitter",
    ("hpc/adopt/from_scripts.sh", "hpc/job_submitter/sbatch_names.sh"): "it proposes the options of the submitter",
    ("hpc/adopt/from_scripts.sh", "hpc/job_submitter/sbatch_argument.sh"): "it proposes the options of the submitter",
    ("hpc/completion.bash", "hpc/job_submitter/option_table.sh"): "it completes the options of the submitter",
    ("hpc/doctor.sh", "hpc/job_submitter/option_table.sh"): "a profile may have the options of the submitter",
    (
        "hpc/doctor/probe_login.sh",
        "hpc/job_submitter/option_table.sh",
    ): "a profile may have the options of the submitter",
    ("hpc/drill.sh", "hpc/job_submitter/option_table.sh"): "it hands the submitter's options on",
    (
        "hpc/experiments.sh",
        "hpc/job_submitter/resubmit.sh",
    ): "resubmit is the submitter's work, in a process of its own",
    (
        "hpc/job_submitter/tasks.sh",
        "hpc/sweep/sweep.py",
    ): "one program knows W&B's sweeps, and is called as a program",
    (
        "hpc/sync_wandb.sh",
        "hpc/sweep/sweep.py",
    ): "one program knows W&B's sweeps, and is called as a program",
}
# They are private parts of a command but run on compute nodes.
ON_NODES = ("hpc/doctor/doctor_node.sh", "hpc/clean_nodes/clean_node.sh")
# Its functions enter the interactive shell of the user who sources it; the prefix says that they belong to the kit.
PREFIXES = {"hpc/completion.bash": "hpc_completion"}
# These files ask Slurm once on purpose: they ask a test's own cluster, cause a fault, or print for a newcomer.
ASK_ONCE = ("hpc/pocket_cluster", "hpc/drill.sh", "hpc/quickstart.sh")
FILES_IN_HPC, FILES_IN_LIB, EXCEPTIONS_OF_SHELLCHECK = 17, 25, 24

NAME = re.compile(r"(?<![\w:$])([a-z][a-z0-9_]*::[a-z][a-z0-9_]*)(?![\w:])")
DYNAMIC = re.compile(r"(?<![\w:$])([a-z][a-z0-9_]*)::[\"$]")
DEFINITION = re.compile(r"([a-z][a-z0-9_]*(?:::[a-z][a-z0-9_]*)?)\(\) *[{(]")
SOURCE = re.compile(r"(?:^|[\s;&])(?:source|\.) \"?(\$?[^\s\"<;]*/[^\s\";]+\.(?:sh|bash))\"?")
VARIABLE = re.compile(
    r"(?:(?:declare|readonly|export) (?:-\w+ )*)?([a-z]\w*)(?:\[[^]]*\])?\+?=|declare (?:-\w+ )+(\w+)\b"
)
NEWER = {
    r"\b(EPOCHSECONDS|EPOCHREALTIME|SRANDOM|BASH_ARGV0|BASH_MONOSECONDS)\b": "bash 4.4 has no {}",
    r"(?:^|[\s;&|(])(wait(?: +-\w+)*? +-[a-z]*[pf])\b": "bash 4.4 has no `{}`",
    r"\$\{[^}]*(@[LUuKk])\}": "bash 4.4 has no ${{…{}}}",
    r"\b((?:local|declare) +-[a-zA-Z]*I)\b": "bash 4.4 has no `{}`",
    r"(printf (?:-v \S+ )?['\"]?\S*%Q)": "bash 4.4 has no `{}`",
    r"\b(compgen -V|read -E|source -p)\b": "bash 4.4 has no `{}`",
    r"(\$\{ )": "bash 4.4 has no `{} …; }}`",
    r"\b(shopt -s [a-z ]*(?:assoc_expand_once|localvar_inherit|patsub_replacement))\b": "bash 4.4 has no `{}`",
}
QUIET_GREP = re.compile(r"\|\s*(?:\w+=\S*\s+)*[ef]?grep\s+(?:-\S+\s+)*(?:-[A-Za-z]*q|--quiet)")
HASTY = re.compile(
    r"\|\s*(?:\w+=\S*\s+)*(?:head\b|[ef]?grep\s+(?:-\S+\s+)*-[A-Za-z]*m|sed\s[^|]*\b[0-9]*q(?=['\";\s]|$)|awk\s[^|]*\bexit\b)"
)
WAITED = re.compile(r"(?<![\w:-])wait \"?\$[^|]*\|\| (?!true)")
ASKED = re.compile(
    r"(?:\$\(|<\(|^\s*|[|&!]\s*|\b(?:if|until|while)\s+|timeout \S+ )"
    r"(?:squeue|sinfo|sacctmgr|scancel|sacct|scontrol) (?!show hostnames|ping)"
)
# A name may end with half a character, and `read` would take the NUL behind it for the other half.
HALVED = re.compile(r"(?<!LC_ALL=C )IFS= read [^;|&]*-d ''")
DISABLED = re.compile(r"\s*# shellcheck disable=\S+( # \S)?")
MASKED = re.compile(r"\b(?:local|declare|readonly|export)\s+(?:-\w+\s+)*[^;|&]*?\b\w+=\"?[^\s\";|&]*\$\((?!\()")


class File:
    """One shell script. `code` holds its lines without comments; `owner` holds the function of each line."""

    def __init__(self, root, path):
        self.name = path.relative_to(root).as_posix()
        self.lines = path.read_text(encoding="utf-8").splitlines()
        self.code = [without_comment(line) for line in self.lines]
        self.is_bash = bool(self.lines) and re.search(r"bash", self.lines[0]) is not None
        self.is_script = bool(self.lines) and self.lines[0].startswith("#!")
        self.defined, self.owner, self.uses, self.sources = {}, [], [], []
        inside = ""
        for number, line in enumerate(self.code, 1):
            found = DEFINITION.match(line)
            if found:
                inside = found.group(1)
                self.defined[inside] = number
            self.owner.append(inside)
            self.uses += [(number, inside, name) for name in NAME.findall(line[found.end() :] if found else line)]
            self.uses += [(number, inside, name + "::*") for name in DYNAMIC.findall(line)]
            self.sources += [(number, inside, name) for name in SOURCE.findall(line)]
            if inside and (line[:1] in ("}", ")") or (found and line.endswith(("}", ")")))):
                inside = ""

    @property
    def module(self):
        return PREFIXES.get(self.name, Path(self.name).stem)

    def variables(self):
        """Return the globals that it declares outside of functions."""
        found = (VARIABLE.match(line) for line, owner in zip(self.code, self.owner) if not owner)
        return {match.group(1) or match.group(2) for match in found if match}


def without_comment(line):
    """Return the line up to its comment: a # that begins a word outside of quotes."""
    if line.lstrip().startswith("#"):
        return ""
    for found in re.finditer(r"\s#\s", line):
        before = re.sub(r"\\.", "", line[: found.start()])
        if before.count('"') % 2 == 0 and before.count("'") % 2 == 0:
            return line[: found.start()]
    return line


class House:
    def __init__(self, root):
        self.root = root
        paths = [path for folder in ("hpc", "venv", "singularity") for path in sorted((root / folder).rglob("*.*sh"))]
        self.files = {}
        for path in paths:
            if path.suffix in (".sh", ".bash") and not path.is_symlink():
                file = File(root, path)
                self.files[file.name] = file
        self.definers = {}
        for file in self.files.values():
            for function in file.defined:
                if "::" in function:
                    self.definers.setdefault(function, []).append(file)

    def resolve(self, file, name):
        """Return the file of the checkout that `source "$here/lib/common.sh"` refers to."""
        rest = name.split("/", 1)[1] if name.startswith("$") else name
        for folder in ("", "hpc", Path(file.name).parent.as_posix()):
            candidate = (Path(folder) / rest).as_posix()
            if candidate in self.files:
                return self.files[candidate]
        return None

    def matching(self, file, use):
        """Return the functions that a use may refer to, with their files; a file's own function comes first."""
        functions = [name for name in self.definers if name.startswith(use[:-1])] if use.endswith("*") else [use]
        for function in functions:
            definers = self.definers.get(function, [])
            for definer in [file] if file in definers else definers:
                yield function, definer

    def calls(self):
        """Return each use of another file's function: (file, line, function, its file)."""
        for file in self.files.values():
            for number, _, use in file.uses:
                for function, definer in self.matching(file, use):
                    if definer is not file:
                        yield file, number, function, definer

    def side(self, name):
        """Return the module of a file: lib, job, a command's name, clusters, venv or singularity."""
        parts = name.split("/")
        if parts[0] != "hpc":
            return parts[0]
        return parts[1] if len(parts) > 2 else Path(name).stem

    # The rules. Each yields (file name, line, words).

    def cycles(self):
        edges = {}
        for file, number, function, definer in self.calls():
            edges.setdefault(file.name, {}).setdefault(definer.name, (number, function))
        for name in sorted(edges):
            for other in sorted(edges[name]):
                if name in reach(edges, other):
                    number, function = edges[name][other]
                    yield name, number, f"a cycle: it calls {function} of {other}, which calls back"

    def sides(self):
        for file, number, function, definer in self.calls():
            if not self.may_use(file.name, definer.name):
                yield file.name, number, f"{function} of {definer.name} is of another side"
        for file in self.files.values():
            for number, line in enumerate(file.code, 1):
                for path in re.findall(r"[\w}]/(?:hpc/)?(\w+/\w+\.(?:sh|py))", line):
                    side = path.split("/")[0]
                    private = (self.root / "hpc" / (side + ".sh")).exists() and (self.root / "hpc" / path).exists()
                    if private and not self.may_use(file.name, "hpc/" + path):
                        yield file.name, number, f"hpc/{path} is private to hpc/{side}.sh"

    def may_use(self, user, used):
        user_side, used_side = self.side(user), self.side(used)
        return (
            user_side == used_side
            or used_side == "lib"
            or (used == "venv/environment.sh" and user_side != "lib")
            or (used_side == "job" and "/lib/" in used and user in ON_NODES)
            or (user, used) in EXCEPTIONS
        )

    def unknown(self):
        for file in self.files.values():
            for number, _, use in file.uses:
                if not any(True for _ in self.matching(file, use)):
                    yield file.name, number, f"nobody defines {use}"

    def dead(self):
        used = set()
        for file in self.files.values():
            for _, owner, use in file.uses:
                used |= {
                    (definer.name, function) for function, definer in self.matching(file, use) if function != owner
                }
            for function in file.defined:
                if "::" not in function and any(
                    re.search(r"(?<![\w:])" + function + r"\b(?!\()", line) for line in file.code
                ):
                    used.add((file.name, function))
        for file in self.files.values():
            for function, number in file.defined.items():
                hook = self.side(file.name) == "clusters"  # site.sh and node_setup.sh call what profiles define
                if (file.name, function) not in used and not hook:
                    yield file.name, number, f"nobody uses {function}"

    def prefixes(self):
        for file in self.files.values():
            for function, number in file.defined.items():
                if not file.is_bash or self.side(file.name) == "clusters" or function == "main":
                    continue
                if function.split("::")[0] != file.module or "::" not in function:
                    yield file.name, number, f"{function} is to be {file.module}::…"

    def headers(self):
        for file in self.files.values():
            for number, line in enumerate(file.lines, 1):
                if not line.startswith("#"):
                    if line.strip():
                        break
                elif re.search(r"\b[Nn]eeds\b[^.]*\b\w+\.sh\b", line):
                    yield file.name, number, "the header says what it needs: the files say that already"

    def folders(self):
        files = sorted(path for path in (self.root / "hpc").iterdir() if path.is_file())
        if len(files) > FILES_IN_HPC:
            yield "hpc", 1, f"{len(files)} files, more than {FILES_IN_HPC}"
        for path in files:
            name = path.relative_to(self.root).as_posix()
            command = name in self.files and self.files[name].is_script
            if not command and path.stem != "completion" and path.suffix not in (".yml", ".md"):
                yield name, 1, "no command, completion, template or page"
        library = [path for path in (self.root / "hpc/lib").iterdir() if path.is_file()]
        if len(library) > FILES_IN_LIB:
            yield "hpc/lib", 1, f"{len(library)} files, more than {FILES_IN_LIB}"

    def exceptions(self):
        """ShellCheck directives must be few, each with a reason. Only tests may have one for a whole file."""
        count, folders = 0, ("hpc", "venv", "singularity", "tests")
        for path in [path for folder in folders for path in sorted((self.root / folder).rglob("*.*"))]:
            if path.suffix not in (".sh", ".bash", ".bats"):
                continue
            before = ""
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                found = DISABLED.match(line)
                if found:
                    count += 1
                    if not found.group(1) and (DISABLED.match(before) or not before.lstrip().startswith("#")):
                        name = path.relative_to(self.root).as_posix()
                        yield name, number, "an exception of ShellCheck without a reason"
                before = line
        if count > EXCEPTIONS_OF_SHELLCHECK:
            yield ".", 1, f"{count} exceptions of ShellCheck, more than {EXCEPTIONS_OF_SHELLCHECK}"
        rules = [path for folder in folders[:3] for path in (self.root / folder).rglob(".shellcheckrc")]
        for path in [self.root / ".shellcheckrc", *rules]:
            if path.exists() and re.search("(?m)^disable=", path.read_text(encoding="utf-8")):
                yield path.relative_to(self.root).as_posix(), 1, "an exception of ShellCheck for all files"

    def words(self):
        for file in self.files.values():
            if not file.is_bash:
                continue
            for number, line in enumerate(file.code, 1):
                pipe = file.code[number - 2] if number > 1 and file.code[number - 2].rstrip().endswith("|") else ""
                if QUIET_GREP.search(("|" if pipe else "") + line):
                    yield file.name, number, "| grep -q: under pipefail a match may be a failure; grep -c >/dev/null"
                if HASTY.search(("|" if pipe else "") + line):
                    yield file.name, number, "the reader of a pipe ends before its writer: under pipefail a failure"
                if self.side(file.name) == "job" and WAITED.search(line):
                    yield file.name, number, "the status of `wait` may be a signal's: common::wait"
                if not file.name.startswith(ASK_ONCE) and ASKED.search(line):
                    yield file.name, number, "one silent answer decides: slurm::ask"
                for pattern, text in NEWER.items():
                    for found in re.findall(pattern, line):
                        yield file.name, number, text.format(found)
                if HALVED.search(line):
                    yield file.name, number, "read -d '' loses the NUL behind half a character: LC_ALL=C IFS= read"
                if MASKED.search(line):
                    yield file.name, number, "a failure of $( ) is lost: declare first, then assign"

    def sourcing(self):
        """A script must source what it uses and use what it sources."""
        for script in self.files.values():
            direct = [(number, self.resolve(script, name)) for number, _, name in script.sources]
            direct = [(number, file) for number, file in direct if file is not None]
            if not script.is_script or not direct:
                continue
            sourced, queue = {script.name}, [file for _, file in direct]
            while queue:
                file = queue.pop()
                if file.name not in sourced:
                    sourced.add(file.name)
                    queue += [found for found in (self.resolve(file, name) for _, _, name in file.sources) if found]
            reached, missing, text = self.reached(script, sourced)
            yield from sorted(missing)
            for number, file in direct:
                used = any(name == file.name for name, _ in reached)
                if not used and not re.search(r"\b({})\b".format("|".join(file.variables()) or "$."), text):
                    yield script.name, number, f"{Path(script.name).name} uses nothing of {file.name}"

    def reached(self, script, sourced):
        """Return the functions that run with the script, those that it does not source, and the code that runs."""
        reached, missing, text = set(), set(), []
        # Start with the script itself and with the code that its modules run when they are sourced.
        queue = [(script.name, function) for function in ["", *script.defined]]
        queue += [(name, "") for name in sourced if name != script.name]
        while queue:
            name, function = queue.pop()
            if (name, function) in reached:
                continue
            file = self.files[name]
            if function or name == script.name:
                reached.add((name, function))
                text += [
                    line for line, owner in zip(file.code, file.owner) if owner == function and not SOURCE.search(line)
                ]
            for number, owner, use in file.uses:
                if owner != function:
                    continue
                found = list(self.matching(file, use))
                here = [(definer.name, target) for target, definer in found if definer.name in sourced]
                if found and not here:
                    words = "{} runs it, and does not source {}, which has {}"
                    missing.add((name, number, words.format(script.name, found[0][1].name, use)))
                queue += [item for item in here if item not in reached]
        return {(name, function) for name, function in reached if function}, missing, "\n".join(text)

    RULES = (cycles, sides, unknown, dead, prefixes, headers, folders, exceptions, words, sourcing)


def reach(edges, start):
    found, queue = set(), [start]
    while queue:
        name = queue.pop()
        if name not in found:
            found.add(name)
            queue += edges.get(name, {})
    return found


def main():
    house = House(Path(sys.argv[1]).resolve())
    violations = sorted({violation for rule in House.RULES for violation in rule(house)})
    for name, line, words in violations:
        print(f"{name}:{line}: {words}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
