"""Takes more memory than it may have, having saved a checkpoint before."""

from contract import read, save, say

told = read()
save(told)
say("saved", True)
taken = []
while True:
    taken.append(bytearray(b"\x01" * (16 << 20)))
