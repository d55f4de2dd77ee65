"""Saves a checkpoint early and then uses up its whole time and more, deaf to every signal it can be."""

import signal
import time

from contract import read, save, say

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, signal.SIG_IGN)
told = read()
save(told)
say("saved", True)
while True:
    time.sleep(1)
