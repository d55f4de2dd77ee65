"""Images for tests: archives written by hand, byte by byte, and a root file system of Debian's own packages."""

import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from tournament_sync.images.tools import BuildNetwork, ImageTools, ask, usual_tools

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
BASE = "localhost/base:1"
_PACKAGES = ("coreutils", "dash", "python3")

Json = dict[str, Any]  # Any: documents that tests bend


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def tar_of(files: Mapping[str, bytes | str] | Iterable[tuple[str, bytes | str]]) -> bytes:
    """A tar; bytes are a file, text is the target of a symbolic link, a name ending in / a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items() if isinstance(files, Mapping) else files:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            elif name.endswith("/"):
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def image_files(
    layers: Iterable[bytes],
    *,
    is_compressed: bool = True,
    configure: Callable[[Json], object] = lambda document: None,
    describe: Callable[[Json], object] = lambda document: None,
    index: Callable[[Json], object] = lambda document: None,
) -> dict[str, bytes]:
    """The files of an image layout; the three functions may change its documents before they are named."""
    files: dict[str, bytes] = {}

    def blob(data: bytes, media_type: str) -> Json:
        files[f"blobs/sha256/{sha256(data)}"] = data
        return {"mediaType": media_type, "digest": f"sha256:{sha256(data)}", "size": len(data)}

    tars = list(layers)
    configuration: Json = {
        "created": "1970-01-01T00:00:00Z",
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Entrypoint": ["/bin/true"], "WorkingDir": "/srv"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(one)}" for one in tars]},
    }
    configure(configuration)
    manifest: Json = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blob(json.dumps(configuration).encode(), CONFIG),
        "layers": [
            blob(gzip.compress(one, mtime=0), f"{LAYER}+gzip") if is_compressed else blob(one, LAYER)
            for one in tars
        ],
    }
    describe(manifest)
    contents: Json = {"schemaVersion": 2, "manifests": [blob(json.dumps(manifest).encode(), MANIFEST)]}
    index(contents)
    files["index.json"] = json.dumps(contents).encode()
    files["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    return files


def write_image(path: Path, layers: Iterable[bytes], **changes: Any) -> Path:
    """An archive at `path` with the files of `image_files`."""
    path.write_bytes(tar_of(image_files(layers, **changes)))
    return path


@contextmanager
def podman() -> Iterator[ImageTools]:
    """A storage of its own, removed at the end, without network for builds."""
    # Not below pytest's folder: podman wants a run root of at most 50 characters.
    with tempfile.TemporaryDirectory(prefix="podman-", dir="/tmp") as folder:
        tools = replace(
            usual_tools(),
            root=Path(folder) / "storage",
            run_root=Path(folder) / "run",
            storage_driver="vfs",  # works on every file system
            build_network=BuildNetwork.NONE,
            build_timeout_s=120,
            timeout_s=120,
        )
        yield tools
        ask(tools, "rmi", "--all", "--force", doing="cleaning up")


def import_base(tools: ImageTools) -> None:
    """Make the root file system and import it as the image BASE."""
    with tempfile.NamedTemporaryFile() as tar:
        _write_rootfs(Path(tar.name))
        ask(tools, "import", "--quiet", tar.name, BASE, doing="base image")


def debian_packages() -> frozenset[str]:
    """Names of the installed packages that the root file system is made of."""
    needs: dict[str, list[str]] = {}
    for line in _dpkg("--show", "--showformat", "${Package}\t${Status}\t${Pre-Depends}, ${Depends}\n"):
        name, status, depends = line.split("\t")
        if status == "install ok installed":
            needs[name] = [re.split(r"[ :(|]", part.strip())[0] for part in depends.split(",")]
    found: set[str] = set()
    pending = list(_PACKAGES)
    while pending:
        name = pending.pop()
        if name in needs and name not in found:
            found.add(name)
            pending += needs[name]
    return frozenset(found)


def _write_rootfs(path: Path) -> None:
    """The files of Debian packages that are installed here, with dpkg's records of them, as a tar."""
    packages = debian_packages()
    files = {
        # Where they really are: /bin and others are links into /usr.
        Path(name).parent.resolve() / Path(name).name
        for name in _dpkg("--listfiles", *sorted(packages))
        if name.startswith("/")
        and not name.startswith("/usr/share/")
        and (Path(name).is_symlink() or not Path(name).is_dir())
    }
    stanzas = Path("/var/lib/dpkg/status").read_text().split("\n\n")
    kept = [one for one in stanzas if one.partition("\n")[0].removeprefix("Package: ") in packages]
    with tarfile.open(path, "w") as tar:
        for file in sorted(files | {Path("/usr/lib/os-release")}):
            if os.path.lexists(file):
                tar.add(file, recursive=False)
        for folder in ("bin", "lib", "lib64", "sbin"):
            if Path(f"/{folder}") in files:
                continue  # podman refuses a layer that has a name twice
            link = tarfile.TarInfo(folder)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{folder}"
            tar.addfile(link)
        status = "\n\n".join(kept).encode()
        record = tarfile.TarInfo("var/lib/dpkg/status")
        record.size = len(status)
        tar.addfile(record, io.BytesIO(status))


@cache
def _dpkg(*arguments: str) -> list[str]:
    done = subprocess.run(["dpkg-query", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()
