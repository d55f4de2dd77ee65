"""The screen of a compliance officer as one HTML page that runs nothing and loads nothing.

Every word of a claim is escaped. Champions are the work of Gradients.io's participants (https://gradients.io).
"""

from collections.abc import Iterable, Iterator
from html import escape
from typing import Final

from appliance.isolation_report import GuestWalls, IsolationReport, sections
from appliance.isolation_walls import State, Wall
from appliance.measured_facts import Row

# Whatever shows the page alone runs nothing and loads nothing, even if a word of it got out of its place.
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
MARKS: Final = {State.HELD: "✓", State.PARTLY: "◐", State.NOT_TOLD: "?", State.BROKEN: "✗"}
_CLASSES: Final = {
    State.HELD: "held",
    State.PARTLY: "partly",
    State.NOT_TOLD: "untold",
    State.BROKEN: "broken",
}
_STYLE: Final = """
body{font:14px/1.4 system-ui,sans-serif;max-width:70rem;margin:1rem auto;padding:0 1rem;color:#1b1b1b}
h1{font-size:1.2rem;margin:0}h2{font-size:1.05rem;margin:1rem 0 .3rem}h3{font-size:.9rem;margin:.6rem 0 .2rem}
p,ul{margin:.2rem 0}ul{padding-left:1.2rem}table{border-collapse:collapse;width:100%}
td,th{text-align:left;vertical-align:top;padding:.15rem .5rem .15rem 0;border-bottom:1px solid #ddd;
overflow-wrap:anywhere}
th{font-weight:600;width:13rem}.verdict{font-weight:600;padding:.4rem .6rem;border-left:.4rem solid}
.held{border-color:#1a7f37}.partly{border-color:#9a6700}.untold{border-color:#57606a}.broken{border-color:#cf222e}
td.mark{width:1.5rem;border-left:.3rem solid;padding-left:.4rem}summary{cursor:pointer}
footer{margin-top:1rem;color:#57606a}
@media(prefers-color-scheme:dark){body{background:#16181c;color:#e6e6e6}td,th{border-color:#333}}
"""


def isolation_page(report: IsolationReport) -> str:
    """`report` as a page."""
    return "".join(_parts(report))


def _parts(report: IsolationReport) -> Iterator[str]:
    title = f"Isolation of {report.run_id}"
    yield "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
    yield f"<meta name=viewport content='width=device-width'><title>{escape(title)}</title>"
    yield f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
    champion = report.champion or "a champion whose name is not told"
    yield f"<p>{escape(champion)}, the work of {escape(report.attribution)}</p>"
    yield _table(report.asked)
    for guest in report.guests:
        yield from _guest(guest)
    yield f"<footer>Champions are the work of {escape(report.attribution)}.</footer></body></html>\n"


def _guest(guest: GuestWalls) -> Iterator[str]:
    yield f"<section><h2>{escape(guest.guest.capitalize())}</h2>"
    yield f"<p class='verdict {_CLASSES[guest.state]}'>{escape(guest.verdict)}</p>"
    yield f"<p>{escape(guest.source)}</p>"
    yield from _list("Why it was not started", guest.violations)
    for section, walls in sections(guest):
        yield f"<h3>{escape(section)}</h3><table>"
        yield from map(_wall, walls)
        yield "</table><details><summary>facts</summary>"
        yield _table(row for wall in walls for row in wall.rows)
        yield "</details>"
    yield "<h3>Host</h3>"
    yield _table(guest.host)
    remarks = tuple(f"{remark.remark}: {remark.why}" for remark in guest.unenforced)
    yield from _list("What was not enforced, and why that matters", remarks or ("nothing",))
    yield from _list("What this does not prove", guest.not_proved)
    yield "</section>"


def _wall(wall: Wall) -> str:
    mark = f"<td class='mark {_CLASSES[wall.state]}'>{MARKS[wall.state]}</td>"
    return (
        f"<tr>{mark}<th>{escape(wall.name)}: {escape(wall.state)}</th><td>{escape(wall.sentence)}</td></tr>"
    )


def _table(rows: Iterable[Row]) -> str:
    lines = (f"<tr><th>{escape(row.name)}</th><td>{escape(row.value)}</td></tr>" for row in rows)
    return f"<table>{''.join(lines)}</table>"


def _list(title: str, lines: tuple[str, ...]) -> Iterator[str]:
    if lines:
        yield f"<h3>{escape(title)}</h3><ul>"
        yield from (f"<li>{escape(line)}</li>" for line in lines)
        yield "</ul>"
