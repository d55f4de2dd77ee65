"""Nodes over the API: what there is, what can be granted, who has it."""

import pytest

from appliance.api.deps import Services
from appliance.app import create_app
from appliance.domain import RunState
from appliance.store import reservations
from appliance.store.reservations import Reservation
from appliance.tokens import Role
from appliance.waiting import Capacity
from tests.appliance.conftest import Api
from tests.appliance.rooms import FixedNode, big_room, unit
from tests.appliance.test_api import Submit, check_problem
from tests.runner.fake_nvml import GIB, H100


@pytest.fixture
def node() -> FixedNode:
    return FixedNode(
        big_room(unit("GPU-0"), unit("GPU-1"), unit("GPU-2", refusal="it is in use by process 7"))
    )


@pytest.fixture
def nodes_api(api: Api, node: FixedNode) -> Api:
    """The API of a node with three GPUs."""
    of = api.services
    services = Services(
        engine=of.engine,
        home=of.home,
        capacity=Capacity(max_parallel_runs=1, needed_free_bytes=0, node=node),
        clock=of.clock,
        new_run_id=of.new_run_id,
    )
    return Api(app=create_app(services), services=services, clock=api.clock, secrets=api.secrets)


def test_a_node_is_told_with_its_gpus_and_who_has_them(nodes_api: Api, submit: Submit) -> None:
    run = submit(RunState.RUNNING)
    held = Reservation(
        run_id=run.id, memory_bytes=GIB, cpu_millis=1000, shm_bytes=0, disk_bytes=0, gpus=("GPU-1",)
    )
    with nodes_api.services.engine.begin() as conn:
        reservations.reserve(conn, held, seen=())
    (found,) = nodes_api.call("GET", "/v1/nodes", role=Role.AUDITOR).json()["nodes"]
    assert (found["cpu_millis"], found["memory_bytes"], found["no_gpus"]) == (72_000, 330 * GIB, None)
    assert [(u["uuid"], u["product"], u["run"], u["refusal"]) for u in found["units"]] == [
        ("GPU-0", H100, None, None),
        ("GPU-1", H100, run.id, None),
        ("GPU-2", H100, None, "it is in use by process 7"),
    ]
    assert found["reservations"] == [
        {
            "run_id": run.id,
            "memory_bytes": GIB,
            "cpu_millis": 1000,
            "shm_bytes": 0,
            "disk_bytes": 0,
            "gpus": ["GPU-1"],
        }
    ]
    inventory = found["inventory"]
    assert inventory["gpus"]["driver"] == "570.86.15"
    assert inventory["gpus"]["gpus"][0]["compute_capability"] == [9, 0]
    assert inventory["host"]["name"] == found["name"]


@pytest.mark.parametrize("role", [Role.ADMIN, Role.APPROVER, Role.AUDITOR])
def test_who_answers_for_the_appliance_may_read(nodes_api: Api, role: Role) -> None:
    assert nodes_api.call("GET", "/v1/nodes", role=role).status_code == 200


def test_submitters_learn_nothing_of_versions_and_of_others(nodes_api: Api) -> None:
    problem = check_problem(nodes_api.call("GET", "/v1/nodes"), 403, "forbidden")
    assert (problem["checked"], problem["found"], problem["wanted"]) == (
        "role", "submitter", "admin or approver or auditor",
    )  # fmt: skip


def test_strangers_may_not(nodes_api: Api) -> None:
    check_problem(nodes_api.call("GET", "/v1/nodes", role=None), 401, "unauthorized")


def test_this_machine_is_told_where_nothing_else_is_said(api: Api) -> None:
    (found,) = api.call("GET", "/v1/nodes", role=Role.ADMIN).json()["nodes"]
    assert found["cpu_millis"] > 0
    assert (found["no_gpus"] is None) == bool(found["units"])
