"""The host by its own files, driver libraries by the loader's cache, runtimes by their own word."""

import os
import platform
import struct
from pathlib import Path

import pytest

from runner.inventory.host import read_disk, read_host, read_runtimes
from runner.inventory.libraries import CACHE, REQUIRED, find_libraries, read_cache
from runner.inventory.node import read_node
from tests.runner.fake_nvml import FakeNvml, gpus

FLAGS = {"x86_64": 0x0303, "aarch64": 0x0A03}[platform.machine()]
OTHER_FLAGS = 0x0803  # 32 bit


# The host.


def host_root(folder: Path, *, group: str = "0::/\n") -> Path:
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/meminfo").write_text("MemTotal:       1048576 kB\nMemFree: 1 kB\n")
    (folder / "proc/self/cgroup").write_text(group)
    (folder / "sys/fs/cgroup").mkdir(parents=True)
    return folder


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_this_host_can_be_read() -> None:
    found = read_host()
    assert found.cpus == len(os.sched_getaffinity(0))
    assert found.memory_bytes > 1 << 28
    assert found.kernel == os.uname().release


def test_memory_is_the_machines(tmp_path: Path) -> None:
    assert read_host(root=host_root(tmp_path)).memory_bytes == 1 << 30


@pytest.mark.parametrize(
    ("lines", "limits", "wanted"),
    [
        ("0::/a/b\n", {"a/memory.max": "4096\n", "a/b/memory.max": "max\n"}, 4096),
        ("0::/a/b\n", {"a/memory.max": "8192", "a/b/memory.max": "4096"}, 4096),
        ("5:cpu:/x\n4:memory:/a\n", {"memory/a/memory.limit_in_bytes": "5000"}, 5000),
        ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": "9223372036854771712"}, 1 << 30),
        ("5:cpu:/a\n", {"cpu/a/memory.max": "1"}, 1 << 30),
        ("0::/../../x\n", {}, 1 << 30),
    ],
    ids=["parent", "own", "v1", "v1-no-limit", "other-controller", "outside"],
)
def test_a_group_that_has_less_memory_counts(
    tmp_path: Path, lines: str, limits: dict[str, str], wanted: int
) -> None:
    root = host_root(tmp_path, group=lines)
    for name, text in limits.items():
        write(root / "sys/fs/cgroup" / name, text)
    assert read_host(root=root).memory_bytes == wanted


@pytest.mark.parametrize(
    ("file", "version"),
    [
        ("cgroup.controllers", "v2"),
        ("unified/cgroup.controllers", "hybrid"),
        ("memory/tasks", "v1"),
        ("other", "none"),
    ],
)
def test_cgroups_are_told_apart(tmp_path: Path, file: str, version: str) -> None:
    root = host_root(tmp_path)
    write(root / "sys/fs/cgroup" / file, "")
    assert read_host(root=root).cgroup == version


def test_the_disk_is_the_folders(tmp_path: Path) -> None:
    found = read_disk(tmp_path)
    assert found.path == str(tmp_path)
    assert 0 < found.free_bytes <= found.total_bytes


# Runtimes.


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("name", "said", "version"),
    [
        ("bwrap", "bubblewrap 0.8.0", "0.8.0"),
        ("podman", "podman version 4.3.1", "4.3.1"),
        ("crun", "crun version 1.8.1\ncommit: f8a096be", "1.8.1"),
        ("runc", "runc version 1.1.5+ds1\nspec: 1.0.2-dev", "1.1.5+ds1"),
        ("runsc", "runsc version release-20240729.0\nspec: 1.1.0-rc.1", "20240729.0"),
    ],
)
def test_a_runtime_tells_its_version(tmp_path: Path, name: str, said: str, version: str) -> None:
    program(tmp_path, name, f"echo '{said}'")
    found = {one.path: one for one in read_runtimes(path=str(tmp_path))}
    assert (found[str(tmp_path / name)].version, found[str(tmp_path / name)].problem) == (version, None)


def test_a_runtime_that_is_not_there_is_told() -> None:
    assert {one.problem for one in read_runtimes(path="/nonexistent") if one.name == "bubblewrap"} == {
        "bwrap is not installed"
    }


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("exit 3", "unknown: Command"),
        ("echo hello", "unknown: it tells no version"),
        ("yes | head -c 9999", "no version"),
    ],
)
def test_a_runtime_that_tells_no_version_is_unknown(tmp_path: Path, script: str, problem: str) -> None:
    program(tmp_path, "crun", script)
    (found,) = [one for one in read_runtimes(path=str(tmp_path)) if one.name == "crun"]
    assert found.version is None
    assert problem in (found.problem or "")


def test_a_runtime_gets_nothing_of_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_TOKEN", "1.2.3")
    program(tmp_path, "crun", 'echo "crun version 9.9${ASSAY_TOKEN}"')
    assert "9.9" in [one.version for one in read_runtimes(path=str(tmp_path))]


# Libraries.


def cache_of(*entries: tuple[int, str, str], before: bytes = b"") -> bytes:
    """A loader's cache with these entries: flags, name, path."""
    strings, table = b"", b""
    start = 48 + 24 * len(entries)
    for flags, name, path in entries:
        key = start + len(strings)
        strings += name.encode() + b"\0"
        table += struct.pack("=iIIIQ", flags, key, start + len(strings), 0, 0)
        strings += path.encode() + b"\0"
    return (
        before
        + struct.pack("=20sII20x", b"glibc-ld.so.cache1.1", len(entries), len(strings))
        + table
        + strings
    )


def library_root(folder: Path, *names: str, below: str = "opt/driver") -> Path:
    write(folder / CACHE, "")
    for name in names:
        write(folder / below / f"{name}.570", "")
        (folder / below / name).symlink_to(f"{name}.570")
    return folder


def test_libraries_are_found_by_the_cache_as_real_files(tmp_path: Path) -> None:
    root = library_root(tmp_path, *REQUIRED)
    entries = [(FLAGS, name, f"/opt/driver/{name}") for name in REQUIRED]
    (root / CACHE).write_bytes(cache_of((FLAGS, "libc.so.6", "/lib/libc.so.6"), *entries))
    found = find_libraries("570.86.15", root=root)
    assert found.files == {name: f"/opt/driver/{name}.570" for name in REQUIRED}
    assert found.missing == ()


def test_an_old_format_before_the_new_one_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "cache"
    file.write_bytes(cache_of((FLAGS, "liba.so", "/a/liba.so"), before=b"ld.so-1.7.0" + bytes(37)))
    assert read_cache(file) == {"liba.so": ("/a/liba.so",)}


def test_libraries_of_another_kind_of_program_do_not_count(tmp_path: Path) -> None:
    root = library_root(tmp_path, "libcuda.so.1")
    (root / CACHE).write_bytes(cache_of((OTHER_FLAGS, "libcuda.so.1", "/opt/driver/libcuda.so.1")))
    assert find_libraries(None, root=root).missing == REQUIRED


def test_libraries_are_found_in_the_usual_folders_without_a_cache(tmp_path: Path) -> None:
    root = library_root(tmp_path, *REQUIRED, below="usr/lib64")
    (root / CACHE).unlink()
    assert find_libraries(None, root=root).files["libcuda.so.1"] == "/usr/lib64/libcuda.so.1.570"


def test_what_the_cache_names_and_is_not_there_is_missing(tmp_path: Path) -> None:
    root = library_root(tmp_path)
    (root / CACHE).write_bytes(cache_of((FLAGS, "libcuda.so.1", "/gone/libcuda.so.1")))
    assert "libcuda.so.1" in find_libraries(None, root=root).missing


def test_optional_libraries_are_found_and_never_missing(tmp_path: Path) -> None:
    root = library_root(tmp_path, "libnvidia-nvvm.so.4", "libnvidia-gpucomp.so.570.86.15", below="usr/lib")
    found = find_libraries("570.86.15", root=root)
    assert set(found.files) == {"libnvidia-nvvm.so.4", "libnvidia-gpucomp.so.570.86.15"}
    assert found.missing == REQUIRED
    assert set(find_libraries(None, root=root).files) == {"libnvidia-nvvm.so.4"}


GOOD = cache_of((FLAGS, "liba.so", "/a/liba.so"), (FLAGS, "libb.so", "/b/libb.so"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a cache",
        GOOD[:30],
        GOOD[:60],
        GOOD[:-1],  # a text without an end
        GOOD.replace(struct.pack("=I", 2), struct.pack("=I", 2**32 - 1), 1),
        GOOD[:52] + struct.pack("=I", 2**31) + GOOD[56:],
        GOOD.replace(b"/b/", b"\xff\xff\xff"),
    ],
    ids=["empty", "other", "header", "entries", "text", "count", "place", "bytes"],
)
def test_a_cache_that_contradicts_itself_is_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "cache").write_bytes(data)
    assert read_cache(tmp_path / "cache") == {}


def test_the_loaders_cache_of_this_machine_can_be_read() -> None:
    assert read_cache(Path("/etc/ld.so.cache"))["libc.so.6"]


# All of it.


def test_a_whole_node_is_read(tmp_path: Path) -> None:
    found = read_node(tmp_path, nvml=FakeNvml(*gpus(1)))
    assert found.host == read_host()
    assert found.disk.path == str(tmp_path)
    assert [gpu.uuid for gpu in found.gpus.gpus] == ["GPU-0"]
    assert {one.name for one in found.runtimes} >= {"bubblewrap", "podman"}
