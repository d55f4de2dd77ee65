"""Over HTTP: orders get the walls of their data or are refused, and people read what the walls were."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from appliance.domain import Run
from appliance.isolation_report import parse_report
from appliance.isolation_walls import State
from appliance.store import artifacts, runs, tokens
from appliance.store.engine import reading
from appliance.tokens import Role
from audit.event import EventKind
from audit.store import events_of
from tests.appliance.champion_cli import ATTRIBUTION
from tests.appliance.isolation_facts import good_facts
from tests.appliance.test_api import ORDER, check_problem

Submit = Callable[..., Run]
PATHS = ("/v1/runs/run-001/isolation", "/v1/runs/run-001/isolation.html")


def classify(api: Any, classification: str) -> None:
    with api.services.engine.begin() as conn:
        artifacts.set_facts(conn, ORDER["dataset"], {"rows": 3, "classification": classification})  # type: ignore[arg-type]  # a digest


def walls_of(api: Any, **asked: str) -> dict[str, Any]:
    answer = api.call("POST", "/v1/runs", json={**ORDER, **asked})
    assert answer.status_code == 201, answer.json()
    walls: dict[str, Any] = answer.json()["order"]["walls"]
    return walls


@pytest.fixture
def measured(api: Any, submit: Submit) -> Run:
    """A run whose champion trains behind good walls."""
    run = submit()
    folder = api.services.home.jobs_dir / run.id
    folder.mkdir(parents=True)
    (folder / "isolation.json").write_text(json.dumps(good_facts()))
    return run


# Orders.


def test_an_order_for_data_that_nobody_classified_gets_the_default_driver(api: Any) -> None:
    walls = walls_of(api)
    assert (walls["classification"], walls["driver"], walls["evaluation_driver"]) == (
        "internal",
        "bubblewrap",
        "bubblewrap",
    )


def test_an_order_for_restricted_data_gets_an_own_kernel(api: Any) -> None:
    classify(api, "restricted")
    walls = walls_of(api)
    assert (walls["driver"], walls["evaluation_driver"]) == ("gvisor", "gvisor")
    assert json.loads(walls["demand"])["min_tier"] == 3


def test_an_order_may_ask_for_more_than_it_needs(api: Any) -> None:
    assert walls_of(api, driver="gvisor")["driver"] == "gvisor"


@pytest.mark.parametrize("asked", ["bubblewrap", "oci", "native"])
def test_an_order_that_asks_for_less_is_refused_with_what_will_do(api: Any, asked: str) -> None:
    classify(api, "restricted")
    problem = check_problem(
        api.call("POST", "/v1/runs", json={**ORDER, "driver": asked}), 422, "invalid-request"
    )
    assert (problem["checked"], problem["wanted"]) == ("driver", "gvisor")
    assert asked in problem["found"]
    assert api.call("GET", "/v1/runs").json()["runs"] == []


def test_what_was_chosen_stands_in_the_log_entry_of_the_submission(api: Any) -> None:
    walls = walls_of(api, driver="oci")
    with reading(api.services.engine) as conn:
        (event,) = [entry.event for entry in events_of(conn, "run-001")]
        assert runs.order_detail(runs.get(conn, "run-001").order) == dict(event.detail)
    assert event.kind is EventKind.RUN_SUBMITTED
    told = {name: event.detail[name] for name in ("driver", "evaluation_driver", "classification")}
    assert told == {"driver": "oci", "evaluation_driver": "oci", "classification": "internal"}
    assert event.detail["driver_asked"] == "oci"
    assert event.detail["isolation_demand"] == walls["demand"]
    assert event.detail["isolation_policy"] == walls["policy_sha256"]


def test_the_same_order_again_is_the_same_run_though_the_data_became_more_secret(api: Any) -> None:
    headers = {"Idempotency-Key": "k"}
    asked = {**ORDER, "driver": "bubblewrap"}
    first = api.call("POST", "/v1/runs", json=asked, headers=headers)
    classify(api, "restricted")
    again = api.call("POST", "/v1/runs", json=asked, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()


def test_the_same_key_for_another_driver_is_another_order(api: Any) -> None:
    headers = {"Idempotency-Key": "k"}
    api.call("POST", "/v1/runs", json=ORDER, headers=headers)
    problem = check_problem(
        api.call("POST", "/v1/runs", json={**ORDER, "driver": "oci"}, headers=headers), 409, "conflict"
    )
    assert problem["found"] == "an order that differs in driver"


@pytest.mark.parametrize("driver", ["", "x" * 41, 1, ["oci"]])
def test_a_driver_that_cannot_be_one_is_refused(api: Any, driver: object) -> None:
    check_problem(api.call("POST", "/v1/runs", json={**ORDER, "driver": driver}), 422, "invalid-request")


# The screen.


def test_nothing_is_shown_before_anything_was_measured(api: Any, submit: Submit) -> None:
    submit()
    for path in PATHS:
        problem = check_problem(api.call("GET", path), 409, "not-ready")
        assert "no walls of it were measured yet" in problem["detail"]


def test_the_report_is_the_same_value_that_clients_read(api: Any, measured: Run) -> None:
    answer = api.call("GET", PATHS[0])
    report = parse_report(answer.json())
    assert report.guests[0].verdict.startswith("7 of 9 walls held, 2 not told")
    assert report.guests[0].state is State.NOT_TOLD
    assert not report.guests[0].is_signed
    assert (report.champion, report.attribution) == ("god-text-assay-reference", ATTRIBUTION)


def test_the_page_comes_with_headers_that_let_it_do_nothing(api: Any, measured: Run) -> None:
    answer = api.call("GET", PATHS[1])
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "7 of 9 walls held, 2 not told" in answer.text
    assert ATTRIBUTION in answer.text


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("role", Role)
def test_whoever_may_review_a_run_may_read_its_walls(api: Any, measured: Run, path: str, role: Role) -> None:
    assert api.call("GET", path, role=role).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_another_submitter_may_not_read_them(api: Any, measured: Run, path: str) -> None:
    with api.services.engine.begin() as conn:
        other = tokens.create(conn, name="eve", role=Role.SUBMITTER, actor="root", now=api.clock.now())
    answer = api.call("GET", path, role=None, headers={"Authorization": f"Bearer {other.secret}"})
    problem = check_problem(answer, 403, "forbidden")
    assert problem["wanted"] == "ada, an admin, approver or auditor"


@pytest.mark.parametrize("path", PATHS)
def test_there_are_no_walls_of_a_run_that_is_not_there(api: Any, path: str) -> None:
    check_problem(api.call("GET", path.replace("run-001", "run-999")), 404, "not-found")
