"""Prints a gigabyte on both streams, then saves its model."""

import os
import sys

from contract import read, save

told = read()
sys.stderr.write("first words\n")
sys.stderr.flush()
chunk = b"x" * ((1 << 20) - 1) + b"\n"
for number in range(1024):
    left = memoryview(chunk)
    while left:
        left = left[os.write(1 + number % 2, left) :]
save(told)
print("last words", flush=True)
