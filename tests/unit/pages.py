"""pages.py ROOT OPTIONS

Checks the rules of the pages in the *.md files of a checkout: links and anchors resolve, README.md links every page, no
page is too long, and the commands, modules and options that a page shows exist, as do the pages that a script names.
OPTIONS is a file with a line `PATH --option…` for each command. Prints a line `FILE:LINE: words` for each violation;
exit status 1 if there is any.

The options of a command end at the next pipe, `;`, `&`, comment or ` -- `. An option that a page names without a
command, as in `--option`, must occur in a source file.
"""

import re
import sys
from pathlib import Path

LINES, LINES_OF_ROOT = 320, 260
SKIPPED = {".git", ".venv", ".ruff_cache", ".mypy_cache", ".pytest_cache", "__pycache__"}
SOURCES = {".sh", ".bash", ".py", ".yml", ".txt", ".md", ".def", ".bats"}
LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
SPAN = re.compile(r"`([^`]+)`")
COMMAND = re.compile(r"(?:^|[\s(])([\w./-]*\w\.sh)(?=\s|$)([^|;&#]*)")
MODULE = re.compile(r"python -m (train(?:\.\w+)*)")
PLACEHOLDER = re.compile(r"[A-Z]{3}")
OPTION = re.compile(r"(?<!\S)--[a-z][a-z0-9_-]*")
# Pages that a script or a message names.
PAGE = re.compile(r"(?<![\w/.$}-])(?:hpc|singularity|venv|train|tests)/[\w./-]*\.md\b")


def files(root):
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if path.suffix in SOURCES and not SKIPPED.intersection(parts) and path.is_file():
            yield path


def without_code(lines):
    """Yield each line with its number and whether it is code; continued lines of code are joined."""
    fence, held, since = False, "", 0
    for number, line in enumerate(lines, 1):
        if line.startswith("```"):
            fence = not fence
        elif fence or line.startswith("    "):
            held, since = held + line, since or number
            if held.endswith("\\"):
                held = held[:-1]
                continue
            yield since, held, True
            held, since = "", 0
        else:
            yield number, line, False


def anchors(path):
    """Return a heading's anchor as GitHub makes it: lower case, hyphens for blanks, no marks but - and _."""
    found = set()
    for _, line, code in without_code(path.read_text().splitlines()):
        if not code and (heading := re.match(r"#+ +(.*?) *$", line)):
            words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.group(1))
            slug = base = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            more = 0
            while slug in found:
                more += 1
                slug = f"{base}-{more}"
            found.add(slug)
    return found


def links(page):
    """Yield each link of a page: its line, the target, and the file that it leads to, or None for another site."""
    for number, line, code in without_code(page.read_text().splitlines()):
        if not code:
            for target in LINK.findall(SPAN.sub("", line)):
                name = target.partition("#")[0]
                away = re.match(r"[a-z]+:", target)
                yield number, target, None if away else (page.parent / name).resolve() if name else page


def check_links(root, pages):
    linked = {root / "README.md"}
    for page in pages:
        for number, target, there in links(page):
            if there is None:
                continue
            if page.name == "README.md" and page.parent == root:
                linked.add(there)
            anchor = target.partition("#")[2]
            if not there.exists():
                yield page, number, f"the link {target} leads to nothing"
            elif root not in (there, *there.parents):
                yield page, number, f"the link {target} leads out of the checkout"
            elif anchor and anchor not in anchors(there):
                yield page, number, f"the link {target}: there is no such heading"
            elif there == root / "README.md" and page.relative_to(root).parts[0] not in ("README.md", "tests"):
                yield page, number, f"the link {target}: adopt.sh does not copy that page into projects"
    for page in pages:
        if page not in linked:
            yield page, 1, "README.md has no link to this page"


def check_lengths(root, pages):
    for page in pages:
        lines = len(page.read_text().splitlines())
        most = LINES_OF_ROOT if page == root / "README.md" else LINES
        if lines > most:
            yield page, lines, f"{lines} lines; a page here has at most {most}"


def check_commands(root, page, number, text, known):
    for command, rest in COMMAND.findall(text):
        if PLACEHOLDER.search(command):
            continue
        # Several commands are named `run.sh`; the page may not say which one.
        named = [names for path, names in known.items() if f"/{path}".endswith(f"/{command}")]
        for option in OPTION.findall(rest.partition(" -- ")[0]) if named else ():
            if option != "--help" and not any(option in names for names in named):
                yield page, number, f"{command} has no option {option}"
        if re.match(r"(hpc|venv|singularity|tests)/", command) and not (root / command).exists():
            yield page, number, f"there is no {command}"
    for module in MODULE.findall(text):
        place = root / module.replace(".", "/")
        if not (place.is_dir() or place.with_suffix(".py").exists()):
            yield page, number, f"there is no module {module}"


def check_what_is_shown(root, pages, known, words):
    for page in pages:
        for number, line, code in without_code(page.read_text().splitlines()):
            for text in [re.sub(r"\s#\s.*", "", line)] if code else SPAN.findall(line):
                yield from check_commands(root, page, number, text, known)
                for option in OPTION.findall(text) if not code and text.startswith("--") else ():
                    if option not in words and option[2:].replace("-", "_") not in words:
                        yield page, number, f"no source has the option {option}"


def check_names(root, sources):
    for path in sources:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for name in PAGE.findall(line):
                if not (root / name).exists():
                    yield path, number, f"there is no page {name}"


def main(root, options):
    known = {}
    for line in Path(options).read_text().splitlines():
        command, *names = line.split()
        known[command] = set(names)
    everything = list(files(root))
    pages = [path for path in everything if path.suffix == ".md"]
    sources = [path for path in everything if path.suffix != ".md" and path.suffix != ".txt" and path.suffix != ".bats"]
    words = set().union(*known.values())
    for path in sources:
        words.update(re.findall(r"(?:--)?[a-z][\w-]*", path.read_text()))
    faults = [
        *check_links(root, pages),
        *check_lengths(root, pages),
        *check_what_is_shown(root, pages, known, words),
        *check_names(root, sources),
    ]
    for path, number, fault in faults:
        print(f"{path.relative_to(root)}:{number}: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2]))
