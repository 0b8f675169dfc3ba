#!/usr/bin/env bats
# experiments.sh report --html: a page that loads no other file, in a browser of two widths.

source "$BATS_TEST_DIRNAME/../helpers.bash"
source "$BATS_TEST_DIRNAME/run_directories.bash"

setup() {
  make_project
  run_directories
  drawing_path
  page=$BATS_TEST_TMPDIR/page.html
}

report() {
  run -0 --separate-stderr bash "$project/hpc/experiments.sh" report --html "$page" "$@"
  [[ $stderr == "$page: "*' kB' ]]
}

# curve RUN TASK PYTHON...   Writes metrics.jsonl from these Python expressions: the number of lines, the steps, and y of step x.
curve() {
  python3 -c '
import json, math, sys
for x in range(1, eval(sys.argv[1]) + 1):
    print(json.dumps({"step": x, "loss": eval(sys.argv[2]), "<b>acc & \"x\"</b>": 0.5}))
' "$3" "$4" >"$folder/hpc_outputs/$1/task_$2/output/metrics.jsonl"
}

# An experiment with long names, names that a browser could read as code, and all kinds of ends.
odd_experiment() {
  local -r odd='<script>alert("1 & 2")</script> $x^2$ --data=/a/very/long/path/without/any/blank/in/it/that/goes/on/and/on/and/on/and/on'
  local number
  for number in 1 2 3 4 5 6; do
    task one "$number" "task_1_seed_$number" "seed $number: $odd" completed "{\"loss\": $number}"
  done
  task one 7 'task_2_of_a_rather_long_name_<i>' "$odd" failed
  request one 4711 '<a100>'
  attempt one 1 0 finished 1000 2800
  attempt one 2 0 preempted 1000 1900
  attempt one 2 1 'notice time_limit' 2100 3000
  attempt one 2 2 finished 3050 3600
  attempt one 3 0 node_failed 1000 1400
  attempt one 3 1 hung 1500 2000
  attempt one 3 2 finished 2100 4000
  attempt one 7 0 'failed 3 0 <node>' 1000 1001
  usage one 1 0 node1 '1000 0 1000000000 80 500' '1900 1800 4294967296 90 2000'
  for number in 1 2 3; do curve one "$number" 300 "math.exp(-x / 100) + $number / 10"; done
  curve one 7 300 'x'
  curve one 4 300 'math.nan if x > 200 else 2.0'
}

# look PAGE   Opens it in frames of 1280 and 390 pixels. Writes a line for each to `seen`: its width, the width of its content, the requests
# that it made, and the tables that scroll in their boxes. `console` gets the browser's complaints.
look() {
  local -r looked=$BATS_TEST_TMPDIR/looked
  rm -rf -- "$looked"
  mkdir -- "$looked"
  python3 - "$1" "$looked" <<'PYTHON'
import sys
from pathlib import Path
text, folder = Path(sys.argv[1]).read_text(), Path(sys.argv[2])
script = """<script>addEventListener("load", () => parent.postMessage(["seen", innerWidth,
  document.documentElement.scrollWidth, performance.getEntriesByType("resource").length,
  [...document.querySelectorAll(".box")].filter((box) => box.scrollWidth > box.clientWidth).length].join(" "), "*"))</script>"""
# The page's own policy would refuse this script, and would hide requests of the page.
policy = text[text.index('<meta http-equiv="Content-Security-Policy"') :].split(">", 1)[0] + ">"
(folder / "copy.html").write_text(text.replace(policy, "").replace("</body>", script + "</body>"))
frames = "".join(f'<iframe src="copy.html" width="{width}" height="900"></iframe>' for width in (1280, 390))
listener = '<script>addEventListener("message", (e) => { document.getElementById("told").append(e.data + "\\n"); });</script>'
(folder / "frames.html").write_text(f"<!DOCTYPE html><meta charset=utf-8><style>iframe {{ border: 0 }}</style>{listener}<pre id=told></pre>{frames}")
PYTHON
  browse --virtual-time-budget=3000 --dump-dom "file://$looked/frames.html" >"$looked/dom" 2>"$looked/errors"
  seen=$(sed -n 's/^.*\(seen [0-9 ]*\)$/\1/p' "$looked/dom" | sort -k 2n)
  # The unchanged page, with its policy.
  browse --dump-dom "file://$1" >"$looked/whole" 2>>"$looked/errors"
  console=$(grep CONSOLE "$looked/errors" || true)
}

browse() {
  timeout "$(patience 60)" chromium --headless=new --hide-scrollbars --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
    --disable-component-update --disable-sync --host-resolver-rules='MAP * ~NOTFOUND' --enable-logging=stderr \
    --user-data-dir="$BATS_TEST_TMPDIR/chromium" --window-size=1800,1200 "$@" </dev/null 3>&- 4>&-
}

@test "the page fits a desktop and a phone, loads nothing, and shows names as text" {
  odd_experiment
  report --rate-per-hour 2 seeds
  look "$page"
  printf 'seen:\n%s\nconsole:\n%s\n' "$seen" "$console" >&2
  # Nothing is wider than the frame, and there are no requests; on a phone a table scrolls in its box.
  [[ $seen =~ ^'seen 390 390 0 '[1-9][0-9]*$'\n''seen 1280 1280 0 '[0-9]+$ ]]
  [[ -z $console ]]
  # There is nothing that a browser would fetch, and the names are text.
  if grep -oE '(src|href|action|data|poster)="[^#d][^"]*"|url\([^#)]*\)|@import|<(script|b|i)>' "$page"; then return 1; fi
  grep -qF '&lt;script&gt;alert(&quot;1 &amp; 2&quot;)&lt;/script&gt; $x^2$' "$page"
  grep -qF '&lt;b&gt;acc &amp; &quot;x&quot;&lt;/b&gt;' "$page"
  # The drawings are well-formed, each has a title, and there is a text for each kind of end.
  python3 - "$page" <<'PYTHON'
import re, sys
import xml.etree.ElementTree as tree
text = open(sys.argv[1]).read()
drawings = re.findall(r"<svg .*?</svg>", text, re.S)
assert len(drawings) == 3, len(drawings)
for drawing in drawings:
    assert tree.fromstring(drawing).find("{http://www.w3.org/2000/svg}title").text
    assert 'role="img"' in drawing
ids = re.findall(r' id="([^"]*)"', text)
assert len(ids) == len(set(ids)), sorted(ids)
for said in ("preempted", "a node failed", "saved and stopped when asked", "100 values are not finite"):
    assert said in text, said
assert "mathdefault" not in text  # the ticks of a logarithmic axis
PYTHON
}

@test "100,000 points: no spike is lost, and the page stays small" {
  task one 1 task_1 train completed '{"loss": 1}'
  curve one 1 100000 '1000 if x == 54321 else math.sin(x) + 2 if x > 9 else -7'
  report seeds
  (($(stat -c %s -- "$page") < 500000))
  cd -- "$project/hpc/experiments"
  python3 - <<'PYTHON'
from reports import plots
points = [(x, 0.0) for x in range(100_000)]
points[54_321] = (54_321, 1000.0)
points[54_322] = (54_322, -7.0)
thin = plots.thinned(points, 520)
assert {points[0], points[54_321], points[54_322], points[-1]} <= set(thin), len(thin)
assert len(thin) <= 2 * 520 + 2 and thin == sorted(thin)
assert plots.thinned([], 520) == [] and plots.thinned(points[:3], 520) == points[:3]
assert plots.thinned([(1, y) for y in range(5000)], 520) == [(1, 0), (1, 4999)]
PYTHON
}

@test "many tasks with many metrics: the page stays below 2 MB and says what it omits" {
  local number
  for ((number = 1; number <= 70; number++)); do
    task one "$number" "task_1_seed_$number" "seed $number: train" completed '{"loss": 1}'
    attempt one "$number" 0 finished 1000 2800
  done
  python3 - "$folder/hpc_outputs/one" <<'PYTHON'
import json, random, sys
for task in range(1, 71):
    with open(f"{sys.argv[1]}/task_{task}/output/metrics.jsonl", "w") as file:
        for step in range(60):
            file.write(json.dumps({"step": step, **{f"metric_{i:02}": random.random() for i in range(26)}}) + "\n")
PYTHON
  request one 4711 a100
  report seeds
  (($(stat -c %s -- "$page") < 2000000))
  [[ $(grep -c '<svg ' "$page") == 25 ]]
  grep -qF '>10 more tasks are not drawn.<' "$page"
  grep -qF '>Not drawn: metric_24, metric_25<' "$page"
}

@test "without matplotlib, or if the page cannot be written" {
  task one 1 task_1 train completed '{"loss": 1}'
  local -r bin=$BATS_TEST_TMPDIR/bin
  mkdir -- "$bin"
  printf '#!/bin/sh\nexec /usr/bin/env -i PATH=/usr/bin:/bin "%s" -S "$@"\n' "$(type -P python3)" >"$bin/python3"
  chmod +x -- "$bin/python3"
  rm -- "$project/.venv"
  PATH=$bin:$PATH fails_with 1 'matplotlib.*venv/create.sh$' bash "$project/hpc/experiments.sh" report seeds --html "$page"
  # The project's environment has it: the message names the command to use.
  local environment
  environment=$(bash -c 'source "$1/hpc/lib/common.sh"; source "$1/venv/environment.sh"; environment::path "$1" cpu' - "$project")
  mkdir -p -- "$environment/bin"
  cp -- "$bin/python3" "$environment/bin/python"
  PATH=$bin:$PATH fails_with 1 "'/bin/python -m pip install matplotlib" bash "$project/hpc/experiments.sh" report seeds --html "$page"
  # It is used where the environment has it.
  printf '#!/bin/sh\nexec "%s" "$@"\n' "$(type -P python3)" >"$environment/bin/python"
  PATH=$bin:$PATH report seeds
  run -1 --separate-stderr bash "$project/hpc/experiments.sh" report seeds --html "$BATS_TEST_TMPDIR/none/page.html"
  [[ $stderr == *"/none/page.html': No such file or directory" ]]
}
