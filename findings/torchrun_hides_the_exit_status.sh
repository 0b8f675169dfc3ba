#!/usr/bin/env bash
# torchrun_hides_the_exit_status.sh
#
# torch 2.13.0 (CPU). torchrun ends with 1 whatever the status of the rank that failed: 75, by which a program asks to be started again, and
# 2, a wrong argument, cannot be told apart by what started torchrun. And it leaves its folder torchelastic_… in the temporary folder, also
# after a run that ended well; with --log-dir the folder stays there instead.
#
# Output seen on 2026-11-29:
#   a rank with 0: torchrun 0; a rank with 2: torchrun 1; a rank with 75: torchrun 1; folders left: 3
#
# Exit status 0 while it is so, 1 when it has changed. Run by people; it needs pip's package index.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
mkdir -- "$work/temporary"
printf 'import sys\n\nsys.exit(int(sys.argv[1]))\n' >"$work/end.py"
seen=''
for wanted in 0 2 75; do
  status=0
  TMPDIR=$work/temporary "$work/venv/bin/python" -W ignore -m torch.distributed.run --nproc-per-node 1 \
    "$work/end.py" "$wanted" >"$work/log" 2>&1 || status=$?
  seen+="a rank with $wanted: torchrun $status; "
done
seen+="folders left: $(find "$work/temporary" -maxdepth 1 -name 'torchelastic_*' | wc -l)"
printf '%s\n' "$seen"
[[ $seen == 'a rank with 0: torchrun 0; a rank with 2: torchrun 1; a rank with 75: torchrun 1; folders left: 3' ]]
