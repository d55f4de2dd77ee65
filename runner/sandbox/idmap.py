"""Showing files of user id 0 as files of a guest's id, without changing them.

What is covered: one tree on the host, unpacked once, is shown to any number of guests, each of which owns it.
What is not covered: files of other ids are shown as nobody's. File systems without idmapped mounts (overlay,
NFS) refuse; the caller then says so.
"""

import os
from contextlib import suppress

from runner import linux


def open_user_namespace(user_id: int) -> int:
    """An open user namespace in which 0 is `user_id` of ours. Raises OSError where it cannot be made."""
    ready, tell = os.pipe2(os.O_CLOEXEC)
    child = linux.fork_bound()
    if child == 0:
        try:
            linux.unshare(linux.CLONE_NEWUSER)
            os.write(tell, b"1")
            os.close(tell)
            linux.pause()
        finally:
            os._exit(1)
    os.close(tell)
    try:
        if not os.read(ready, 1):
            raise OSError("a user namespace for the mapping of ids cannot be made")
        for kind in ("uid_map", "gid_map"):
            with open(f"/proc/{child}/{kind}", "w") as file:  # noqa: PTH123
                file.write(f"0 {user_id} 1")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        with suppress(ProcessLookupError):
            os.kill(child, 9)
        os.waitpid(child, 0)


def clone_mapped(folder: int, *, user_namespace: int | None, writable: bool = False) -> int:
    """A copy of the mount at the open `folder`, its ids mapped, attached nowhere; its descriptor."""
    tree = linux.clone_tree(folder, recursive=user_namespace is None)
    flags = linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV | (0 if writable else linux.MOUNT_ATTR_RDONLY)
    try:
        linux.set_mount_flags(tree, flags=flags, recursive=user_namespace is None, idmap=user_namespace)
    except OSError:
        os.close(tree)
        raise
    return tree
