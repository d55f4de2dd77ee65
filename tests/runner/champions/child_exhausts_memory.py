"""A worker of it is killed for its memory; the script shrugs and exits 0."""

import os

from contract import read, save, say

told = read()
save(told)
worker = os.fork()
if worker == 0:
    taken = []
    while True:
        taken.append(bytearray(b"\x01" * (16 << 20)))
_, status = os.waitpid(worker, 0)
say("worker", os.waitstatus_to_exitcode(status))
