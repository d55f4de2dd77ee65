"""The file system that a guest sees, staged in a private mount namespace.

What is covered: the host's /usr, a tiny /etc of our own, the Python environment, and the order's inputs, all
to be shown read-only; a private output volume with a quota of bytes and files.
What is not covered: the kernel shows the source path of a bind mount in the guest's /proc/self/mountinfo, so
host paths can be seen there (not reached); name input folders neutrally. Without the right to mount loop
devices the output is a sized tmpfs, whose pages count as the guest's memory.
"""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from runner import linux
from runner.errors import SandboxUnavailableError, SpecError
from runner.sandbox.interpreter import PYTHON_TARGET, VENV_TARGET, base_packages, interpreter_parts
from runner.spec import Limits, SandboxSpec

GUEST_ID = 1000
STAGE_PARENTS = ("/mnt", "/srv", "/tmp")  # noqa: S108  covered in our own mount namespace only

_ETC = {
    "passwd": f"guest:x:{GUEST_ID}:{GUEST_ID}:guest:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "group": f"guest:x:{GUEST_ID}:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost runner\n::1 localhost runner\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "machine-id": "",
}
_USR_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_RESERVED = ("/proc", "/dev", "/sys", "/usr", "/etc", "/tmp", PYTHON_TARGET, VENV_TARGET)  # noqa: S108
_TARGET = re.compile(r"(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._@+=-]+)+")
_INODE_BYTES = 256
_FILESYSTEM_OVERHEAD_BYTES = 2 << 20
_TMPFS = linux.MS_NOSUID | linux.MS_NODEV


def check_layout(spec: SandboxSpec) -> None:
    """Raise SpecError unless every target has a place of its own and every word is one word."""
    _check_words(spec)
    targets = [m.target for m in spec.mounts] + [spec.output_target]
    for target in targets:
        if not _TARGET.fullmatch(target):
            raise SpecError(f"mount target {target!r} is not a plain absolute path")
        for reserved in (*_RESERVED, *(f"/{link}" for link in _USR_LINKS)):
            if _nested(target, reserved):
                raise SpecError(f"mount target {target} meets {reserved}, which is the sandbox's own")
    for index, target in enumerate(targets):
        for other in targets[index + 1 :]:
            if _nested(target, other):
                raise SpecError(f"mount targets {target} and {other} lie in one another")
    for folder in spec.output_folders:
        if not _TARGET.fullmatch(f"/{folder}"):
            raise SpecError(f"output folder {folder!r} is not a plain relative path")


def make_image(path: Path, limits: Limits) -> int:
    """Make the sparse image file of an output volume, without a name; returns its open descriptor."""
    image = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    inode_bytes = limits.output_inodes * _INODE_BYTES
    os.truncate(image, limits.output_bytes + inode_bytes + _FILESYSTEM_OVERHEAD_BYTES)
    return image


def start_mkfs(path: Path, limits: Limits, *, owner: int) -> int | None:
    """Start formatting the image at `path` for the user id `owner`; returns the process id, None without it."""
    program = shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        return None
    options = f"root_owner={owner}:{owner},nodiscard,lazy_itable_init=1"
    command = [program, "-q", "-F", "-b", "4096", "-m", "0", "-I", str(_INODE_BYTES)]
    command += ["-N", str(limits.output_inodes), "-O", "^has_journal,^resize_inode", "-E", options, str(path)]
    quiet = [(os.POSIX_SPAWN_OPEN, n, "/dev/null", os.O_RDWR, 0) for n in (0, 1, 2)]
    return os.posix_spawn(program, command, {}, file_actions=quiet)


def mount_image(image: int, target: str, *, name: str) -> bool:
    """Mount the formatted image; False where this host lets us have no loop device."""
    try:
        device, path = linux.attach_loop_device(image, name)
    except OSError:
        return False
    try:
        flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
        linux.mount(path, target, kind="ext4", flags=flags)
    except OSError:
        return False
    finally:
        os.close(device)  # the mount holds it now; the kernel frees it after the last unmount
    Path(target, "lost+found").rmdir()
    return True


def mount_tmpfs_output(target: str, limits: Limits, *, owner: int) -> None:
    """Mount the fallback: a tmpfs with the same quota."""
    options = f"size={limits.output_bytes},nr_inodes={limits.output_inodes},mode=0755"
    linux.mount("tmpfs", target, kind="tmpfs", flags=_TMPFS | linux.MS_NOEXEC, options=options)
    os.chown(target, owner, owner)


def stage_base() -> str:
    """Cover a folder of the host with an empty tmpfs, in our namespace only; returns its path."""
    for parent in STAGE_PARENTS:
        if Path(parent).is_dir():
            linux.mount(
                "tmpfs", parent, kind="tmpfs", flags=_TMPFS, options="size=16m,nr_inodes=8192,mode=0755"
            )
            return parent
    raise SandboxUnavailableError(f"no folder to stage in: make one of {', '.join(STAGE_PARENTS)}")


def open_sources(spec: SandboxSpec) -> dict[str, int]:
    """Target → descriptor of every host path that is bound; taken before anything is covered.

    Raises SandboxUnavailableError for a path that cannot be reached.
    """
    sources = {
        "/usr": "/usr",
        **interpreter_parts(spec.runtime),
        f"{VENV_TARGET}/lib/python{spec.runtime.python_version}/site-packages": spec.runtime.site_packages,
        **{m.target: m.source for m in spec.mounts},
    }
    opened: dict[str, int] = {}
    for target, source in sources.items():
        try:
            opened[target] = os.open(source, linux.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise SandboxUnavailableError(
                f"{source} cannot be shown to the guest: {error.strerror}; "
                f"let the user id {os.geteuid()} reach it"
            ) from error
    return opened


def build_root(spec: SandboxSpec, base: str, *, sources: Mapping[str, int]) -> str:
    """Build the guest's `/` below `base`. It is read-only only once bubblewrap has bound it so."""
    root = f"{base}/root"
    for folder in ("proc", "dev", "tmp", "etc", "opt", "run", "var"):
        Path(root, folder).mkdir(parents=True)
    Path(root, "var", "tmp").symlink_to("/tmp")  # noqa: S108  the guest's own
    for link in _USR_LINKS:
        if Path("/", link).is_dir():
            Path(root, link).symlink_to(f"usr/{link}")
    for name, text in _ETC.items():
        Path(root, "etc", name).write_text(text)
    cache = Path("/etc/ld.so.cache")
    if cache.is_file():
        Path(root, "etc", cache.name).write_bytes(cache.read_bytes())
    _build_venv(Path(root + VENV_TARGET), spec.runtime.python_version)
    for target, source in sources.items():
        _bind(source, root + target)
    hidden = Path(root + base_packages(spec.runtime))
    if hidden.is_dir():
        linux.mount("tmpfs", str(hidden), kind="tmpfs", flags=_TMPFS, options="size=4k,mode=0755")
    python = f"python{spec.runtime.python_version}"
    for name in ("python3", "python"):
        Path(root + PYTHON_TARGET, "bin", name).symlink_to(python)
    Path(root + spec.output_target).mkdir(parents=True, exist_ok=True)
    return root


def make_output_folders(spec: SandboxSpec, output: str, *, owner: int) -> None:
    """Make the folders that the guest expects in its output, as its own."""
    for folder in spec.output_folders:
        path = Path(output)
        for part in Path(folder).parts:
            path = path / part
            if not path.exists():
                path.mkdir(mode=0o755)
                os.chown(path, owner, owner)


def guest_environment(spec: SandboxSpec) -> dict[str, str]:
    """Every variable that the guest sees; the order's own come last."""
    own = {
        "PATH": f"{VENV_TARGET}/bin:/usr/bin:/bin",
        "HOME": "/tmp",  # noqa: S108  the guest's own
        "LANG": "C.UTF-8",
        "VIRTUAL_ENV": VENV_TARGET,
    }
    if any(".so" in target for target in interpreter_parts(spec.runtime)):
        own["LD_LIBRARY_PATH"] = f"{PYTHON_TARGET}/lib"  # a shared libpython, built for another prefix
    return {**own, **spec.env}


def _check_words(spec: SandboxSpec) -> None:
    for word in (*spec.argv, spec.cwd, *spec.env, *spec.env.values(), *(m.source for m in spec.mounts)):
        if "\0" in word:
            raise SpecError(f"{word!r} holds a NUL, which would end the word for the kernel")
    for name in spec.env:
        if not name or "=" in name:
            raise SpecError(f"{name!r} is no name of a variable")
        if name.startswith("LD_"):
            raise SpecError(
                f"{name} would load files of the guest into its gate, before the walls are measured"
            )
    if not spec.argv:
        raise SpecError("there is no command to run")


def _build_venv(venv: Path, version: str) -> None:
    (venv / "bin").mkdir(parents=True)
    (venv / "lib" / f"python{version}" / "site-packages").mkdir(parents=True)
    (venv / "lib64").symlink_to("lib")
    for name in ("python", "python3", f"python{version}"):
        (venv / "bin" / name).symlink_to(f"{PYTHON_TARGET}/bin/python{version}")
    text = f"home = {PYTHON_TARGET}/bin\ninclude-system-site-packages = false\nversion = {version}\n"
    (venv / "pyvenv.cfg").write_text(text)


def _bind(source: int, target: str) -> None:
    link = f"/proc/self/fd/{source}"
    if Path(link).is_dir():
        Path(target).mkdir(parents=True, exist_ok=True)
    else:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).touch()
    linux.mount(link, target, flags=linux.MS_BIND | linux.MS_REC)


def _nested(one: str, other: str) -> bool:
    return one == other or one.startswith(other + "/") or other.startswith(one + "/")
