"""Has nothing to show until it is asked to end; then saves within the grace and exits."""

import signal
import sys
import time

from contract import read, save, say


def stop(*_: object) -> None:
    save(told)
    say("saved", True)
    sys.exit(0)


told = read()
signal.signal(signal.SIGTERM, stop)
say("waiting", True)
while True:
    time.sleep(1)
