"""Writes the tables of these documents that the code knows better; `make docs` runs it, a test compares.

A table stands between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import typer.main
from sqlalchemy import create_engine

from appliance import errors
from appliance.api.deps import Services
from appliance.app import create_app
from appliance.cli import make_app
from appliance.errors import ApiError, ApplianceError
from appliance.home import Home
from appliance.ports import SystemClock
from appliance.settings import settings_table
from appliance.waiting import Capacity
from audit.event import EventKind
from tournament_sync.inspection.rules import RULES as INSPECTION_RULES
from tournament_sync.tournament.rules import RULES as TOURNAMENT_RULES

DOCS: Final = Path(__file__).parent
_PLACE: Final = re.compile(r"<!-- generated: (\S+) -->\n(.*?)<!-- end -->", re.DOTALL)

# What each event says, and of what; its detail is told where it is not plain.
EVENTS: Final[Mapping[EventKind, tuple[str, str]]] = {
    EventKind.CHAMPION_SYNCED: (
        "manifest",
        "fetched, pinned, stored, proposed by the actor; `origin` is the kind of source",
    ),
    EventKind.CHAMPION_REFUSED: (
        "name",
        "a release was not taken; `reason`; told once while the reason stays the same",
    ),
    EventKind.CHAMPION_APPROVED: ("manifest", "the actor signed an approval; `approval`, `policy`"),
    EventKind.CHAMPION_ADMITTED: ("manifest", "the policy allows it; `admission` is the signed verdict"),
    EventKind.CHAMPION_DENIED: (
        "manifest",
        "the policy refuses it; `rules` are those that did, `decision` is the signed refusal",
    ),
    EventKind.CHAMPION_INSPECTED: (
        "manifest",
        "its files were inspected; `report` is the report's digest, the rest counts its findings",
    ),
    EventKind.CHAMPION_CROSSCHECKED: (
        "manifest",
        "compared with what the tournament's API says; `source` is where that is from, `details` its digest, `findings`"
        " a count",
    ),
    EventKind.CHAMPION_HELD: ("manifest", "nothing new starts with it; `reason`, `decision`"),
    EventKind.CHAMPION_RELEASED: ("manifest", "its hold is over; `reason`, `decision`"),
    EventKind.CHAMPION_REVOKED: (
        "manifest",
        "never to run again, nor its `tree` under another name; `reason`, `decision`, and how many runs it ended",
    ),
    EventKind.CHAMPION_DEFAULT: (
        "manifest",
        "orders of `task` that name no champion get it, in `channel`",
    ),
    EventKind.IMAGE_UNPACKED: (
        "image manifest",
        "an image that the release of `champion` pins for `dockerfile` can be started in; `archive` is what it came"
        " in, `tree` the digest of the list of its files",
    ),
    EventKind.IMAGE_REMOVED: ("image manifest", "nothing needed it any more, and its files are gone"),
    EventKind.SOURCE_ADDED: (
        "location",
        "its root is kept from now on, `root` is that root's digest; synced every `interval_s`, 0: by hand only",
    ),
    EventKind.SOURCE_REMOVED: ("location", "synced no more"),
    EventKind.SOURCE_BREAK_GLASS: (
        "location",
        "an expired feed was made to count as if it were `as_of`; `reason`; somebody reviews this",
    ),
    EventKind.PERSON_TRUSTED: ("person", "a key was trusted for a role"),
    EventKind.MODEL_IMPORTED: ("manifest", "a base model was taken into the store"),
    EventKind.DATASET_IMPORTED: (
        "manifest",
        "rows were checked, split and taken into the store, or classified more strictly; `classification`",
    ),
    EventKind.TOKEN_CREATED: ("token id", "an API token was made; never the secret"),
    EventKind.TOKEN_REVOKED: ("token id", "an API token counts no more"),
    EventKind.RUN_SUBMITTED: (
        "run",
        "ordered by the actor; the whole order is the detail, with the walls that policy chose for it: `driver`,"
        " `evaluation_driver`, `classification`, `isolation_demand`, `isolation_policy`",
    ),
    EventKind.RUN_PLACED: (
        "run",
        "there is room; `job` is its name, `python` and `packages` what it will see, `driver` and"
        " `evaluation_driver` what puts up its walls",
    ),
    EventKind.RUN_STARTED: ("run", "walls measured, champion released"),
    EventKind.RUN_HARVESTED: ("run", "a trained model was taken out; `model`, `verdict`"),
    EventKind.RUN_EVALUATED: ("run", "losses on held-out rows; `losses`, `evaluator`"),
    EventKind.RUN_ATTESTED: ("run", "all claims were signed; `claims` is their number"),
    EventKind.CLAIM_SIGNED: ("run", "one claim; `bundle` is its digest, `kind` what it claims"),
    EventKind.RUN_LOGGED: ("run", "every claim is proved to be in the log; evidence can be downloaded"),
    EventKind.RUN_FAILED: ("run", "ended without a model; `reason`"),
    EventKind.RUN_CANCEL_REQUESTED: ("run", "the actor asked for its end while a job was there"),
    EventKind.RUN_CANCELLED: ("run", "ended by the actor's wish; `reason`"),
    EventKind.RUN_REMNANT_LEFT: (
        "run",
        "its sandbox could not be cleaned up whole; `job`, `remnants` says what is left: look at that machine",
    ),
}


def events() -> str:
    """The vocabulary of the audit log."""
    rows = [(f"`{kind.value}`", *EVENTS[kind]) for kind in EventKind]
    return _table(("Event", "Subject", "Means"), rows)


def api_errors() -> str:
    """The problems that the API answers with, by status."""
    known = sorted(_error_classes(), key=lambda error: (error.status, error.code))
    rows = [(f"`{e.code}`", str(e.status), e.title, _first_line(e)) for e in known]
    return _table(("Code", "Status", "Title", "When"), rows)


def api_routes() -> str:
    """The paths of the API as its own description has them."""
    rows = []
    for path, methods in _openapi()["paths"].items():
        for method, about in methods.items():
            summary = about["description"].splitlines()[0]
            rows.append((f"`{method.upper()} {path}`", summary))
    return _table(("Request", "Answer"), rows)


def commands() -> str:
    """Every command of `assay` and what it does."""
    rows = [
        (f"`{name}`", summary) for name, summary in _commands(typer.main.get_command(make_app()), "assay")
    ]
    return _table(("Command", "Does"), rows)


def findings() -> str:
    """Every rule of inspection and comparison."""
    rules = {name: (rule.severity, rule.why) for name, rule in INSPECTION_RULES.items()} | dict(
        TOURNAMENT_RULES
    )
    rows = [f"| `{name}` | {severity} | {why} |" for name, (severity, why) in sorted(rules.items())]
    return "\n".join(["| Rule | Severity | Why it matters |", "|---|---|---|", *rows, ""])


GENERATORS: Final[Mapping[str, Callable[[], str]]] = {
    "findings": findings,
    "settings": settings_table,
    "commands": commands,
    "events": events,
    "api-errors": api_errors,
    "api-routes": api_routes,
}


def generated(text: str) -> str:
    """`text` with every table in it made anew. Raises KeyError for a table that nobody makes."""
    return _PLACE.sub(
        lambda found: f"<!-- generated: {found[1]} -->\n{GENERATORS[found[1]]()}<!-- end -->", text
    )


def stale() -> Iterator[Path]:
    """The documents that are not what the code says."""
    return (path for path in sorted(DOCS.glob("*.md")) if generated(path.read_text()) != path.read_text())


# Any: typer's own click, which it does not export.
def _commands(command: Any, name: str) -> Iterator[tuple[str, str]]:
    if not hasattr(command, "commands"):
        yield name, command.help.splitlines()[0]
        return
    for noun, below in command.commands.items():
        yield from _commands(below, f"{name} {noun}")


def _error_classes() -> Iterator[type[ApplianceError]]:
    for found in vars(errors).values():
        # ApiError repeats to a client what the API answered; it has no code of its own.
        if isinstance(found, type) and issubclass(found, ApplianceError) and found is not ApiError:
            yield found


def _first_line(error: type[ApplianceError]) -> str:
    if error is ApplianceError:
        return "A bug or a failure that no other code tells; the server's log has the details."
    return (error.__doc__ or "").splitlines()[0]


# FastAPI's own type: plain JSON.
def _openapi() -> dict[str, dict[str, dict[str, dict[str, str]]]]:
    services = Services(
        engine=create_engine("sqlite://"),
        home=Home(DOCS),
        capacity=Capacity(max_parallel_runs=1, needed_free_bytes=0),
        clock=SystemClock(),
        new_run_id=str,
    )
    return create_app(services).openapi()


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    for document in list(stale()):
        document.write_text(generated(document.read_text()))
        sys.stderr.write(f"{document.name} written\n")
