"""The shell commands and the outputs that the pages (*.md) of a checkout show, for pages.bats.

    page_commands.py read ROOT NOT_RUN FOLDER
    page_commands.py compare SHOWN REAL

`read` writes into FOLDER a file for each command and each block, and the file `index` with a line for each:
PAGE TAB KIND TAB FILE TAB TEXT. The kinds:

    run      a line of a block ```bash, or a line `$ COMMAND` of a block without a language; continued lines are one
    output   a block without a language, or what is shown below a `$ COMMAND`; TEXT is its first line
    NAME     a block ```bash NAME: a file that the page shows; `session`: its first line starts a shell for the others
    no       a command of NOT_RUN, where a line `# REASON` stands above the commands that it is about

TEXT is the command in one line, without its comment. Prints the commands of NOT_RUN that no page shows; status 1 then.

`compare` prints the lines of SHOWN that REAL does not have; status 1 then. All numbers are equal. Of a line, the first
four words count, as far as the first path, value or `…`; a line of capitals, the head of a table, counts as a whole.
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "unit"))
from pages import files

VALUE = re.compile(r"(?<=[\s(])[/~]|[=…'\"]")


def blocks(page):
    """Yield each fenced block as its language, its name and its lines."""
    language, name, lines = None, "", []
    for line in page.read_text().splitlines():
        if not line.startswith("```"):
            if language is not None:
                lines.append(line)
        elif language is None:
            language, _, name = line[3:].partition(" ")
            lines = []
        else:
            yield language, name, lines
            language = None


def plain(command):
    """Return a command in one line, without a comment."""
    return re.sub(r"(^|\s+)#\s.*", "", command.replace("\\\n", " ")).strip()


def commands(lines):
    held = ""
    for line in lines:
        held += line
        if line.endswith("\\"):
            held += "\n"
        else:
            if plain(held):
                yield held
            held = ""


def parts(page):
    """Yield the kind, the one line and the text of all that the page shows."""
    for language, name, lines in blocks(page):
        if language == "bash" and name:
            yield name, lines[0], "\n".join(lines)
        elif language == "bash":
            for command in commands(lines):
                yield "run", plain(command), command
        elif not language:
            shown = []
            for line in [*lines, "$ "]:
                if not line.startswith("$ "):
                    shown.append(line)
                    continue
                if shown:
                    yield "output", shown[0], "\n".join(shown)
                if plain(line[2:]):
                    yield "run", plain(line[2:]), line[2:]
                shown = []


def read(root, not_run, folder):
    root, folder = Path(root).resolve(), Path(folder)
    skipped = {line for line in Path(not_run).read_text().splitlines() if line and not line.startswith("#")}
    unseen = set(skipped)
    with (folder / "index").open("w") as index:
        for page in (path for path in files(root) if path.suffix == ".md"):
            for kind, line, text in parts(page):
                unseen.discard(line)
                file = folder / str(index.tell())
                file.write_text(f"{text}\n")
                what = "no" if line in skipped else kind
                index.write("\t".join([str(page.relative_to(root)), what, str(file), line.expandtabs(1)]) + "\n")
    for line in sorted(unseen):
        print(f"{not_run}: no page shows: {line}")
    return 1 if unseen else 0


def key(line):
    """Return the words of a line that must agree."""
    words = re.sub(r"\d+", "0", " ".join(line.split()))
    if re.fullmatch(r"[A-Z0 %()]*[A-Z]{2}[A-Z0 %()]*", words):
        return [words]
    return VALUE.split(f" {words}")[0].split()[:4]


def compare(shown, real):
    there = [key(line) for line in Path(real).read_text().splitlines()]
    missing = []
    for line in Path(shown).read_text().splitlines():
        words = key(line)
        if words and not any(other[: len(words)] == words for other in there):
            missing.append(line)
    print("\n".join(missing))
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit({"read": read, "compare": compare}[sys.argv[1]](*sys.argv[2:]))
