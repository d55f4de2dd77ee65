"""What reads a champion's files has little time, little memory, no rights, and answers with a curve or nothing."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.loss_child import CHUNK_BYTES, MEMORY_BYTES, losses_of
from runner.losses import MAX_FILE_BYTES, CurveError, Losses, LossPoint, Source, StepKind


@pytest.fixture
def harvest(tmp_path: Path) -> Path:
    folder = tmp_path / "harvest"
    folder.mkdir()
    folder.chmod(0o755)
    return folder


def saying(*words: str) -> Losses:
    """A curve that carries `words` out of the child."""
    points = (LossPoint(step=1, name="loss", micros=1),)
    return Losses(source=Source.LOSS_TXT, steps=StepKind.STEPS, file="x", points=points, unreadable=words)


def link_of(path: Path) -> str:
    try:
        return str(path.readlink())
    except FileNotFoundError:
        return ""  # the listing's own


def open_files() -> set[str]:
    return {path.name for path in list(Path("/proc/self/fd").iterdir())}


def test_the_curve_comes_back_whole(harvest: Path) -> None:
    said = saying("w" * 3 * CHUNK_BYTES)
    assert losses_of(harvest, find=lambda folder: said) == said


def test_files_are_found_though_the_folders_above_are_closed(harvest: Path) -> None:
    (harvest / "task").mkdir()
    (harvest / "task" / "loss.txt").write_text("9,1.5")
    harvest.parent.chmod(0o700)
    found = losses_of(harvest)
    assert found is not None
    assert (found.file, found.points[0].micros) == ("task/loss.txt", 1_500_000)


def test_nothing_found_is_none(harvest: Path) -> None:
    assert losses_of(harvest) is None


def test_a_reader_without_end_is_killed_in_time(harvest: Path) -> None:
    def hangs(folder: Path) -> Losses | None:
        while True:
            pass

    began = time.monotonic()
    with pytest.raises(CurveError, match="not read in time"):
        losses_of(harvest, find=hangs, deadline_s=0.2)
    assert time.monotonic() - began < 5.0


def test_a_reader_that_takes_too_much_memory_ends_alone(harvest: Path) -> None:
    def swells(folder: Path) -> Losses | None:
        return saying(str(len(bytearray(MEMORY_BYTES))))

    with pytest.raises(CurveError, match="more time or memory"):
        losses_of(harvest, find=swells)


def test_refuses_an_answer_beyond_the_cap(harvest: Path) -> None:
    with pytest.raises(CurveError, match=f"more than {MAX_FILE_BYTES} bytes"):
        losses_of(harvest, find=lambda folder: saying("x" * MAX_FILE_BYTES))


def test_the_reader_can_write_nothing_and_start_nothing(harvest: Path) -> None:
    harvest.chmod(0o777)

    def tries(folder: Path) -> Losses | None:
        words = []
        attempts: tuple[Callable[[], object], ...] = (lambda: (folder / "new").write_bytes(b"x"), os.fork)
        for attempt in attempts:
            try:
                attempt()
            except OSError as error:
                words.append(type(error).__name__)
        return saying(*words)

    if os.geteuid() != 0:
        pytest.skip("who shares our user id cannot be parted from our other processes")
    found = losses_of(harvest, find=tries)
    assert found is not None
    assert found.unreadable == ("OSError", "BlockingIOError")


def test_the_reader_has_no_file_of_ours(harvest: Path) -> None:
    with (harvest.parent / "agent.lock").open("wb"):
        found = losses_of(
            harvest,
            find=lambda folder: saying(*map(link_of, Path("/proc/self/fd").iterdir())),
        )
    assert found is not None
    assert not any("agent.lock" in place or "harvest" in place for place in found.unreadable)


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has no second id to give")
def test_the_reader_is_nobody(harvest: Path) -> None:
    def tells(folder: Path) -> Losses | None:
        status = Path("/proc/self/status").read_text().splitlines()
        wanted = ("CapEff", "CapPrm", "NoNewPrivs", "Groups")
        return saying(str(os.getuid()), *(line for line in status if line.startswith(wanted)))

    found = losses_of(harvest, find=tells)
    assert found is not None
    assert int(found.unreadable[0]) > 60_000
    assert {word for line in found.unreadable[1:] for word in line.split()[1:]} == {"0" * 16, "1"}


def test_leaves_no_child_and_no_open_file(harvest: Path) -> None:
    before = open_files()
    losses_of(harvest)
    assert open_files() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_link_is_no_harvest(harvest: Path) -> None:
    link = harvest.with_name("link")
    link.symlink_to(harvest)
    with pytest.raises(OSError, match=r"directory|symbolic links"):
        losses_of(link)
