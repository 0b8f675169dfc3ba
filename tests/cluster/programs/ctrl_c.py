"""Runs a command on its own terminal and presses Ctrl-C there each time that the command has printed the next PATTERN.

ctrl_c.py PATTERN... -- COMMAND...   prints what the command prints and exits with its status
"""

import os
import pty
import re
import signal
import sys


def main(patterns: list[str], command: list[str]) -> int:
    process, terminal = pty.fork()
    if process == 0:
        # On a terminal nothing ignores these signals, unlike under nohup or `&`; a shell cannot handle what was ignored
        # at its start.
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        os.execvp(command[0], command)
    text = ""
    while True:
        try:
            found = os.read(terminal, 65536)
        except OSError:  # the command has ended
            break
        text += found.decode(errors="replace")
        os.write(1, found)
        match = re.search(patterns[0], text) if patterns else None
        if match:
            os.write(terminal, b"\x03")
            text, patterns = text[match.end() :], patterns[1:]
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


border = sys.argv.index("--")
sys.exit(main(sys.argv[1:border], sys.argv[border + 1 :]))
