"""`assay runs isolation`: the one screen that says what the walls around a run were."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.fetching import RunArgument
from appliance.cli.options import DEFAULT_URL, OutputOption, TokenFileOption, UrlOption, open_client
from appliance.cli.output import Format, one_line, print_json, talk, write_new

if TYPE_CHECKING:
    from rich.console import Console

    from appliance.isolation_report import GuestWalls, IsolationReport
    from appliance.measured_facts import Row

WIDE_CHARS = 1000


def register(runs: typer.Typer) -> None:
    """Add the command to the noun `runs`."""
    runs.command("isolation")(isolation)


def isolation(
    run_id: RunArgument,
    facts: Annotated[bool, typer.Option("--facts", help="Show the facts behind each wall, too.")] = False,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it as an HTML page to a new file.")
    ] = None,
    url: UrlOption = DEFAULT_URL,
    token_file: TokenFileOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Say which walls held around a run, what was not enforced, and what that does not prove."""
    from appliance.errors import UnreachableError
    from appliance.isolation_page import isolation_page
    from appliance.isolation_report import parse_report

    answer = open_client(url, token_file).isolation(run_id)
    if output is Format.JSON and page is None:
        print_json(answer)
        return
    try:
        report = parse_report(answer)
    except ValueError as error:
        raise UnreachableError(f"{url} answered something that is no isolation report") from error
    if page is not None:
        write_new(page, isolation_page(report).encode())
        talk(f"written to {page}")
        if output is Format.JSON:
            print_json(answer)
        return
    _print(report, with_facts=facts)


def _print(report: "IsolationReport", *, with_facts: bool) -> None:
    from rich.console import Console

    # Words of a claim are no markup: nothing in them is coloured, linked or guessed at.
    # Into a file or pipe every fact goes on one line: half a digest compares with nothing.
    console = Console(
        markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else WIDE_CHARS
    )
    champion = report.champion or "a champion whose name is not told"
    console.print(one_line(f"{report.run_id}: {champion}, the work of {report.attribution}"))
    _print_rows(console, report.asked)
    for guest in report.guests:
        _print_guest(console, guest, with_facts=with_facts)


def _print_guest(console: "Console", guest: "GuestWalls", *, with_facts: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from appliance.isolation_page import MARKS
    from appliance.isolation_report import sections
    from appliance.isolation_walls import State

    colours = {State.HELD: "green", State.PARTLY: "yellow", State.NOT_TOLD: "yellow", State.BROKEN: "red"}
    console.print()
    verdict = one_line(f"{guest.guest.upper()}: {guest.verdict}")
    console.print(Text(verdict, style=f"bold {colours[guest.state]}"))
    console.print(one_line(f"source: {guest.source}"))
    _print_lines(console, "not started because", guest.violations)
    for section, walls in sections(guest):
        table = Table(box=None, show_header=False, padding=(0, 1))
        for wall in walls:
            mark = Text(MARKS[wall.state], style=colours[wall.state])
            table.add_row(mark, Text(f"{wall.name}: {wall.state}"), Text(one_line(wall.sentence)))
        console.print(section.value)
        console.print(table)
        if with_facts:
            _print_rows(console, (row for wall in walls for row in wall.rows))
    console.print("Host")
    _print_rows(console, guest.host)
    remarks = tuple(f"{remark.remark}: {remark.why}" for remark in guest.unenforced)
    _print_lines(console, "What was not enforced, and why that matters", remarks or ("nothing",))
    _print_lines(console, "What this does not prove", guest.not_proved)


def _print_rows(console: "Console", rows: "Iterable[Row]") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column()
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(Text(one_line(row.name)), Text(one_line(row.value)))
    console.print(table)


def _print_lines(console: "Console", title: str, lines: tuple[str, ...]) -> None:
    if lines:
        console.print(title)
    for line in lines:
        console.print(one_line(f"  {line}"))
