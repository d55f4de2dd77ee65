"""Champions over the API: what is told to everybody, what only an admin changes, and that four eyes stay four eyes."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import BoundedSemaphore
from typing import Any

import pytest
from fastapi.testclient import TestClient

from appliance import adoption
from appliance.api.deps import Services
from appliance.api.routes import champions as routes
from appliance.app import create_app
from appliance.assembly import Appliance
from appliance.schedule import add_source
from appliance.store import champions, inspections, tokens
from appliance.store.champions import ChampionRow
from appliance.store.engine import reading
from appliance.tokens import Role
from appliance.waiting import Capacity
from attestation.bundle import sign_statement
from audit.event import EventKind
from audit.store import events_of
from tests.appliance.world import APPROVER, PROPOSER, START, World, finding, propose
from tournament_sync.inspection.report import Severity, encode_report, parse_report

ATTRIBUTION = "Gradients.io (https://gradients.io)"
SIGNED = {"reason": "reads the evaluator's rows"}
Call = Callable[..., Any]  # of the test client's own responses


@contextmanager
def serve(appliance: Appliance, *, with_keys: bool = True) -> Iterator[Call]:
    """Calls of the API as admin, unless another role is given; the admin's token is called `a-admin`."""
    services = Services(
        engine=appliance.engine,
        home=appliance.home,
        capacity=Capacity(max_parallel_runs=1, needed_free_bytes=0),
        clock=appliance.clock,
        new_run_id=lambda: "run-1",
        appliance=appliance if with_keys else None,
    )
    with appliance.engine.begin() as conn:
        secrets = {
            role: tokens.create(conn, name=f"a-{role}", role=role, actor="root", now=START).secret
            for role in Role
        }
    with TestClient(create_app(services), raise_server_exceptions=False) as client:

        def call(method: str, path: str, *, role: Role = Role.ADMIN, **request: Any) -> Any:
            headers = {"Authorization": f"Bearer {secrets[role]}"}
            return client.request(method, f"/v1/champions{path}", headers=headers, **request)

        yield call


@pytest.fixture
def call(appliance: Appliance) -> Iterator[Call]:
    with serve(appliance) as opened:
        yield opened


def approval(
    appliance: Appliance, champion: ChampionRow, *, approver: str = APPROVER, **changes: str
) -> bytes:
    said = {
        "printed_name": "Olu Approver",
        "reason": "read whole",
        "policy_sha256": appliance.admission_policy().sha256,
        **changes,
    }
    statement = adoption.approval_statement(champion, approver=approver, now=appliance.clock.now(), **said)
    return sign_statement(statement, appliance.home.person_signer(APPROVER))


def adopted(appliance: Appliance, champion: ChampionRow) -> ChampionRow:
    adoption.approve(appliance, champion, approver=APPROVER, printed_name="Olu Approver", reason="read whole")
    assert adoption.adopt(appliance, champion, actor=PROPOSER).allowed
    return champion


def check_problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    problem: dict[str, Any] = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    return problem


# Reading.


def test_lists_champions_with_how_they_stand_and_whose_they_are(
    appliance: Appliance, champion: ChampionRow, call: Call
) -> None:
    page = call("GET", "").json()
    assert page["attribution"] == ATTRIBUTION
    (line,) = page["champions"]
    assert (line["name"], line["status"], line["admitted"], line["attribution"]) == (
        champion.name,
        "proposed",
        False,
        ATTRIBUTION,
    )
    adopted(appliance, champion)
    (line,) = call("GET", "").json()["champions"]
    assert (line["status"], line["admitted"], line["approved_by"]) == ("adopted", True, [APPROVER])


def test_lists_only_those_of_a_channel_or_a_status(
    appliance: Appliance, champion: ChampionRow, call: Call
) -> None:
    adopted(appliance, propose(appliance, name="second", note="other"))

    def names(query: str) -> list[str]:
        return [line["name"] for line in call("GET", query).json()["champions"]]

    assert names("?status=adopted") == ["second"]
    assert names("?status=proposed") == [champion.name]
    assert names("?channel=image") == []
    assert set(names("?channel=text")) == {champion.name, "second"}


@pytest.mark.parametrize(
    "query", ["?status=loved", "?channel=chess", "?limit=0", "?limit=201", "?after=nobody"]
)
def test_refuses_lists_that_there_are_not(champion: ChampionRow, call: Call, query: str) -> None:
    check_problem(call("GET", query), 422, "invalid-request")


def test_pages_link_to_the_next(appliance: Appliance, champion: ChampionRow, call: Call) -> None:
    for number in range(2):
        propose(appliance, name=f"more-{number}", note=str(number))
    seen, after = [], ""
    for _ in range(3):
        page = call("GET", f"?limit=1{after}").json()
        seen += [line["name"] for line in page["champions"]]
        after = f"&after={page['next']}"
    assert page["next"] is None
    assert sorted(seen) == ["god-text-reference", "more-0", "more-1"]


@pytest.mark.parametrize("by", ["name", "manifest_sha256"])
def test_shows_one_champion_with_everything_about_it(
    appliance: Appliance, champion: ChampionRow, call: Call, by: str
) -> None:
    adopted(appliance, champion)
    shown = call("GET", f"/{getattr(champion, by)}").json()
    assert shown["champion"]["manifest_sha256"] == champion.manifest_sha256
    assert shown["attribution"] == ATTRIBUTION
    assert (shown["came_by"], shown["came_from"]) == ("feed", "feed")
    assert (shown["release"]["publisher"], shown["release"]["origin"]) == ("feed", "tree")
    (said,) = shown["approvals"]
    assert (said["approver"], said["printed_name"], said["reason"]) == (
        APPROVER,
        "Olu Approver",
        "read whole",
    )
    assert shown["inspected"]["counts"] == {"critical": 0, "high": 0, "medium": 0, "low": 0, "info": 0}
    assert shown["inspected"]["capabilities"][0]["task_type"] == "InstructTextTask"


def test_release_by_a_stranger_is_not_said_to_be_a_publishers(
    appliance: Appliance, champion: ChampionRow, call: Call
) -> None:
    # Re-signed by somebody who is trusted, but for approvals only.
    stranger = propose(appliance, name="strange", note="other", signer=APPROVER)
    assert call("GET", f"/{stranger.name}").json()["release"]["publisher"] is None


def test_release_of_another_champion_is_not_said_to_be_a_publishers(
    appliance: Appliance, champion: ChampionRow, call: Call
) -> None:
    with appliance.engine.begin() as conn:
        champions.add(conn, replace(champion, manifest_sha256="9" * 64, name="swapped"))
    assert call("GET", "/swapped").json()["release"]["publisher"] is None


def test_release_that_cannot_be_read_is_told_as_none(
    appliance: Appliance, champion: ChampionRow, call: Call
) -> None:
    broken = replace(champion, manifest_sha256="9" * 64, name="broken", release_bundle=b"release")
    with appliance.engine.begin() as conn:
        champions.add(conn, broken)
    shown = call("GET", "/broken").json()
    assert (shown["release"], shown["inspected"]) == (None, None)


@pytest.mark.parametrize(("name", "status"), [("a" * 64, 404), ("g" * 64, 200), ("a" * 63, 200)])
def test_a_name_that_looks_like_a_digest_answers_for_none(
    appliance: Appliance, champion: ChampionRow, call: Call, name: str, status: int
) -> None:
    with appliance.engine.begin() as conn:
        champions.add(conn, replace(champion, manifest_sha256="9" * 64, name=name))
    assert call("GET", f"/{name}").status_code == status


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nobody"),
        ("GET", "/nobody/inspection"),
        ("GET", f"/{'0' * 64}"),
        ("GET", "/diff?from=nobody&to=nobody"),
        ("POST", "/nobody/adopt"),
        ("POST", "/nobody/hold"),
        ("POST", "/nobody/unhold"),
        ("POST", "/nobody/revoke"),
        ("POST", "/nobody/approvals"),
        ("PUT", "/default"),
    ],
)
def test_unknown_champions_are_told(champion: ChampionRow, call: Call, method: str, path: str) -> None:
    default = {"channel": "text", "task_type": "InstructTextTask", "champion": "nobody"}
    body = {"json": default if method == "PUT" else SIGNED} if method != "GET" else {}
    check_problem(call(method, path, **body), 404, "not-found")


def test_inspection_is_the_kept_report_byte_for_byte(
    appliance: Appliance, champion: ChampionRow, call: Call
) -> None:
    answer = call("GET", f"/{champion.name}/inspection")
    with reading(appliance.engine) as conn:
        kept = inspections.newest_inspection(conn, champion.manifest_sha256)
    assert kept is not None
    assert answer.content == kept.report == encode_report(parse_report(answer.content))
    shown = call("GET", f"/{champion.name}").json()
    assert shown["inspected"]["sha256"] == hashlib.sha256(answer.content).hexdigest()


def test_a_champion_without_report_says_so(appliance: Appliance, call: Call) -> None:
    propose(appliance, findings=None)
    problem = check_problem(call("GET", "/god-text-reference/inspection"), 404, "not-found")
    assert "has no inspection report" in problem["detail"]


def test_worst_findings_come_first(appliance: Appliance, call: Call) -> None:
    findings = (finding("python-exec", Severity.HIGH), finding("secret", Severity.CRITICAL))
    propose(appliance, findings=findings)
    worst = call("GET", "/god-text-reference").json()["inspected"]["worst"]
    assert [one["rule"] for one in worst] == ["secret", "python-exec"]


@pytest.mark.parametrize(
    ("form", "media_type"),
    [
        ("json", "application/json"),
        ("text", "text/plain; charset=utf-8"),
        ("html", "text/html; charset=utf-8"),
    ],
)
def test_diff_says_what_changed(
    appliance: Appliance, champion: ChampionRow, call: Call, form: str, media_type: str
) -> None:
    propose(appliance, name="second", note="<script>alert(1)</script>")
    answer = call("GET", f"/diff?from={champion.name}&to=second&form={form}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert "note.txt" in answer.text
    if form == "html":
        assert "<script" not in answer.text
        assert "sandbox" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_diff_of_a_form_that_there_is_not_is_refused(champion: ChampionRow, call: Call) -> None:
    check_problem(
        call("GET", f"/diff?from={champion.name}&to={champion.name}&form=pdf"), 422, "invalid-request"
    )


def test_digest_tells_the_last_week(appliance: Appliance, champion: ChampionRow, call: Call) -> None:
    adopted(appliance, champion)
    told = call("GET", "/digest").json()
    assert [change["name"] for change in told["adopted"]] == [champion.name]
    assert told["attribution"] == ATTRIBUTION
    assert call("GET", "/digest?since=2026-11-22T00:00:00Z").json()["adopted"] == []


@pytest.mark.parametrize("since", ["yesterday", "2026-11-21T02:00:00"])
def test_digest_since_no_moment_is_refused(champion: ChampionRow, call: Call, since: str) -> None:
    check_problem(call("GET", f"/digest?since={since}"), 422, "invalid-request")


def test_sync_status_lists_the_scheduled_feeds(appliance: Appliance, call: Call) -> None:
    add_source(appliance, location="https://feed.invalid", root=b"{}", interval_s=3600, actor=PROPOSER)
    (source,) = call("GET", "/sync").json()["sources"]
    assert (source["location"], source["added_by"], source["last_result"]) == (
        "https://feed.invalid",
        "ada",
        None,
    )


# Changing.

CHANGES = [
    ("POST", "/god-text-reference/adopt", None),
    ("POST", "/god-text-reference/hold", SIGNED),
    ("POST", "/god-text-reference/unhold", SIGNED),
    ("POST", "/god-text-reference/revoke", SIGNED),
    (
        "PUT",
        "/default",
        {"channel": "text", "task_type": "InstructTextTask", "champion": "god-text-reference"},
    ),
]


@pytest.mark.parametrize("role", sorted(set(Role) - {Role.ADMIN}))
@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_only_admins_decide(
    appliance: Appliance, champion: ChampionRow, call: Call, role: Role, method: str, path: str, body: Any
) -> None:
    problem = check_problem(call(method, path, role=role, json=body), 403, "forbidden")
    assert (problem["checked"], problem["found"], problem["wanted"]) == ("role", role, "admin")
    assert call("GET", f"/{champion.name}").json()["champion"]["status"] == "proposed"


@pytest.mark.parametrize("role", [Role.SUBMITTER, Role.AUDITOR])
def test_only_admins_and_approvers_hand_in_approvals(
    appliance: Appliance, champion: ChampionRow, call: Call, role: Role
) -> None:
    answer = call("POST", f"/{champion.name}/approvals", role=role, content=approval(appliance, champion))
    check_problem(answer, 403, "forbidden")
    assert call("GET", f"/{champion.name}").json()["approvals"] == []


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("path", ["", "/digest", "/default", "/sync", "/god-text-reference"])
def test_every_role_reads(champion: ChampionRow, call: Call, role: Role, path: str) -> None:
    assert call("GET", path, role=role).status_code == 200


@pytest.mark.parametrize("role", [Role.ADMIN, Role.APPROVER])
def test_an_approval_signed_elsewhere_counts_for_its_signer(
    appliance: Appliance, champion: ChampionRow, call: Call, role: Role
) -> None:
    bundle = approval(appliance, champion)
    for _ in range(2):
        answer = call("POST", f"/{champion.name}/approvals", role=role, content=bundle)
        assert (answer.status_code, answer.json()["champion"]["approved_by"]) == (200, [APPROVER])
    assert call("POST", f"/{champion.name}/adopt").json()["champion"]["status"] == "adopted"


def test_an_approval_is_taken_byte_for_byte(appliance: Appliance, champion: ChampionRow, call: Call) -> None:
    bundle = approval(appliance, champion)
    check_problem(call("POST", f"/{champion.name}/approvals", content=bundle + b"\n"), 403, "not-admitted")
    assert call("POST", f"/{champion.name}/approvals", content=bundle).status_code == 200
    with reading(appliance.engine) as conn:
        assert champions.approvals(conn, champion.manifest_sha256)[0].bundle == bundle


def test_an_approval_by_the_proposer_is_refused(appliance: Appliance, call: Call) -> None:
    own = propose(appliance, name="own", note="x", proposer=APPROVER)
    problem = check_problem(
        call("POST", "/own/approvals", content=approval(appliance, own)), 403, "not-admitted"
    )
    assert "another person must approve" in problem["detail"]


@pytest.mark.parametrize("changes", [{"policy_sha256": "0" * 64}, {"approver": "somebody"}])
def test_an_approval_of_something_else_is_refused(
    appliance: Appliance, champion: ChampionRow, call: Call, changes: dict[str, str]
) -> None:
    bundle = approval(appliance, champion, **changes)
    problem = check_problem(call("POST", f"/{champion.name}/approvals", content=bundle), 403, "not-admitted")
    assert "does not count" in problem["detail"]


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b"[" * 1000])
def test_what_is_no_approval_is_refused(champion: ChampionRow, call: Call, body: bytes) -> None:
    check_problem(call("POST", f"/{champion.name}/approvals", content=body), 403, "not-admitted")


def test_an_endless_approval_is_refused(champion: ChampionRow, call: Call) -> None:
    check_problem(call("POST", f"/{champion.name}/approvals", content=b"x" * 70_000), 413, "too-large")


def test_adopting_without_approval_is_refused_with_the_rules(
    appliance: Appliance, champion: ChampionRow, call: Call
) -> None:
    problem = check_problem(call("POST", f"/{champion.name}/adopt"), 403, "not-admitted")
    assert any("four-eyes" in reason for reason in problem["reasons"])
    shown = call("GET", f"/{champion.name}").json()["champion"]
    assert (shown["status"], shown["decided_by"]) == ("refused", "a-admin")
    assert shown["reasons"] == problem["reasons"]


def test_a_decision_is_logged_under_the_tokens_name(
    appliance: Appliance, champion: ChampionRow, call: Call
) -> None:
    adopted(appliance, champion)
    assert call("POST", f"/{champion.name}/hold", json=SIGNED).json()["champion"]["status"] == "held"
    assert call("POST", f"/{champion.name}/unhold", json=SIGNED).json()["champion"]["status"] == "adopted"
    with reading(appliance.engine) as conn:
        events = [logged.event for logged in events_of(conn, champion.manifest_sha256)]
    told = [(event.kind, event.actor) for event in events[-2:]]
    assert told == [(EventKind.CHAMPION_HELD, "a-admin"), (EventKind.CHAMPION_RELEASED, "a-admin")]


def test_holding_twice_and_releasing_what_is_not_held_are_conflicts(
    champion: ChampionRow, call: Call
) -> None:
    check_problem(call("POST", f"/{champion.name}/unhold", json=SIGNED), 409, "conflict")
    assert call("POST", f"/{champion.name}/hold", json=SIGNED).status_code == 200
    check_problem(call("POST", f"/{champion.name}/hold", json=SIGNED), 409, "conflict")


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": " "}, {"reason": "x" * 2001}, {"why": "x"}])
def test_a_decision_without_reason_is_refused(
    champion: ChampionRow, call: Call, body: dict[str, str]
) -> None:
    check_problem(call("POST", f"/{champion.name}/revoke", json=body), 422, "invalid-request")
    assert call("GET", f"/{champion.name}").json()["champion"]["status"] == "proposed"


def test_revoking_stops_runs_names_models_and_has_no_way_back(world: World) -> None:
    world.submit()
    assert world.settle().state == "logged"
    world.submit("run-0043")
    name = "god-text-reference"
    with serve(world.appliance) as call:
        answer = call("POST", f"/{name}/revoke", json=SIGNED).json()
        assert (answer["stopped"], answer["champion"]["status"]) == (["run-0043"], "revoked")
        shown = call("GET", f"/{name}").json()
        assert [model["run_id"] for model in shown["models"]] == ["run-0042"]
        assert shown["decisions"][0]["reason"] == SIGNED["reason"]
        check_problem(call("POST", f"/{name}/revoke", json=SIGNED), 409, "conflict")
        check_problem(call("POST", f"/{name}/adopt"), 403, "not-admitted")


def test_default_is_set_and_shown(appliance: Appliance, champion: ChampionRow, call: Call) -> None:
    adopted(appliance, champion)
    wanted = {"channel": "text", "task_type": "InstructTextTask", "champion": champion.name}
    (line,) = call("PUT", "/default", json=wanted).json()["defaults"]
    assert (line["name"], line["status"], line["set_by"]) == (champion.name, "adopted", "a-admin")
    assert call("GET", "/default").json()["defaults"] == [line]
    shown = call("GET", f"/{champion.name}").json()
    assert shown["default_for"] == [{"channel": "text", "task_type": "InstructTextTask"}]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({}, 409, "conflict"),  # it is not adopted
        ({"channel": "image"}, 422, "invalid-request"),
        ({"channel": "chess"}, 422, "invalid-request"),
        ({"task_type": "Poetry"}, 422, "invalid-request"),
        ({"colour": "red"}, 422, "invalid-request"),
    ],
)
def test_defaults_that_cannot_be_are_refused(
    champion: ChampionRow, call: Call, change: dict[str, str], status: int, code: str
) -> None:
    wanted = {"channel": "text", "task_type": "InstructTextTask", "champion": champion.name}
    check_problem(call("PUT", "/default", json=wanted | change), status, code)
    assert call("GET", "/default").json()["defaults"] == []


def test_a_server_without_the_appliances_keys_decides_nothing(
    appliance: Appliance, champion: ChampionRow
) -> None:
    with serve(appliance, with_keys=False) as call:
        problem = check_problem(call("POST", f"/{champion.name}/adopt"), 503, "home")
        assert "nothing can be decided here" in problem["detail"]
        assert call("GET", f"/{champion.name}").status_code == 200


def test_a_changed_word_of_the_tournament_is_the_operators(
    appliance: Appliance, champion: ChampionRow, call: Call
) -> None:
    kept = inspections.KeptCrossCheck(
        champion=champion.manifest_sha256, findings=b"[]", details_sha256="0" * 64, checked_at=START
    )
    with appliance.engine.begin() as conn:
        inspections.add_crosscheck(conn, kept)  # in the database, and nowhere in the log
    problem = check_problem(call("GET", f"/{champion.name}"), 500, "artifact")
    assert "are not those that were logged" in problem["detail"]


def test_descriptions_have_examples_of_what_is_sent(call: Call, appliance: Appliance) -> None:
    schemas = create_app(services=None).openapi()["components"]["schemas"]  # type: ignore[arg-type]  # nothing is asked
    assert schemas["ReasonBody"]["examples"] and schemas["DefaultBody"]["examples"]


def test_comparisons_over_the_limit_are_refused_and_not_queued(
    champion: ChampionRow, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = BoundedSemaphore(1)
    taken.acquire()
    monkeypatch.setattr(routes, "_COMPARISONS", taken)
    path = f"/diff?from={champion.name}&to={champion.name}"
    check_problem(call("GET", path), 503, "busy")
    taken.release()
    assert call("GET", path).status_code == 200
