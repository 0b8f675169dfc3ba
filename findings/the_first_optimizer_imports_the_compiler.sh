#!/usr/bin/env bash
# the_first_optimizer_imports_the_compiler.sh
#
# torch 2.13.0 (CPU). A program that compiles nothing imports all of torch._dynamo when it makes its first optimizer: more than 700 modules,
# and about as much time as `import torch` itself. torch hides some methods of Optimizer from the compiler, and imports it for that. Each
# rank of a training pays it after its import of torch, before its first step; a smaller set of imports cannot avoid it. And when Python
# ends, its last garbage collections need a third as long as `import torch`, unless gc.freeze() has set the modules apart.
#
# Output seen on 2026-11-30:
#   after import torch: False; after torch.optim.SGD: True, more than 700 modules: True; an end without gc.freeze is longer: True
#
# Exit status 0 while it is so, 1 when it has changed. Run by people; it needs pip's package index.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat >"$work/optimizer.py" <<'PYTHON'
import sys
import time

begun = time.process_time()
import torch

imported = time.process_time()
print("after import torch:", "torch._dynamo" in sys.modules, end="; ")
before = len(sys.modules)
torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
print("after torch.optim.SGD:", "torch._dynamo" in sys.modules, end=", ")
print("more than 700 modules:", len(sys.modules) - before > 700)
print(f"torch: {imported - begun:.1f} s of CPU, the optimizer: {time.process_time() - imported:.1f} s", file=sys.stderr)
PYTHON
cat >"$work/end.py" <<'PYTHON'
import gc
import sys
import time

import torch

if sys.argv[1] == "freeze":
    gc.freeze()
print(time.process_time())
PYTHON
# end WORD   Prints the CPU seconds of Python's end.
end() {
  local TIMEFORMAT='%U %S'
  { time "$work/venv/bin/python" "$work/end.py" "$1" >"$work/printed"; } 2>"$work/used"
  awk 'NR == FNR { used = $1 + $2; next } { print used - $1 }' "$work/used" "$work/printed"
}

"$work/venv/bin/python" -W ignore "$work/optimizer.py" >/dev/null 2>&1 # the first run writes Python's caches
seen=$("$work/venv/bin/python" -W ignore "$work/optimizer.py")
plain=$(end plain)
frozen=$(end freeze)
printf 'the end: %s s of CPU, %s s after gc.freeze()\n' "$plain" "$frozen" >&2
seen+="; an end without gc.freeze is longer: $(awk "BEGIN { print ($plain > $frozen) ? \"True\" : \"False\" }")"
printf '%s\n' "$seen"
[[ $seen == 'after import torch: False; after torch.optim.SGD: True, more than 700 modules: True; an end without gc.freeze is longer: True' ]]
