"""What the screen shows is what was signed; before that it is what the jobs measured, and it says which."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from appliance.attest import walls_with_end
from appliance.domain import RunState
from appliance.errors import EvidenceError, NotReadyError
from appliance.isolation_report import Found, Purpose
from appliance.isolation_source import MAX_FILE_BYTES, NOT_SIGNED, find_walls
from appliance.store.engine import reading
from runner.launcher.fake import SUCCESS
from tests.appliance.isolation_facts import MOMENT, good_facts
from tests.appliance.test_pipeline import bring_to
from tests.appliance.world import RUN_ID, World


def measured_by(found: Found) -> dict[str, object]:
    """Good facts, and the order that they were measured for."""
    return good_facts() | {"order_sha256": found.facts["order_sha256"]}


@pytest.fixture
def walled(world: World) -> World:
    """A world whose jobs measure good walls."""
    world.launcher.isolation = good_facts()
    return world


def found_in(world: World) -> tuple[Found, ...]:
    with reading(world.ports.engine) as conn:
        return find_walls(conn, world.run(), home=world.appliance.home)


def job_dir(world: World) -> Path:
    return world.launcher.job_dir(RUN_ID)


def test_nothing_is_told_before_anything_is_measured(walled: World) -> None:
    walled.submit()
    with pytest.raises(NotReadyError, match="no walls of it were measured yet; ask again when it runs"):
        found_in(walled)


def test_a_run_that_ended_before_it_was_measured_says_so_for_good(walled: World) -> None:
    walled.submit()
    walled.cancel()
    with pytest.raises(NotReadyError, match=r"is cancelled: no walls of it were measured$"):
        found_in(walled)


def test_while_it_trains_the_jobs_own_words_are_told_as_unsigned(walled: World) -> None:
    walled.launcher.holds = True
    bring_to(walled, RunState.RUNNING)
    (train,) = found_in(walled)
    assert (train.purpose, train.is_signed, train.source) == (Purpose.TRAIN, False, NOT_SIGNED)
    assert train.facts == measured_by(train)


def test_limits_as_asked_are_those_of_the_job(walled: World) -> None:
    bring_to(walled, RunState.HARVESTED)
    limits = walled.ports.limits
    (train, *_) = found_in(walled)
    assert train.asked == {"memory_bytes": limits.memory_bytes, "pids": limits.pids, "cpu_quota_us": 200_000}


def test_when_it_has_ended_its_times_and_counters_are_told_too(walled: World) -> None:
    bring_to(walled, RunState.HARVESTED)
    (train, *_) = found_in(walled)
    assert train.facts == walls_with_end(measured_by(train), SUCCESS, job_dir=str(job_dir(walled)))
    assert (train.facts["measured_at"], train.facts["released_at"]) == (MOMENT, MOMENT)
    assert (train.facts["after"]["usage"], train.facts["after"]["survivors"]) == ({}, 0)


def test_once_they_are_signed_the_claims_are_told_whatever_the_files_say(walled: World) -> None:
    bring_to(walled, RunState.ATTESTED)
    (job_dir(walled) / "isolation.json").write_text('{"driver": "none"}')
    train, evaluate = found_in(walled)
    assert (train.purpose, evaluate.purpose) == (Purpose.TRAIN, Purpose.EVALUATE)
    for found in (train, evaluate):
        assert found.is_signed
        assert found.facts["mounts"] == good_facts()["mounts"]
        assert found.source.startswith(f"signed claim isolation-{found.purpose}, sha256:")


def _spoil_signature(world: World) -> None:
    with world.ports.engine.begin() as conn:
        rows = conn.execute(text("SELECT ordinal, bundle FROM claim WHERE kind = 'isolation-train'")).all()
        for ordinal, bundle in rows:
            raw = json.loads(bundle)
            payload = raw["dsseEnvelope"]["payload"]
            raw["dsseEnvelope"]["payload"] = ("B" if payload[0] == "A" else "A") + payload[1:]
            conn.execute(
                text("UPDATE claim SET bundle = :bundle WHERE ordinal = :ordinal"),
                {"bundle": json.dumps(raw, separators=(",", ":")).encode(), "ordinal": ordinal},
            )


def _exchange_guests(world: World) -> None:
    with world.ports.engine.begin() as conn:
        conn.execute(
            text(
                "UPDATE claim SET bundle = (SELECT other.bundle FROM claim AS other"
                " WHERE other.kind = 'isolation-evaluate') WHERE kind = 'isolation-train'"
            )
        )


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_spoil_signature, "isolation-train claim of run run-0042 does not verify"),
        (_exchange_guests, "is about another run or guest"),
    ],
)
def test_a_claim_that_was_changed_is_not_shown(walled: World, spoil: Any, told: str) -> None:
    bring_to(walled, RunState.ATTESTED)
    spoil(walled)
    with pytest.raises(EvidenceError, match=told):
        found_in(walled)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b" " * (MAX_FILE_BYTES + 1), "over the limit"),
    ],
    ids=["cut", "deep", "no text", "list", "large"],
)
def test_files_that_cannot_be_read_are_told_and_not_guessed(walled: World, content: bytes, told: str) -> None:
    bring_to(walled, RunState.HARVESTED)
    (job_dir(walled) / "isolation.json").write_bytes(content)
    with pytest.raises(EvidenceError, match=told):
        found_in(walled)


@pytest.mark.parametrize("name", ["job.json", "exit.json"])
def test_what_stands_beside_may_be_missing_or_spoiled(walled: World, name: str) -> None:
    bring_to(walled, RunState.HARVESTED)
    whole = found_in(walled)[0]
    (job_dir(walled) / name).write_bytes(b"{")
    without = found_in(walled)[0]
    assert without == replace(
        whole, **({"asked": None} if name == "job.json" else {"facts": measured_by(whole)})
    )
    (job_dir(walled) / name).unlink()
    assert found_in(walled)[0] == without
