"""The documents say what the code does: generated tables are current, links lead somewhere, nothing is left out."""

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from appliance import errors
from appliance.app import create_app
from appliance.cli import make_app
from appliance.errors import ApiError, ApplianceError
from appliance.evidence import README as EVIDENCE_README
from appliance.settings import settings_table
from audit.event import EventKind
from tournament_sync.tournament.api import LATEST_PATH, details_path
from tournament_sync.tournament.crosscheck import crosscheck
from tournament_sync.tournament.details import parse_details

ROOT = Path(__file__).parents[1]
ATTRIBUTION = "Gradients.io (https://gradients.io)"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("policies/*.md"),
        *ROOT.glob("attestation/*.md"),
    ]
)
GUIDES = sorted(ROOT.glob("docs/*.md"))
# Said in pieces, so that this file does not name what no file may name.
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:work|root|home/[a-z]+|opt/pyp" + r"i|Users)/")
REGISTRY_HOSTS = re.compile(
    "|".join(("pypi" + r"\.org", "python" + "hosted", "registry" + r"\.npm", "ghcr" + r"\.io"))
)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def tracked() -> tuple[Path, ...]:
    """Every file of the project, as git would take it."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert listed.returncode == 0, f"which files are the project's cannot be told: {listed.stderr}"
    return tuple(path for name in listed.stdout.split("\0") if (path := ROOT / name).is_file())


def commands(command: Any, path: tuple[str, ...] = ("assay",)) -> Iterator[str]:  # Any: typer's own click
    for name, sub in getattr(command, "commands", {}).items():
        yield from commands(sub, (*path, name))
    if not hasattr(command, "commands"):
        yield " ".join(path)


# Generated tables.


def test_every_generated_table_is_current(generator: ModuleType) -> None:
    assert [relative(path) for path in generator.stale()] == [], "run `make docs`"


def test_a_stale_table_is_noticed_and_made_anew(generator: ModuleType) -> None:
    text = "before\n<!-- generated: settings -->\nold\n<!-- end -->\nafter\n"
    assert generator.generated(text) == (
        f"before\n<!-- generated: settings -->\n{settings_table()}<!-- end -->\nafter\n"
    )


def test_every_generated_table_stands_somewhere(generator: ModuleType) -> None:
    text = "".join(page.read_text() for page in GUIDES)
    assert set(re.findall(r"<!-- generated: (\S+) -->", text)) == set(generator.GENERATORS)


def test_every_setting_is_in_the_operators_guide() -> None:
    assert settings_table() in (ROOT / "docs" / "operator.md").read_text()


@pytest.mark.parametrize("kind", EventKind)
def test_every_event_has_its_line(kind: EventKind) -> None:
    lines = (ROOT / "docs" / "events.md").read_text().splitlines()
    assert len([line for line in lines if line.startswith(f"| `{kind.value}` |")]) == 1


def test_events_that_nobody_writes_are_called_reserved(generator: ModuleType) -> None:
    sources = "".join(p.read_text() for name in ("appliance", "audit") for p in (ROOT / name).rglob("*.py"))
    unwritten = {kind for kind in EventKind if f"EventKind.{kind.name}" not in sources}
    assert {kind for kind, (_, means) in generator.EVENTS.items() if "reserved" in means} == unwritten


@pytest.mark.parametrize(
    "error",
    [
        found
        for found in vars(errors).values()
        if isinstance(found, type) and issubclass(found, ApplianceError) and found is not ApiError
    ],
)
def test_every_error_code_has_its_line(error: type[ApplianceError]) -> None:
    lines = (ROOT / "docs" / "api.md").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"| `{error.code}` |")]
    assert f"| {error.status} | {error.title} |" in line
    assert error.__name__ in (errors.__doc__ or "") or error is ApplianceError


# What people are told.


@pytest.mark.parametrize("command", sorted(commands(typer.main.get_command(make_app()))))
def test_every_command_is_mentioned(command: str) -> None:
    told = (ROOT / "docs" / "operator.md").read_text() + (ROOT / "README.md").read_text()
    assert re.search(rf"\b{re.escape(command)}\b", told), f"`{command}` stands in no guide"


def test_every_command_that_is_mentioned_exists() -> None:
    known = set(commands(typer.main.get_command(make_app())))
    nouns = {" ".join(command.split()[:2]) for command in known}
    told = "".join(page.read_text() for page in PAGES)
    for line in re.findall(r"(?:^|`)assay ([a-z]+(?: [a-z-]+)?)", told, re.MULTILINE):
        words = f"assay {line}".split()
        assert " ".join(words) in known or " ".join(words[:2]) in known | nouns, line


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{relative(page)} links to {target}"


@pytest.mark.parametrize("page", GUIDES, ids=relative)
def test_every_guide_can_be_found(page: Path) -> None:
    others = "".join(other.read_text() for other in PAGES if other != page)
    assert f"{page.name})" in others, f"nothing links to {relative(page)}"


def test_files_and_modules_that_guides_name_are_there() -> None:
    for page in [*GUIDES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        for named in re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|md|json|cedar))`", page.read_text()):
            assert (ROOT / named).exists(), f"{relative(page)} names {named}"


def test_the_tournaments_answer_in_the_operators_guide_is_read_and_agrees() -> None:
    guide = (ROOT / "docs" / "operator.md").read_text()
    (example,) = re.findall(r"```json\n(.*?)```", guide, re.DOTALL)
    details = parse_details(example.encode())
    (winner,) = details.participants
    url = str(winner.backup_repo)
    found = crosscheck(
        details,
        repository=url.rpartition("/")[2],
        commit="c" * 40,
        competed_commit=str(winner.training_commit_hash)[:8],
        origin=url,
    )
    assert (found.findings, found.facts is not None) == ((), True)
    assert f"https://HOST{details_path(details.tournament_id).replace(details.tournament_id, 'ID')}" in guide
    assert LATEST_PATH in guide


# What no file may say.


def test_no_file_names_a_registry() -> None:
    assert _files_with(REGISTRY_HOSTS) == []


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    assert _files_with(MACHINE_PATHS) == []


def _files_with(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for path in tracked():
        text = path.read_bytes().decode(errors="replace")
        found += [f"{relative(path)}: {match[0]}" for match in pattern.finditer(text)]
    return found


def test_the_patterns_find_what_they_look_for() -> None:
    assert MACHINE_PATHS.search("cd " + "/work" + "/main")
    assert REGISTRY_HOSTS.search("https://" + "pypi" + ".org/simple")


# Attribution, wherever people meet champions.


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "NOTICE", *GUIDES], ids=relative)
def test_page_attributes_champions(page: Path) -> None:
    assert ATTRIBUTION in page.read_text()


def test_command_line_attributes_champions() -> None:
    runner = CliRunner()
    for arguments in (["version"], ["--help"]):
        answer = runner.invoke(make_app(), arguments)
        assert ATTRIBUTION in " ".join(answer.output.split()), arguments


def test_api_attributes_champions() -> None:
    app: Any = create_app(services=None)  # type: ignore[arg-type]  # nothing is asked of them
    assert ATTRIBUTION in app.openapi()["info"]["description"]


def test_evidence_and_report_attribute_champions() -> None:
    assert ATTRIBUTION in " ".join(EVIDENCE_README.split())
    assert ATTRIBUTION in (ROOT / "appliance" / "report.py").read_text()


def test_the_generator_runs_as_make_runs_it() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
