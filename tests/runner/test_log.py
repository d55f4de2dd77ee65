"""A guest's log: whole timed lines, no secrets, both ends within the cap, readable after a kill at any place."""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runner import log as log_module
from runner import log_reading
from runner.errors import HarvestError, SpecError
from runner.log import GuestLog, without_times
from runner.log_kept import TAIL_NAME, KeptLog, TailState, assemble, read_ring
from runner.log_reading import read_kept
from runner.scrub import Scrubber

CAP = 64 << 10
START_NS = 1_795_294_800_123_000_000  # 2026-11-21T21:00:00.123Z
TIME = "2026-11-21T21:00:00.123Z "
CANARY = "canary-7f3a9b1c-secret"
MARKER = re.compile(rb"^\[(\d+) bytes in (\d+) lines left out here\]$", re.MULTILINE)


@dataclass
class Printing:
    """A guest that prints when told, and its log."""

    folder: Path
    log: GuestLog
    pipe: int
    now_ns: int = START_NS
    seen: list[bytes] = field(default_factory=list)

    def prints(self, text: str | bytes, *, after_ms: int = 0) -> None:
        self.now_ns += after_ms * 1_000_000
        data = text.encode() if isinstance(text, str) else text
        while data:
            data = data[os.write(self.pipe, data[: min(32 << 10, log_module.CHUNK_BYTES)]) :]
            self.log.drain()

    def ends(self) -> bytes:
        os.close(self.pipe)
        self.log.finish()
        return self.kept

    @property
    def kept(self) -> bytes:
        return (self.folder / "stdout.log").read_bytes()

    def read(self, offset: int = 0, *, max_bytes: int = CAP) -> bytes:
        """What somebody sees who follows from `offset` to the present end."""
        read = b""
        while True:
            piece = read_kept(self.folder, offset=offset, max_bytes=max_bytes)
            read, offset = read + piece.data, piece.next_offset
            if piece.is_last:
                return read


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Printing]]:
    opened: list[int] = []

    def start_one(*values: str, cap_bytes: int = CAP) -> Printing:
        source, pipe = os.pipe()
        os.set_blocking(source, False)
        target = os.open(tmp_path / "stdout.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        folder = os.open(tmp_path, os.O_RDONLY)
        opened.extend((source, target, folder))
        seen: list[bytes] = []
        log = GuestLog(
            source=source,
            target=target,
            folder=folder,
            cap_bytes=cap_bytes,
            scrubber=Scrubber(values=values),
            on_lines=seen.append,
            now_ns=lambda: printing.now_ns,
        )
        printing = Printing(folder=tmp_path, log=log, pipe=pipe, seen=seen)
        return printing

    yield start_one
    for descriptor in opened:
        os.close(descriptor)


@pytest.fixture
def guest(start: Callable[..., Printing]) -> Printing:
    return start()


def numbered(first: int, last: int) -> str:
    return "".join(f"line {n:07} {'x' * 40}\n" for n in range(first, last))


def numbers_in(kept: bytes) -> list[int]:
    return [int(n) for n in re.findall(rb"line (\d{7}) x{40}\n", kept)]


# Lines.


def test_every_line_has_the_time_at_which_it_was_read(guest: Printing) -> None:
    guest.prints("one\ntwo\n")
    guest.prints("three\n", after_ms=61_000)
    assert guest.ends().decode() == f"{TIME}one\n{TIME}two\n2026-11-21T21:01:01.123Z three\n"


def test_a_line_is_there_as_soon_as_it_ends(guest: Printing) -> None:
    guest.prints("on")
    assert guest.kept == b""
    guest.prints("e\n")
    assert guest.kept.decode() == f"{TIME}one\n"


def test_a_last_line_without_line_feed_is_kept(guest: Printing) -> None:
    guest.prints("one\nlast")
    assert guest.ends().decode() == f"{TIME}one\n{TIME}last\n"


def test_lines_without_their_times_are_what_was_printed(guest: Printing) -> None:
    printed = "one\n\n2026-11-21T21:00:00.123Z two\n"
    guest.prints(printed)
    assert without_times(guest.ends()).decode() == printed


def test_bytes_are_kept_as_they_were_printed(guest: Printing) -> None:
    guest.prints(b"\x1b[2J\xff\x00\xc3\xa9\n")
    assert without_times(guest.ends()) == b"\x1b[2J\xff\x00\xc3\xa9\n"


def test_everything_is_counted(guest: Printing) -> None:
    guest.prints("one\ntwo\n")
    guest.ends()
    assert (guest.log.total_bytes, guest.log.is_open) == (8, False)
    assert guest.log.facts() == {
        "log_lines": 2, "log_left_out_bytes": 0, "log_scrubbed": 0, "log_unwritten": 0,
    }  # fmt: skip


def test_a_reader_of_lines_gets_them_scrubbed_and_without_times(start: Callable[..., Printing]) -> None:
    guest = start(CANARY)
    guest.prints(f"one {CANARY}\ntw")
    assert guest.seen == [b"one [scrubbed]\n"]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r\r\n"])
def test_line_ends_of_other_systems_are_line_ends(guest: Printing, ending: str) -> None:
    for char in f"one{ending}two{ending}":
        guest.prints(char, after_ms=2000)
    assert without_times(guest.ends()) == b"one\ntwo\n"


def test_a_progress_bar_is_kept_once_a_second_and_at_its_end(guest: Printing) -> None:
    for percent in range(101):
        guest.prints(f"\r{percent}%", after_ms=50)
    guest.prints("\n")
    shown = [int(line.rstrip(b"%")) for line in without_times(guest.ends()).splitlines()]
    assert shown == sorted(set(shown))
    assert shown[-1] == 100
    assert 4 <= len(shown) <= 8


def test_a_progress_bar_that_is_torn_is_kept_whole(guest: Printing) -> None:
    for char in "".join(f"\r{percent:3}% done" for percent in range(101)) + "\n":
        guest.prints(char, after_ms=5)
    assert re.fullmatch(rb"( *\d+% done\n)+", without_times(guest.ends()))


def test_an_endless_progress_bar_does_not_grow(guest: Printing) -> None:
    for _ in range(100):
        guest.prints("\r" + "#" * 10_000)
    assert len(guest.ends()) < 11_000


@pytest.mark.parametrize("size", [16_000, 17_000, 30_000, 100_000])
def test_an_over_long_line_is_cut_and_says_so(guest: Printing, size: int) -> None:
    guest.prints("x" * size + "\nnext\n")
    first, second = without_times(guest.ends()).splitlines()
    kept = first.count(b"x")
    assert kept == 8160  # a quarter of the ring
    assert first == b"x" * kept + b" [%d bytes of this line left out]" % (size - kept)
    assert second == b"next"


def test_an_over_long_last_line_is_cut_too(guest: Printing) -> None:
    guest.prints("x" * 50_000)
    assert without_times(guest.ends()) == b"x" * 8160 + b" [41840 bytes of this line left out]\n"


@pytest.mark.parametrize("shift", range(3))
def test_a_cut_line_ends_with_a_whole_character(guest: Printing, shift: int) -> None:
    guest.prints("x" * shift + "€" * 10_000 + "\n")
    without_times(guest.ends()).decode()


# Secrets.


@pytest.mark.parametrize("secret", [CANARY, "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz01234567"])
def test_a_secret_split_over_two_writes_never_shows(start: Callable[..., Printing], secret: str) -> None:
    for split in range(len(secret) + 1):
        guest = start(CANARY)
        guest.prints(f"a {secret[:split]}")
        guest.prints(f"{secret[split:]} b\n", after_ms=5000)
        assert without_times(guest.ends()) == b"a [scrubbed] b\n"
        assert guest.log.facts()["log_scrubbed"] == 1


@pytest.mark.parametrize("place", range(8160 - len(CANARY), 8161))
def test_a_secret_across_the_cut_of_a_line_never_shows(start: Callable[..., Printing], place: int) -> None:
    guest = start(CANARY)
    guest.prints("x" * place + CANARY + "y" * 20_000 + "\n")
    assert CANARY[:3].encode() not in guest.ends()


def test_secrets_that_move_a_cut_secret_forward_do_not_show_it(start: Callable[..., Printing]) -> None:
    guest = start("s" * 1000, CANARY)
    guest.prints("s" * 8000 + "x" * (8160 + 4096 - 8000 - 8) + CANARY + "\n" * 2)
    assert b"can" not in guest.ends()


def test_a_secret_at_the_break_of_skipped_output_never_shows(
    start: Callable[..., Printing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "CHUNK_BYTES", 1000)  # so that the break is inside a secret
    guest = start("c" * 990 + CANARY)
    guest.prints(numbered(0, 1000))
    line = "c" * 990 + CANARY + "\n"
    guest.prints(line * 1200)  # more than may wait, at once
    kept = guest.ends()
    assert CANARY[-8:].encode() not in kept
    assert without_times(kept).endswith(b"[scrubbed]\n")


# Both ends.


def test_a_log_within_the_cap_is_whole(guest: Printing) -> None:
    guest.prints(numbered(0, 600), after_ms=1000)
    kept = guest.ends()
    assert CAP // 2 < len(kept) < CAP - 1000
    assert numbers_in(kept) == list(range(600))
    assert b"left out" not in kept


@pytest.mark.parametrize("step", [1, 7, 40, 3000])
def test_head_and_tail_are_kept_and_the_middle_is_counted(guest: Printing, step: int) -> None:
    for first in range(0, 3000, step):
        guest.prints(numbered(first, min(3000, first + step)), after_ms=1000)
    kept = guest.ends()
    assert CAP - 1024 < len(kept) <= CAP
    found = numbers_in(kept)
    gap = [n for n in range(3000) if n not in found]
    assert found == [*range(gap[0]), *range(gap[-1] + 1, 3000)]
    assert gap == list(range(gap[0], gap[-1] + 1))
    (left_out,) = MARKER.findall(kept)
    assert (int(left_out[0]), int(left_out[1])) == (guest.log.facts()["log_left_out_bytes"], len(gap))
    assert guest.log.facts()["log_lines"] == 3000


def test_no_line_of_a_guest_looks_like_the_marker(guest: Printing) -> None:
    guest.prints("[1 bytes in 1 lines left out here]\n")
    assert MARKER.search(guest.ends()) is None


def test_output_faster_than_it_can_be_looked_at_is_counted_and_its_end_kept(guest: Printing) -> None:
    text = numbered(0, 40_000)
    guest.prints(text)  # the clock stands still: nothing may be looked at yet
    assert guest.log._pending_bytes <= 2 * log_module.CHUNK_BYTES
    kept = guest.ends()
    found = numbers_in(kept)
    assert (found[0], found[-1], len(kept) <= CAP) == (0, 39_999, True)
    (left_out,) = MARKER.findall(kept)
    assert int(left_out[1]) == 40_000 - len(found)
    assert guest.log.total_bytes == len(text)
    assert guest.log.facts()["log_lines"] == 40_000


def test_lines_that_cost_much_do_not_hold_the_caller_up_while_the_head_is_open(
    start: Callable[..., Printing], monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = start(cap_bytes=16 << 20)
    monkeypatch.setattr(log_module, "BUDGET_NS", 0)
    text = numbered(0, 4000).encode()
    assert log_module.CHUNK_BYTES > len(text) > 4 * log_module.LOOK_BYTES
    os.write(guest.pipe, text)
    guest.log.drain()
    assert guest.log._kept.is_head_open
    assert 0 < len(numbers_in(guest.kept)) < 1000
    guest.log.drain()
    assert len(numbers_in(guest.kept)) < 2000
    assert numbers_in(guest.ends()) == list(range(4000))


def test_what_there_is_no_time_for_at_the_end_is_counted_and_the_very_end_kept(
    start: Callable[..., Printing], monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = start(cap_bytes=16 << 20)
    monkeypatch.setattr(log_module, "BUDGET_NS", 0)
    monkeypatch.setattr(log_module, "FINISH_NS", 0)
    guest.prints(numbered(0, 100))
    text = numbered(100, 18_000).encode()
    assert os.write(guest.pipe, text) == len(text) > 3 * log_module.CHUNK_BYTES
    kept = guest.ends()
    found = numbers_in(kept)
    assert (found[0], found[-1]) == (0, 17_999)
    ((_, lines),) = MARKER.findall(kept)
    assert int(lines) == 18_000 - len(found) > 10_000
    assert guest.log.facts()["log_lines"] == 18_000
    assert guest.log.total_bytes == len(numbered(0, 18_000))


def test_a_writer_that_outlives_its_end_does_not_keep_the_log_from_ending(
    start: Callable[..., Printing], monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = start()
    monkeypatch.setattr(log_module, "FINISH_NS", 50_000_000)
    monkeypatch.setattr(os, "read", lambda _source, size: b"y\n" * (size // 2))
    began = time.monotonic()
    guest.log.finish()
    assert time.monotonic() - began < 5


def test_lines_wait_in_memory_for_half_a_second_at_most(guest: Printing) -> None:
    guest.prints(numbered(0, 600))
    guest.prints(numbered(600, 700), after_ms=499)
    assert numbers_in(guest.read()) == list(range(600))
    guest.now_ns += 1_000_000
    guest.log.drain()  # nothing to read
    assert numbers_in(guest.read()) == list(range(700))


def test_draining_a_gigabyte_is_quick() -> None:
    """At least 300 MB a second, measured on a sixteenth of it."""
    folder = Path(f"/proc/self/fd/{os.open('/dev/shm', os.O_RDONLY)}")
    with (folder / f"log-{os.getpid()}").open("xb") as target:
        Path(target.name).unlink()
        source = os.open("/dev/zero", os.O_RDONLY)
        log = GuestLog(source=source, target=target.fileno(), folder=int(folder.name), cap_bytes=CAP)
        began = time.monotonic()
        while log.total_bytes < 64 << 20:
            log.drain()
        taken = time.monotonic() - began
        os.close(source)
        os.close(int(folder.name))
    assert log.total_bytes / taken > 300e6


def test_a_full_disk_ends_keeping_and_not_draining(guest: Printing, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    guest.prints("one\n")
    monkeypatch.setattr(os, "pwrite", full)
    guest.prints("two\n")
    monkeypatch.undo()
    guest.prints(numbered(0, 2000), after_ms=1000)
    assert without_times(guest.ends()) == b"one\n"
    assert guest.log.total_bytes == 8 + len(numbered(0, 2000))
    assert (guest.log.failure, guest.log.facts()["log_unwritten"]) == ("No space left on device", 1)


def test_the_pipe_is_as_large_as_may_be(guest: Printing) -> None:
    assert fcntl.fcntl(guest.pipe, fcntl.F_GETPIPE_SZ) == log_module.PIPE_BYTES


def test_refuses_a_cap_that_cannot_hold_both_ends(start: Callable[..., Printing]) -> None:
    with pytest.raises(SpecError, match="4095 bytes is below 4096"):
        start(cap_bytes=4095)


def test_the_smallest_cap_holds(start: Callable[..., Printing]) -> None:
    guest = start(cap_bytes=4096)
    for n in range(0, 500, 3):
        guest.prints(numbered(n, n + 3), after_ms=600)
        assert numbers_in(guest.read())[-1] == n + 2
    kept = guest.ends()
    assert (len(kept) <= 4096, numbers_in(kept)[0], numbers_in(kept)[-1]) == (True, 0, 500)


# Following.


def test_places_mean_the_same_before_and_after_the_end(guest: Printing) -> None:
    for first in range(0, 3000, 50):
        guest.prints(numbered(first, first + 50), after_ms=1000)
    live = {offset: guest.read(offset) for offset in range(0, 200_000, 997)}
    guest.ends()
    for offset, seen in live.items():
        after = guest.read(offset)
        assert numbers_in(after) == numbers_in(seen)
    assert guest.read() == guest.kept


@pytest.mark.parametrize("max_bytes", [1, 100, 64 << 10])
def test_somebody_who_follows_sees_every_line_once(start: Callable[..., Printing], max_bytes: int) -> None:
    guest = start(cap_bytes=8192)
    offset, seen = 0, b""
    for n in range(300):
        guest.prints(numbered(n, n + 1), after_ms=600)
        while True:
            piece = read_kept(guest.folder, offset=offset, max_bytes=max_bytes)
            offset, seen = piece.next_offset, seen + piece.data
            if piece.is_last:
                break
    guest.ends()
    assert seen + guest.read(offset) == seen
    assert numbers_in(seen) == list(range(300))


def test_a_slow_reader_is_told_what_it_missed(guest: Printing) -> None:
    guest.prints(numbered(0, 600), after_ms=1000)
    offset = read_kept(guest.folder, offset=0, max_bytes=CAP).next_offset
    for first in range(600, 3000, 100):
        guest.prints(numbered(first, first + 100), after_ms=1000)
    piece = read_kept(guest.folder, offset=offset, max_bytes=CAP)
    assert piece.data == b"[%d bytes left out here]\n" % (piece.next_offset - offset)
    assert numbers_in(guest.read(piece.next_offset))[-1] == 2999


def test_what_is_overwritten_while_it_is_read_is_not_shown(
    guest: Printing, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest.prints(numbered(0, 1000), after_ms=1000)
    offset = read_kept(guest.folder, offset=0, max_bytes=CAP).next_offset
    unseen = iter([numbered(1000, 3000)])

    def overtaken(*arguments: Any) -> bytes:
        for text in unseen:
            guest.prints(text, after_ms=1000)
        return read_ring(*arguments)

    monkeypatch.setattr(log_reading, "read_ring", overtaken)
    piece = read_kept(guest.folder, offset=offset, max_bytes=CAP)
    assert piece.data == b"[%d bytes left out here]\n" % (piece.next_offset - offset)
    found = numbers_in(guest.read(piece.next_offset))
    assert found == list(range(found[0], found[-1] + 1))
    assert found[0] > 1000


def test_a_reader_of_no_log_sees_none(tmp_path: Path) -> None:
    piece = read_kept(tmp_path, offset=7, max_bytes=10)
    assert (piece.data, piece.next_offset, piece.is_last) == (b"", 0, True)


@pytest.mark.parametrize("name", ["stdout.log", "stdout.tail"])
def test_refuses_a_log_that_is_a_link(guest: Printing, name: str) -> None:
    (guest.folder / name).unlink(missing_ok=True)
    (guest.folder / name).symlink_to("/etc/hostname")
    with pytest.raises(HarvestError, match="cannot be read"):
        read_kept(guest.folder, offset=0, max_bytes=10)


def test_refuses_a_log_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "stdout.log")
    with pytest.raises(HarvestError, match="not a regular file"):
        read_kept(tmp_path, offset=0, max_bytes=10)


# A kill.


class Killed(BaseException):
    """Nobody may catch it."""


def lines_of(guest: Printing) -> list[int]:
    return numbers_in(guest.read())


def test_a_kill_at_any_write_leaves_a_log_that_can_be_read_and_put_together(
    start: Callable[..., Printing], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = {name: getattr(os, name) for name in ("pwrite", "ftruncate", "fsync", "open")}
    writes = 0
    while True:
        guest, left = start(cap_bytes=8192), writes

        def counted(name: str) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    raise Killed
                return real[name](*arguments, **named)

            return call

        with monkeypatch.context() as killing:
            for name in real:
                killing.setattr(os, name, counted(name))
            try:
                for n in range(0, 360, 30):
                    guest.prints(numbered(n, n + 30), after_ms=600)
                guest.ends()
                return
            except Killed:
                pass
        seen = lines_of(guest)
        assert seen == sorted(set(seen))
        before = guest.read()
        for _ in range(2):  # it may be done again
            assemble(guest.log.folder)
            assert numbers_in(guest.kept) == seen == lines_of(guest)
            assert len(guest.kept) <= 8192
        assert before.startswith(b"2026-") or not seen
        writes += 1


def test_a_torn_state_is_no_state() -> None:
    whole = TailState(head_bytes=10, ring_bytes=100, start=20, end=30, lines=1).encode()
    assert TailState.parse(whole) == TailState(head_bytes=10, ring_bytes=100, start=20, end=30, lines=1)
    for place in range(len(whole)):
        assert TailState.parse(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]) is None
    assert TailState.parse(whole[:-1]) is None
    assert TailState.parse(TailState(head_bytes=9, ring_bytes=1, start=8, end=9).encode()) is None


def test_a_ring_without_state_is_told_and_the_head_stays(tmp_path: Path) -> None:
    (tmp_path / "stdout.log").write_bytes(b"head\n")
    (tmp_path / TAIL_NAME).write_bytes(b"\x00" * 100)
    with pytest.raises(HarvestError, match="not whole"):
        read_kept(tmp_path, offset=0, max_bytes=10)
    folder = os.open(tmp_path, os.O_RDONLY)
    assert assemble(folder) is False
    os.close(folder)
    assert (tmp_path / "stdout.log").read_bytes() == b"head\n"


def test_the_ring_of_an_earlier_attempt_is_gone(start: Callable[..., Printing]) -> None:
    first = start(cap_bytes=4096)
    first.prints(numbered(0, 300), after_ms=1000)
    assert (first.folder / TAIL_NAME).exists()
    second = start(cap_bytes=4096)
    second.prints("again\n")
    assert without_times(second.ends()) == without_times(second.read()) == b"again\n"


def test_one_piece_larger_than_the_ring_leaves_its_end(tmp_path: Path) -> None:
    with (tmp_path / "stdout.log").open("wb") as target:
        folder = os.open(tmp_path, os.O_RDONLY)
        kept = KeptLog(target=target.fileno(), folder=folder, cap_bytes=4096)
        kept.append(numbered(0, 20).encode())
        kept.append(numbered(20, 1000).encode())
        kept.close()
        os.close(folder)
    found = numbers_in((tmp_path / "stdout.log").read_bytes())
    assert (found[0], found[-1]) == (0, 999)
