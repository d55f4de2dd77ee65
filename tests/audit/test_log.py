"""Sequencing, proofs, races and crashes; the whole log is verified again after each step."""

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Engine

import audit.durable
import audit.log
from attestation.checkpoint import open_checkpoint
from attestation.merkle import leaf_hash, root_hash, verify_consistency, verify_inclusion
from attestation.tlogproof import parse_consistency, parse_proof
from audit import store
from audit.errors import LogStateError
from audit.event import Event


class BrokenSigner:
    """A key that cannot be reached."""

    def __init__(self, signer: Any) -> None:  # Any: the fixture's LogKey
        self.name, self.vkey = signer.name, signer.vkey

    def sign(self, message: bytes) -> bytes:
        raise InterruptedError(message)


@pytest.fixture
def events(event_about: Callable[..., Event]) -> list[Event]:
    return [event_about("run-1", number=number) for number in range(7)]


def test_an_empty_log_has_no_head(site, now) -> None:
    assert site.log().sequence(now) == 0
    assert site.log().checkpoint() is None
    assert site.fsck() == ()


def test_sequencing_drains_the_outbox_in_order(site, events, now) -> None:
    site.enqueue(*events)
    assert site.log().sequence(now) == 7
    with site.engine.begin() as conn:
        assert [row.entry for row in store.scan_entries(conn)] == [event.encode() for event in events]
        assert store.read_pending(conn) == ()
    assert site.fsck() == ()


def test_head_is_the_root_of_the_entries(site, events, now) -> None:
    site.enqueue(*events)
    site.log().sequence(now)
    checkpoint = open_checkpoint(site.log().checkpoint(), vkey=site.signer.vkey)
    assert (checkpoint.size, checkpoint.root) == (
        7,
        root_hash([leaf_hash(event.encode()) for event in events]),
    )


def test_sequencing_again_changes_nothing(site, events, now) -> None:
    site.enqueue(*events)
    site.log().sequence(now)
    before = site.log().checkpoint()
    assert site.log().sequence(now) == 0
    assert site.log().checkpoint() == before


def test_batches_of_any_size_give_one_log(site, event_about, now, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit.log, "BATCH_ENTRIES", 3)
    site.enqueue(*(event_about("run-1", number=number) for number in range(10)))
    assert site.log().sequence(now) == 10
    assert site.fsck() == ()


def test_every_growth_is_sound_and_consistent(site, event_about, now) -> None:
    log = site.log()
    previous = None
    for number in range(1, 12):
        site.enqueue(*(event_about(f"run-{number}", number=each) for each in range(number % 3 + 1)))
        log.sequence(now)
        assert site.fsck() == ()
        head = open_checkpoint(log.checkpoint(), vkey=site.signer.vkey)
        if previous is not None:
            proof = parse_consistency(log.consistency(previous.size))
            assert proof.checkpoint_note == log.checkpoint()
            verify_consistency(
                old_size=proof.old_size,
                old_root=previous.root,
                new_size=head.size,
                new_root=head.root,
                path=proof.path,
            )
        previous = head


@pytest.mark.parametrize("old_size", [-1, 0, 8])
def test_refuses_consistency_with_a_size_the_log_never_had(site, events, now, old_size: int) -> None:
    site.enqueue(*events)
    site.log().sequence(now)
    with pytest.raises(LogStateError, match=f"from size {old_size}: the signed log has size 7"):
        site.log().consistency(old_size)


def test_checkpoint_is_published_as_stored(site, events, now) -> None:
    site.enqueue(*events)
    site.log().sequence(now)
    assert site.checkpoint_path.read_bytes() == site.log().checkpoint()


def test_deleted_published_file_comes_back(site, events, now) -> None:
    site.enqueue(*events)
    site.log().sequence(now)
    site.checkpoint_path.unlink()
    site.log().sequence(now)
    assert site.checkpoint_path.read_bytes() == site.log().checkpoint()


def test_every_receipt_proves_its_entry(site, events, now) -> None:
    site.enqueue(*events)
    site.log().sequence(now)
    receipts = site.log().receipts([event.encode() for event in events])
    assert {receipt.checkpoint for receipt in receipts} == {site.log().checkpoint()}
    for event, receipt in zip(events, receipts, strict=True):
        proof = parse_proof(receipt.proof)
        head = open_checkpoint(proof.checkpoint_note, vkey=site.signer.vkey)
        verify_inclusion(
            leaf_hash(event.encode()), index=receipt.index, size=head.size, path=proof.path, root=head.root
        )


def test_no_receipt_for_an_entry_that_waits(site, events, now) -> None:
    site.enqueue(*events[:3])
    site.log().sequence(now)
    site.enqueue(events[3])
    assert site.log().receipt(events[3].encode()) is None


def test_no_receipts_unless_all_entries_are_in(site, events, now) -> None:
    site.enqueue(*events[:3])
    site.log().sequence(now)
    assert site.log().receipts([event.encode() for event in events]) is None


def test_no_receipt_while_nothing_is_signed(site, events, now) -> None:
    site.enqueue(*events)
    with pytest.raises(InterruptedError):
        site.log(signer=BrokenSigner(site.signer)).sequence(now)
    assert site.log().receipt(events[0].encode()) is None


def test_no_receipt_above_the_signed_head(site, events, now) -> None:
    site.enqueue(*events[:3])
    site.log().sequence(now)
    site.enqueue(events[3])
    with pytest.raises(InterruptedError):
        site.log(signer=BrokenSigner(site.signer)).sequence(now)
    assert site.log().receipt(events[3].encode()) is None
    assert site.log().receipt(events[0].encode()) is not None


def test_equal_entries_share_the_first_receipt(site, events, now) -> None:
    site.enqueue(events[0], events[1], events[0])
    site.log().sequence(now)
    assert site.log().receipt(events[0].encode()).index == 0


def test_head_committed_without_signature_is_signed_by_the_next_call(site, events, now) -> None:
    site.enqueue(*events)
    with pytest.raises(InterruptedError):
        site.log(signer=BrokenSigner(site.signer)).sequence(now)
    assert site.fsck() == ()
    assert site.log().sequence(now) == 0
    assert open_checkpoint(site.checkpoint_path.read_bytes(), vkey=site.signer.vkey).size == 7


def test_loser_of_a_race_starts_again_and_loses_nothing(site, events, now) -> None:
    site.enqueue(*events[:2])
    site.log().sequence(now)
    site.enqueue(*events[2:])
    racing = site.log(engine=_engine_that_calls(site, before_begin=3, call=lambda: site.log().sequence(now)))
    assert racing.sequence(now) == 0
    assert site.fsck() == ()
    with site.engine.begin() as conn:
        assert [row.entry for row in store.scan_entries(conn)] == [event.encode() for event in events]


def test_a_slow_signature_never_replaces_a_newer_one(site, events, now) -> None:
    site.enqueue(*events[:3])

    class SlowSigner:
        name, vkey = site.signer.name, site.signer.vkey

        def sign(self, message: bytes) -> bytes:
            site.enqueue(*events[3:])
            site.log().sequence(now)  # another process, while our key server takes its time
            return site.signer.sign(message)

    site.log(signer=SlowSigner()).sequence(now)
    assert open_checkpoint(site.checkpoint_path.read_bytes(), vkey=site.signer.vkey).size == 7
    assert site.fsck() == ()


def test_two_first_calls_create_one_head(site, events, now) -> None:
    site.enqueue(*events)
    racing = site.log(engine=_engine_that_calls(site, before_begin=2, call=lambda: site.log().sequence(now)))
    racing.sequence(now)
    assert site.fsck() == ()


def test_concurrent_sequencers_share_the_work(site, event_about, now, reopen) -> None:
    total = 120
    done = threading.Event()
    moved: list[int] = []

    def work() -> None:
        log = site.log(engine=reopen(site.folder / "log.db"))
        while not done.is_set():
            moved.append(log.sequence(now))
        moved.append(log.sequence(now))

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for number in range(total):
        site.enqueue(event_about("run-1", number=number))
    done.set()
    for worker in workers:
        worker.join()
    assert sum(moved) == total
    assert site.fsck() == ()
    assert open_checkpoint(site.checkpoint_path.read_bytes(), vkey=site.signer.vkey).size == total


def test_refuses_to_sign_on_a_database_that_was_rolled_back(site, events, now, reopen) -> None:
    site.enqueue(*events[:2])
    site.log().sequence(now)
    old = _copy(site.folder, site.folder / "old")
    site.enqueue(*events[2:])
    site.log().sequence(now)
    shutil.copy(site.checkpoint_path, old / "checkpoint")
    restored = _site_at(site, old, reopen)
    with pytest.raises(LogStateError, match="has size 2 in the database, but size 7 is published"):
        restored.log().sequence(now)


def test_refuses_to_sign_a_fork_of_the_published_log(site, events, event_about, now, reopen) -> None:
    site.enqueue(*events[:2])
    site.log().sequence(now)
    old = _copy(site.folder, site.folder / "old")
    site.enqueue(*events[2:4])
    site.log().sequence(now)
    forked = _site_at(site, old, reopen)
    forked.enqueue(*(event_about("run-9", number=number) for number in range(5)))
    forked.log().sequence(now)
    shutil.copy(site.checkpoint_path, old / "checkpoint")
    with pytest.raises(LogStateError, match=r"the first 4 entries .* are not those published"):
        forked.log().sequence(now)


def test_refuses_to_go_on_from_a_published_file_that_is_not_its_own(site, events, now) -> None:
    site.enqueue(*events)
    site.checkpoint_path.write_bytes(b"somebody else's\n")
    with pytest.raises(LogStateError, match="published checkpoint"):
        site.log().sequence(now)


def test_refuses_to_build_on_a_log_with_missing_nodes(site, events, now) -> None:
    site.enqueue(*events)
    site.log().sequence(now)
    site.execute("DELETE FROM log_node WHERE level = 2")
    with pytest.raises(LogStateError, match="node 2/0 of the log is missing from the database"):
        site.log().sequence(now)


def test_survives_a_kill_at_every_line(site, events, now, reopen) -> None:
    """Kills a child process at its n-th line inside the log's modules, for every n there is."""
    events = events[:2]
    site.enqueue(*events[:1])
    site.log().sequence(now)
    site.enqueue(*events[1:])
    site.engine.dispose()
    for line in range(1, 1000):
        folder = _copy(site.folder, site.folder / f"kill-{line}")
        was_killed = _sequence_in_child(site, folder, reopen, now, kill_at=line)
        survivor = _site_at(site, folder, reopen)
        assert survivor.fsck() == (), f"after a kill at line {line}"
        survivor.log().sequence(now)
        assert survivor.fsck() == (), f"after the call that follows a kill at line {line}"
        assert open_checkpoint(survivor.checkpoint_path.read_bytes(), vkey=site.signer.vkey).size == 2
        with survivor.engine.begin() as conn:
            assert [row.entry for row in store.scan_entries(conn)] == [event.encode() for event in events]
        survivor.engine.dispose()
        if not was_killed:
            assert line > 50  # the tracer saw the modules at work
            return
        shutil.rmtree(folder)
    pytest.fail("sequencing never came to its end")


def _sequence_in_child(site, folder: Path, reopen, now: datetime, *, kill_at: int) -> bool:
    child = os.fork()
    if child == 0:
        log = _site_at(site, folder, reopen).log()
        sys.settrace(_killer(kill_at))
        log.sequence(now)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


def _killer(kill_at: int) -> Any:  # Any: the type of a trace function refers to itself
    files = {audit.log.__file__, store.__file__, audit.durable.__file__}
    left = iter(range(kill_at - 1, -1, -1))

    def on_line(_frame: FrameType, kind: str, _argument: object) -> Any:
        if kind == "line" and next(left) == 0:
            os._exit(9)
        return on_line

    def on_call(frame: FrameType, _kind: str, _argument: object) -> Any:
        return on_line if frame.f_code.co_filename in files else None

    return on_call


def _copy(folder: Path, to: Path) -> Path:
    to.mkdir()
    for path in _files(folder):
        shutil.copy(path, to / path.name)
    return to


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.is_file())


def _site_at(site, folder: Path, reopen: Callable[[Path], Engine]):
    return type(site)(folder=folder, engine=reopen(folder / "log.db"), signer=site.signer)


def _engine_that_calls(site, *, before_begin: int, call: Callable[[], object]) -> Engine:
    """An engine on the same database that lets another process be faster at one point."""
    engine = sqlalchemy.create_engine(site.engine.url)
    begins = iter(range(1, 1000))

    @sqlalchemy.event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:  # Any: the sqlite3 driver's own
        connection.isolation_level = None

    @sqlalchemy.event.listens_for(engine, "begin")
    def _begin(conn: sqlalchemy.Connection) -> None:
        if next(begins) == before_begin:
            call()
        conn.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
