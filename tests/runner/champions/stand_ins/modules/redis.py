"""Stands in for the package redis: what text champions use of it."""

import socket


class Redis:
    """A client with one connection a call."""

    def __init__(self, *, host: str, port: int, **_: object) -> None:
        self._address = (host, port)

    def get(self, name: str) -> str | None:
        return self._ask("GET", name)

    def set(self, name: str, value: str) -> None:
        self._ask("SET", name, value)

    def _ask(self, *words: str) -> str | None:
        parts = [word.encode() for word in words]
        asked = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        with socket.create_connection(self._address, timeout=10) as talk, talk.makefile("rwb") as lines:
            lines.write(asked)
            lines.flush()
            head = lines.readline()
            if head[:1] != b"$" or head == b"$-1\r\n":
                assert head[:1] != b"-", head
                return None
            return lines.read(int(head[1:]) + 2)[:-2].decode()
