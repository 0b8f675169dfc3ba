"""Samples what a job uses on this node. Started by node.sh (lib/usage.sh), once for each node and attempt.

    usage.py FILE PROCESS ROOT JOB SECONDS

FILE gets a line at the start, one every SECONDS, and one at the end. Each sample rewrites the last line, so that it is
true also if this process is killed. PROCESS is the parent; this process ends with it. ROOT is Slurm's process whose
descendants are the job's processes. CPU and memory come from the job's control group, if it has one.
It imports little, because it runs as long as the job. Standard library only, Python 3.6 or later.
"""

import os
import re
import select
import sys
import time

COLUMNS = ("time", "cpu_seconds", "memory_bytes", "gpu_percent", "gpu_memory_mib")
FIRST_LOOK = 0.5  # seconds; the pauses between samples grow
FORGET_AFTER = 6  # samples, after which all processes are checked again: a process id may have been reused


def read(path):
    with open(path, "rb", buffering=0) as file:
        return file.read()


class ControlGroup:
    """The files of the job's control group, version 1 or 2."""

    def __init__(self, job, membership="/proc/self/cgroup", root="/sys/fs/cgroup"):
        self.cpu = self.memory = None
        for line in read(membership).decode(errors="replace").splitlines():
            _, controllers, path = line.split(":", 2)
            own = re.match(r".*/job_%s(?=/|$)" % re.escape(job), path)
            if not own:
                continue  # belongs to the site, or to all jobs
            names = controllers.split(",")
            if controllers == "":
                self._take(f"{root}{own[0]}", "cpu.stat", "memory.current", b"inactive_file")
            elif "cpuacct" in names:
                self._take(f"{root}/cpuacct{own[0]}", "cpuacct.usage", None, None)
            if "memory" in names:
                self._take(f"{root}/memory{own[0]}", None, "memory.usage_in_bytes", b"total_inactive_file")

    def _take(self, folder, cpu, memory, inactive):
        if cpu and os.access(f"{folder}/{cpu}", os.R_OK):
            self.cpu = f"{folder}/{cpu}"
        if memory and os.access(f"{folder}/{memory}", os.R_OK):
            self.memory = (f"{folder}/{memory}", f"{folder}/memory.stat", inactive)

    def cpu_seconds(self):
        text = read(self.cpu)
        if self.cpu.endswith("cpu.stat"):
            return int(re.search(rb"^usage_usec (\d+)", text, re.M)[1]) / 1e6
        return int(text) / 1e9

    def memory_bytes(self):
        """Memory in use, without cached files that the kernel can drop."""
        path, statistics, inactive = self.memory
        unneeded = re.search(rb"^%s (\d+)" % inactive, read(statistics), re.M)
        return int(read(path)) - int(unneeded[1])


class Processes:
    """The descendants of a process, from /proc; also those whose parents have ended."""

    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")

    def __init__(self, root):
        self.root, self.ours, self.others, self.looks = root, {}, set(), 0
        self.cpu_seconds, self.memory_bytes = 0.0, 0

    def look(self):
        if self.looks % FORGET_AFTER == 0:
            self.others.clear()
        self.looks += 1
        seen, children = {}, {}
        for name in os.listdir("/proc"):
            if name in self.others or not name.isdigit():
                continue
            try:
                # state, parent, …; the name before them may hold anything
                fields = read(f"/proc/{name}/stat").rpartition(b")")[2].split()
            except OSError:
                continue  # it has ended
            seen[name] = fields
            children.setdefault(fields[1].decode(), []).append(name)
        left = [name for name, start in self.ours.items() if name in seen and seen[name][19] == start]
        self.ours = {name: seen[name][19] for name in left}
        left.append(self.root)
        while left:
            for name in children.get(left.pop(), ()):
                if name not in self.ours:
                    self.ours[name] = seen[name][19]
                    left.append(name)
        self.others.update(name for name in seen if name not in self.ours and name != self.root)
        # A process counts its own time and that of children that it waited for: no time is lost or counted twice.
        ticks = sum(int(number) for name in self.ours for number in seen[name][11:15])
        if self.root in seen:
            ticks += sum(int(number) for number in seen[self.root][13:15])
        self.cpu_seconds = max(self.cpu_seconds, ticks / self.ticks)
        self.memory_bytes = sum(int(seen[name][21]) for name in self.ours) * self.page


class Gpus:
    """The job's GPUs, from one nvidia-smi that keeps printing, so that a sample never waits for the driver."""

    def __init__(self, devices, seconds):
        self.process = self.source = None
        self.latest, self.rest = {}, b""
        if not devices:
            return
        source, sink = os.pipe()
        words = ["nvidia-smi", f"--id={devices}", "--query-gpu=index,utilization.gpu,memory.used"]
        words += ["--format=csv,noheader,nounits", f"--loop-ms={max(100, int(seconds * 1000))}"]
        try:
            self.process = os.fork()  # no posix_spawnp before Python 3.8
        except OSError:
            os.close(source)
            os.close(sink)
            return
        if self.process == 0:
            try:
                os.dup2(sink, 1)
                os.execvp(words[0], words)  # noqa: S606 (no shell is wanted)
            finally:
                os._exit(127)
        self.source = source
        os.set_blocking(source, False)
        os.close(sink)

    def look(self):
        """Their mean use and their total memory, as text; empty if unknown."""
        while self.source is not None:
            try:
                text = os.read(self.source, 65536)
            except BlockingIOError:
                break
            if not text:  # It has ended.
                self.leave()
                return "", ""
            *lines, self.rest = (self.rest + text).split(b"\n")
            for line in lines:
                words = line.decode(errors="replace").split(",")
                if len(words) == 3 and words[1].strip().isdigit() and words[2].strip().isdigit():
                    self.latest[words[0]] = (int(words[1]), int(words[2]))
        if not self.latest:
            return "", ""
        uses, memories = zip(*self.latest.values())
        return f"{sum(uses) / len(uses):.1f}", str(sum(memories))

    def leave(self):
        if self.process is not None:
            os.close(self.source)
            os.kill(self.process, 9)
            os.waitpid(self.process, os.WNOHANG)
        self.process = self.source = None


class Record:
    """The file. If the disk is full, lines are lost, and nothing else fails."""

    def __init__(self, path):
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        self.kept = 0
        self.write("\t".join(COLUMNS), True)

    def write(self, line, keep):
        data = (line + "\n").encode()
        try:
            if os.pwrite(self.file, data, self.kept) < len(data):
                return
            os.ftruncate(self.file, self.kept + len(data))
        except OSError:
            return
        if keep:
            self.kept += len(data)


def has_ended(parent, watched, seconds):
    """Whether the parent ends within the given seconds."""
    if watched is not None:
        return bool(select.select([watched], [], [], seconds)[0])
    until = time.monotonic() + seconds
    while os.getppid() == parent:
        left = until - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(0.5, left))
    return True


def watch(parent):
    """A descriptor that select can wait for, from Linux 5.3 and Python 3.9 on."""
    try:
        return os.pidfd_open(parent)
    except (AttributeError, OSError):
        return None


def sample(group, processes, gpus):
    """The values of a line, except the time; CPU and memory come from the control group if the job has one."""
    if group.cpu is None or group.memory is None:
        processes.look()
    cpu = processes.cpu_seconds if group.cpu is None else group.cpu_seconds()
    memory = processes.memory_bytes if group.memory is None else group.memory_bytes()
    return (cpu, memory, *gpus.look())  # Python 3.7 wants the brackets


def main():
    path, parent, root, job, seconds = sys.argv[1:]
    os.closerange(3, 1024)  # the lock of the job's folder, and other descriptors that the shell left open
    os.chdir("/")
    parent, seconds = int(parent), float(seconds)
    watched = watch(parent)
    if os.getppid() != parent:
        return
    group, processes = ControlGroup(job), Processes(root)
    gpus = Gpus(os.environ.get("CUDA_VISIBLE_DEVICES", ""), seconds)
    record = Record(path)
    begun = due = time.monotonic()
    highest, ended = 0, False
    while True:
        now = time.monotonic()
        try:
            cpu, memory, percent, used = sample(group, processes, gpus)
        except OSError:
            pass  # The control group has gone, with the job.
        else:
            highest = max(highest, memory)
            keep = now >= due
            record.write(f"{time.time():.1f}\t{cpu:.2f}\t{highest}\t{percent}\t{used}", keep)
            if keep:
                highest, due = 0, due + seconds * (1 + (now - due) // seconds)
        if ended:
            break
        now = time.monotonic()
        pause = min(max(FIRST_LOOK, (now - begun) / 2), max(0.0, due - now))
        ended = has_ended(parent, watched, pause)
    gpus.leave()


if __name__ == "__main__":
    main()
