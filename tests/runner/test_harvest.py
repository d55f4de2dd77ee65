"""Each nasty output is refused by its own rule, and the rest is taken."""

import hashlib
import os
import socket
from pathlib import Path

import pytest

from runner.errors import HarvestError
from runner.harvest import Harvest, HarvestedFile, HarvestLimits, collect, encode_harvest, parse_harvest

LIMITS = HarvestLimits(total_bytes=1 << 20, files=10, depth=3)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    return folder


def take(output: Path, *, limits: HarvestLimits = LIMITS, declared: tuple[str, ...] = ()) -> Harvest:
    target = output.parent / "taken"
    target.mkdir()
    source, destination = (os.open(p, os.O_RDONLY | os.O_DIRECTORY) for p in (output, target))
    try:
        return collect(source, destination, limits=limits, declared=declared)
    finally:
        os.close(source)
        os.close(destination)


def test_takes_plain_files_with_their_digests(output: Path) -> None:
    (output / "model").mkdir()
    (output / "model" / "a.bin").write_bytes(b"weights")
    found = take(output)
    digest = hashlib.sha256(b"weights").hexdigest()
    assert found.files == (HarvestedFile(path="model/a.bin", size_bytes=7, sha256=digest),)
    assert found.rejected == {}
    assert (output.parent / "taken" / "model" / "a.bin").read_bytes() == b"weights"


@pytest.mark.parametrize("target", ["/etc/passwd", "../../..", "/proc/1/environ", "plain", "folder"])
def test_refuses_links(output: Path, target: str) -> None:
    (output / "plain").write_text("x")
    (output / "folder").mkdir()
    (output / "link").symlink_to(target)
    found = take(output)
    assert found.rejected == {"link": "symlink"}
    assert [f.path for f in found.files] == ["plain"]


def test_refuses_a_declared_name_below_a_linked_folder(output: Path) -> None:
    (output / "real").mkdir()
    (output / "real" / "a").write_text("x")
    (output / "model").symlink_to("real")
    assert take(output, declared=("model/a",)).rejected["model/a"].startswith("cannot be opened")


def test_refuses_pipes_sockets_and_setuid_files(output: Path) -> None:
    os.mkfifo(output / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(output / "socket"))
        (output / "setuid").write_text("x")
        (output / "setuid").chmod(0o4755)
        found = take(output)
    assert found.rejected == {"pipe": "pipe", "socket": "socket", "setuid": "setuid or setgid"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device files")
def test_refuses_devices(output: Path) -> None:
    os.mknod(output / "null", 0o20666, os.makedev(1, 3))
    assert take(output).rejected == {"null": "device"}


def test_refuses_hard_links(output: Path) -> None:
    (output / "one").write_text("x")
    os.link(output / "one", output / "two")
    assert take(output).rejected == {"one": "2 hard links", "two": "2 hard links"}


def test_refuses_sparse_files(output: Path) -> None:
    with (output / "sparse").open("wb") as file:
        file.truncate(1 << 19)
    assert take(output).rejected == {"sparse": "sparse"}


@pytest.mark.parametrize("name", [b"-rf", b"..evil", b" lead", b"new\nline", b"\x1b[31m", b"bad\xff"])
def test_refuses_unsafe_names(output: Path, name: bytes) -> None:
    Path(os.fsdecode(bytes(output) + b"/" + name)).write_text("x")
    found = take(output)
    assert list(found.rejected.values()) == ["unsafe name"]
    assert all(key.isprintable() for key in found.rejected)
    assert found.files == ()


def test_refuses_deep_folders(output: Path) -> None:
    deep = output / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    assert take(output).rejected == {"a/b/c": "too deep"}


def test_takes_declared_names_before_a_flood(output: Path) -> None:
    for number in range(50):
        (output / f"a{number:03}").write_text("junk")
    (output / "zz-model").write_text("weights")
    found = take(output, declared=("zz-model",))
    assert "zz-model" in [f.path for f in found.files]
    assert len(found.files) == LIMITS.files
    assert set(found.rejected.values()) == {"too many files"}


def test_refuses_more_bytes_than_the_limit(output: Path) -> None:
    for name in ("a", "b"):
        (output / name).write_bytes(b"x" * 700_000)
    assert take(output).rejected == {"b": "too many bytes"}


def test_tells_a_declared_name_that_is_missing(output: Path) -> None:
    assert take(output, declared=("model",)).rejected == {"model": "declared and missing"}


def test_does_not_climb_for_a_declared_name(output: Path) -> None:
    (output.parent / "secret").write_text("x")
    found = take(output, declared=("../secret",))
    assert found.files == ()
    assert list(found.rejected) == ["../secret"]


def test_names_at_most_a_thousand_refusals(output: Path) -> None:
    for number in range(1100):
        (output / f"l{number}").symlink_to("x")
    found = take(output)
    assert len(found.rejected) == 1001
    assert found.rejected["…"] == "100 more, not named"


def test_the_list_round_trips() -> None:
    harvest = Harvest(files=(HarvestedFile(path="a", size_bytes=1, sha256="0" * 64),), rejected={"b": "pipe"})
    assert parse_harvest(encode_harvest(harvest)) == harvest


@pytest.mark.parametrize("data", [b"", b"[]", b'{"files": [{}], "rejected": {}}', b'{"files": []}'])
def test_refuses_a_malformed_list(data: bytes) -> None:
    with pytest.raises(HarvestError, match="malformed"):
        parse_harvest(data)
