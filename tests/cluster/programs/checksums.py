"""Prints the checksums of the secrets that it was given and waits a little, so that the test can look at it.

checksums.py NAME...   of environment variables
"""

import hashlib
import os
import sys
import time

for name in sys.argv[1:]:
    print(f"{name} {hashlib.sha256(os.environ[name].encode()).hexdigest()}", flush=True)
time.sleep(3)
