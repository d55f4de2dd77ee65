"""Whatever is changed in the stored log, fsck names it."""

import pytest

from attestation.checkpoint import Checkpoint, sign_checkpoint
from attestation.merkle import leaf_hash


@pytest.fixture
def logged(site, event_about, now):
    site.enqueue(*(event_about("run-1", number=number) for number in range(7)))
    site.log().sequence(now)
    assert site.fsck() == ()
    return site


def findings(site) -> str:
    return "\n".join(str(finding) for finding in site.fsck())


def test_finds_a_changed_entry(logged, event_about) -> None:
    changed = event_about("run-1", number=99).encode()
    logged.execute("UPDATE log_entry SET entry = ? WHERE leaf_index = 3", changed)
    assert "entry 3: its bytes do not hash to its leaf hash" in findings(logged)


def test_finds_an_entry_changed_together_with_its_leaf_hash(logged, event_about) -> None:
    changed = event_about("run-1", number=99).encode()
    logged.execute(
        "UPDATE log_entry SET entry = ?, leaf_hash = ? WHERE leaf_index = 3", changed, leaf_hash(changed)
    )
    found = findings(logged)
    assert "node 1/1: is not the hash of its entries" in found
    assert "head: its root is not that of the first 7 entries" in found
    assert "checkpoint: its root is not that of the first 7 entries" in found


def test_finds_an_entry_filed_under_another_subject(logged) -> None:
    logged.execute("UPDATE log_entry SET subject = 'run-2' WHERE leaf_index = 3")
    assert "entry 3: is about 'run-1', filed under 'run-2'" in findings(logged)


def test_finds_an_entry_that_is_no_event(logged) -> None:
    logged.execute("UPDATE log_entry SET entry = ? WHERE leaf_index = 3", b"not json")
    assert "entry 3: not a log entry" in findings(logged)


def test_finds_a_missing_entry(logged) -> None:
    logged.execute("DELETE FROM log_entry WHERE leaf_index = 3")
    assert "entry 3: is missing; the next stored is 4" in findings(logged)


def test_finds_that_the_newest_entries_were_cut_off(logged) -> None:
    logged.execute("DELETE FROM log_entry WHERE leaf_index >= 5")
    assert "head: has size 7, but only 5 entries are sound" in findings(logged)


def test_finds_entries_beyond_the_head(logged, event_about) -> None:
    entry = event_about("run-1", number=99).encode()
    logged.execute(
        "INSERT INTO log_entry (leaf_index, outbox_id, subject, entry, leaf_hash) "
        "VALUES (7, 99, 'run-1', ?, ?)",
        entry,
        leaf_hash(entry),
    )
    assert "head: has size 7, but 8 entries are stored" in findings(logged)


def test_finds_a_changed_node(logged) -> None:
    logged.execute("UPDATE log_node SET hash = ? WHERE level = 1 AND node_index = 2", bytes(32))
    assert "node 1/2: is not the hash of its entries, or missing" in findings(logged)


def test_finds_a_missing_node(logged) -> None:
    logged.execute("DELETE FROM log_node WHERE level = 2")
    assert "node 2/0: is not the hash of its entries, or missing" in findings(logged)


def test_finds_a_node_too_many(logged) -> None:
    logged.execute("INSERT INTO log_node (level, node_index, hash) VALUES (9, 9, ?)", bytes(32))
    assert "nodes: 5 are stored, but the entries give 4" in findings(logged)


def test_finds_a_changed_head(logged) -> None:
    logged.execute("UPDATE log_head SET root = ?", bytes(32))
    assert "head: its root is not that of the first 7 entries" in findings(logged)


def test_finds_the_head_of_another_log(logged) -> None:
    logged.execute(
        "INSERT INTO log_head (origin, size, root, signed_size) VALUES ('other/log', 0, ?, 0)", bytes(32)
    )
    assert "head: expected only log assay.test/log, found assay.test/log, other/log" in findings(logged)


def test_finds_a_missing_head(logged) -> None:
    logged.execute("DELETE FROM log_head")
    assert "head: has size 0, but 7 entries are stored" in findings(logged)


def test_finds_a_stored_checkpoint_that_is_not_signed(logged) -> None:
    note = logged.log().checkpoint()
    logged.execute("UPDATE log_head SET checkpoint = ?", note.replace(b"\n7\n", b"\n6\n"))
    assert "checkpoint: head is not signed by log" in findings(logged)


def test_finds_a_stored_checkpoint_of_another_size_than_noted(logged) -> None:
    logged.execute("UPDATE log_head SET signed_size = 6")
    assert "checkpoint: is for size 7, noted as 6" in findings(logged)


def test_finds_a_signed_head_that_the_entries_do_not_give(logged) -> None:
    forged = sign_checkpoint(Checkpoint(origin="assay.test/log", size=7, root=bytes(32)), logged.signer)
    logged.checkpoint_path.write_bytes(forged)
    assert f"{logged.checkpoint_path}: its root is not that of the first 7 entries" in findings(logged)


def test_finds_that_more_was_published_than_is_stored(logged) -> None:
    ahead = sign_checkpoint(Checkpoint(origin="assay.test/log", size=9, root=bytes(32)), logged.signer)
    logged.checkpoint_path.write_bytes(ahead)
    assert f"{logged.checkpoint_path}: has size 9, but only 7 entries are sound" in findings(logged)


def test_finds_a_published_file_that_is_no_checkpoint(logged) -> None:
    logged.checkpoint_path.write_bytes(b"hello\n")
    assert f"{logged.checkpoint_path}: published checkpoint" in findings(logged)


def test_finds_an_outbox_row_that_is_no_event(logged) -> None:
    logged.execute("INSERT INTO log_outbox (subject, entry) VALUES ('run-1', ?)", b"{}")
    assert "outbox 8: not a log entry" in findings(logged)


def test_finds_an_event_that_waits_although_it_was_logged(logged, event_about) -> None:
    entry = event_about("run-1", number=3).encode()
    logged.execute("INSERT INTO log_outbox (id, subject, entry) VALUES (4, 'run-1', ?)", entry)
    assert findings(logged) == "outbox 4: waits although the log has it already"


def test_what_a_crash_leaves_is_no_finding(logged, event_about) -> None:
    logged.enqueue(event_about("run-2"))
    logged.execute("UPDATE log_head SET signed_size = 0, checkpoint = NULL")
    logged.checkpoint_path.unlink()
    assert logged.fsck() == ()
