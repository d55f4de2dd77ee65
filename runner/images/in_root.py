"""Opens folders as a process would whose `/` is a given one, and makes what was written there durable.

What is covered: links inside are followed as in a container, absolute ones too, and `..` ends at the root; none
leads out. What is not covered: somebody who changes the tree meanwhile; nobody but us may reach it.
"""

import ctypes
import errno
import os
import struct

_RESOLVE_NO_XDEV = 0x01
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10
_SYS_OPENAT2 = 437  # the same on every architecture
# openat2(2): a rename anywhere on the host makes the kernel give up on `..`, and ask for another try.
_ATTEMPTS = 10_000

_libc = ctypes.CDLL(None, use_errno=True)


def open_folder(name: bytes, *, root: int) -> int:
    """Open the folder `name` as seen from the open folder `root`. Raises OSError as `os.open` does."""
    resolve = _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_XDEV
    how = struct.pack("=QQQ", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, 0, resolve)
    for _ in range(_ATTEMPTS):
        opened = int(_libc.syscall(_SYS_OPENAT2, root, name or b".", how, len(how)))
        if opened >= 0:
            return opened
        if ctypes.get_errno() != errno.EAGAIN:
            break
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code), os.fsdecode(name))


def path_of(folder: int) -> bytes:
    """Where the open folder really is. Raises OSError for one deeper than a path can say."""
    return os.readlink(f"/proc/self/fd/{folder}".encode())  # noqa: PTH115  bytes


def sync_file_system(folder: int) -> None:
    """Flush everything on the file system of the open folder: one call in place of one per file."""
    if _libc.syncfs(folder) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
