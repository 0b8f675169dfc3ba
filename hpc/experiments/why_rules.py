"""The tables of why.py. A rule has a word, a pattern of the log, a sentence, a remedy and a pattern of the cause.

job/lib/interruption.sh lists the causes. ENDS match the cause, or the cause and the log. Known messages come next
(why_messages.py), then any exception, then OTHERWISE. In each table the first rule that fits counts. {names} are fields
of why.py or groups of the log's pattern; {error} is the matching line. A remedy proposes to submit again unchanged only
if that may succeed.
"""

import collections

FAILED = r"^failed"
Rule = collections.namedtuple("Rule", "word log sentence remedy cause", defaults=(FAILED,))
ENDED = r"^(?:failed|lost|not_started)"
INDEX = (
    "compare the largest token id with the model's vocabulary (after adding tokens: resize_token_embeddings), the "
    "longest input with its positions, and the largest label with the number of classes: labels begin at 0, and only "
    "-100 is ignored"
)


def _end(word, cause, sentence, remedy, log=None):
    return Rule(word, log, sentence, remedy, cause)


ENDS = (
    _end(
        "out of memory",
        r"^out_of_memory|^lost OUT_OF_MEMORY",
        "{who} took more memory than the {asked} a node that were asked for{peak}",
        "{again} --mem {more_memory}   or take a smaller batch, or fewer loader workers",
    ),
    _end(
        "killed",
        r"^failed 137",
        "{who} was killed (signal 9), not by Slurm: by the kernel for lack of memory, by an administrator, or by kill",
        "{again}   and if it comes again at the same place, with --mem {more_memory}",
    ),
    _end(
        "CPU time limit",
        r"^failed 152",
        "{who} used more CPU time than a limit of the node or of your shell allows (ulimit -t, SIGXCPU)",
        "take  ulimit -t  out of ~/.bashrc and the like; if the site sets it on its nodes, ask its support",
    ),
    _end(
        "time limit",
        r"^time_limit|^lost TIMEOUT",
        "the time limit of {limit} came before the end{rate}",
        "{again} --time {more_time}   A program that saves at STOP_FILE is continued automatically",
    ),
    _end(
        "no restarts left",
        r"^(?:notice|hung|preempted)",
        "it was interrupted ({last}) after {times} restarts, and --max-restarts is {most}",
        "{again}   For more of them: --max-restarts N",
        log=r"not started again: it was (?P<times>\d+) times, and --max-restarts is (?P<most>\d+)",
    ),
    _end(
        "no restarts left",
        r"^(?:notice|hung|preempted)",
        "it was interrupted ({last}), and the site took no job that goes on with it: {error}",
        "{again}",
        log=r"it cannot be continued: (?P<error>.*)",
    ),
    _end(
        "hung",
        r"^hung",
        "no rank made progress for {hang}{beat}",
        "the stacks in its log show where each rank stood. If it may wait so long: --hang-minutes N, or train's "
        "interruption.alive(). Then  {again}",
    ),
    _end(
        "ignored stop",
        r"^ignored_stop",
        "at the end of a cycle the program ignored STOP_FILE and was killed",
        "let it look at STOP_FILE at each step and end with 75: "
        '"Programs that can be interrupted" in hpc/job/README.md',
    ),
    _end("cancelled", r"^cancelled|^\w+ CANCELLED", "it was cancelled by the user (scancel)", "{again}"),
    _end(
        "node failure",
        r"^node_failed|^lost (?:NODE_FAIL|BOOT_FAIL)",
        "a node died under it ({dead})",
        "{again}{exclude}   New jobs exclude nodes that failed twice within a day:  bash hpc/experiments.sh nodes",
    ),
    _end(
        "preempted",
        r"^preempted|^lost PREEMPTED",
        "Slurm took its nodes for a job of higher priority",
        "{again}   or send it to a partition or qos that is not preempted",
    ),
    _end("interrupted", r"^notice", "the program saved and stopped ({last}), and was not started again", "{again}"),
)

EXCEPTION = Rule(
    "exception",
    None,
    "{who} raised {error}",
    "mend the program, then submit again",
)

CRASHED = _end(
    "crashed",
    r"^failed (?:134|135|136|139)",
    "{who} crashed in compiled code ({signal})",
    "the stack is in its log, if Python could show it; try fewer loader workers, other versions of the packages, "
    "and if it is always {node}: --exclude {node}",
)

OTHERWISE = (
    _end(
        "cannot execute",
        r"^failed 126",
        "the node cannot execute the command ({who})",
        "is it a program for this machine (uname -m), and may it be executed (chmod +x)?",
    ),
    CRASHED,
    _end(
        "ended by a signal",
        r"^failed (?:129|130|143)",
        "{who} was ended by a signal ({signal}) that it does not handle",
        "{again}   A program that saves at SIGTERM and ends with 75 is continued automatically",
    ),
    _end(
        "failed",
        r"^failed",
        "{who} ended with status {status}",
        "its log may show why ({logs}); mend the program, then submit again",
    ),
    _end(
        "not started",
        r"^not_started",
        "its batch script ended before the first attempt began{slurm}",
        "see how its log ends; then  {again}",
    ),
    _end(
        "lost",
        r"^lost",
        "its batch script on {head} was killed before it could record why{slurm}",
        "is {head} well (sinfo -n {head})? How does the log end? Then  {again}",
    ),
)

# Faults that a task survived and that the user should know about.
NOTES = (
    Rule(
        "disk full",
        r"was not saved: it needs |(?:No space left on device|Disk quota exceeded).*NOT saved",
        "{count} checkpoints could not be saved",
        "make room in {scratch}",
        cause="saved",
    ),
    Rule(
        "damaged checkpoint",
        r"\bskipped /.*(?:has changed since it was written|bytes in place of)",
        "{count} were skipped for an older one",
        "if it comes again, tell the site's support of the file system",
        cause="skipped /",
    ),
)

# Causes of job/lib/interruption.sh, in words for users.
KINDS = {
    "notice time_limit": "saved before the time limit",
    "notice signal": "saved after a signal",
    "notice request": "saved after a stop file",
    "notice cycle": "saved at the end of a cycle",
    "node_failed": "node failure",
    "time_limit": "time limit",
    "out_of_memory": "out of memory",
}

# man squeue, JOB REASON CODES
REASONS = (
    (r"^(?:None|Priority)$", "jobs of higher priority come first"),
    (r"^Resources$", "no nodes are free that fit it"),
    (r"^DependencyNeverSatisfied$", "for {which}, which has failed: it will never start; cancel it"),
    (r"^Dependency$", "for {which}"),
    (r"^BeginTime$", "its time to begin has not come (--begin), or it was put back into the queue a moment ago"),
    (r"^JobArrayTaskLimit$", "enough tasks of its array run already (--max-parallel)"),
    (r"^ReqNodeNotAvail|^NodeDown|Unavail", "nodes that it needs are down, reserved or in maintenance: sinfo -R tells"),
    (r"^Reservation", "its reservation has not begun, or is gone"),
    (r"^PartitionTimeLimit$", "--time is more than its partition allows: it will never start; submit with less"),
    (r"^PartitionNodeLimit$", "--num-nodes is more than its partition has: it will never start; submit with fewer"),
    (r"^Partition(?:Down|Inactive)$", "its partition is closed"),
    (r"^(?:Assoc|QOS)", "a limit of your account or qos is reached: it starts when others of your jobs have ended"),
    (r"^Invalid(?:Account|QOS)", "its account or qos is not valid here: it will never start"),
    (r"^JobHeldUser$", "you hold it: scontrol release {job}"),
    (
        r"^JobHeldAdmin$|^JobHoldMaxRequeue$",
        "the staff holds it, or Slurm does after a failed start; only the staff can release it: ask them",
    ),
    (r"requeued[ _]held$", "Slurm could not start it, and holds it: scontrol release {job}"),
    (r"^job[ _]requeued[ _]in", "it was put back into the queue and is held: scontrol release {job}"),
    (r"^Licenses$", "the licences that it needs are in use"),
    (r"^BadConstraints$", "no node has what it asks for: it will never start"),
    (r"^Cleaning$", "the attempt before is being cleared away"),
)

SIGNALS = {129: "SIGHUP", 130: "SIGINT", 134: "SIGABRT", 135: "SIGBUS", 136: "SIGFPE", 139: "SIGSEGV", 143: "SIGTERM"}
