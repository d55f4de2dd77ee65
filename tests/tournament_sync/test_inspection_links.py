"""What a release says of a champion is compared with its files, and what does not fit is a finding."""

from dataclasses import replace

import pytest

from tests.tournament_sync.diff_trees import REPORT
from tournament_sync.git_objects import Link
from tournament_sync.inspection.links import with_links, with_release
from tournament_sync.inspection.report import Capability, Severity, Support


def capability(task_type: str, support: Support = Support.YES) -> Capability:
    return Capability(task_type=task_type, support=support, dockerfile="", entrypoint="", reason="")


def told(epoch: str, channel: str, **facts: object) -> dict[str, str]:
    report = replace(REPORT, **facts)  # type: ignore[arg-type]
    found = with_release(report, links=(), epoch=epoch, channel=channel).findings
    assert all(each.severity is Severity.HIGH for each in found)
    return {each.rule: each.found for each in found}


def test_an_epoch_that_the_files_do_not_fit_is_told() -> None:
    facts = {"epochs": ("E2", "E3"), "capabilities": ()}
    assert told("E4", "text", **facts) == {"contract-epoch-mismatch": "E4; it fits E2, E3"}
    assert told("E3", "text", **facts) == {}


@pytest.mark.parametrize(
    ("task_type", "channel"),
    [("InstructTextTask", "text"), ("ImageTask (sdxl)", "image"), ("EnvTask", "environment")],
)
def test_a_channel_whose_tasks_it_does_not_serve_is_told(task_type: str, channel: str) -> None:
    facts = {"epochs": (), "capabilities": (capability(task_type), capability("DpoTask", Support.NO))}
    assert told("E4", channel, **facts) == {}
    other = "image" if channel == "text" else "text"
    assert told("E4", other, **facts) == {"contract-channel-mismatch": f"{other}; it serves {channel}"}


def test_what_is_not_known_is_no_mismatch() -> None:
    assert told("E4", "text", epochs=(), capabilities=()) == {}


def test_left_out_links_are_findings_and_change_nothing_else() -> None:
    report = with_links(REPORT, (Link(name="a", target="/etc"),))
    assert [(each.rule, each.file, each.found) for each in report.findings] == [
        ("link-left-out", "a", "→ /etc")
    ]
    assert replace(report, findings=REPORT.findings) == REPORT
