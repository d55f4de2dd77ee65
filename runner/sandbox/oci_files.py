"""The files that podman reads, and the places in the guest's root that it must find.

What is covered: podman reads no configuration of the host's; it and the runtime, who are nobody here, need not
write to the guest's root, which may be read-only.
What is not covered: podman's records; it writes them beside these files and they vanish with them.
"""

import os
from contextlib import suppress

from runner import linux
from runner.sandbox import rootfs
from runner.sandbox.oci_keeper import keeper_id
from runner.sandbox.seccomp_oci import load_profile
from runner.sandbox.walls import Stage

_FOLDERS = ("/proc", "/dev", "/sys", "/tmp", "/run", "/etc")  # noqa: S108  the guest's own
_HOSTNAME = "/etc/hostname"
_CONTAINERS = """\
[containers]
default_capabilities = []
default_sysctls = []
default_ulimits = []
devices = []
env = []
volumes = []
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
hooks_dir = []
lock_type = "file"
"""


def write_files(stage: Stage) -> None:
    """Write what podman will read into the scratch folder, and give it all to podman's user id."""
    scratch = stage.scratch
    storage = f'[storage]\ndriver = "vfs"\ngraphroot = "{scratch}/graph"\nrunroot = "{scratch}/run"\n'
    (scratch / "containers.conf").write_text(_CONTAINERS)
    (scratch / "storage.conf").write_text(storage)
    (scratch / "seccomp.json").write_bytes(load_profile())
    (scratch / "hostname").write_text("runner\n")
    (scratch / "containerenv").write_text("")
    (scratch / "terminals").mkdir()
    if stage.identity.is_own:
        owner = keeper_id(stage)
        for path in (scratch, *scratch.iterdir()):
            os.chown(path, owner, owner)


def make_points(stage: Stage) -> None:
    """Make in the guest's root what podman mounts on or would make itself.

    Raises SpecError if a link of an image stands where something is to be mounted.
    """
    point = stage.scratch / "root"
    point.mkdir()
    linux.mount(stage.root, str(point), flags=linux.MS_BIND)
    flags = linux.MS_REMOUNT | linux.MS_BIND | linux.MS_NOSUID | linux.MS_NODEV
    linux.mount("", str(point), flags=flags)  # writable here, whatever it is for the guest
    root = os.open(point, linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    owner = stage.identity.user_id
    try:
        for folder in _FOLDERS:
            os.close(rootfs.make_point(root, folder, is_folder=True, owner=owner))
        os.close(rootfs.make_point(root, _HOSTNAME, is_folder=False, owner=owner))
        etc = rootfs.open_point(root, "/etc")
        with suppress(FileExistsError):
            os.symlink("/proc/mounts", "mtab", dir_fd=etc)
            os.chown("mtab", owner, owner, dir_fd=etc, follow_symlinks=False)
        os.close(etc)
    finally:
        os.close(root)
        linux.unmount(str(point))
        point.rmdir()
