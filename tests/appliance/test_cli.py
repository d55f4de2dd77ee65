"""`assay` against a real server on a free port: what it prints where, and its exit codes."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from sqlalchemy import Engine
from typer.testing import CliRunner

from appliance.cli import make_app
from appliance.cli.output import exit_code_of, one_line, print_facts, print_table, printable
from appliance.domain import Run, RunState
from appliance.errors import ApiError, HomeError, NotFoundError, SettingsError, UnauthorizedError
from appliance.home import create_home
from appliance.store import defaults
from appliance.store.defaults import ChampionDefault
from appliance.tokens import Role
from tests.appliance.champion_cli import ATTRIBUTION
from tests.appliance.world import START

Submit = Callable[..., Run]
ORDER = ["--champion", "c" * 64, "--base-model", "b" * 64, "--dataset", "d" * 64, "--hours", "0.5"]
APP = make_app()


@pytest.fixture
def url(api: Any) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(api.app, log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def assay(api: Any, url: str, tmp_path: Path) -> Callable[..., Any]:
    """Runs `assay …` with a token file of the given role."""

    def run(*arguments: str, role: Role = Role.SUBMITTER) -> Any:
        token_file = tmp_path / "token"
        token_file.write_text(api.secrets[role] + "\n")
        return CliRunner().invoke(APP, [*arguments, "--url", url, "--token-file", str(token_file)])

    return run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return create_home(tmp_path / "home", name="test", now=datetime(2026, 11, 21, tzinfo=UTC)).root


def test_version_names_whose_champions_run() -> None:
    done = CliRunner().invoke(APP, ["version"])
    assert done.exit_code == 0
    assert done.stdout.startswith("assay 0.")
    assert "Gradients.io (https://gradients.io)" in done.stdout


def test_version_imports_nothing_heavy() -> None:
    code = "import sys; from appliance.cli import make_app; make_app(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"fastapi", "pydantic", "sqlalchemy", "uvicorn", "httpx", "cedarpy", "torch"}
    assert heavy & set(done.stdout.split()) == set()


def test_unknown_command_is_usage() -> None:
    assert CliRunner().invoke(APP, ["frobnicate"]).exit_code == 2


def test_submit_prints_the_id_alone_on_stdout(assay: Callable[..., Any]) -> None:
    done = assay("runs", "submit", *ORDER)
    assert (done.exit_code, done.stdout) == (0, "run-001\n")
    assert done.stderr == "submitted: waits for its turn\n"


def test_submit_with_a_key_twice_is_one_run(assay: Callable[..., Any]) -> None:
    key = ["--idempotency-key", "k"]
    assert assay("runs", "submit", *ORDER, *key).stdout == assay("runs", "submit", *ORDER, *key).stdout


def test_refused_order_is_one_sentence_and_exit_1(assay: Callable[..., Any]) -> None:
    done = assay("runs", "submit", *ORDER[:-3], "0" * 64, "--hours", "1")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no such dataset; wanted an imported dataset" in done.stderr


def test_auditor_may_not_submit(assay: Callable[..., Any]) -> None:
    assert assay("runs", "submit", *ORDER, role=Role.AUDITOR).exit_code == 4


@pytest.mark.parametrize("verb", ["show", "cancel", "events"])
def test_json_is_what_the_api_says(assay: Callable[..., Any], api: Any, submit: Submit, verb: str) -> None:
    submit()
    done = assay("runs", verb, "run-001", "-o", "json")
    path = "/v1/runs/run-001" + ("/events" if verb == "events" else "")
    assert json.loads(done.stdout) == api.call("GET", path).json()


def test_list_shows_newest_first_and_how_to_go_on(assay: Callable[..., Any], submit: Submit) -> None:
    for _ in range(3):
        submit()
    done = assay("runs", "list", "--limit", "2")
    *table, whose = done.stdout.splitlines()
    assert [line.split()[0] for line in table] == ["ID", "run-003", "run-002"]
    assert table[1].endswith("god-text-assay-reference")
    assert whose == f"champions by courtesy of {ATTRIBUTION}"
    assert done.stderr == "more: assay runs list --after run-002\n"


def test_show_is_readable(assay: Callable[..., Any], submit: Submit) -> None:
    submit(RunState.RUNNING)
    lines = assay("runs", "show", "run-001").stdout.splitlines()
    assert any(line.split() == ["state", "running"] for line in lines)
    assert any(line.startswith("dataset ") for line in lines)
    assert any(line.split() == ["champion_name", "god-text-assay-reference"] for line in lines)
    assert any(line.startswith("attribution ") and line.endswith(ATTRIBUTION) for line in lines)


@pytest.mark.parametrize("verb", ["list", "show"])
def test_json_of_runs_says_whose_champions_they_are(
    assay: Callable[..., Any], submit: Submit, verb: str
) -> None:
    submit()
    done = assay("runs", verb, *(["run-001"] if verb == "show" else []), "-o", "json")
    assert json.loads(done.stdout)["attribution"] == ATTRIBUTION


def test_a_champion_is_ordered_by_its_name(assay: Callable[..., Any]) -> None:
    done = assay("runs", "submit", "--champion", "god-text-assay-reference", *ORDER[2:], "-o", "json")
    run = json.loads(done.stdout)
    assert (run["order"]["champion"], run["champion_name"]) == ("c" * 64, "god-text-assay-reference")


def test_a_champion_that_is_not_here_cannot_be_ordered(assay: Callable[..., Any]) -> None:
    done = assay("runs", "submit", "--champion", "nobody", *ORDER[2:])
    assert (done.exit_code, done.stderr) == (1, "assay: no champion named nobody\n")


def test_submit_says_which_default_it_took(assay: Callable[..., Any], stocked: Engine) -> None:
    refused = assay("runs", "submit", *ORDER[2:])
    assert (refused.exit_code, "wanted the digest of an adopted champion" in refused.stderr) == (1, True)
    default = ChampionDefault(
        channel="text", task_type="InstructTextTask", champion="c" * 64, set_by="ada", set_at=START
    )
    with stocked.begin() as conn:
        defaults.put(conn, default)
    done = assay("runs", "submit", *ORDER[2:])
    assert (done.exit_code, done.stdout) == (0, "run-002\n")
    assert "the default for InstructTextTask: god-text-assay-reference  sha256:" + "c" * 64 in done.stderr
    assert ATTRIBUTION in done.stderr


def test_unknown_run_is_refused(assay: Callable[..., Any]) -> None:
    done = assay("runs", "show", "../run-9")
    assert (done.exit_code, done.stderr) == (1, "assay: no run ___run-9\n")


def test_logs_are_printed_to_the_end_with_escapes_made_visible(
    assay: Callable[..., Any], submit: Submit, tmp_path: Path
) -> None:
    submit(RunState.HARVESTED)
    (tmp_path / "jobs" / "run-001").mkdir(parents=True)
    (tmp_path / "jobs" / "run-001" / "stdout.log").write_bytes(b"\x1b[2Jloss\n" + b"y" * 100_000)
    done = assay("runs", "logs", "run-001", "-f")
    assert done.stdout == "\\x1b[2Jloss\n" + "y" * 100_000


def test_evidence_is_unpacked_into_a_new_folder(
    assay: Callable[..., Any], submit: Submit, tmp_path: Path
) -> None:
    submit(RunState.LOGGED)
    (tmp_path / "evidence/run-001/model").mkdir(parents=True)
    (tmp_path / "evidence/run-001/model/weights").write_bytes(b"w")
    done = assay("runs", "evidence", "run-001", "--into", str(tmp_path / "got"))
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'got'}\n")
    assert "assay-verify evidence" in done.stderr
    assert (tmp_path / "got/model/weights").read_bytes() == b"w"
    assert assay("runs", "model", "run-001", "--into", str(tmp_path / "model")).exit_code == 0
    assert (tmp_path / "model/weights").read_bytes() == b"w"


def test_existing_folder_is_not_written_to(assay: Callable[..., Any], submit: Submit, tmp_path: Path) -> None:
    submit(RunState.LOGGED)
    done = assay("runs", "evidence", "run-001", "--into", str(tmp_path))
    assert (done.exit_code, done.stdout) == (1, "")
    assert "exists; give a new folder" in done.stderr


def test_refused_evidence_leaves_nothing_behind(
    assay: Callable[..., Any], submit: Submit, tmp_path: Path
) -> None:
    submit(RunState.RUNNING)
    done = assay("runs", "evidence", "run-001", "--into", str(tmp_path / "new" / "got"))
    assert done.exit_code == 1
    assert "no evidence is handed out before it is proved" in done.stderr
    assert list((tmp_path / "new").iterdir()) == []


def test_unreachable_server_is_exit_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_TOKEN", "assay_" + "A" * 43)
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        done = CliRunner().invoke(APP, ["runs", "list", "--url", url])
    assert done.exit_code == 3
    assert "is `assay serve` running?" in done.stderr


@pytest.mark.parametrize(
    ("token", "said"), [("", "set ASSAY_TOKEN or give --token-file"), ("wrong", "not of the form assay_")]
)
def test_missing_or_malformed_token_is_exit_4(monkeypatch: pytest.MonkeyPatch, token: str, said: str) -> None:
    monkeypatch.setenv("ASSAY_TOKEN", token)
    done = CliRunner().invoke(APP, ["runs", "list"])
    assert (done.exit_code, said in done.stderr) == (4, True)


def test_unknown_token_is_exit_4(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_TOKEN", "assay_" + "A" * 43)
    assert CliRunner().invoke(APP, ["runs", "list", "--url", url]).exit_code == 4


def test_unreadable_token_file_is_exit_4(tmp_path: Path) -> None:
    done = CliRunner().invoke(APP, ["runs", "list", "--token-file", str(tmp_path / "none")])
    assert (done.exit_code, "cannot be read" in done.stderr) == (4, True)


def test_token_is_created_listed_without_secret_and_revoked(home: Path) -> None:
    def assay(*arguments: str) -> Any:
        return CliRunner().invoke(APP, ["tokens", *arguments, "--home", str(home)])

    made = assay("create", "ada", "--role", "submitter")
    assert made.exit_code == 0
    assert made.stdout.startswith("assay_")
    assert made.stdout.strip() not in made.stderr
    listed = assay("list", "-o", "json")
    assert made.stdout.strip() not in listed.stdout
    (token,) = json.loads(listed.stdout)["tokens"]
    assert (token["name"], token["role"], token["revoked_at"]) == ("ada", "submitter", None)
    assert assay("revoke", token["id"]).exit_code == 0
    assert json.loads(assay("list", "-o", "json").stdout)["tokens"][0]["revoked_at"] is not None
    assert assay("revoke", "unknown").exit_code == 1


@pytest.mark.parametrize("name", ["olu ", " olu", "Olu", "ol\u200bu", "ólu", "", "a" * 41])
def test_token_names_have_no_twins(home: Path, name: str) -> None:
    def assay(*arguments: str) -> Any:
        return CliRunner().invoke(APP, ["tokens", *arguments, "--home", str(home)])

    assert assay("create", "olu", "--role", "approver").exit_code == 0
    refused = assay("create", name, "--role", "submitter")
    assert refused.exit_code != 0
    assert "lower-case letters, digits and dashes" in refused.stderr
    assert len(json.loads(assay("list", "-o", "json").stdout)["tokens"]) == 1


def test_missing_home_is_exit_3(tmp_path: Path) -> None:
    done = CliRunner().invoke(APP, ["tokens", "list", "--home", str(tmp_path / "none")])
    assert (done.exit_code, "no appliance home here" in done.stderr) == (3, True)


def test_misspelt_setting_is_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_HOEM", "/x")
    done = CliRunner().invoke(APP, ["tokens", "list"])
    assert (done.exit_code, "did you mean ASSAY_HOME" in done.stderr) == (2, True)


def test_port_in_use_is_one_sentence_and_exit_1(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(APP, ["serve", "--home", str(home), "--port", port])
    assert done.exit_code == 1
    assert done.stderr.startswith(f"assay: cannot listen on 127.0.0.1 port {port}: Address already in use;")


def test_serve_answers_on_the_port_it_tells_and_stops_when_asked(home: Path) -> None:
    import httpx

    command = [sys.executable, "-m", "appliance", "serve", "--home", str(home), "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"ASSAY_URL": ""})
    assert server.stderr is not None
    told = server.stderr.readline()
    assert told.startswith("listening on http://127.0.0.1:")
    deadline = time.monotonic() + 20
    answer = httpx.get(f"{told.split()[-1]}/healthz", timeout=deadline - time.monotonic(), trust_env=False)
    server.terminate()
    server.communicate(timeout=20)
    assert answer.json()["status"] == "ok"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFoundError("x"), 1),
        (SettingsError("x"), 2),
        (HomeError("x"), 3),
        (UnauthorizedError("x"), 4),
        (ApiError("x", status=409, code="not-ready"), 1),
        (ApiError("x", status=403, code="not-admitted"), 1),
        (ApiError("x", status=503, code="home"), 3),
        (ApiError("x", status=401, code="unauthorized"), 4),
    ],
)
def test_exit_code_tells_who_must_act(error: Exception, code: int) -> None:
    assert exit_code_of(error) == code


def test_control_characters_are_made_visible() -> None:
    assert printable("a\tb\n\x1b]0;x\x07\x9b\u202e") == "a\tb\n\\x1b]0;x\\x07\\x9b\\u202e"


def test_what_is_shown_in_a_line_begins_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    forged = "held\nADOPTED by olu\r\u2028\tat once"
    assert one_line(forged) == "held\\nADOPTED by olu\\r\\u2028\\tat once"
    print_facts({"reason": forged})
    print_table(["reason"], [[forged]])
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 3
    assert not any(line.startswith("ADOPTED") for line in shown)
