"""The screen says what held, what did not and what nobody told; and says it the same in every form."""

import html
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.domain import ChosenWalls, Classification, Order, Run, RunState
from appliance.isolation_page import MARKS, isolation_page
from appliance.isolation_report import (
    NO_REASON,
    NOT_PROVED,
    NOT_TOLD_WHETHER,
    OWN_KERNEL,
    SHARED_GPU_DRIVER,
    SHARED_KERNEL,
    WHY_IT_MATTERS,
    Found,
    GuestWalls,
    IsolationReport,
    Purpose,
    isolation_report,
    parse_report,
    plain,
    sections,
)
from appliance.isolation_walls import Section, State
from tests.appliance.champion_cli import ATTRIBUTION
from tests.appliance.isolation_facts import MOMENT, facts_with, facts_without, found_with, good_facts

HOSTILE = "</style><script>alert(1)</script><img src=x onerror=y>'\"&\x1b[2J"
WALLS = ChosenWalls(
    classification=Classification.CONFIDENTIAL,
    driver="bubblewrap",
    evaluation_driver="gvisor",
    demand="{}",
    policy_sha256="e" * 64,
)
_NOW = datetime(2026, 11, 21, tzinfo=UTC)
RUN = Run(
    id="run-1",
    order=Order(champion="c" * 64, base_model="b" * 64, dataset="d" * 64, hours_to_complete=1, walls=WALLS),
    state=RunState.LOGGED,
    version=1,
    submitted_by="ada",
    submitted_at=_NOW,
    updated_at=_NOW,
)


def report_of(*found: Found) -> IsolationReport:
    return isolation_report(RUN, found, champion="god-text-reference")


def guest_of(facts: dict[str, object], **changes: object) -> GuestWalls:
    return report_of(found_with(facts, **changes)).guests[0]


# The verdict.


def test_good_walls_are_one_sentence() -> None:
    guest = guest_of(good_facts())
    assert (
        guest.verdict == f"9 of 9 walls held; measured at {MOMENT}, before the champion's first instruction"
    )
    assert guest.state is State.HELD


def test_a_wall_that_is_not_told_is_counted_apart_and_is_the_state_of_the_whole() -> None:
    guest = guest_of(facts_without("mounts"))
    assert guest.verdict.startswith("8 of 9 walls held, 1 not told; ")
    assert guest.state is State.NOT_TOLD


def test_the_worst_wall_is_the_state_of_the_whole() -> None:
    partly = facts_with("cgroup", "none")
    assert guest_of(partly).state is State.PARTLY
    assert guest_of(partly | {"routes": None}).state is State.NOT_TOLD
    assert guest_of(partly | {"routes": 1}).state is State.BROKEN


def test_walls_that_were_weaker_than_asked_are_told_first() -> None:
    guest = guest_of(facts_with("violations", ["/usr is writable"]))
    assert guest.verdict.startswith("The champion was not started: its walls were weaker than asked. 9 of 9")
    assert (guest.state, guest.violations) == (State.BROKEN, ("/usr is writable",))


def test_nobody_having_compared_them_is_no_good_sign() -> None:
    guest = guest_of(facts_without("violations"))
    assert guest.verdict.endswith("; whether they were as asked is not told")
    assert guest.state is State.NOT_TOLD


def test_before_the_first_instruction_is_said_only_of_what_was_measured_in_place() -> None:
    assert "first instruction" not in guest_of(facts_without("gate")).verdict


def test_a_time_that_is_not_told_is_said_to_be_so() -> None:
    assert "measured at a time that is not told" in guest_of(facts_without("measured_at")).verdict


def test_the_evaluation_has_its_own_verdict() -> None:
    report = report_of(found_with(good_facts()), found_with({}, purpose=Purpose.EVALUATE))
    assert [guest.guest for guest in report.guests] == ["the champion", "the evaluation"]
    assert report.guests[1].verdict.startswith("0 of 9 walls held, 9 not told; ")


# What else is told.


def test_what_was_asked_stands_on_top() -> None:
    asked = {row.name: row.value for row in report_of().asked}
    assert asked["classification of the data"] == "confidential"
    assert (asked["walls"], asked["walls of the evaluation"]) == ("bubblewrap, tier 1", "gvisor, tier 3")
    assert asked["isolation policy"] == f"sha256:{'e' * 64}"


def test_a_run_of_an_older_home_says_so() -> None:
    older = isolation_report(replace(RUN, order=replace(RUN.order, walls=None)), (), champion=None)
    assert [row.value for row in older.asked] == ["ordered before data sets were classified"]


def test_the_host_is_told_with_what_it_does_not_show() -> None:
    told = {row.name: row.value for row in guest_of(good_facts()).host}
    assert (told["kernel"], told["cpu"], told["driver"], told["tier"]) == (
        "6.18.44",
        "a processor",
        "bubblewrap",
        "1",
    )
    assert told["image"] == "none: the appliance's own environment"
    assert (told["GPUs"], told["usage"]) == ("none granted", "cpu_ms 7")
    assert {row.value for row in guest_of({}).host} == {"not told"}
    assert "sha" in {row.name: row.value for row in guest_of(facts_with("image", "sha")).host}["image"]


@pytest.mark.parametrize(
    "remark",
    [
        "cpu_millis",
        "memory_bytes: per process only",
        "pids: per user id only",
        "user id: the guest's is the runner's own",
        "groups: an ordinary user cannot drop [27]",
        "seccomp filter: its digest was not measured",
    ],
)
def test_each_remark_of_a_measurement_says_why_it_matters(remark: str) -> None:
    (told,) = guest_of(facts_with("unenforced", [remark])).unenforced
    assert told.remark == remark
    assert told.why in WHY_IT_MATTERS.values()


def test_a_remark_that_nobody_explained_is_told_all_the_same() -> None:
    (told,) = guest_of(facts_with("unenforced", ["moon phase"])).unenforced
    assert (told.remark, told.why) == ("moon phase", NO_REASON)


def test_not_being_told_what_was_unenforced_is_not_nothing() -> None:
    (told,) = guest_of(facts_without("unenforced")).unenforced
    assert told.remark == NOT_TOLD_WHETHER


def test_what_is_not_proved_depends_on_the_driver_and_on_gpus() -> None:
    assert guest_of(good_facts()).not_proved == (SHARED_KERNEL, *NOT_PROVED)
    own = facts_with("driver", "gvisor") | {"gpus": ["GPU-1"]}
    assert guest_of(own).not_proved == (OWN_KERNEL, SHARED_GPU_DRIVER, *NOT_PROVED)


def test_the_threat_model_that_remarks_point_to_is_there() -> None:
    assert (Path(__file__).parents[2] / NO_REASON.removeprefix("see ")).exists()


# Its forms.


def test_every_wall_stands_in_a_section() -> None:
    guest = guest_of(good_facts())
    told = sections(guest)
    assert [section for section, _ in told] == list(Section)
    assert tuple(wall for _, walls in told for wall in walls) == guest.walls


@pytest.mark.parametrize("facts", [good_facts(), {}, facts_with("violations", [HOSTILE])])
def test_a_report_is_read_back_as_it_was_written(facts: dict[str, object]) -> None:
    report = report_of(found_with(facts))
    assert parse_report(plain(report)) == report


@pytest.mark.parametrize("answer", [None, [], {}, {"run_id": "run-1"}, "x"])
def test_refuses_what_is_no_report(answer: object) -> None:
    with pytest.raises(ValueError, match="IsolationReport"):
        parse_report(answer)


def test_the_page_says_what_the_report_says() -> None:
    report = report_of(found_with(facts_with("cgroup", "none")), found_with({}, purpose=Purpose.EVALUATE))
    page = isolation_page(report)
    for guest in report.guests:
        for wall in guest.walls:
            assert f"{wall.name}: {wall.state}" in page
    assert page.count("not told") > 20
    assert ATTRIBUTION in page
    assert set(MARKS) == set(State)


def test_the_page_runs_nothing_and_loads_nothing_whatever_was_measured() -> None:
    facts = facts_with("unenforced", [HOSTILE]) | {
        "driver": HOSTILE,
        "measured_at": HOSTILE,
        "violations": [HOSTILE],
        "host": {HOSTILE: HOSTILE},
        "mounts": [{"target": HOSTILE, "flags": [HOSTILE]}],
        "gpus": [{HOSTILE: HOSTILE}],
        "inside": {"write_tries": {HOSTILE: HOSTILE}, "connect_tries": {HOSTILE: HOSTILE}},
        "namespaces": {"own": {HOSTILE: False}},
    }
    report = isolation_report(
        replace(RUN, id=HOSTILE), (found_with(facts, source=HOSTILE),), champion=HOSTILE
    )
    page = isolation_page(report)
    tags = set(re.findall(r"<[/!]?([a-z0-9]+)", page))
    plain_ones = "doctype html head meta title style body section footer details summary h1 h2 h3"
    assert tags <= {*plain_ones.split(), "p", "ul", "li", "table", "tr", "th", "td"}
    assert page.count("</style>") == 1
    assert re.findall(r"<[^>]*\s(?:src|href|on[a-z]+)=", page) == []
    assert html.escape("<script>alert(1)</script>") in page


def test_control_characters_are_shown_and_not_sent() -> None:
    page = isolation_page(report_of(found_with(facts_with("driver", "a\x1b[2J\u202eb"))))
    assert "a\\x1b[2J\\u202eb" in page
    assert "\x1b" not in page
