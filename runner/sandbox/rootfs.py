"""The files of a guest's root that are ours: a skeleton around the shipped runtime, and points to mount on.

What is covered: paths in a root that a stranger made (an image) are walked without following a link.
What is not covered: the kernel shows the source path of a bind mount in the guest's /proc/self/mountinfo, so
host paths can be seen there (not reached); name input folders neutrally.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runner import linux
from runner.errors import SandboxUnavailableError, SpecError
from runner.sandbox.interpreter import PYTHON_TARGET, VENV_TARGET
from runner.sandbox.layout import USR_LINKS
from runner.spec import Profile, Runtime, SandboxSpec

GUEST_ID = 1000

_HOSTS = "127.0.0.1 localhost runner\n::1 localhost runner\n"
_ETC = {
    "hosts": _HOSTS,
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "machine-id": "",
    "resolv.conf": "",
}
_NOBODY = "nobody:x:65534:65534:nobody:/:/bin/false\n"
_PASSWD = {
    Profile.STRICT: f"guest:x:{GUEST_ID}:{GUEST_ID}:guest:/tmp:/bin/sh\n{_NOBODY}",
    Profile.CHAMPION: f"root:x:0:0:root:/root:/bin/sh\n{_NOBODY}",
}
_GROUP = {
    Profile.STRICT: f"guest:x:{GUEST_ID}:\nnogroup:x:65534:\n",
    Profile.CHAMPION: "root:x:0:\nnogroup:x:65534:\n",
}
_FOLDERS = ("proc", "dev", "sys", "tmp", "etc", "opt", "run", "var", "root", "home", "mnt", "srv")


def build_skeleton(root: Path, spec: SandboxSpec, *, owner: int) -> None:
    """Make the folders and small files around the shipped runtime, all of them `owner`'s."""
    assert spec.runtime is not None  # an image brings its own
    for folder in _FOLDERS:
        (root / folder).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    (root / "root").chmod(0o700)
    (root / "var" / "tmp").symlink_to("/tmp")  # noqa: S108  the guest's own
    for link in USR_LINKS:
        if Path("/", link).is_dir():
            (root / link).symlink_to(f"usr/{link}")
    etc = {**_ETC, "passwd": _PASSWD[spec.profile], "group": _GROUP[spec.profile]}
    for name, text in etc.items():
        (root / "etc" / name).write_text(text)
    cache = Path("/etc/ld.so.cache")
    if cache.is_file():
        (root / "etc" / cache.name).write_bytes(cache.read_bytes())
    _build_environment(root, spec.runtime)
    for folder, folders, files in os.walk(root):
        for name in (".", *folders, *files):
            os.chown(f"{folder}/{name}", owner, owner, follow_symlinks=False)


def prepare_image_root(root: int, *, owner: int) -> None:
    """What a container engine does to an image's root: its own hosts file, no name servers, a /tmp."""
    for folder in ("proc", "dev", "sys", "tmp", "etc"):
        os.close(make_point(root, f"/{folder}", is_folder=True, owner=owner))
    for name, text in (("hosts", _HOSTS), ("resolv.conf", "")):
        etc = open_point(root, "/etc")
        with suppress(FileNotFoundError):  # also where it is a link
            os.unlink(name, dir_fd=etc)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, 0o644, dir_fd=etc), "w") as file:
            file.write(text)
            os.fchown(file.fileno(), owner, owner)
        os.close(etc)


def make_point(root: int, target: str, *, is_folder: bool, owner: int) -> int:
    """The open folder or file `target` below the open `root`, made where it is missing.

    Raises SpecError if a link is on the way: whoever made the root would choose where we mount.
    """
    current = os.dup(root)
    *parents, last = target.strip("/").split("/")
    try:
        for part in parents:
            current = _step(current, part, is_folder=True, owner=owner)
        return _step(current, last, is_folder=is_folder, owner=owner)
    except OSError as error:
        raise SpecError(f"{target} cannot be made in the guest's root: {error.strerror}") from error


def open_point(root: int, target: str) -> int:
    """`make_point` for a folder that exists."""
    return make_point(root, target, is_folder=True, owner=os.geteuid())


def make_folders(base: int, folders: tuple[str, ...], *, owner: int) -> None:
    """Make the folders that the guest expects below the open `base`, as its own."""
    for folder in folders:
        os.close(make_point(base, folder, is_folder=True, owner=owner))


def find_program(root: int, name: str, *, search: str) -> str:
    """The absolute path of the program `name` inside, looked up in the folders of `search`.

    Raises SandboxUnavailableError if there is none.
    """
    if "/" in name:
        return name
    for folder in search.split(":"):
        path = f"{folder or '.'}/{name}"
        with suppress(OSError), _opened(linux.open_in_root(path, root=root, flags=linux.O_PATH)) as found:
            mode = os.fstat(found).st_mode
            if stat.S_ISREG(mode) and mode & 0o111:
                return path
    raise SandboxUnavailableError(f"the guest's command {name!r} is not in its root; looked in {search}")


def has_folder(root: int, path: str) -> bool:
    """Whether the folder `path` is there inside, links followed as inside."""
    with suppress(OSError), _opened(linux.open_in_root(path, root=root, flags=linux.O_PATH)) as found:
        return stat.S_ISDIR(os.fstat(found).st_mode)
    return False


def _step(current: int, part: str, *, is_folder: bool, owner: int) -> int:
    """Close `current` and open its child `part`, made if it is missing."""
    try:
        with suppress(FileExistsError):
            _make(current, part, is_folder=is_folder)
            os.chown(part, owner, owner, dir_fd=current, follow_symlinks=False)  # only what we made
        flags = linux.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        found = os.open(part, flags | (os.O_DIRECTORY if is_folder else 0), dir_fd=current)
        if stat.S_ISLNK(os.fstat(found).st_mode):
            os.close(found)
            raise SpecError(f"{part} is a link in the guest's root; wanted a plain file or folder")
        return found
    finally:
        os.close(current)


def _make(parent: int, name: str, *, is_folder: bool) -> None:
    if is_folder:
        os.mkdir(name, 0o755, dir_fd=parent)
    else:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o644, dir_fd=parent))


@contextmanager
def _opened(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _build_environment(root: Path, runtime: Runtime) -> None:
    version = runtime.python_version
    venv = Path(f"{root}{VENV_TARGET}")
    (venv / "bin").mkdir(parents=True)
    (venv / "lib" / f"python{version}" / "site-packages").mkdir(parents=True)
    (venv / "lib64").symlink_to("lib")
    for name in ("python", "python3", f"python{version}"):
        (venv / "bin" / name).symlink_to(f"{PYTHON_TARGET}/bin/python{version}")
    text = f"home = {PYTHON_TARGET}/bin\ninclude-system-site-packages = false\nversion = {version}\n"
    (venv / "pyvenv.cfg").write_text(text)
    binaries = Path(f"{root}{PYTHON_TARGET}", "bin")
    binaries.mkdir(parents=True)
    for name in ("python3", "python"):
        (binaries / name).symlink_to(f"python{version}")
