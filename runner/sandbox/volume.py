"""Volumes with a quota of bytes and files: what a guest may write, and no more.

What is covered: an ext4 file system in a sparse file, formatted and mounted per guest, without a name as soon
as it is mounted: the end of the holder, however violent, frees it.
What is not covered: without the right to mount loop devices the volume is a sized tmpfs, whose pages count as
the guest's memory; the claim then shows the file system `tmpfs`.
"""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runner import linux

_INODE_BYTES = 256
_OVERHEAD_BYTES = 2 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A volume in the making. `image` and `formatting` are None where it will be a tmpfs."""

    name: str
    size_bytes: int
    inodes: int
    owner: int
    job: int  # the open folder that the image file lies in
    image: int | None
    formatting: int | None


def prepare(
    name: str, *, size_bytes: int, inodes: int, owner: int, job: int, job_dir: Path, may_mount: bool
) -> Volume:
    """Begin to make a volume in `job_dir`, which is open as `job`; formatting goes on beside."""
    image = formatting = None
    program = shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if may_mount and program is not None:
        file = f"{name}.img"
        image = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=job)
        os.truncate(image, size_bytes + inodes * _INODE_BYTES + _OVERHEAD_BYTES)
        formatting = _start_mkfs(program, job_dir / file, inodes=inodes, owner=owner)
    return Volume(
        name=name,
        size_bytes=size_bytes,
        inodes=inodes,
        owner=owner,
        job=job,
        image=image,
        formatting=formatting,
    )


def mount(volume: Volume, target: str, *, label: str, may_execute: bool) -> None:
    """Mount `volume` at `target`; `label` tells leftover loop devices apart."""
    flags = linux.MS_NOSUID | linux.MS_NODEV | (0 if may_execute else linux.MS_NOEXEC)
    mounted = False
    if volume.image is not None and volume.formatting is not None:
        _, status = os.waitpid(volume.formatting, 0)
        mounted = status == 0 and _mount_image(volume.image, target, label=label, flags=flags)
        discard(volume)
    if not mounted:
        options = f"size={volume.size_bytes},nr_inodes={volume.inodes},mode=0755"
        linux.mount("tmpfs", target, kind="tmpfs", flags=flags, options=options)
        os.chown(target, volume.owner, volume.owner)


def discard(volume: Volume) -> None:
    """Take the image's name away: a mount keeps it, a crash leaves no file behind."""
    if volume.image is not None:
        with suppress(FileNotFoundError):
            os.unlink(f"{volume.name}.img", dir_fd=volume.job)
        with suppress(OSError):
            os.close(volume.image)


def _start_mkfs(program: str, path: Path, *, inodes: int, owner: int) -> int:
    options = f"root_owner={owner}:{owner},nodiscard,lazy_itable_init=1"
    command = [program, "-q", "-F", "-b", "4096", "-m", "0", "-I", str(_INODE_BYTES)]
    command += ["-N", str(inodes), "-O", "^has_journal,^resize_inode", "-E", options, str(path)]
    quiet = [(os.POSIX_SPAWN_OPEN, n, "/dev/null", os.O_RDWR, 0) for n in (0, 1, 2)]
    return os.posix_spawn(program, command, {}, file_actions=quiet)


def _mount_image(image: int, target: str, *, label: str, flags: int) -> bool:
    """False where this host lets us have no loop device."""
    try:
        device, path = linux.attach_loop_device(image, label)
    except OSError:
        return False
    try:
        linux.mount(path, target, kind="ext4", flags=flags)
    except OSError:
        return False
    finally:
        os.close(device)  # the mount holds it now; the kernel frees it after the last unmount
    Path(target, "lost+found").rmdir()
    return True
