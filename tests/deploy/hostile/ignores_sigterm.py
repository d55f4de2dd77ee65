"""Hostile text_trainer: ignores every signal that can be ignored, in two process groups, and never ends."""

import os
import signal

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM):
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()  # a signal to our group does not reach the child
print("waiting for ever", flush=True)
while True:
    signal.pause()
