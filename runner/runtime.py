"""The Python environment that guests see: where it lies on the host, and the digest of its every file.

What is covered: the interpreter, its standard library and shared library, and the environment's packages.
What is not covered: the host's /usr, which guests see too (C library, shell, compilers).
"""

import hashlib
import os
import stat
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from runner.errors import SandboxUnavailableError
from runner.sandbox.interpreter import VENV_TARGET, base_packages, interpreter_parts
from runner.spec import Runtime

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeMeasurement:
    """What the environment consists of. `packages` are (name, version), sorted."""

    sha256: str  # hex, over the canonical list of all files
    files: int
    size_bytes: int
    python_version: str  # "3.11.7"
    packages: tuple[tuple[str, str], ...]


def locate_runtime() -> Runtime:
    """The environment of the running interpreter.

    Raises SandboxUnavailableError if it is not a virtual environment: the packages would then be mixed with
    the operating system's.
    """
    if sys.prefix == sys.base_prefix:
        raise SandboxUnavailableError(
            "the appliance does not run in a virtual environment; install it into one (python3 -m venv)"
        )
    return Runtime(
        python_prefix=sys.base_prefix,
        site_packages=sysconfig.get_path("purelib"),
        python_version=f"{sys.version_info.major}.{sys.version_info.minor}",
    )


def measure_runtime(runtime: Runtime, *, threads: int = 4) -> RuntimeMeasurement:
    """Hash every file of `runtime`; takes seconds, so do it once per worker.

    The digest is SHA-256 over the sorted lines `<kind> <digest or link target> <path in the guest>`. Compiled
    `.pyc` files are left out: they are made from the sources and differ by time stamps.

    Raises SandboxUnavailableError for files that cannot be read or vanish meanwhile.
    """
    found = _walk(runtime)
    try:
        with ThreadPoolExecutor(max_workers=threads) as pool:
            lines = sorted(pool.map(_line, found.items()))
        size_bytes = sum(os.lstat(path).st_size for path in found.values())
    except OSError as error:
        raise SandboxUnavailableError(
            f"the guests' Python environment cannot be measured: {error.filename}: {error.strerror}; "
            "start again when nobody installs into it"
        ) from error
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line)
    return RuntimeMeasurement(
        sha256=digest.hexdigest(),
        files=len(lines),
        size_bytes=size_bytes,
        python_version=_full_version(runtime),
        packages=_packages(Path(runtime.site_packages)),
    )


def _walk(runtime: Runtime) -> dict[str, str]:
    """Path in the guest → path on the host, of every file and link."""
    name = f"python{runtime.python_version}"
    hidden = base_packages(runtime)
    found: dict[str, str] = {}
    roots = {
        **interpreter_parts(runtime),
        f"{VENV_TARGET}/lib/{name}/site-packages": runtime.site_packages,
    }
    for target, source in roots.items():
        if not Path(source).is_dir():
            found[target] = source
            continue
        for folder, folders, files in os.walk(source):
            inside = target + folder[len(source) :]
            folders[:] = [f for f in folders if f != "__pycache__" and f"{inside}/{f}" != hidden]
            links = [f for f in folders if os.path.islink(f"{folder}/{f}")]  # noqa: PTH114  hot loop
            for file in (*files, *links):
                if not file.endswith(".pyc"):
                    found[f"{inside}/{file}"] = f"{folder}/{file}"
    return found


def _line(item: tuple[str, str]) -> bytes:
    target, source = item
    if stat.S_ISLNK(os.lstat(source).st_mode):
        return f"link {Path(source).readlink()} {target}\n".encode(errors="surrogateescape")
    digest = hashlib.sha256()
    with open(source, "rb", buffering=0) as file:  # noqa: PTH123  hot loop
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return f"file {digest.hexdigest()} {target}\n".encode(errors="surrogateescape")


def _full_version(runtime: Runtime) -> str:
    header = Path(runtime.python_prefix, "include", f"python{runtime.python_version}", "patchlevel.h")
    try:
        words = [line.split() for line in header.read_text().splitlines()]
    except OSError:
        return runtime.python_version
    versions = [w[2].strip('"') for w in words if len(w) == 3 and w[1] == "PY_VERSION"]
    return versions[0] if versions else runtime.python_version


def _packages(site_packages: Path) -> tuple[tuple[str, str], ...]:
    found = []
    for folder in site_packages.glob("*.dist-info"):
        name, _, version = folder.name.removesuffix(".dist-info").rpartition("-")
        found.append((name.lower().replace("_", "-"), version))
    return tuple(sorted(found))
