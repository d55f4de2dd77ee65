"""The short report says of both guests' walls what a reader must not overlook."""

from dataclasses import replace

import pytest

from appliance.attest import RunFacts, walls_with_end
from appliance.domain import RunState
from appliance.report import run_report
from appliance.run_facts import facts_of
from attestation.isolation import told
from runner.launcher.fake import SUCCESS
from tests.appliance.isolation_facts import facts_with
from tests.appliance.test_pipeline import bring_to
from tests.appliance.world import World


@pytest.fixture
def facts(world: World) -> RunFacts:
    bring_to(world, RunState.EVALUATED)
    found = facts_of(world.run(), world.ports)
    assert found is not None
    return found


def test_names_driver_tier_root_order_and_network_of_both(facts: RunFacts) -> None:
    report = run_report(facts)
    for guest, measured in (("training", facts.isolation_train), ("evaluation", facts.isolation_evaluate)):
        assert f"walls       of {guest}: {told(measured)}\n" in report
    assert "bubblewrap (bubblewrap 0.8.0), tier 1 of 3" in report
    assert report.count("not enforced: nothing\n") == 2
    assert "ran out" not in report
    assert "left behind" not in report


def test_tells_what_was_not_enforced_ran_out_or_was_left_behind(facts: RunFacts) -> None:
    ended = replace(SUCCESS, out_of_memory="cuda", remnants=("mount /x", "loop device loop3"))
    measured = facts_with("unenforced", ["cpu_millis", "pids: per user id only"])
    report = run_report(replace(facts, isolation_train=walls_with_end(measured, ended, job_dir="/srv")))
    assert "not enforced: cpu_millis, pids: per user id only\n" in report
    assert "memory that ran out: cuda\n" in report
    assert "left behind: mount /x, loop device loop3\n" in report
