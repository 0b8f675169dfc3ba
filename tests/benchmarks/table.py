"""table.py TITLE SCALE PEER RESULTS NAME=DESCRIPTION...   Prints the table of a benchmark, in Markdown.

RESULTS holds lines of NAME SECONDS, one for each name and round. A ratio is the median over the rounds of NAME's time
divided by PEER's in the same round. If there are times of NAME@other, from the build of the commit AGAINST, a second
table has their ratios in the same way.
"""

import os
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median

title, scale, peer, results, *rows = sys.argv[1:]
times = defaultdict(list)
for line in Path(results).read_text().splitlines():
    name, seconds = line.split()
    times[name].append(float(seconds) * float(scale))

print(f"\n| {title}, {len(times[peer])} rounds | median | fastest | slowest | ratio to {peer} |")
print("|---|---|---|---|---|")
for row in rows:
    name, description = row.split("=", 1)
    mine = times[name]
    ratio = median(a / b for a, b in zip(mine, times[peer]))
    digits = 1 if float(scale) > 1 else 2
    figures = " | ".join(f"{figure:.{digits}f}" for figure in (median(mine), min(mine), max(mine)))
    print(f"| {description} | {figures} | {ratio:.2f} |")

both = [row.split("=", 1) for row in rows if times[row.split("=", 1)[0] + "@other"]]
if both:
    commit = os.environ.get("AGAINST", "the other build")
    print(f"\n| {title}: today beside {commit} | today | {commit} | ratio | least | most |")
    print("|---|---|---|---|---|---|")
    for name, description in both:
        mine, theirs = times[name], times[name + "@other"]
        ratios = [a / b for a, b in zip(mine, theirs)]
        digits = 1 if float(scale) > 1 else 2
        figures = " | ".join(f"{figure:.{digits}f}" for figure in (median(mine), median(theirs)))
        print(f"| {description} | {figures} | {median(ratios):.2f} | {min(ratios):.2f} | {max(ratios):.2f} |")
