"""Leaves a process behind, in a session of its own, that goes on writing to the output after the script's end."""

import os
import signal
import time

from contract import read, save, say

told = read()
save(told)
ready, tell = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        beats = (told.leaf / "beats.txt").open("w", buffering=1)
        beats.write("beat\n")
        os.write(tell, b"x")
        while True:
            beats.write("beat\n")
            time.sleep(0.01)
    os._exit(0)
os.wait()
os.read(ready, 1)
say("left", "a daemon")
