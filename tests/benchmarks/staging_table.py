"""staging_table.py time|count RESULTS NODES...   Prints a table of staging_job.sh's lines, in Markdown.

Seconds are the median over the rounds, the fastest and the slowest. A ratio is the median over the rounds of a method's
time divided by the time of the fastest of the three peers in the same round and on the same number of nodes.
"""

import sys
from collections import defaultdict
from pathlib import Path
from statistics import median

what, results, *numbers = sys.argv[1:]
methods = {
    "cp": "`srun cp -r`",
    "rsync": "`srun rsync -a`",
    "tar": "`srun tar -xf`",
    "read": "the kit: tar, each node reads it",
    "sbcast": "the kit: tar, sbcast",
    "image": "the kit: image",
}
peers = ("cp", "rsync", "tar")
found = defaultdict(list)
for line in Path(results).read_text().splitlines():
    dataset, method, nodes, *figures = line.split()
    found[dataset, method, nodes].append([float(figure) for figure in figures])


def seconds(dataset: str, method: str, nodes: str) -> str:
    if (dataset, method, nodes) not in found:
        return "-"
    mine = [round_[0] for round_ in found[dataset, method, nodes]]
    best = [min(round_)[0] for round_ in zip(*(found[dataset, peer, nodes] for peer in peers))]
    ratio = median(a / b for a, b in zip(mine, best))
    return f"{median(mine):.2f} ({min(mine):.2f} to {max(mine):.2f}), {ratio:.2f}"


def counts(dataset: str, method: str, nodes: str) -> str:
    opens, read = found[dataset, method, nodes][0]
    return f"{opens:,.0f}, {read / 1e6:,.0f} MB"


cell, title = {
    "time": (seconds, "bringing: seconds, and ratio to the best of the first three"),
    "count": (counts, "shared side: opens, and bytes read"),
}[what]
rounds = len(next(iter(found.values())))
heads = " | ".join(number + (" node" if number == "1" else " nodes") for number in numbers)
print(f"\n| {title}, {rounds} rounds | {heads} |")
print("|---" * (len(numbers) + 1) + "|")
for dataset in dict.fromkeys(key[0] for key in found):
    for method, words in methods.items():
        print(f"| {dataset}: {words} | {' | '.join(cell(dataset, method, number) for number in numbers)} |")
