"""The API over memory: what it answers, to whom, and the one shape of every refusal."""

import io
import json
import logging
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.domain import Run, RunState
from appliance.store import tokens
from appliance.tokens import Role
from tests.appliance.champion_cli import ATTRIBUTION

Submit = Callable[..., Run]
ORDER = {"champion": "c" * 64, "base_model": "b" * 64, "dataset": "d" * 64, "hours_to_complete": 0.5}
SHAPE = {"type", "title", "status", "detail", "code"}
MORE = {"checked", "found", "wanted", "reasons"}
OPEN_PATHS = {"/healthz", "/openapi.json"}

# Every route; a test below fails if one is missing here.
ROUTES = [
    ("GET", "/healthz"),
    ("POST", "/v1/runs"),
    ("GET", "/v1/runs"),
    ("GET", "/v1/runs/{run_id}"),
    ("POST", "/v1/runs/{run_id}/cancel"),
    ("GET", "/v1/runs/{run_id}/events"),
    ("GET", "/v1/runs/{run_id}/logs"),
    ("GET", "/v1/runs/{run_id}/logs/stream"),
    ("GET", "/v1/runs/{run_id}/metrics"),
    ("GET", "/v1/runs/{run_id}/isolation"),
    ("GET", "/v1/runs/{run_id}/isolation.html"),
    ("GET", "/v1/runs/{run_id}/evidence"),
    ("GET", "/v1/runs/{run_id}/model"),
    ("GET", "/v1/champions"),
    ("GET", "/v1/champions/diff"),
    ("GET", "/v1/champions/digest"),
    ("GET", "/v1/champions/default"),
    ("PUT", "/v1/champions/default"),
    ("GET", "/v1/champions/sync"),
    ("GET", "/v1/champions/{champion}"),
    ("GET", "/v1/champions/{champion}/inspection"),
    ("POST", "/v1/champions/{champion}/approvals"),
    ("POST", "/v1/champions/{champion}/adopt"),
    ("POST", "/v1/champions/{champion}/hold"),
    ("POST", "/v1/champions/{champion}/unhold"),
    ("POST", "/v1/champions/{champion}/revoke"),
    ("GET", "/v1/models"),
    ("GET", "/v1/datasets"),
    ("GET", "/v1/nodes"),
    ("GET", "/v1/log/checkpoint"),
]
GUARDED = [route for route in ROUTES if route[1] not in OPEN_PATHS]
# Who may ask for what of champions is tested beside their world, in test_api_champions.py.
OF_RUNS = [route for route in GUARDED if not route[1].startswith("/v1/champions/")]


def check_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    problem: dict[str, Any] = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert SHAPE <= set(problem) <= SHAPE | MORE
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["type"] == f"urn:assay:problem:{code}"
    assert problem["title"] and problem["detail"]
    return problem


def routes_of(router: Any) -> Iterator[tuple[str, str]]:
    document = router.openapi()
    for path, methods in document["paths"].items():
        for method in methods:
            yield method.upper(), path


def test_routes_are_those_tested_here(api: Any) -> None:
    assert sorted(routes_of(api.app)) == sorted(ROUTES)


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_every_route_wants_a_token(api: Any, method: str, path: str) -> None:
    answer = api.call(method, path, role=None)
    check_problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_every_route_refuses_unknown_tokens(api: Any, method: str, path: str) -> None:
    headers = {"Authorization": "Bearer assay_" + "A" * 43}
    check_problem(api.call(method, path, role=None, headers=headers), 401, "unauthorized")


@pytest.mark.parametrize("path", [p for _, p in ROUTES if "{run_id}" in p])
def test_every_run_route_tells_unknown_runs(api: Any, path: str) -> None:
    method = "POST" if path.endswith("cancel") else "GET"
    check_problem(api.call(method, path.format(run_id="run-9")), 404, "not-found")


@pytest.mark.parametrize("path", sorted({path for _, path in ROUTES}))
def test_every_path_refuses_other_methods_in_the_same_shape(api: Any, path: str) -> None:
    answer = api.call("DELETE", path)
    check_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"]


def test_unknown_path_is_a_problem(api: Any) -> None:
    check_problem(api.call("GET", "/v1/nothing"), 404, "not-found")


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
def test_open_routes_need_no_token(api: Any, path: str) -> None:
    assert api.call("GET", path, role=None).status_code == 200


def test_bug_tells_the_caller_nothing(api: Any) -> None:
    def bug() -> None:
        raise RuntimeError("secret detail")

    api.app.add_api_route("/bug", bug)

    problem = check_problem(api.call("GET", "/bug"), 500, "internal")
    assert "secret detail" not in json.dumps(problem)


def test_lost_home_is_the_operators(api: Any, tmp_path: Path) -> None:
    api.services.engine.dispose()
    for file in tmp_path.glob("assay.db*"):
        file.unlink()
    (tmp_path / "assay.db").mkdir()
    problem = check_problem(api.call("GET", "/healthz"), 503, "home")
    assert "cannot be opened" in problem["detail"]


@pytest.mark.parametrize("role", [Role.AUDITOR, Role.APPROVER])
@pytest.mark.parametrize("path", ["/v1/runs", "/v1/runs/run-001/cancel"])
def test_readers_may_not_write(api: Any, role: Role, path: str) -> None:
    problem = check_problem(api.call("POST", path, role=role, json=ORDER), 403, "forbidden")
    assert (problem["checked"], problem["found"]) == ("role", role)


# Route → who may, of a run that ada submitted; ada is the submitter, bob another one.
PEOPLE = {"ada", "bob", "admin", "approver", "auditor"}
MAY = {
    ("POST", "/v1/runs"): {"ada", "bob", "admin"},
    ("GET", "/v1/runs"): PEOPLE,
    ("GET", "/v1/runs/{run_id}"): PEOPLE,
    ("POST", "/v1/runs/{run_id}/cancel"): {"ada", "admin"},
    ("GET", "/v1/runs/{run_id}/events"): PEOPLE,
    ("GET", "/v1/runs/{run_id}/logs"): {"ada", "admin"},
    ("GET", "/v1/runs/{run_id}/logs/stream"): {"ada", "admin"},
    ("GET", "/v1/runs/{run_id}/metrics"): {"ada", "admin", "approver", "auditor"},
    ("GET", "/v1/runs/{run_id}/evidence"): {"ada", "admin", "approver", "auditor"},
    ("GET", "/v1/runs/{run_id}/model"): {"ada", "admin"},
    ("GET", "/v1/runs/{run_id}/isolation"): {"ada", "admin", "approver", "auditor"},
    ("GET", "/v1/runs/{run_id}/isolation.html"): {"ada", "admin", "approver", "auditor"},
    ("GET", "/v1/champions"): PEOPLE,
    ("GET", "/v1/models"): PEOPLE,
    ("GET", "/v1/datasets"): PEOPLE,
    ("GET", "/v1/nodes"): {"admin", "approver", "auditor"},
    ("GET", "/v1/log/checkpoint"): PEOPLE,
}


@pytest.mark.parametrize("who", sorted(PEOPLE))
@pytest.mark.parametrize(("method", "path"), OF_RUNS)
def test_who_may_do_what(api: Any, submit: Submit, tmp_path: Path, method: str, path: str, who: str) -> None:
    if path != "/v1/runs":
        submit(RunState.SUBMITTED if path.endswith("cancel") else RunState.LOGGED)
    write_evidence(tmp_path)
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "checkpoint").write_bytes(b"note")
    measured = api.services.home.jobs_dir / "run-001" / "isolation.json"
    measured.parent.mkdir(parents=True)
    measured.write_text("{}")
    with api.services.engine.begin() as conn:
        bob = tokens.create(conn, name="bob", role=Role.SUBMITTER, actor="root", now=api.clock.now())
    secrets = {**{str(role): secret for role, secret in api.secrets.items()}, "bob": bob.secret}
    secret = secrets["submitter" if who == "ada" else who]
    answer = api.call(
        method,
        path.format(run_id="run-001"),
        role=None,
        headers={"Authorization": f"Bearer {secret}"},
        json={**ORDER, "hours_to_complete": 1} if method == "POST" else None,
    )
    if who in MAY[method, path]:
        assert answer.is_success
    else:
        check_problem(answer, 403, "forbidden")


@pytest.mark.parametrize("role", [Role.AUDITOR, Role.APPROVER])
def test_a_refused_cancellation_changes_nothing(api: Any, submit: Submit, role: Role) -> None:
    submit()
    check_problem(api.call("POST", "/v1/runs/run-001/cancel", role=role), 403, "forbidden")
    run = api.call("GET", "/v1/runs/run-001").json()
    assert (run["state"], run["cancel_requested_by"]) == ("submitted", None)


def test_a_stranger_cancels_nothing(api: Any, submit: Submit) -> None:
    submit(actor="zoe")
    problem = check_problem(api.call("POST", "/v1/runs/run-001/cancel"), 403, "forbidden")
    assert (problem["checked"], problem["found"]) == ("submitter", "ada")
    assert api.call("GET", "/v1/runs/run-001").json()["state"] == "submitted"


@pytest.mark.parametrize("role", list(Role))
def test_everybody_may_read(api: Any, role: Role) -> None:
    assert api.call("GET", "/v1/runs", role=role).status_code == 200


def test_revoked_token_is_refused_at_once(api: Any) -> None:
    with api.services.engine.begin() as conn:
        (mine,) = [t for t in tokens.list_tokens(conn) if t.role is Role.AUDITOR]
        tokens.revoke(conn, mine.id, actor="root", now=api.clock.now())
    check_problem(api.call("GET", "/v1/runs", role=Role.AUDITOR), 401, "unauthorized")


def test_submitting_makes_a_run(api: Any) -> None:
    answer = api.call("POST", "/v1/runs", json=ORDER)
    run = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (201, "/v1/runs/run-001")
    assert (run["id"], run["state"], run["submitted_by"]) == ("run-001", "submitted", "ada")
    walls = run["order"].pop("walls")
    assert run["order"] == {**ORDER, "task_type": "InstructTextTask", "driver": None}
    assert (walls["classification"], walls["driver"]) == ("internal", "bubblewrap")
    assert run["submitted_at"] == "2026-11-21T02:00:00Z"
    assert api.call("GET", "/v1/runs/run-001").json() == answer.json()


def test_submitting_again_with_the_key_is_the_same_run(api: Any) -> None:
    headers = {"Idempotency-Key": "k"}
    first = api.call("POST", "/v1/runs", json=ORDER, headers=headers)
    again = api.call("POST", "/v1/runs", json=ORDER, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()


def test_key_of_another_order_is_a_conflict(api: Any) -> None:
    headers = {"Idempotency-Key": "k"}
    api.call("POST", "/v1/runs", json=ORDER, headers=headers)
    other = api.call("POST", "/v1/runs", json={**ORDER, "hours_to_complete": 2}, headers=headers)
    assert check_problem(other, 409, "conflict")["checked"] == "idempotency key"


def test_refused_order_leaves_no_run(api: Any) -> None:
    answer = api.call("POST", "/v1/runs", json={**ORDER, "dataset": "0" * 64})
    assert check_problem(answer, 422, "invalid-request")["checked"] == "dataset"
    assert api.call("GET", "/v1/runs").json() == {
        "runs": [],
        "next": None,
        "attribution": ATTRIBUTION,
    }


@pytest.mark.parametrize(
    ("change", "checked"),
    [
        ({"colour": "red"}, "body.colour"),
        ({"champion": "C" * 64}, "body.champion"),
        ({"champion": "../../etc"}, "body.champion"),
        ({"hours_to_complete": 0}, "body.hours_to_complete"),
        ({"hours_to_complete": 1e-300}, "body.hours_to_complete"),
        ({"hours_to_complete": 0.00099}, "body.hours_to_complete"),
        ({"hours_to_complete": 72.01}, "body.hours_to_complete"),
        ({"hours_to_complete": 73}, "body.hours_to_complete"),
        ({"hours_to_complete": True}, "body.hours_to_complete"),
        ({"hours_to_complete": "1"}, "body.hours_to_complete"),
        ({"task_type": "ImageTask"}, "body.task_type"),
        ({"dataset": None}, "body.dataset"),
    ],
)
def test_malformed_order_is_refused_by_place(api: Any, change: dict[str, Any], checked: str) -> None:
    answer = api.call("POST", "/v1/runs", json={**ORDER, **change})
    assert check_problem(answer, 422, "invalid-request")["checked"] == checked


@pytest.mark.parametrize("hours", [0.001, 1, 72])
def test_training_time_has_bounds(api: Any, hours: float) -> None:
    answer = api.call("POST", "/v1/runs", json={**ORDER, "hours_to_complete": hours})
    assert (answer.status_code, answer.json()["order"]["hours_to_complete"]) == (201, hours)


def test_body_that_is_no_json_is_refused(api: Any) -> None:
    headers = {"Content-Type": "application/json"}
    check_problem(api.call("POST", "/v1/runs", content=b"{", headers=headers), 422, "invalid-request")


def test_values_are_not_repeated_in_a_refusal(api: Any) -> None:
    answer = api.call("POST", "/v1/runs", json={**ORDER, "dataset": "my-password"})
    assert "my-password" not in answer.text


def test_body_over_the_cap_is_refused(api: Any) -> None:
    answer = api.call("POST", "/v1/runs", content=b" " * (1 << 20) + b"{}")
    check_problem(answer, 413, "too-large")


def test_unannounced_body_over_the_cap_is_refused(api: Any) -> None:
    async def pieces() -> Any:
        for _ in range(20):
            yield b" " * (1 << 16)

    check_problem(api.call("POST", "/v1/runs", content=pieces()), 413, "too-large")


def test_second_run_says_why_it_waits(api: Any, submit: Submit) -> None:
    submit(RunState.RUNNING)
    submit()
    run = api.call("GET", "/v1/runs/run-002").json()
    assert run["waiting"] == "1 of 1 places are taken, by run-001"


@pytest.mark.parametrize("state", list(RunState))
def test_every_state_has_a_phase_and_its_links(api: Any, submit: Submit, state: RunState) -> None:
    run = api.call("GET", f"/v1/runs/{submit(state).id}").json()
    assert run["phase"]
    assert ("evidence" in run["links"]) is (state is RunState.LOGGED)


def test_pages_link_to_the_next(api: Any, submit: Submit) -> None:
    for _ in range(5):
        submit()
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = api.call("GET", "/v1/runs", params={"limit": 2, **after}).json()
        seen += [run["id"] for run in page["runs"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert seen == ["run-005", "run-004", "run-003", "run-002", "run-001"]


@pytest.mark.parametrize("limit", ["0", "201", "x"])
def test_page_size_has_bounds(api: Any, limit: str) -> None:
    check_problem(api.call("GET", "/v1/runs", params={"limit": limit}), 422, "invalid-request")


def test_cancelling_over_http(api: Any, submit: Submit) -> None:
    submit()
    submit(RunState.RUNNING)
    assert api.call("POST", "/v1/runs/run-001/cancel").json()["state"] == "cancelled"
    running = api.call("POST", "/v1/runs/run-002/cancel").json()
    assert running["phase"] == "is being cancelled, as ada asked"


def test_signed_run_cannot_be_cancelled(api: Any, submit: Submit) -> None:
    submit(RunState.ATTESTED)
    check_problem(api.call("POST", "/v1/runs/run-001/cancel"), 409, "conflict")


def test_events_are_told_before_they_are_sequenced(api: Any, submit: Submit) -> None:
    submit()
    (event,) = api.call("GET", "/v1/runs/run-001/events").json()["events"]
    assert (event["index"], event["event"], event["actor"]) == (None, "run:submitted", "ada")


def write_log(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "jobs" / "run-001"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stdout.log").write_bytes(content)


def read_log(api: Any, offset: int = 0) -> dict[str, Any]:
    answer: dict[str, Any] = api.call("GET", "/v1/runs/run-001/logs", params={"offset": offset}).json()
    return answer


def test_log_that_is_not_there_yet_is_empty(api: Any, submit: Submit) -> None:
    submit()
    assert read_log(api) == {"text": "", "next_offset": 0, "ended": False}


def test_log_goes_on_from_its_offset(api: Any, submit: Submit, tmp_path: Path) -> None:
    submit(RunState.RUNNING)
    write_log(tmp_path, b"one\n")
    first = read_log(api)
    write_log(tmp_path, b"one\ntwo\n")
    assert read_log(api, first["next_offset"]) == {"text": "two\n", "next_offset": 8, "ended": False}


def test_log_ends_when_the_champion_is_done(api: Any, submit: Submit, tmp_path: Path) -> None:
    submit(RunState.HARVESTED)
    write_log(tmp_path, b"x" * (64 << 10) + b"end")
    first = read_log(api)
    assert (len(first["text"]), first["ended"]) == (64 << 10, False)
    assert read_log(api, first["next_offset"]) == {"text": "end", "next_offset": 65539, "ended": True}


@pytest.mark.parametrize("shift", range(4))
def test_log_pieces_split_no_character(api: Any, submit: Submit, tmp_path: Path, shift: int) -> None:
    submit(RunState.HARVESTED)
    text = "x" * shift + "🏆" * 17_000
    write_log(tmp_path, text.encode())
    first = read_log(api)
    assert first["text"] + read_log(api, first["next_offset"])["text"] == text


def test_log_offset_behind_the_end_stays_there(api: Any, submit: Submit, tmp_path: Path) -> None:
    submit(RunState.RUNNING)
    write_log(tmp_path, b"one")
    assert read_log(api, 99) == {"text": "", "next_offset": 3, "ended": False}


def test_log_bytes_reach_nobody_unescaped(api: Any, submit: Submit, tmp_path: Path) -> None:
    submit(RunState.RUNNING)
    write_log(tmp_path, b"\x1b[2J\x00\xff\xc2\x9b<script>")
    raw = api.call("GET", "/v1/runs/run-001/logs").content
    assert all(0x20 <= byte < 0x7F for byte in raw)
    assert json.loads(raw)["text"] == "\x1b[2J\x00\ufffd\x9b<script>"


def test_log_that_is_a_link_is_refused(api: Any, submit: Submit, tmp_path: Path) -> None:
    submit(RunState.RUNNING)
    write_log(tmp_path, b"")
    (tmp_path / "jobs/run-001/stdout.log").unlink()
    (tmp_path / "jobs/run-001/stdout.log").symlink_to("/etc/passwd")
    check_problem(api.call("GET", "/v1/runs/run-001/logs"), 500, "artifact")


@pytest.mark.parametrize("part", ["evidence", "model"])
@pytest.mark.parametrize("state", [s for s in RunState if s is not RunState.LOGGED])
def test_nothing_is_handed_out_before_it_is_proved(
    api: Any, submit: Submit, tmp_path: Path, part: str, state: RunState
) -> None:
    submit(state)
    write_evidence(tmp_path)
    problem = check_problem(api.call("GET", f"/v1/runs/run-001/{part}"), 409, "not-ready")
    assert (problem["found"], problem["wanted"]) == (state, "logged")


def write_evidence(tmp_path: Path) -> None:
    folder = tmp_path / "evidence" / "run-001" / "model"
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"w" * 600_000)
    (folder.parent / "MANIFEST.json").write_bytes(b"{}")


def unpack(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]


def test_evidence_is_the_whole_folder(api: Any, submit: Submit, tmp_path: Path) -> None:
    submit(RunState.LOGGED)
    write_evidence(tmp_path)
    answer = api.call("GET", "/v1/runs/run-001/evidence", role=Role.AUDITOR)
    assert unpack(answer.content) == {
        "run-001/MANIFEST.json": b"{}",
        "run-001/model/weights.safetensors": b"w" * 600_000,
    }
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_model_is_its_folder_alone(api: Any, submit: Submit, tmp_path: Path) -> None:
    submit(RunState.LOGGED)
    write_evidence(tmp_path)
    answer = api.call("GET", "/v1/runs/run-001/model")
    assert unpack(answer.content) == {"run-001-model/weights.safetensors": b"w" * 600_000}


def test_same_evidence_is_the_same_bytes(api: Any, submit: Submit, tmp_path: Path) -> None:
    submit(RunState.LOGGED)
    write_evidence(tmp_path)
    first = api.call("GET", "/v1/runs/run-001/evidence").content
    (tmp_path / "evidence/run-001/MANIFEST.json").touch()
    assert api.call("GET", "/v1/runs/run-001/evidence").content == first


def test_link_in_the_evidence_is_refused(api: Any, submit: Submit, tmp_path: Path) -> None:
    submit(RunState.LOGGED)
    write_evidence(tmp_path)
    (tmp_path / "evidence/run-001/model/passwd").symlink_to("/etc/passwd")
    check_problem(api.call("GET", "/v1/runs/run-001/evidence"), 500, "artifact")


def test_lost_evidence_is_told(api: Any, submit: Submit) -> None:
    submit(RunState.LOGGED)
    check_problem(api.call("GET", "/v1/runs/run-001/evidence"), 500, "artifact")


def test_inventory_lists_what_can_be_ordered(api: Any) -> None:
    assert api.call("GET", "/v1/models").json()["models"][0]["root_sha256"] == ORDER["base_model"]
    assert api.call("GET", "/v1/datasets").json()["datasets"][0]["facts"] == {"rows": 3}


def test_checkpoint_is_the_signed_note_verbatim(api: Any, tmp_path: Path) -> None:
    check_problem(api.call("GET", "/v1/log/checkpoint"), 409, "not-ready")
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "checkpoint").write_bytes("origin\n7\n— key\n".encode())
    assert api.call("GET", "/v1/log/checkpoint").content == "origin\n7\n— key\n".encode()


def test_openapi_names_the_token_scheme_and_the_problem(api: Any) -> None:
    document = api.call("GET", "/openapi.json", role=None).json()
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    for method, path in GUARDED:
        operation = document["paths"][path][method.lower()]
        assert operation["security"] == [{"token": []}]
        assert "application/problem+json" in operation["responses"]["default"]["content"]
        assert "HTTPValidationError" not in json.dumps(operation)


def test_secret_is_never_logged(api: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    api.call("POST", "/v1/runs", json=ORDER)
    api.call("GET", "/v1/nothing")
    api.call("GET", "/v1/runs", role=None, headers={"Authorization": "Bearer assay_canary"})
    secrets = [secret.removeprefix("assay_") for secret in api.secrets.values()]
    assert not any(secret in caplog.text for secret in [*secrets, "canary"])


def test_no_page_loads_scripts_from_elsewhere(api: Any) -> None:
    check_problem(api.call("GET", "/docs"), 404, "not-found")
