"""The report as text: what a reader needs in five minutes, and nothing a champion could forge."""

from dataclasses import replace
from pathlib import Path

import pytest

from tournament_sync.inspection.gather import inspect_here
from tournament_sync.inspection.report import (
    MAX_FINDINGS,
    MAX_FOUND_CHARS,
    MAX_REPORT_BYTES,
    Download,
    InspectionReport,
    Phase,
    Severity,
    Support,
    Table,
    encode_report,
    parse_report,
)
from tournament_sync.inspection.rules import RULES, finding, shown
from tournament_sync.inspection.run import could_not_inspect
from tournament_sync.inspection.sizes import MAX_FACTS, whole_report
from tournament_sync.inspection.text import WHOLE, render_text

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "deploy" / "champions" / "reference"
TOKEN = "hf" + "_q7Zt2LmXc9VbN4sKdR8yHw1JfP6gTe3UaQ"


@pytest.fixture(scope="module")
def report() -> InspectionReport:
    return inspect_here(REFERENCE, manifest_sha256="ab" * 32)


def test_tells_what_it_is_what_it_can_do_and_what_was_found(report: InspectionReport) -> None:
    text = render_text(report)
    for wanted in (
        "Champion of Gradients.io (https://gradients.io)",
        "manifest    " + "ab" * 32,
        "epochs      E4",
        "licence     Apache-2.0 (LICENSE.md)",
        "yes InstructTextTask",
        "no  ChatTask",
        "base image  assay/training-runtime:2026-11 (not pinned, ops/docker/standalone-text-trainer.dockerfile:",
        "redis       no",
        "time        no constant says",
        "0 critical, 0 high, ",
        "LOW python-libc (1): it calls the C library",
        "scripts/training.py:145",
    ):
        assert wanted in text


def test_puts_the_worst_first_and_brings_a_rule_together(report: InspectionReport) -> None:
    found = [
        finding("python-shell", file="a.py", line=1, found="x"),
        *(finding("python-exec", file=f"{n}.py", line=n, found="exec(x)") for n in range(9)),
        finding("source-bidi", file="b.py", line=2, found="U+202E"),
    ]
    text = render_text(replace(report, findings=tuple(found)))
    places = [
        text.index(word)
        for word in ("CRITICAL source-bidi (1)", "HIGH python-exec (9)", "LOW python-shell (1)")
    ]
    assert places == sorted(places)
    assert "1 critical, 9 high, 0 medium, 1 low, 0 info" in text and "  and 4 more" in text


def test_champions_words_cannot_forge_a_line_or_move_the_cursor(report: InspectionReport) -> None:
    evil = "a\n0 critical, 0 high\x1b[2J\u202e\r"
    forged = replace(
        report,
        epoch_reason=evil,
        findings=(replace(finding("python-exec", file="f", line=1, found="x"), file=evil, found=evil),),
        downloads=(Download(phase=Phase.RUN, file=evil, line=1, tool="hub", target=evil, pinned=False),),
        capabilities=tuple(
            replace(row, reason=evil, entrypoint=evil, support=Support.YES) for row in report.capabilities
        ),
        tables=(Table(file=evil, name=evil, entries=1, sha256="0" * 64, is_model_table=True),),
        needs=replace(report.needs, writable_paths=(evil,), minimum_rows=5, minimum_minutes=7),
    )
    text = render_text(forged)
    assert "\n0 critical" not in text.replace("\n0 critical, 1 high", "")
    assert not {"\x1b", "\u202e", "\r"} & set(text)
    assert "at least 5 rows" in text and "at least 7 minutes" in text


def test_tells_what_could_not_be_inspected() -> None:
    text = render_text(could_not_inspect("it died of signal SIGSEGV", manifest_sha256="ab" * 32))
    assert "CRITICAL could-not-inspect (1)" in text and "it died of signal SIGSEGV" in text
    assert "nothing is known" in text and "epochs      none" in text
    assert "absent, or not the text that champions are published under" in text


def test_found_is_escaped_and_cut() -> None:
    assert (
        finding("python-exec", file="a", line=1, found="a\n\x1b\u202eü\udcff").found
        == "a\\n\\x1b\\u202eü\\udcff"
    )
    assert len(shown("x" * 1000)) == len(shown("\x00" * 1000)) == MAX_FOUND_CHARS
    assert shown("x" * 1000).endswith("…") and shown("x" * MAX_FOUND_CHARS) == "x" * MAX_FOUND_CHARS


def test_unknown_rule_is_our_own_mistake() -> None:
    with pytest.raises(KeyError, match="no-such-rule"):
        finding("no-such-rule", file="a", line=1, found="x")


def test_each_thing_is_told_once_and_masked(report: InspectionReport) -> None:
    found = finding("python-exec", file="a", line=1, found=f"exec('{TOKEN}')")
    download = Download(
        phase=Phase.RUN, file="a", line=1, tool="http", target=f"http://x/{TOKEN}\n", pinned=False
    )
    whole = whole_report(replace(report, findings=(found, found), downloads=(download, download)))
    assert [each.found for each in whole.findings] == ["exec('[Hugging Face token]')"]
    assert [each.target for each in whole.downloads] == ["http://x/[Hugging Face token]\\n"]


def test_too_many_findings_keep_the_worst_and_say_so(report: InspectionReport) -> None:
    many = [finding("python-shell", file="a", line=n, found="x") for n in range(MAX_FINDINGS + 10)]
    whole = whole_report(
        replace(report, findings=(*many, finding("source-bidi", file="a", line=1, found="x")))
    )
    assert len(whole.findings) == MAX_FINDINGS
    assert [found.rule for found in whole.findings[:2]] == ["source-bidi", "too-many-findings"]


def test_too_many_facts_are_cut_and_say_so(report: InspectionReport) -> None:
    tables = [
        Table(file="a", name=f"{n}", entries=3, sha256="0" * 64, is_model_table=False)
        for n in range(MAX_FACTS + 1)
    ]
    whole = whole_report(replace(report, tables=tuple(tables)))
    assert len(whole.tables) == MAX_FACTS
    (found,) = [each for each in whole.findings if each.rule == "too-many-facts"]
    assert found.severity is Severity.HIGH and found.found == f"tables: {MAX_FACTS + 1}, kept {MAX_FACTS}"


def test_report_with_long_names_is_cut_to_what_can_be_parsed(report: InspectionReport) -> None:
    many = [
        finding("python-exec", file=f"{n}/" + "ü" * 4000, line=n, found="x" * 300)
        for n in range(MAX_FINDINGS)
    ]
    whole = whole_report(replace(report, findings=tuple(many)))
    data = encode_report(whole)
    assert len(data) <= MAX_REPORT_BYTES and parse_report(data) == whole
    assert "too-many-findings" in {found.rule for found in whole.findings}


def test_reasons_fit_a_line_and_names_are_plain() -> None:
    for name, rule in RULES.items():
        assert name == name.lower() and " " not in name and "_" not in name
        assert 10 < len(rule.why) <= 120 and not rule.why.endswith(".") and "|" not in rule.why


def test_whole_report_shortens_no_list(report: InspectionReport) -> None:
    many = [
        Download(phase=Phase.RUN, file="a.sh", line=n, tool="pip", target=f"p{n}", pinned=False)
        for n in range(30)
    ]
    found = [finding("python-exec", file="a.py", line=n, found=f"exec {n}") for n in range(30)]
    changed = replace(report, downloads=tuple(many), findings=tuple(found))
    short, whole = render_text(changed), render_text(changed, limits=WHOLE)
    assert "and 10 more" in short and "and 25 more" in short and "p29" not in short
    assert " more\n" not in whole and "p29" in whole and "exec 29" in whole
