"""Translates the request of an sbatch script into options of job_submitter.sh. For sbatch_script.py; Python 3.6."""

import re

from shell_text import set_of

# Options of sbatch without a value, or with a value only after =. All others take a value.
FLAGS = set_of(
    """contiguous exact exclusive get-user-env help hold ignore-pbs no-kill no-requeue nice oom-kill-step
    overcommit oversubscribe parsable propagate quiet reboot requeue resv-ports spread-job stepmgr
    test-only usage use-min-nodes verbose version wait"""
)
SAME = set_of("account partition qos constraint nodelist exclude reservation dependency begin mail-user mail-type")
# The kit decides these itself; dropping them loses nothing.
OWN = set_of("error open-mode parsable quiet verbose get-user-env requeue")
OTHERS = {"#PBS": "of PBS", "#BSUB": "of LSF", "#$ -": "of Grid Engine", "#COBALT": "of Cobalt", "#PJM": "of Fujitsu's"}


class RequestError(Exception):
    """Says why a script cannot be read, and at which line."""

    def __init__(self, line, words):
        super().__init__(words)
        self.line = line


def words_of(text):
    """Split a line as sbatch does: at blanks, with quotes and backslashes, up to a # that begins a word."""
    found, word, quote, at = [], None, "", 0
    while at < len(text):
        character = text[at]
        if quote:
            if character == quote:
                quote = ""
            else:
                word += character
        elif character in "'\"":
            quote, word = character, word or ""
        elif character == "\\":
            at += 1
            word = (word or "") + text[at : at + 1]
        elif character.isspace():
            if word is not None:
                found.append(word)
            word = None
        elif character == "#" and word is None:
            break
        else:
            word = (word or "") + character
        at += 1
    return found if word is None else [*found, word]


def directives(text, shorts):
    """Return ({name: (line, value)}, numbers of lines that sbatch ignores). The last of several values counts."""
    found, ignored, begun = {}, [], False
    for number, line in enumerate(text.split("\n"), 1):
        for mark, whose in OTHERS.items():
            if line.startswith(mark) and not found:
                raise RequestError(number, "%s: the script is %s, not of sbatch" % (line.split()[0], whose))
        if re.match(r"#SBATCH(\s|$)", line):
            if begun:
                ignored.append(number)
                continue
            for name, value in options(words_of(line[7:]), shorts, number):
                all_of_them = [found[name][1]] if name == "mail-type" and name in found else []  # all values count
                found[name] = (number, ",".join([*all_of_them, value]))
        elif line.strip() and not line.lstrip().startswith("#"):
            begun = True
    if not found:
        raise RequestError(
            0, "there is no #SBATCH line in front of its first command: give a script that sbatch is called with"
        )
    return found, ignored


def options(words, shorts, number):
    """Yield (name, value) of each option; shorts: {letter: name}."""
    words = list(words)
    while words:
        word = words.pop(0)
        value = None
        if word.startswith("--") and len(word) > 2:
            name, joined, rest = word[2:].partition("=")
            value = rest if joined else None
        elif len(word) > 1 and word[0] == "-" and word[1] in shorts:
            name, value = shorts[word[1]], word[2:].lstrip("=") or None
        else:
            if word in ("hetjob", "packjob"):
                raise RequestError(number, "%s: a job of several parts (het job) has no equivalent here" % word)
            raise RequestError(number, "%r is no option of sbatch: correct the line" % word)
        if value is None and name not in FLAGS:
            if not words:
                raise RequestError(number, "%s has no value: correct the line" % word)
            value = words.pop(0)
        yield {"tasks-per-node": "ntasks-per-node"}.get(name, name).replace("_", "-"), value or ""


def gpus_of(text):
    """Return (type, number) of TYPE:N, N or TYPE; None if there are several types."""
    if "," in text:
        return None
    kind, _, number = text.rpartition(":")
    if not number.isdigit():
        kind, number = text, "1"
    return kind, int(number)


def array_of(text):
    """Return (indices, how many at once) of a value such as 0-9:3, 1,4,7 or 1-9%2."""
    text, _, most = text.partition("%")
    found = []
    for part in text.split(","):
        match = re.match(r"(\d+)(?:-(\d+)(?::(\d+))?)?$", part.strip())
        if not match:
            return [], ""
        first, last, step = match.groups()
        found += range(int(first), int(last or first) + 1, int(step or 1) or 1)
    return found, most


class Request:
    """The facts of a request. Remarks go to say(KIND, LINE, WORD...)."""

    def __init__(self, given, say):
        self.given = given
        self.say = say
        self.tasks_line = 0
        self.gpu_type = ""
        self.settings = {}  # the variables of --export
        self.used = set()
        self.nodes = self.find_nodes()
        self.tasks = self.find_tasks()
        self.gpus = self.find_gpus()
        self.cpus = self.find_cpus()
        self.job_name = self.given.get("job-name", (0, ""))[1]
        self.indices, self.at_once = [], ""

    def number(self, name):
        """Return the value of an option if it is a whole number."""
        if name not in self.given:
            return None
        line, value = self.given[name]
        self.used.add(name)
        if not value.isdigit() or int(value) == 0:
            raise RequestError(line, "--%s=%s is not a whole number from 1 up" % (name, value))
        return int(value)

    def line(self, *names):
        return next((self.given[name][0] for name in names if name in self.given), 0)

    def find_nodes(self):
        line, value = self.given.get("nodes", (0, ""))
        self.used.add("nodes")
        tasks, per_node = self.number("ntasks"), self.number("ntasks-per-node")
        found = re.match(r"(\d+)([kK]?)(-\d+)?$", value)
        if found:
            nodes = int(found.group(1)) * (1000 if found.group(2) else 1)
            if found.group(3) and int(found.group(3)[1:]) != nodes:
                self.say(
                    "differs",
                    line,
                    "--nodes=%s: a job here has as many nodes as it asks for, so it asks for %d" % (value, nodes),
                )
            return max(nodes, 1)
        if value:
            raise RequestError(line, "--nodes=%s is not a number of nodes" % value)
        if tasks and per_node:
            return -(-tasks // per_node)
        total, each = self.given.get("gpus"), self.given.get("gpus-per-node")
        if total and each and gpus_of(total[1]) and gpus_of(each[1]):
            return max(1, -(-gpus_of(total[1])[1] // max(1, gpus_of(each[1])[1])))
        if tasks and tasks > 1:
            self.say(
                "differs",
                self.line("ntasks"),
                "--ntasks=%d without --nodes: Slurm may spread them over nodes; here they are on one" % tasks,
            )
        return 1

    def find_tasks(self):
        """Return the tasks of a node."""
        per_node, tasks = self.number("ntasks-per-node"), self.number("ntasks")
        self.tasks_line = self.line("ntasks-per-node", "ntasks")
        if tasks and "nodes" in self.given and tasks % self.nodes:
            self.say(
                "differs",
                self.tasks_line,
                "--ntasks=%d on %d nodes: here each node has as many as the others" % (tasks, self.nodes),
            )
        if tasks and ("nodes" in self.given or not per_node):
            return max(1, -(-tasks // self.nodes))
        if per_node:
            return per_node
        per_gpu = self.number("ntasks-per-gpu")
        if per_gpu and "gpus" in self.given and gpus_of(self.given["gpus"][1]):
            return max(1, per_gpu * gpus_of(self.given["gpus"][1])[1] // self.nodes)
        return 1

    def find_gpus(self):
        """Return the GPUs of a node."""
        for name, factor, divisor in (
            ("gpus-per-node", 1, 1),
            ("gres", 1, 1),
            ("gpus-per-task", self.tasks, 1),
            ("gpus", 1, self.nodes),
        ):
            if name not in self.given:
                continue
            line, value = self.given[name]
            if name == "gres":
                self.used.add(name)
                parts = value.split(",")
                theirs = [part for part in parts if re.match(r"(gres[:/])?gpu(:|$)", part)]
                rest = [part for part in parts if part not in theirs and part.lower() != "none"]
                if rest:
                    self.say("pass", line, "--gres=" + ",".join(rest))
                if not theirs:
                    continue
                value = ",".join(re.sub(r"^(gres[:/])?gpu:?", "", part) or "1" for part in theirs)
                self.say("site", line, "gpu_request", "gres")
            self.used.add(name)
            found = gpus_of(value)
            if not found:
                self.say("left", line, "--%s=%s: a job here has GPUs of one type" % (name, self.given[name][1]))
                continue
            self.gpu_type, number = found
            if number * factor % divisor:
                self.say("differs", line, "--gpus=%d on %d nodes: here each node has as many" % (number, divisor))
            return -(-number * factor // divisor)
        return 0

    def find_cpus(self):
        """Return the cores of a task."""
        per_gpu = self.number("cpus-per-gpu")
        cpus = self.number("cpus-per-task")
        if per_gpu and not cpus:
            return max(1, per_gpu * self.gpus // self.tasks)
        if not cpus:
            self.say(
                "differs",
                0,
                "the script asks for no cores: Slurm gives one for each task, as is asked for here; correct --cpus "
                "where your site gives more",
            )
        return cpus or 1

    def report(self):
        """Report all options, in order."""
        if self.nodes > 1:
            self.option("num-nodes", self.nodes, "nodes", "ntasks", "ntasks-per-node")
        self.option("gpus", self.gpus, "gpus-per-node", "gres", "gpus-per-task", "gpus")
        if self.gpu_type:
            self.option("gpu-type", self.gpu_type, "gpus-per-node", "gres", "gpus-per-task", "gpus")
        self.option("cpus", self.cpus * self.tasks, "cpus-per-task", "cpus-per-gpu", "ntasks-per-node", "ntasks")
        self.report_memory()
        self.report_time()
        for name in sorted(self.given, key=lambda name: self.given[name][0]):
            if name not in self.used:
                self.report_other(name, *self.given[name])

    def option(self, name, value, *sources):
        self.say("option", self.line(*sources), name, str(value))

    def report_memory(self):
        for name in ("mem", "mem-per-gpu", "mem-per-cpu"):
            if name not in self.given:
                continue
            line, value = self.given[name]
            self.used.add(name)
            found = re.match(r"(\d+)([KMGTkmgt]?)[Bb]?$", value)
            if not found:
                self.say("left", line, "--%s=%s is no amount of memory" % (name, value))
                return
            number, unit = int(found.group(1)), found.group(2).upper() or "M"
            if name == "mem" or number == 0:
                self.say("option", line, "mem", "%d%s" % (number, unit) if number else "0")
                return
            self.say("site", line, "memory_request", name.replace("-", "_"))
            if name == "mem-per-cpu":
                self.say("option", line, "mem", "%d%s" % (number * self.cpus * self.tasks, unit))
            else:
                self.say("option", line, "mem-per-gpu", "%d%s" % (number, unit))
            return
        self.say("site", 0, "memory_request", "none")

    def report_time(self):
        line, value = self.given.get("time", (0, ""))
        self.used.add("time")
        if re.match(r"\d+(-\d+)?(:\d+){0,2}$", value) and value.strip("0:-"):
            self.say("option", line, "time", value)
        elif value:
            self.say("differs", line, "--time=%s: a job here has a limit: the default is an hour" % value)
        else:
            self.say(
                "differs",
                0,
                "there is no --time: the partition's default would count; here it is an hour, if you give none",
            )

    def report_other(self, name, line, value):
        """Report an option that is not about processors, memory or time."""
        if name in SAME:
            self.say("option", line, name, value)
        elif name == "job-name":
            self.say("option", line, "exp-name", value)
        elif name == "array":
            self.indices, self.at_once = array_of(value)
            if not self.indices:
                raise RequestError(line, "--array=%s is no list of indices" % value)
        elif name == "no-requeue":
            self.say("option", line, "max-restarts", "0")
        elif name == "signal":
            self.report_signal(line, value)
        elif name == "export":
            for part in value.split(","):
                variable, given, content = part.partition("=")
                if given:
                    self.settings[variable] = (line, content)
        elif name == "chdir" or name in OWN:
            pass
        elif name in ("ntasks-per-gpu", "ntasks-per-socket", "ntasks-per-core"):
            self.say("differs", line, "--%s=%s: processes are one for each GPU here" % (name, value))
        else:
            self.say("pass", line, "--%s%s" % (name, "=" + value if value else ""))

    def report_signal(self, line, value):
        seconds = value.partition("@")[2]
        if seconds.isdigit() and int(seconds):
            self.say("option", line, "grace-seconds", seconds)
            self.say(
                "kit",
                line,
                "--signal=%s: the program is asked by STOP_FILE, %s seconds before the limit, not by a signal"
                % (value, seconds),
            )
        else:
            self.say("kit", line, "--signal=%s: the program is asked by STOP_FILE before the limit" % value)
