"""Leaves a whole model, and beside it every kind of file that a careless copy would trip over."""

import os
import socket
import stat
from pathlib import Path

from contract import read, save, say

told = read()
save(told)
leaf = told.leaf
(leaf / "link").symlink_to("/etc/passwd")
(leaf / "up").symlink_to("../../..")
(leaf / "cache").symlink_to(told.base)
(leaf / "one").write_text("twice")
os.link(leaf / "one", leaf / "two")
with (leaf / "sparse.bin").open("wb") as file:
    file.truncate(40 << 20)
(leaf / "setuid").write_text("#!/bin/sh\n")
(leaf / "setuid").chmod(0o4755)
(leaf / "new\nline").write_text("x")
(leaf / "deep" / "/".join("abcdefghij")).mkdir(parents=True)


def attempt(name: str, make: object) -> None:
    try:
        assert callable(make)
        make()
        say(name, "made")
    except OSError as error:
        say(name, error.strerror)


attempt("pipe", lambda: os.mkfifo(leaf / "pipe"))
attempt("socket", lambda: socket.socket(socket.AF_UNIX).bind(str(Path(leaf, "socket"))))
attempt("device", lambda: os.mknod(leaf / "device", 0o666 | stat.S_IFCHR, os.makedev(1, 3)))
attempt("link-out", lambda: os.link("/etc/passwd", leaf / "passwd"))
