"""controller_table.py COUNTS   Prints the table `controller` of controller.bash, in Markdown, and the kinds of calls.

COUNTS holds lines `kit_SECONDS|bare_SECONDS KIND NUMBER`. Requests that the nodes' daemons make by themselves, and
those of sdiag, are excluded.
"""

import sys
from collections import Counter, defaultdict
from pathlib import Path

OTHERS = {"MESSAGE_NODE_REGISTRATION_STATUS", "REQUEST_STATS_INFO", "REQUEST_PING"}

counts: dict[str, Counter] = defaultdict(Counter)
for line in Path(sys.argv[1]).read_text().splitlines():
    name, kind, number = line.split()
    if kind not in OTHERS:
        counts[name][kind] += int(number)

print("\n| calls of the controller over a job's life | the kit, --follow | sbatch, and squeue each 30 s | ratio |")
print("|---|---|---|---|")
for name, kit in counts.items():
    if name.startswith("kit"):
        bare = counts[name.replace("kit", "bare")]
        ratio = sum(kit.values()) / sum(bare.values())
        print(f"| a job of {name.split('_')[1]} s | {sum(kit.values())} | {sum(bare.values())} | {ratio:.2f} |")
for name, kinds in counts.items():
    print(f"\n{name}: " + ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items())))
