"""Starts a daemon on redis' port, keeps its state there, as redis users do, and uses it until it is stopped."""

import os
import signal
import socket
import sys
import time

from contract import read, say

PORT = 6379
told = read()


def serve(listening: socket.socket) -> None:
    """Keeps one value: a line sets it, an empty line asks for it."""
    value = b"nothing\n"
    while True:
        talk, _ = listening.accept()
        with talk, talk.makefile("rwb") as lines:
            line = lines.readline()
            if line == b"\n":
                lines.write(value)
            else:
                value = line
                lines.write(b"OK\n")


def ask(line: bytes) -> bytes:
    with socket.create_connection(("localhost", PORT), timeout=10) as talk, talk.makefile("rwb") as lines:
        lines.write(line + b"\n")
        lines.flush()
        return lines.readline().strip()


listening = socket.socket()
listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listening.bind(("0.0.0.0", PORT))
listening.listen()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # or it would end before its client has saved
        serve(listening)
    os._exit(0)
os.wait()
listening.close()
say("set", ask(told.task_id.encode()))
say("served", ask(b""))

with socket.socket() as second:  # a port is a real port: it is taken
    try:
        second.bind(("127.0.0.1", PORT))
        say("second", "bound")
    except OSError as error:
        say("second", error.strerror)


def stop(*_: object) -> None:
    say("still", ask(b""))
    sys.exit(0)


signal.signal(signal.SIGTERM, stop)
while True:
    time.sleep(0.05)
    assert ask(b"") == told.task_id.encode()
