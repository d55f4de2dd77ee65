"""The outbox shares the caller's transaction; events are found by subject."""

from collections.abc import Callable

import pytest

from audit import store
from audit.event import Event


def test_event_of_a_rolled_back_change_is_not_recorded(site, event_about: Callable[..., Event]) -> None:
    with pytest.raises(InterruptedError), site.engine.begin() as conn:
        store.enqueue(conn, event_about("run-1"))
        raise InterruptedError
    with site.engine.begin() as conn:
        assert store.events_of(conn, "run-1") == ()


def test_events_of_a_subject_come_sequenced_first_then_waiting(site, event_about, now) -> None:
    site.enqueue(event_about("run-1", number=1), event_about("run-2"), event_about("run-1", number=2))
    site.log().sequence(now)
    site.enqueue(event_about("run-1", number=3))
    with site.engine.begin() as conn:
        found = store.events_of(conn, "run-1")
    assert [(each.index, each.event.detail["number"]) for each in found] == [(0, 1), (2, 2), (None, 3)]


def test_outbox_ids_are_never_used_twice(site, event_about, now) -> None:
    site.enqueue(event_about("run-1"))
    site.log().sequence(now)
    site.enqueue(event_about("run-2"))
    with site.engine.begin() as conn:
        ids = [row.outbox_id for row in store.scan_entries(conn)]
        assert store.read_pending(conn)[0].id not in ids


def test_a_proof_reads_any_number_of_nodes(site, event_about, now) -> None:
    site.enqueue(*(event_about("run-1", number=number) for number in range(700)))
    site.log().sequence(now)
    keys = [(level, index) for level in range(3) for index in range(700 >> level)]
    with site.engine.begin() as conn:
        assert store.read_nodes(conn, keys).keys() == set(keys)
