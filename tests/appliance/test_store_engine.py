import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, select, text, update
from sqlalchemy.exc import IntegrityError

from appliance.errors import HomeError
from appliance.store import champions
from appliance.store.engine import open_database, reading
from appliance.store.tables import SCHEMA_VERSION, schema_version
from tests.appliance.vetting import NOBODY


@pytest.mark.parametrize(
    ("pragma", "wanted"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 30_000)],
)
def test_every_connection_is_durable_and_strict(engine: Engine, pragma: str, wanted: object) -> None:
    with reading(engine) as conn:
        assert conn.execute(text(f"PRAGMA {pragma}")).scalar_one() == wanted


def test_opening_again_keeps_what_is_there(engine: Engine, tmp_path: Path) -> None:
    again = open_database(tmp_path / "assay.db")
    with reading(again) as conn:
        assert conn.scalars(select(schema_version.c.version)).all() == [SCHEMA_VERSION]


def test_refuses_home_of_a_newer_assay(engine: Engine, tmp_path: Path) -> None:
    with engine.begin() as conn:
        conn.execute(update(schema_version).values(version=SCHEMA_VERSION + 1))
    with pytest.raises(HomeError, match=f"newer Assay: its schema is {SCHEMA_VERSION + 1}"):
        open_database(tmp_path / "assay.db")


def test_a_home_of_an_older_assay_gets_the_tables_it_lacks_and_keeps_what_it_has(
    stocked: Engine, tmp_path: Path
) -> None:
    """Shape 1 had none of the tables below, and the rest as it is."""
    added = (
        "counted_approval",
        "champion_origin",
        "inspection",
        "crosscheck",
        "champion_decision",
        "feed_revocation",
        "champion_default",
        "sync_source",
        "run_walls",
    )
    with stocked.begin() as conn:
        for table in added:
            conn.execute(text(f"DROP TABLE {table}"))
        conn.execute(update(schema_version).values(version=1))
        before = champions.list_champions(conn)
    again = open_database(tmp_path / "assay.db")
    with reading(again) as conn:
        assert set(added) <= set(inspect(conn).get_table_names())
        assert conn.scalars(select(schema_version.c.version)).all() == [SCHEMA_VERSION] == [3]
        assert champions.list_champions(conn) == before
        # An admission that counted no approvals by name admits to nothing: it is decided again.
        admitted = champions.admitted(conn, before[0].manifest_sha256, trust=NOBODY)
    assert admitted is not None
    assert admitted.approval_bundles == ()


def test_an_upgrade_that_is_cut_short_leaves_the_older_home(stocked: Engine, tmp_path: Path) -> None:
    with stocked.begin() as conn:
        conn.execute(text("DROP TABLE sync_source"))
        conn.execute(update(schema_version).values(version=1))
        conn.execute(
            text(
                "CREATE TRIGGER cut BEFORE UPDATE ON schema_version BEGIN SELECT RAISE(ABORT, 'power cut'); END"
            )
        )
    with pytest.raises(IntegrityError, match="power cut"):
        open_database(tmp_path / "assay.db")
    with reading(stocked) as conn:
        assert "sync_source" not in inspect(conn).get_table_names()
        assert conn.scalars(select(schema_version.c.version)).all() == [1]


def test_refuses_database_of_another_program(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE accounts (id INTEGER)")
    with pytest.raises(HomeError, match="not a database of Assay; found tables accounts"):
        open_database(tmp_path / "other.db")


def test_refuses_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "assay.db").write_bytes(b"not a database, but long enough to be looked at" * 40)
    with pytest.raises(HomeError, match="the file is not a database"):
        open_database(tmp_path / "assay.db")


def test_refuses_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="cannot be opened by this user"):
        open_database(tmp_path / "missing" / "assay.db")


def test_full_disk_is_told_as_such(engine: Engine) -> None:
    with pytest.raises(HomeError, match="the disk is full"), engine.begin() as conn:
        pages = conn.execute(text("PRAGMA page_count")).scalar_one()
        conn.execute(text(f"PRAGMA max_page_count = {pages}"))
        conn.execute(text("CREATE TABLE big (content BLOB)"))
        conn.execute(text("INSERT INTO big VALUES (zeroblob(1000000))"))


def test_readers_do_not_wait_for_a_writer(engine: Engine) -> None:
    with engine.begin() as writer:
        writer.execute(update(schema_version).values(version=99))
        with reading(engine) as conn:
            assert conn.scalars(select(schema_version.c.version)).all() == [SCHEMA_VERSION]
        writer.execute(update(schema_version).values(version=SCHEMA_VERSION))


def test_writer_takes_the_lock_with_its_first_statement(engine: Engine, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "assay.db", timeout=0)
    with engine.begin(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("UPDATE schema_version SET version = 5")
