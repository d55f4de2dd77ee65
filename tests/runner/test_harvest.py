"""Each nasty output is refused by its own rule, and the rest is taken."""

import hashlib
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from runner import linux
from runner.errors import HarvestError
from runner.harvest import Harvest, HarvestedFile, HarvestLimits, collect, encode_harvest, parse_harvest
from runner.hashed_copy import CHUNK_BYTES

ROOT = Path(__file__).parents[2]
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
    (output / "model" / "a.txt").write_bytes(b"weights")
    found = take(output)
    digest = hashlib.sha256(b"weights").hexdigest()
    assert found.files == (HarvestedFile(path="model/a.txt", size_bytes=7, sha256=digest),)
    assert found.rejected == {}
    assert (output.parent / "taken" / "model" / "a.txt").read_bytes() == b"weights"


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


def test_refuses_hard_links_out_of_the_output(output: Path) -> None:
    (output.parent / "secret").write_text("x")
    os.link(output.parent / "secret", output / "mine")
    found = take(output, declared=("mine",))
    assert (found.files, found.rejected) == ((), {"mine": "2 hard links"})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_does_not_cross_into_another_mount(output: Path) -> None:
    (output / "mounted").mkdir()
    child = os.fork()
    if child == 0:  # a mount namespace of its own; the parent sees nothing of it
        try:
            linux.unshare(linux.CLONE_NEWNS)
            linux.mount("", "/", flags=linux.MS_PRIVATE | linux.MS_REC)
            linux.mount("tmpfs", str(output / "mounted"), kind="tmpfs")
            (output / "mounted" / "file").write_text("x")
            found = take(output, declared=("mounted/file",))
            wanted = dict.fromkeys(
                ("mounted/file", "mounted"), "cannot be opened: openat2: Invalid cross-device link"
            )
            os._exit(0 if (found.files, found.rejected) == ((), wanted) else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


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


def test_takes_a_declared_folder_before_a_flood(output: Path) -> None:
    (output / "zz" / "model").mkdir(parents=True)
    for number in range(50):
        (output / f"a{number:03}").write_text("junk")
    (output / "zz" / "model" / "weights").write_text("w")
    found = take(output, declared=("zz/model",))
    assert "zz/model/weights" in [f.path for f in found.files]
    assert "zz/model" not in found.rejected


def test_folders_below_a_declared_one_are_no_less_deep(output: Path) -> None:
    (output / "a" / "b" / "c").mkdir(parents=True)
    (output / "a" / "b" / "c" / "file").write_text("x")
    found = take(output, declared=("a/b",))
    assert (found.files, found.rejected) == ((), {"a/b/c": "too deep"})


def test_looks_at_no_more_names_than_the_limit(output: Path) -> None:
    for number in range(30):
        (output / f"a{number:03}").symlink_to("x")
    found = take(output, limits=HarvestLimits(total_bytes=9, names=20))
    assert found.rejected.pop(".") == "too many names"
    assert set(found.rejected.values()) == {"symlink"}
    assert len(found.rejected) == 20


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


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "Model.PT", "sub/optimizer.safetensors", "rng_state_0.pth"]
)
def test_leaves_pickles_by_name_where_they_are(output: Path, name: str) -> None:
    (output / name).parent.mkdir(exist_ok=True)
    (output / name).write_bytes(b"x")
    found = take(output)
    assert (found.files, found.rejected) == ((), {name: "pickle"})
    assert not (output.parent / "taken" / name).exists()


def test_leaves_pickles_by_content_where_they_are(output: Path) -> None:
    (output / "notes.txt").write_bytes(pickle.dumps({}))
    (output / "loss.txt").write_text("1,no_eval")
    found = take(output, declared=("notes.txt",))
    assert [f.path for f in found.files] == ["loss.txt"]
    assert found.rejected == {"notes.txt": "pickle"}


def test_what_the_trainer_says_of_its_losses_is_taken(output: Path) -> None:
    (output / "trainer_state.json").write_text("{}")
    assert [f.path for f in take(output).files] == ["trainer_state.json"]


def test_a_pickle_takes_no_room_from_the_model(output: Path) -> None:
    (output / "a.pt").write_bytes(bytes(700_000))
    (output / "model.safetensors").write_bytes(b"x" * 700_000)
    assert [f.path for f in take(output).files] == ["model.safetensors"]


@contextmanager
def meanwhile(function: str, act: Callable[[], object]) -> Iterator[None]:
    """`act` once, at the first call of the function of that name: a race that is always won."""
    left = [act]

    def watch(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code.co_name == function and left:
            left.pop()()

    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(None)
    assert not left, f"{function} was not called"


def grow(file: Path) -> None:
    with file.open("ab") as opened:
        opened.write(b"y")


CHANGES: dict[str, Callable[[Path], object]] = {
    "written over": lambda file: file.write_bytes(b"y" * file.stat().st_size),
    "longer": grow,
    "shorter": lambda file: os.truncate(file, 1),
    "linked elsewhere": lambda file: os.link(file, file.parent.parent / "kept"),
}


@pytest.mark.parametrize("size_bytes", [5_000, 10_000_000])
@pytest.mark.parametrize("change", CHANGES)
def test_refuses_a_file_that_changes_while_it_is_taken(output: Path, change: str, size_bytes: int) -> None:
    (output / "a").write_bytes(b"x" * size_bytes)
    with meanwhile("copy", lambda: CHANGES[change](output / "a")):
        found = take(output, limits=HarvestLimits(total_bytes=1 << 30))
    assert (found.files, found.rejected) == ((), {"a": "changed while it was taken"})
    assert not (output.parent / "taken" / "a").exists()


def test_refuses_a_file_that_is_swapped_for_another_before_it_is_opened(output: Path) -> None:
    (output / "a").write_text("x")
    (output.parent / "b").write_text("y")

    seen = 0

    def watch(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal seen
        if event == "call" and frame.f_code.co_name == "open_beneath":
            seen += 1
            if seen == 3:  # the folder, the look, and now the file
                (output.parent / "b").rename(output / "a")

    sys.setprofile(watch)
    try:
        found = take(output)
    finally:
        sys.setprofile(None)
    assert (found.files, found.rejected) == ((), {"a": "changed while it was taken"})


def test_every_size_around_a_chunk_is_copied_whole(output: Path) -> None:
    for size_bytes in (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 4 * CHUNK_BYTES + 7):
        (output / f"f{size_bytes}").write_bytes(os.urandom(size_bytes))
    found = take(output, limits=HarvestLimits(total_bytes=1 << 30))
    assert len(found.files) == 6
    for file in found.files:
        data = (output / file.path).read_bytes()
        assert (file.size_bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert (output.parent / "taken" / file.path).read_bytes() == data


def test_a_full_disk_is_an_error_and_no_short_harvest(output: Path) -> None:
    (output / "a").write_bytes(b"x" * 10_000_000)
    code = (
        "import os, resource, signal, sys; from runner.errors import HarvestError\n"
        "from runner.harvest import HarvestLimits, collect\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (6_000_000, 6_000_000))\n"
        "folders = [os.open(path, os.O_RDONLY) for path in sys.argv[1:]]\n"
        "try: collect(*folders, limits=HarvestLimits(total_bytes=1 << 30))\n"
        "except HarvestError as error: print(error)\n"
    )
    (output.parent / "taken").mkdir()
    command = [sys.executable, "-c", code, str(output), str(output.parent / "taken")]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=ROOT)
    assert said.stdout == "a cannot be copied out: File too large\n"


def test_the_list_round_trips() -> None:
    harvest = Harvest(files=(HarvestedFile(path="a", size_bytes=1, sha256="0" * 64),), rejected={"b": "pipe"})
    assert parse_harvest(encode_harvest(harvest)) == harvest


@pytest.mark.parametrize("data", [b"", b"[]", b'{"files": [{}], "rejected": {}}', b'{"files": []}'])
def test_refuses_a_malformed_list(data: bytes) -> None:
    with pytest.raises(HarvestError, match="malformed"):
        parse_harvest(data)
