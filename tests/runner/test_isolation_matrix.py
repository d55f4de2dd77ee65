"""The published isolation matrix says what the hostile probes find today, behind every driver."""

from pathlib import Path

import pytest

import runner
from runner.disclosures import disclosed
from runner.matrix import ABSENT, FAILED, OPEN, STOPPED, cell, render_matrix
from runner.runtime import locate_runtime
from runner.sandbox.drivers import DRIVERS, sandbox_of
from runner.selfcheck import CONTROL, MAY_BE_ABSENT, ProbeResult, SelfcheckReport, run_selfcheck
from runner.spec import Profile

PAGE = Path(runner.__file__).parents[1] / "docs" / "security" / "isolation-matrix.md"


def published(driver: str, profile: Profile) -> dict[str, str]:
    """Probe → word, of one column of the page."""
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    column = rows[0].index(f"{driver}, {profile}")
    return {row[0]: row[column] for row in rows[1:] if len(row) == len(rows[0])}


@pytest.mark.sandbox
@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize("driver", sorted(DRIVERS))
def test_every_probe_is_stopped_as_published(driver: str, profile: Profile, tmp_path: Path) -> None:
    report = run_selfcheck(
        sandbox_of(driver),
        runtime=locate_runtime(),
        work_dir=tmp_path / "check",
        on_progress=print,
        profile=profile,
    )
    assert {r.probe: f"{r.answer}: {r.detail}" for r in report.failures} == {}
    found = {r.probe: cell(r) for r in report.results}
    page = published(driver, profile)
    assert page.keys() == found.keys()
    differing = {probe: (page[probe], word) for probe, word in found.items() if page[probe] != word}
    # Another kernel or processor may lack what a probe tries; nothing else may differ.
    assert {p: d for p, d in differing.items() if not (p in MAY_BE_ABSENT and ABSENT in d)} == {}


@pytest.mark.parametrize("driver", sorted(DRIVERS))
def test_only_what_is_told_is_published_as_open(driver: str) -> None:
    for profile in Profile:
        told = {*disclosed(driver, profile), CONTROL}
        assert {probe for probe, word in published(driver, profile).items() if word == OPEN} <= told


def result(answer: str, *, holds: bool = True, expected: str = "blocked") -> ProbeResult:
    return ProbeResult(
        probe="net.x", answer=answer, expected=expected, why="no network", detail="", holds=holds
    )


@pytest.mark.parametrize(
    ("one", "word"),
    [
        (result("blocked"), STOPPED),
        (result("ALLOWED"), OPEN),
        (result("ALLOWED", holds=False), FAILED),
        (result("n/a"), ABSENT),
        (result("n/a", holds=False), FAILED),
        (result("missing", holds=False), FAILED),
        (result("ALLOWED", expected="ALLOWED"), OPEN),
        (None, FAILED),
    ],
)
def test_a_cell_says_no_more_than_was_found(one: ProbeResult | None, word: str) -> None:
    assert cell(one) == word


def test_a_probe_that_one_driver_did_not_run_has_failed_there() -> None:
    ran = SelfcheckReport(
        driver="a",
        profile="strict",
        passed=True,
        results=(result("blocked"),),
        bare=(),
        disclosed=(),
        isolation={},
    )
    not_run = SelfcheckReport(
        driver="b", profile="strict", passed=True, results=(), bare=(), disclosed=("x: why",), isolation={}
    )
    page = render_matrix([ran, not_run])
    assert "| net.x | no network | stopped | **FAILED** |" in page
    assert "- b, strict: x: why" in page
    assert "| b, strict |  | 0 of 0 |" in page
