"""interruptions_table.py RESULTS   Prints the table `recovery` of interruptions.bash, in Markdown.

RESULTS holds a line for each interruption: its kind; the times of the notice, of the end of the attempt and of the
start of the next; the last step of the first attempt, the first step of the next, and the time of that step.
"""

import sys
from pathlib import Path
from statistics import median

noticed, waited, started, lost = {}, {}, {}, {}
for line in Path(sys.argv[1]).read_text().splitlines():
    kind, *figures = line.split()
    notice, end, begin, last, first, done = map(float, figures)
    noticed.setdefault(kind, []).append(end - notice)
    waited.setdefault(kind, []).append(begin - end)
    started.setdefault(kind, []).append(done - begin)
    lost.setdefault(kind, []).append(last - (first - 1))

print(f"\n| recovery, {len(lost['noticed'])} rounds | median | fastest or least | slowest or most |")
print("|---|---|---|---|")
for name, values in (
    ("seconds from the notice to the end of the attempt, saved", noticed["noticed"]),
    ("seconds from there to the next attempt (Slurm's part)", waited["noticed"]),
    ("seconds from its start to its first step", started["noticed"]),
    ("steps lost, after a notice", lost["noticed"]),
    ("seconds from its start to its first step, after the death of a node", started["died"]),
    ("steps lost at the death of a node, with a checkpoint every 100", lost["died"]),
):
    print(f"| {name} | {median(values):.1f} | {min(values):.1f} | {max(values):.1f} |")
