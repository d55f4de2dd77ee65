"""Stands in for redis-server: GET and SET in redis' own protocol on 127.0.0.1:6379, as a daemon."""

import os
import socketserver
from typing import BinaryIO

VALUES: dict[bytes, bytes] = {}


def words_of(lines: BinaryIO) -> list[bytes]:
    """One command; empty at the end of the connection."""
    head = lines.readline()
    if not head:
        return []
    return [lines.read(int(lines.readline()[1:]) + 2)[:-2] for _ in range(int(head[1:]))]


class Talk(socketserver.StreamRequestHandler):
    """One connection."""

    def handle(self) -> None:
        while words := words_of(self.rfile):
            match [words[0].upper(), *words[1:]]:
                case [b"SET", name, value]:
                    VALUES[name] = value
                    self.wfile.write(b"+OK\r\n")
                case [b"GET", name] if name in VALUES:
                    self.wfile.write(b"$%d\r\n%b\r\n" % (len(VALUES[name]), VALUES[name]))
                case [b"GET", _]:
                    self.wfile.write(b"$-1\r\n")
                case _:
                    self.wfile.write(b"-ERR unknown command\r\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


with Server(("127.0.0.1", 6379), Talk) as server:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            server.serve_forever()
    os._exit(0)
