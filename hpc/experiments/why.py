"""Explains why a task ended or waits: one sentence, the end of the log of the first rank that failed, and what to do.

It reads the run directory. It asks Slurm only about waiting jobs and about ends that were not recorded. Called by
experiments.py; the rules are in why_rules.py.
"""

import collections
import json
import os
import re
import shlex
import time

import failures
from case import Case, attempts_part
from files import changed, read, tail
from finding import find, the_task
from progress import progress_of, starts_over
from ranks import rank_files
from slurm import Slurm, ask, duration, seconds_of
from why_exceptions import ABOVE, BY_KIND, IMPORT, PLACES
from why_messages import SAID
from why_rules import ENDS, EXCEPTION, KINDS, NOTES, OTHERWISE, REASONS, SIGNALS

SHOWN = 12  # lines of a log


def fields(case):
    """Return the fields that sentences may use."""
    run = case.run
    asked = run.number_in("mem_megabytes")
    peak = case.peak_bytes() if re.match("out_of_memory|failed|lost OUT", case.cause) else None
    who = f"rank {case.rank}" if case.rank is not None else "a rank"
    who += f" on {case.node}" if case.node else ""
    nodes = case.attempt.nodes if case.attempt else ""
    dead = sorted(set(re.findall(r"srun: error: Node failure on ([^\s,]+)", case.log)))
    rate, more_time = pace(case) if re.match("time_limit|lost TIMEOUT", case.cause) else ("", "")
    beat = case.attempt.beat if case.attempt else None
    return {
        "who": who,
        "node": case.node or nodes or "NODE",
        "nodes": nodes,
        "dead": ", ".join(dead) or nodes,
        "exclude": f" --exclude {','.join(dead)}" if dead else "",
        "head": first_of(nodes) or "its head node",
        "status": case.status or "another status than 0",
        "signal": SIGNALS.get(int(case.status or 0), ""),
        "asked": megabytes(asked),
        "peak": f"; the most that was measured is {megabytes(peak >> 20)}" if peak else "",
        "more_memory": megabytes(more(max(asked, (peak or 0) >> 20))),
        "again": f"bash hpc/experiments.sh resubmit {case.job or run.folder}",
        "logs": f"bash hpc/experiments.sh logs {case.job or run.folder}",
        "scratch": run.facts.get("scratch_dir", "SCRATCH"),
        "limit": run.facts.get("time", "the job"),
        "rate": rate,
        "more_time": more_time,
        "last": KINDS.get(case.cause, case.cause),
        "hang": duration(run.number_in("hang_seconds")),
        "beat": f"; the last beat was at {time.strftime('%F %T', time.localtime(beat))}" if beat else "",
        "slurm": case.slurm_says,
        "job": case.job,
        "install": installer(run),
        "named": case.file,
        "full": place_of(case).format(node=case.node or "the node", scratch=run.facts.get("scratch_dir", "SCRATCH")),
        **waiting(case, who),
    }


def installer(run):
    """Return how packages come into the run's environment or container: of the kit, or of the user."""
    container, environment = run.facts.get("container"), run.facts.get("environment")
    if container:
        return "bash singularity/build.sh" if "/.venv/" in container else f"the build of {container}"
    if environment and "/.venv/" not in environment:
        return f"{environment}/bin/python -m pip install -r requirements.txt"
    return "bash venv/create.sh"


def place_of(case):
    """Return which disk is full: the one that the log names, or that the stack implies, or else all candidates."""
    if case.file:
        return f"look at the file system of {case.file}"
    known = "\n".join(words for raised in case.chain for words in (raised.text, *(file for file, *_ in raised.frames)))
    return next(words for pattern, words in PLACES if re.search(pattern, known))


def waiting(case, who):
    """Return, for a collective that timed out, which ranks waited and which rank to look at."""
    waited, others = case.arrivals() if case.cause.startswith("failed") else ({}, [])
    if not waited or len(others) > len(waited):  # the first rank that gave up may have ended the others
        return {"waited": f" ({who})", "late": "R"}
    late = others or [rank for rank, number in waited.items() if number < max(waited.values())]
    words = f"; ranks that waited: {', '.join(waited)}"
    if late:
        case.own_log = os.path.join(case.task.folder, f"rank_{late[0]}.txt")
        words += f"; that {'did not arrive' if others else 'were behind'}: {', '.join(late)}"
    return {"waited": words, "late": late[0] if late else "R"}


def first_of(nodes):
    """Return the first node of Slurm's list: cn-07-x for cn-[07,09-12]-x,z."""
    return re.sub(r"\[([^],-]+)[^]]*\]", r"\1", re.match(r"(?:\[[^]]*\]|[^,[])*", nodes)[0])


def megabytes(number):
    return f"{number // 1024}G" if number and number % 1024 == 0 else f"{number}M"


def more(asked):
    """Return 1.5 times the request, in whole steps."""
    step = 1024 if asked >= 4096 else 256
    return -(-asked * 3 // 2 // step) * step


def pace(case):
    """Return (words about its speed, the time to ask for)."""
    task, text = case.task, attempts_part(case.log, case.attempt.number) if case.attempt else case.log
    elapsed, limit = task.elapsed, seconds_of(case.run.facts.get("time", ""))
    progress = progress_of(text) or task.progress
    if not progress or not progress[1]:
        return "; how fast it was is not known, as its log has no 'epoch 3/20'", duration(2 * limit)
    what, done, whole = progress
    if whole and starts_over(text, progress):
        return f"; how fast it was is not known, as its {what} of {whole} starts over", duration(2 * limit)
    if not whole:
        each = duration(elapsed / done)
        return f"; {what} {done:g} was reached in {duration(elapsed)}, so {each} each", duration(2 * limit)
    needed = elapsed * whole / done
    words = (
        f"; {what} {done:g} of {whole} was reached in {duration(elapsed)}, so the whole needs about {duration(needed)}"
    )
    return words, duration(-(-needed * 1.2 // 60) * 60)


def judge(case):
    """Return (word, sentence, remedy) of the first rule that fits."""
    known = fields(case)
    for rule in ENDS:
        found = re.search(rule.cause, case.cause) and last_match(rule.log or "$", case.text)
        if found:
            return filled(rule, {**known, **tidy(rule, found)})
    rules = [rule for rule in SAID if re.search(rule.cause, case.cause)]
    looked_at = [(text, rules) for text in case.evidence()]
    if case.has_own_exception:
        leading = [words for pattern, words in ABOVE if re.search(pattern, case.chain[-1].text)]
        # The exception's own text is searched below.
        above = [rule for rule in rules for words in leading if rule.word in words]
        looked_at.insert(0, (case.lines, [rule for rule in above if not last_match(rule.log, case.chain[-1].text)]))
        if failures.is_of_import(case.chain, case.run.facts.get("source_dir", "-")):
            looked_at.append((case.lines, [rule for rule in rules if rule.word == "missing library"]))
    for text, table in looked_at:
        for rule in table:
            found = last_match(rule.log, text)
            if found:
                return filled(rule, {**known, **tidy(rule, found)})
    if case.chain:
        kind = by_kind(case) if case.has_own_exception else EXCEPTION
        return filled(kind, {**known, "error": failures.by_relevance(case.chain)[0].headline})
    for rule in OTHERWISE:
        if re.search(rule.cause, case.cause):
            return filled(rule, known)
    return "failed", f"it ended: {case.cause}", known["again"]


def by_kind(case):
    """Return the rule for an exception with an unknown message."""
    if failures.is_of_import(case.chain, case.run.facts.get("source_dir", "-")):
        return IMPORT
    fit = (rule for text in case.evidence() for rule in BY_KIND if last_match(rule.log, text))
    return next(fit, EXCEPTION)


def last_match(pattern, text):
    """Return the last match: the cause of an exception is printed before it."""
    if not may_match(pattern, text):
        return None
    found = collections.deque(re.finditer(pattern, text, re.MULTILINE), maxlen=1)
    return found[0] if found else None


def may_match(pattern, text):
    """Whether the text has the plain words of one of the alternatives.

    This avoids compiling all patterns, which would take longer than the rest.
    """
    plain = re.sub(r"\\.|\[[^]]*\]", "\0", pattern)
    while "(" in plain:
        shorter = re.sub(r"\([^()]*\)", "\0", plain)
        if shorter == plain or plain.startswith("(?"):
            return True
        plain = shorter
    words = re.sub(r".[?*]|.\{[^}]*\}|[.^$+]", "\0", plain)
    return any(max(word.split("\0"), key=len) in text for word in words.split("|"))


def tidy(rule, match):
    """Return the match's groups, each in one line of limited length; `error` is the whole line if it is not a group."""
    groups = match.groupdict()
    if not groups.get("error"):
        begin, end = match.string.rfind("\n", 0, match.start()) + 1, match.string.find("\n", match.end())
        line = match.string[begin : end if end >= 0 else None]
        groups["error"] = re.sub(r"^(?:\[rank\d+\]:? ?|\d+: )", "", line)
    tidied = {name: " ".join(value.split())[:300] if value else "" for name, value in groups.items()}
    if tidied.get("wanted"):
        tidied["wanted"] = f" (another {tidied['wanted']})"
    if rule.word == "loader worker killed":
        tidied["error"] = f" ({tidied['error']})" if groups["error"] and len(groups["error"]) < 30 else ""
    return tidied


def filled(rule, known):
    """Return (word, sentence, remedy); {file} names the file only if the sentence does not."""
    sentence = rule.sentence.format_map({**known, "file": ""})
    named = known.get("named")
    if named and named not in sentence:
        sentence = rule.sentence.format_map({**known, "file": f" (file: {named})"})
    return rule.word, sentence, rule.remedy.format_map(known)


def submit_again(run, remedy):
    """Return the command for a remedy that says to submit again: new sources, the same options, its checkpoints."""
    found = re.search(r"submit again(?: with +(--\S+) (\S+))?", remedy or "")
    if not found:
        return None
    path = os.path.join(run.folder, "options")
    words = []
    for word in filter(None, read(path).split("\0")):
        name, equals, value = word.partition("=")
        words += [name, value] if equals and not value.startswith("-") else [word]
    name = run.facts.get("exp_name") or os.path.basename(run.folder)
    goes_on = "--only-missing" if run.is_array or run.facts.get("sweep") else "--resume"
    words = ["bash", "hpc/job_submitter.sh", "--exp-name", name, goes_on, *words, *filter(None, found.groups())]
    known = os.path.exists(path)  # not for a run of an older kit
    return " ".join(map(shlex.quote, words)) + "  and the options of the run" * (not known)


def explain_reason(job):
    for pattern, text in REASONS:
        if re.search(pattern, job.reason):
            which = dependencies(job) if "{which}" in text else ""
            start = "" if job.start in ("N/A", "Unknown") else f"; Slurm expects to start it at {job.start}"
            return f"{text.format(job=job.id, which=which)} ({job.reason}){start}"
    return f"Slurm's reason is {job.reason}"


def dependencies(job):
    """Return the jobs that it waits for, as `job 47 (afterok)`; `another job` if Slurm does not name them."""
    left, _ = ask("squeue", "--all", "--noheader", f"--job={job.id}", "--format=%E")
    found = re.findall(r"(after\w*):(\d+(?:_\w+)?)", left)
    return ", ".join(f"job {other} ({kind})" for kind, other in found) or "another job"


def describe(run, task):
    """Return (word, sentence, remedy or None, case or None) for the task's state."""
    live = task.live
    before = KINDS.get(task.attempts[-1].cause, task.attempts[-1].cause) if task.attempts else ""
    if task.state == "completed":
        ends = [attempt.cause or "lost" for attempt in task.attempts[:-1]]
        times = collections.Counter(KINDS.get(end, end) for end in ends)
        kinds = ", ".join(f"{count} {kind}" for kind, count in times.items())
        interrupted = f", interrupted {len(ends)} time{'s' * (len(ends) > 1)}: {kinds}" if times else ""
        sentence = f"it has finished, in {duration(task.elapsed)}{interrupted}"
        if task.unconnected:
            return "unconnected", f"{sentence}, but {task.unconnected[0]}", task.unconnected[1], Case(run, task)
        return "finished", sentence, None, None
    if task.state in ("running", "suspended"):
        last = task.attempts[-1] if task.attempts else None
        sentence = f"attempt {last.number} on {last.nodes}" if last else "it is starting"
        if task.progress:
            what, done, whole = task.progress
            sentence += f", {what} {done:g}" + (f" of {whole}" if whole else "")
        if last and last.beat:
            sentence += f", the last beat {duration(time.time() - last.beat)} ago"
        asked = changed(last.stop_file) if last else None
        if asked:
            sentence += f", asked to save and stop {duration(time.time() - asked)} ago"
        if live and live.left not in ("INVALID", "UNLIMITED"):
            sentence += f", {live.left} left"
        if task.state == "suspended":
            sentence = f"Slurm has suspended it (for a job of higher priority, or by an administrator): {sentence}"
        return task.state, sentence, None, None
    if task.state in ("enqueued", "paused") and (live or run.slurm.silence):
        waits = "it waits to go on" + (f", after: {before}" if before else "") if task.attempts else "it waits"
        if live and live.waits:
            return ("paused" if task.attempts else "pending"), f"{waits}: {explain_reason(live)}", None, None
        return task.state, waits, None, None
    case = Case(run, task)
    if task.state == "stopped":
        sentence = f"it has saved and stopped, as experiments.sh stop asked, after {duration(task.elapsed)}"
        return "stopped", sentence, fields(case)["again"], None
    if task.state == "cancelled" and re.match(r"(?:lost|not_started) (?!\w*FAIL|OUT_OF|TIMEOUT|PREEMPTED)", case.cause):
        when = f"while it waited to go on, after: {before}" if task.attempts else "before it began"
        return "cancelled", f"it was taken out of the queue {when}", fields(case)["again"], None
    return (*judge(case), case)


def stacks(case):
    """Return each rank's last place: the innermost frame in the project's code, or else in any code."""
    found = []
    for path in rank_files(case.task):
        stack = attempts_part(tail(path, 1 << 16), case.attempt.number).rpartition("Current thread")[2]
        frames = re.findall(r'^ *(File "(.*)", line \d+ in .*)', stack, re.MULTILINE)
        own = [frame for frame, file in frames if file.startswith(case.run.facts.get("source_dir", "-"))]
        if frames:
            found.append(f"{os.path.basename(path)[:-4].replace('_', ' ')}: {own[0] if own else frames[0][0]}")
    return found


def ending_of(case):
    """Return (path, last lines) of the most informative log."""
    shown = stacks(case) if case.cause.startswith(("hung", "ignored_stop")) else None
    if shown:
        return case.task.log, shown[:SHOWN]
    path = case.own_log or case.task.log
    text = tail(path, 1 << 16)
    if case.attempt:
        text = attempts_part(text, case.attempt.number)
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("== ")]
    return path, lines[-SHOWN:]


def raised_text(case):
    """Return the exception, its place in the program, and its cause."""
    words = case.chain[-1].headline
    place = failures.own_frame(case.chain, case.run.facts.get("source_dir", "-"))
    if place:
        file, line, function = place
        words += f" ({file}, line {line}{f', in {function}' if function else ''})"
    before = [raised for raised in case.chain[:-1] if not raised.is_wrapper and raised.text != case.chain[-1].text]
    return words + (f", after {before[-1].headline}" if before else "")


def account(run, task):
    """Return what `explain` prints about a task, as for --json."""
    word, sentence, remedy, case = describe(run, task)
    found = {
        "job": run.job_of(task.number) or None,
        "name": run.name,
        "task": task.number,
        "state": task.state,
        "cause": word,
        "sentence": sentence,
        "rank": None,
        "node": None,
        "status": None,
        "raised": None,
        "shown": None,
        "log": None,
        "lines": [],
        "remedy": remedy,
        "submit_again": submit_again(run, remedy),
        "attempts": [
            {
                "attempt": attempt.number,
                "cause": KINDS.get(attempt.cause, attempt.cause) or None,
                "seconds": round(attempt.seconds, 1),
                "nodes": attempt.nodes,
                "doubt": attempt.doubt or None,
            }
            for attempt in task.attempts
        ],
        "notes": [],
    }
    if case:
        path, lines = ending_of(case)
        if case.rank is not None:
            found.update(rank=int(case.rank), node=case.node, status=int(case.status) if case.status else None)
        if case.chain:
            found["raised"] = raised_text(case)
        if lines and word not in ("cancelled", "preempted"):  # the log does not explain these
            heading = "where the ranks stood" if case.cause.startswith(("hung", "ignored_stop")) else "its log ends"
            found.update(shown=heading, log=path, lines=[line[:400] for line in lines])
    if task.unconnected and word != "unconnected":
        found["notes"].append(f"{task.unconnected[0]}. {task.unconnected[1]}")
    text = tail(task.log, 1 << 20)
    for rule in NOTES:
        count = len(re.findall(rule.log, text, re.MULTILINE)) if rule.cause in text else 0
        if count:
            known = {"count": count, "scratch": run.facts.get("scratch_dir", "SCRATCH")}
            found["notes"].append("{}: {}; {}".format(*filled(rule, known)))
    return found


def explain(run, task):
    found = account(run, task)
    of = f", task {task.number}" if len(run.numbers) > 1 else ""
    print(f"job {found['job'] or '-'} ({run.name}{of}): {found['cause']}: {found['sentence']}")
    if found["rank"] is not None:
        where = f" on {found['node']}" if found["node"] else ""
        status = f", status {found['status']}" if found["status"] else ""
        first = "give up" if found["cause"] == "collective timed out" else "fail"
        print(f"first to {first}: rank {found['rank']}{where}{status}")
    if found["raised"]:
        print(f"raised: {found['raised']}")
    if found["lines"]:
        print(f"{found['shown']} ({found['log']}):")
        print("\n".join(f"    {line}" for line in found["lines"]))
    if found["remedy"]:
        print(f"to do: {found['remedy']}")
    if found["submit_again"]:
        print(f"to submit again: {found['submit_again']}")
    several = len(found["attempts"]) > 1
    for attempt in found["attempts"]:
        if several:
            after = duration(attempt["seconds"])
            print(f"attempt {attempt['attempt']}: {attempt['cause'] or '-'}, after {after} on {attempt['nodes']}")
        if attempt["doubt"]:
            print(f"{'  ' * several}Slurm did not answer when this ended: {attempt['doubt']}")
    for note in found["notes"]:
        print(f"note: {note}")


def say_written(run):
    """Print a note about files that no other run will find (job/lib/sources.sh)."""
    names = [name for name in read(os.path.join(run.folder, "written")).split("\0") if name]
    if names:
        shown = ", ".join(names[:3]) + ", …" * (len(names) > 3)
        print(
            f"note: {len(names)} files were written into the run's own copy of the sources ({shown}), in "
            f"{run.facts.get('source_dir', '-')}; a later run does not see them: save below CHECKPOINT_DIRECTORY or "
            "OUTPUT_PATH, or submit with --keep-folders"
        )


def main(outputs, options):
    run, number = find(options.job, outputs, Slurm())
    run.slurm.say_silence()
    number = options.task if options.task is not None else number
    tasks = run.tasks if number is None else [the_task(run, number)]
    if options.json:
        accounts = [account(run, task) for task in tasks]
        print(json.dumps({"run_directory": run.folder, "tasks": accounts}, indent=1, ensure_ascii=False))
        return 0
    if len(tasks) == 1:
        explain(run, tasks[0])
        say_written(run)
        return 0
    # For several tasks, show each state once: the numbers of its tasks, and the first one in full.
    groups = {}
    for task in tasks:
        state = task.state + ", ranks unconnected" * bool(task.unconnected)
        groups.setdefault((state, task.attempts[-1].cause if task.attempts else ""), []).append(task)
    for position, ((state, _), alike) in enumerate(groups.items()):
        print(
            "\n" * (position > 0)
            + f"{len(alike)} of {len(tasks)} tasks {state}: {listed([task.number for task in alike])}"
        )
        explain(run, alike[0])
    say_written(run)
    return 0


def listed(numbers):
    """Return the numbers as 1-3,7."""
    parts = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
