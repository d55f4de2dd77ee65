"""The isolation matrix: what every driver did with every hostile probe, as one Markdown table.

What is covered: reports of the self-check, cell by cell, nothing smoothed: a check that failed says so.
What is not covered: how the probes work (probes.py) and why each must be stopped (selfcheck.py).
"""

from collections.abc import Sequence

from runner.selfcheck import ProbeResult, SelfcheckReport

FAILED, OPEN, ABSENT, STOPPED = "**FAILED**", "open", "absent", "stopped"


def cell(result: ProbeResult | None) -> str:
    """One word for one answer; a probe that did not run counts as failed."""
    if result is None or not result.holds:
        return FAILED
    if result.expected == "ALLOWED":
        return OPEN
    return {"ALLOWED": OPEN, "n/a": ABSENT}.get(result.answer, STOPPED)


def render_matrix(reports: Sequence[SelfcheckReport]) -> str:
    """A row per probe, a column per driver and profile, then why what is open is no hole."""
    columns = [{r.probe: r for r in report.results} for report in reports]
    probes = list(dict.fromkeys(probe for column in columns for probe in column))
    heads = [f"{report.driver}, {report.profile}" for report in reports]
    lines = [f"| probe | must be stopped because | {' | '.join(heads)} |", f"|---|---|{'---|' * len(heads)}"]
    for probe in probes:
        results = [column.get(probe) for column in columns]
        lines.append(f"| {probe} | {_reason(results)} | {' | '.join(cell(r) for r in results)} |")
    lines += ["", "What is open or answered otherwise, and why that is no hole:", ""]
    for report, head in zip(reports, heads, strict=True):
        lines += [f"- {head}: {sentence}" for sentence in report.disclosed]
    versions = [
        f"{head}: {r.isolation.get('driver_version', '')}" for head, r in zip(heads, reports, strict=True)
    ]
    held = [f"{sum(r.holds for r in report.results)} of {len(report.results)}" for report in reports]
    lines += ["", "| column | version | checks that hold |", "|---|---|---|"]
    lines += [
        f"| {v.partition(': ')[0]} | {v.partition(': ')[2]} | {h} |"
        for v, h in zip(versions, held, strict=True)
    ]
    return "\n".join(lines) + "\n"


def _reason(results: Sequence[ProbeResult | None]) -> str:
    """Why the probe must be stopped, from a column that has no reason of its own for leaving it open."""
    known = [result for result in results if result is not None]
    plain = [result.why for result in known if result.answer != "ALLOWED"]
    return (plain or [result.why for result in known])[0]
