"""The screen in a terminal, and what an operator types to choose walls."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from typer.testing import CliRunner

from appliance.cli import make_app
from appliance.domain import Run
from appliance.isolation_page import isolation_page
from appliance.isolation_report import parse_report
from appliance.tokens import Role
from tests.appliance.champion_cli import ATTRIBUTION, make_site
from tests.appliance.isolation_facts import facts_with, good_facts

Submit = Callable[..., Run]
Assay = Callable[..., Any]
APP = make_app()
ORDER = ["--champion", "c" * 64, "--base-model", "b" * 64, "--dataset", "d" * 64, "--hours", "0.5"]


@pytest.fixture
def assay(api: Any, tmp_path: Path) -> Iterator[Assay]:
    """Runs `assay …` against a real server on a free port, as the submitter."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(api.app, log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    token_file = tmp_path / "token"
    token_file.write_text(api.secrets[Role.SUBMITTER])
    at = ["--url", f"http://127.0.0.1:{listener.getsockname()[1]}", "--token-file", str(token_file)]
    try:
        yield lambda *arguments: CliRunner().invoke(APP, [*arguments, *at])
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def measure(api: Any, submit: Submit) -> Callable[[dict[str, Any]], None]:
    """Makes a run whose champion trains behind walls of which these facts were measured."""

    def write(facts: dict[str, Any]) -> None:
        folder = api.services.home.jobs_dir / submit().id
        folder.mkdir(parents=True)
        (folder / "isolation.json").write_text(json.dumps(facts))

    return write


# The screen.


def test_the_screen_says_verdict_walls_gaps_and_what_is_not_proved(assay: Assay, measure: Any) -> None:
    measure(facts_with("cgroup", "none") | {"unenforced": ["pids: per user id only"]})
    done = assay("runs", "isolation", "run-001")
    assert (done.exit_code, done.stderr) == (0, "")
    told = " ".join(done.stdout.split())
    for sentence in (
        ATTRIBUTION,
        "THE CHAMPION: 7 of 9 walls held, 2 not told",
        "nothing of it is signed yet",
        "Limits that bite: not told",
        "pids: per user id only: it could start more processes",
        "What this does not prove",
        "shared one kernel",
    ):
        assert sentence in told


def test_it_is_one_screen_and_facts_are_asked_for(assay: Assay, measure: Any) -> None:
    measure(good_facts())
    short = assay("runs", "isolation", "run-001").stdout
    long = assay("runs", "isolation", "run-001", "--facts").stdout
    assert len(short.splitlines()) <= 66
    assert "169.254.169.254 refused" not in short
    assert "169.254.169.254 refused" in " ".join(long.split())


def test_words_of_a_measurement_are_no_markup_and_no_control_sequence(assay: Assay, measure: Any) -> None:
    measure(facts_with("unenforced", ["[red]pids[/red]\x1b[2J :skull: \nTHE CHAMPION: 9 of 9"]))
    told = assay("runs", "isolation", "run-001").stdout
    assert "[red]pids[/red]\\x1b[2J :skull:" in told
    assert not any(line.startswith("THE CHAMPION: 9 of 9 walls held, ") for line in told.splitlines())
    assert "\x1b" not in told


def test_json_is_what_the_api_says(assay: Assay, api: Any, measure: Any) -> None:
    measure(good_facts())
    done = assay("runs", "isolation", "run-001", "-o", "json")
    assert json.loads(done.stdout) == api.call("GET", "/v1/runs/run-001/isolation").json()


def test_the_page_is_written_to_a_new_file_and_over_none(assay: Assay, measure: Any, tmp_path: Path) -> None:
    measure(good_facts())
    page = tmp_path / "walls.html"
    done = assay("runs", "isolation", "run-001", "--page", str(page))
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", f"written to {page}\n")
    report = parse_report(json.loads(assay("runs", "isolation", "run-001", "-o", "json").stdout))
    assert page.read_text() == isolation_page(report)
    again = assay("runs", "isolation", "run-001", "--page", str(page))
    assert again.exit_code == 1
    assert "give a new file" in again.stderr


def test_a_run_that_was_not_measured_yet_is_refused_in_one_sentence(assay: Assay, submit: Submit) -> None:
    submit()
    done = assay("runs", "isolation", "run-001")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no walls of it were measured yet" in done.stderr


# The choice.


def test_a_driver_is_ordered_and_shown(assay: Assay) -> None:
    assert assay("runs", "submit", *ORDER, "--driver", "gvisor").exit_code == 0
    shown = assay("runs", "show", "run-001").stdout.splitlines()
    told = dict(line.split(maxsplit=1) for line in shown)
    assert (told["driver"], told["walls.driver"]) == ("gvisor", "gvisor")
    assert told["walls.classification"] == "internal"


def test_a_driver_that_is_none_is_refused_with_those_that_are(assay: Assay) -> None:
    done = assay("runs", "submit", *ORDER, "--driver", "native")
    assert done.exit_code == 1
    assert "driver is 'native', which is no driver; internal data needs tier 1" in done.stderr
    assert "bubblewrap or oci or gvisor" in done.stderr


def test_a_data_set_is_classified_when_it_is_imported(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"instruct": "{n}?", "output": "{n}"}}\n' for n in range(222)))
    strict = ["--classification", "restricted"]
    taken = site.assay("datasets", "import", str(rows), "--as", "ada", *strict)
    assert taken.exit_code == 0
    again = site.assay("datasets", "import", str(rows), "--as", "ada", "--classification", "public")
    assert again.exit_code == 1
    assert "registered as restricted and cannot become public" in again.stderr
    wrong = site.assay("datasets", "import", str(rows), "--as", "ada", "--classification", "secret")
    assert wrong.exit_code == 2
