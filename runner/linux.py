"""The few Linux calls that the standard library lacks, by ctypes; each raises OSError like the rest of `os`.

What is covered: mounts, namespaces, process control, beneath-only opening, loop devices, reading a filter.
What is not covered: any judgement about when a call is safe; that is for the callers.
"""

import ctypes
import errno
import fcntl
import os
import signal
import struct
from contextlib import suppress
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000

MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

MS_RDONLY = 1
MS_REMOUNT = 32

# mount_setattr(2)
MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR_IDMAP = 0x00100000

O_PATH = 0o10000000  # not in the os module before Python 3.12 on every build

# openat2(2): stay beneath the folder, follow nothing, cross no mount.
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

# The same on every architecture.
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_OPENAT2 = 437
_SYS_MOUNT_SETATTR = 442
_OPEN_TREE_CLONE = 1
_AT_RECURSIVE = 0x8000
_AT_EMPTY_PATH = 0x1000
_MOVE_MOUNT_F_EMPTY_PATH = 0x04
_MOVE_MOUNT_T_EMPTY_PATH = 0x40
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LO_FLAGS_AUTOCLEAR = 4
_RACE_ATTEMPTS = 128
_LOOP_ATTEMPTS = 16  # another process may take the free device between the two calls

_PTRACE_DETACH = 17
_PTRACE_SEIZE = 0x4206
_PTRACE_INTERRUPT = 0x4207
_PTRACE_SECCOMP_GET_FILTER = 0x420C
_WALL = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def _checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def unshare(flags: int) -> None:
    """Give the calling thread its own namespaces, see unshare(2)."""
    _checked(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, *, kind: str = "", flags: int = 0, options: str = "") -> None:
    """See mount(2); empty strings stand for NULL."""
    arguments = (source.encode() or b"none", target.encode(), kind.encode() or None)
    result = _libc.mount(*arguments, ctypes.c_ulong(flags), options.encode() or None)
    _checked(result, f"mount {target}")


def unmount(target: str) -> None:
    """Detach the mount at `target`; files still open stay readable."""
    _checked(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def clone_tree(folder: int, *, recursive: bool) -> int:
    """A copy of the mount at the open `folder`, attached nowhere; its descriptor. See open_tree(2)."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    return _checked(_libc.syscall(_SYS_OPEN_TREE, folder, b"", ctypes.c_ulong(flags)), "open_tree")


def attach_tree(tree: int, target: int) -> None:
    """Attach what `clone_tree` gave at the open `target`, also of another mount namespace if entered."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
    _checked(_libc.syscall(_SYS_MOVE_MOUNT, tree, b"", target, b"", flags), "move_mount")


def set_mount_flags(mount: int, *, flags: int, recursive: bool, idmap: int | None = None) -> None:
    """Add MOUNT_ATTR flags to the mount open at `mount`; `idmap` is a user namespace to show its ids through."""
    attributes = flags | (MOUNT_ATTR_IDMAP if idmap is not None else 0)
    # struct mount_attr: to set, to clear, propagation, user namespace
    wanted = struct.pack("=QQQQ", attributes, 0, 0, idmap or 0)
    how = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    result = _libc.syscall(_SYS_MOUNT_SETATTR, mount, b"", how, wanted, ctypes.c_size_t(len(wanted)))
    _checked(result, "mount_setattr")


def enter_namespace(namespace: int) -> None:
    """Move the calling thread into the open namespace, see setns(2)."""
    _checked(_libc.setns(namespace, 0), "setns")


def die_with_parent(parent_pid: int) -> None:
    """Have this process killed when `parent_pid` ends, also when that has happened already.

    A change of user id clears the setting: call it again after one.
    """
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0), "prctl")
    if os.getppid() != parent_pid:
        os._exit(125)


def fork_bound() -> int:
    """fork(2); the child is killed when its parent ends, even if that was before this returns in it."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        die_with_parent(parent)
    return child


def pause() -> None:
    """Wait for a signal."""
    _libc.pause()


def set_dumpable() -> None:
    """Make /proc/self writable for its owner again, after a change of user id."""
    _checked(_libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0), "prctl")


def adopt_orphans() -> None:
    """Become the parent of every orphan below this process, so that it can be waited for."""
    _checked(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


def set_no_new_privs() -> None:
    """Setuid files give nothing to this process and its children from now on."""
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def open_beneath(name: bytes, *, folder: int, flags: int) -> int:
    """Open `name` strictly beneath the open `folder`: no link, no `..`, no other mount on the way."""
    resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0, resolve)
    return _checked(_libc.syscall(_SYS_OPENAT2, folder, name, how, len(how)), "openat2")


def open_in_root(name: str, *, root: int, flags: int) -> int:
    """Open `name` as if the open folder `root` were `/`: links in it are followed, and never lead out."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    for _ in range(_RACE_ATTEMPTS):
        try:
            return _checked(_libc.syscall(_SYS_OPENAT2, root, os.fsencode(name), how, len(how)), "openat2")
        except BlockingIOError:  # the kernel cannot rule a race out when anything is renamed meanwhile
            continue
    raise OSError(errno.EAGAIN, "openat2: files are renamed all the time")


def attach_loop_device(image: int, name: str) -> tuple[int, str]:
    """(open device, its path) for the image file open at `image`; freed by the kernel at its last close.

    `name` stands in the device's status for whoever looks for leftovers.
    """
    flags = struct.pack("=I", _LO_FLAGS_AUTOCLEAR)
    # struct loop_config: fd, block size, struct loop_info64 (flags at 52, file name at 56), 64 reserved bytes.
    info = bytes(52) + flags + name.encode()[:63].ljust(64, b"\0") + bytes(112)
    config = struct.pack("=II", image, 4096) + info + bytes(64)
    with open("/dev/loop-control", "rb") as control:  # noqa: PTH123
        for _ in range(_LOOP_ATTEMPTS):
            path = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, config)
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:
                    raise
            else:
                return device, path
    raise OSError(errno.EBUSY, "no free loop device")


def seccomp_filter(pid: int) -> bytes:
    """The filter that process `pid` installed last, as bytes of classic BPF.

    The process is stopped for a moment. Needs CAP_SYS_ADMIN and a kernel with checkpoint/restore.
    """
    _checked(_libc.ptrace(_PTRACE_SEIZE, pid, None, None), "ptrace")
    try:
        _checked(_libc.ptrace(_PTRACE_INTERRUPT, pid, None, None), "ptrace")
        os.waitpid(pid, _WALL)
        count = _checked(_libc.ptrace(_PTRACE_SECCOMP_GET_FILTER, pid, None, None), "ptrace")
        buffer = ctypes.create_string_buffer(count * 8)
        _checked(_libc.ptrace(_PTRACE_SECCOMP_GET_FILTER, pid, None, buffer), "ptrace")
        return buffer.raw
    finally:
        with suppress(OSError):
            _checked(_libc.ptrace(_PTRACE_DETACH, pid, None, None), "ptrace")


def start_time(pid: int) -> int | None:
    """Clock ticks from boot to the start of process `pid`; None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])
