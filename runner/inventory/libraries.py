"""The host's driver libraries that a guest with a GPU needs, found without running anything.

What is covered: the loader's own cache in the format of glibc 2.2 and later, then the usual folders.
What is not covered: libraries that neither names, and whether they are of the loaded driver's version.

Source: glibc, `dl-cache.h`.
"""

import os
import platform
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# Without these there is no CUDA in a guest.
REQUIRED = ("libcuda.so.1", "libnvidia-ml.so.1", "libnvidia-ptxjitcompiler.so.1")
# Some drivers have them, some programs want them. {driver} is the driver's version.
OPTIONAL = (
    "libnvidia-nvvm.so.4",
    "libnvidia-allocator.so.1",
    "libnvidia-cfg.so.1",
    "libcudadebugger.so.1",
    "libnvidia-gpucomp.so.{driver}",
    "libnvidia-pkcs11.so.{driver}",  # confidential computing
    "libnvidia-pkcs11-openssl3.so.{driver}",
)
FOLDERS = (
    "usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib64", "usr/lib", "lib64", "lib",
    "usr/local/nvidia/lib64", "run/opengl-driver/lib",
)  # fmt: skip
CACHE = "etc/ld.so.cache"
MAX_CACHE_BYTES = 32 << 20  # a desktop with everything installed has 200 kB

_MAGIC = b"glibc-ld.so.cache1.1"
_HEADER, _ENTRY = struct.Struct("=20sII20x"), struct.Struct("=iIIIQ")
# Flags of entries that this machine's own programs load: ELF, glibc, 64 bit of this architecture.
_FLAGS = {"x86_64": 0x0303, "aarch64": 0x0A03}


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverLibraries:
    """Real files by the name under which a program asks for them; `missing` are the required ones not found."""

    files: Mapping[str, str]
    missing: tuple[str, ...]


def find_libraries(driver: str | None, *, root: Path = Path("/")) -> DriverLibraries:
    """The driver libraries of this host; `driver` is its version, if it is known."""
    names = REQUIRED + tuple(
        name.format(driver=driver) for name in OPTIONAL if driver is not None or "{" not in name
    )
    cached = read_cache(root / CACHE)
    files = {}
    for name in names:
        places = (*cached.get(name, ()), *(f"/{folder}/{name}" for folder in FOLDERS))
        if (found := next(_real_files(places, root), None)) is not None:
            files[name] = found
    return DriverLibraries(files=files, missing=tuple(name for name in REQUIRED if name not in files))


def read_cache(path: Path) -> Mapping[str, tuple[str, ...]]:
    """Paths by library name, as the loader's cache has them for this machine; empty if it cannot be read.

    A cache that contradicts itself counts as none: then the usual folders are looked through.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CACHE_BYTES)
    except OSError:
        return {}
    start = data.find(_MAGIC)  # an older format may stand before
    if start < 0:
        return {}
    try:
        return _entries(data[start:])
    except (struct.error, ValueError):
        return {}


def _entries(data: bytes) -> dict[str, tuple[str, ...]]:
    _, count, _ = _HEADER.unpack_from(data)
    wanted = _FLAGS.get(platform.machine())
    found: dict[str, tuple[str, ...]] = {}
    for number in range(count):
        flags, key, value, _, _ = _ENTRY.unpack_from(data, _HEADER.size + number * _ENTRY.size)
        if flags == wanted:
            name = _text(data, key)
            found[name] = (*found.get(name, ()), _text(data, value))
    return found


def _text(data: bytes, start: int) -> str:
    end = data.index(b"\0", start)
    return data[start:end].decode()


def _real_files(places: tuple[str, ...], root: Path) -> Iterator[str]:
    """The files behind the links, as paths of the host."""
    for place in places:
        path = root / place.lstrip("/")
        if path.is_file():
            real = os.path.realpath(path)
            yield real if root == Path("/") else f"/{Path(real).relative_to(root)}"
