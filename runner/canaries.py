"""Canaries on the host for the self-check: doors that a guest must not find, and that tell if one did.

What is covered: TCP, UDP, abstract and path UNIX listeners, files, System V and POSIX shared memory, a
secret in the environment.
What is not covered: hosts without /dev/shm; there the canaries cannot be set up, which is an error.
"""

import contextlib
import ctypes
import os
import secrets
import selectors
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ENV_NAME = "ASSAY_SELFCHECK_CANARY"
LISTENERS = ("tcp", "udp", "abstract", "pathname")
NAMESPACES = ("mnt", "net", "pid", "ipc", "uts", "user", "cgroup")
_IPC_CREAT, _IPC_RMID = 0o1000, 0


@dataclass(slots=True)
class HostCanaries:
    """Opened as a context; `hits` counts contacts per listener since the last `take_hits`.

    The environment variable is set in this process, because this process starts the sandbox and a leak
    would start here; it is removed when the context ends.
    """

    secret: str = field(default_factory=lambda: "canary-" + secrets.token_hex(12))
    env_secret: str = field(default_factory=lambda: "canary-" + secrets.token_hex(12))
    folder: Path = field(init=False)
    hits: dict[str, int] = field(init=False)
    _sockets: list[tuple[str, socket.socket]] = field(init=False, default_factory=list)
    _stack: contextlib.ExitStack = field(init=False, default_factory=contextlib.ExitStack)
    _stop: threading.Event = field(init=False, default_factory=threading.Event)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)
    _selector: selectors.BaseSelector = field(init=False)
    _sysv_key: int = field(init=False, default=0)

    def __enter__(self) -> Self:
        self.hits = dict.fromkeys(LISTENERS, 0)
        with contextlib.ExitStack() as stack:
            self.folder = Path(tempfile.mkdtemp(prefix="assay-canary-"))
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.folder.chmod(0o755)  # only walls may hide it, not file modes
            self._write(self.folder / "secret")
            shm = Path("/dev/shm") / self.folder.name  # noqa: S108  the host's shared memory is the canary
            self._write(shm)
            stack.callback(shm.unlink, missing_ok=True)
            stack.enter_context(self._sysv_segment())
            os.environ[ENV_NAME] = self.env_secret
            stack.callback(os.environ.pop, ENV_NAME, None)
            self._selector = stack.enter_context(selectors.DefaultSelector())
            for name, listener in self._listeners():
                self._sockets.append((name, listener))
                stack.callback(listener.close)
                listener.setblocking(False)
                if listener.type == socket.SOCK_STREAM:
                    listener.listen(16)
                self._selector.register(listener, selectors.EVENT_READ, name)
            thread = threading.Thread(target=self._serve, name="selfcheck-canaries", daemon=True)
            thread.start()
            stack.callback(thread.join, 5.0)
            stack.callback(self._stop.set)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def take_hits(self) -> dict[str, int]:
        """The contacts so far, those still waiting to be answered included; counted from zero afterwards."""
        while self._answer_ready(timeout_s=0):
            pass
        with self._lock:
            taken, self.hits = self.hits, dict.fromkeys(LISTENERS, 0)
        return taken

    def addresses(self) -> Mapping[str, Any]:
        """Where the probes find the canaries, in the words of their configuration."""
        by_name = {name: [] for name in LISTENERS}  # type: dict[str, list[list[Any]]]
        for name, listener in self._sockets:
            if name in ("tcp", "udp"):
                by_name[name].append(list(listener.getsockname()))
        return {
            "tcp": by_name["tcp"],
            "udp": by_name["udp"],
            "abstract": self.folder.name,
            "pathname": str(self.folder / "socket"),
            "secret": self.secret,
            "env_secret": self.env_secret,
            "secret_files": [str(self.folder / "secret")],
            "temp_file": str(self.folder / "secret"),
            "posix_shm": self.folder.name,
            "sysv_key": self._sysv_key,
            "hostname": socket.gethostname(),
            "host_namespaces": {n: str(Path(f"/proc/self/ns/{n}").readlink()) for n in NAMESPACES},
        }

    def _write(self, path: Path) -> None:
        path.write_text(self.secret)
        path.chmod(0o644)

    def _listeners(self) -> Iterator[tuple[str, socket.socket]]:
        for host in _own_addresses():
            for name, kind in (("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)):
                listener = socket.socket(socket.AF_INET, kind)
                listener.bind((host, 0))
                yield name, listener
        for name, address in (
            ("abstract", b"\0" + self.folder.name.encode()),
            ("pathname", bytes(self.folder / "socket")),
        ):
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(address)
            yield name, listener
        (self.folder / "socket").chmod(0o777)

    def _serve(self) -> None:
        while not self._stop.is_set():
            self._answer_ready(timeout_s=0.1)

    def _answer_ready(self, *, timeout_s: float) -> bool:
        """Answer who is waiting; False if nobody was."""
        ready = self._selector.select(timeout_s)
        with self._lock:
            for key, _ in ready:
                with contextlib.suppress(OSError):  # the other thread was faster, or the guest is gone
                    self._answer(key.data, key.fileobj)  # type: ignore[arg-type]  # only sockets are here
        return bool(ready)

    def _answer(self, name: str, listener: socket.socket) -> None:
        if listener.type == socket.SOCK_DGRAM:
            _, peer = listener.recvfrom(64)
            self.hits[name] += 1
            listener.sendto(b"canary", peer)
            return
        connection, _ = listener.accept()
        self.hits[name] += 1
        with connection:
            connection.sendall(b"canary")

    @contextlib.contextmanager
    def _sysv_segment(self) -> Iterator[None]:
        libc = ctypes.CDLL(None, use_errno=True)
        self._sysv_key = secrets.randbelow(2**30) + 1
        handle = libc.shmget(ctypes.c_int(self._sysv_key), ctypes.c_size_t(4096), _IPC_CREAT | 0o644)
        if handle < 0:
            raise OSError(ctypes.get_errno(), "System V shared memory canary")
        try:
            yield
        finally:
            libc.shmctl(handle, _IPC_RMID, None)


def _own_addresses() -> list[str]:
    """Loopback, and the address this host would use towards others, if it has one. Sends nothing."""
    found = ["127.0.0.1"]
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # TEST-NET-1, RFC 5737
        found.append(probe.getsockname()[0])
    return found
