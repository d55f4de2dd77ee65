"""A database, a home and an API in memory; the clock is a value that tests set."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Connection, Engine, update

from appliance.api.deps import Services
from appliance.app import create_app
from appliance.assembly import Appliance
from appliance.domain import Order, Run, RunState
from appliance.home import Home, add_person, create_home, open_home
from appliance.store import artifacts, champions, runs, tokens
from appliance.store.artifacts import Artifact, ArtifactKind
from appliance.store.champions import ChampionRow
from appliance.store.engine import open_database
from appliance.store.tables import run as run_table
from appliance.tokens import Role
from appliance.waiting import Capacity
from attestation.digest import sha256_hex
from attestation.trust import Role as KeyRole
from tests.appliance.world import (
    APPROVER,
    PUBLISHER,
    START,
    FixedClock,
    World,
    build_world,
    copy_world,
    open_appliance,
    open_world,
    propose,
)

CHAMPION, MODEL, DATASET = "c" * 64, "b" * 64, "d" * 64


@dataclass(frozen=True)
class Api:
    """The API without a socket, and what it works on."""

    app: FastAPI
    services: Services
    clock: FixedClock
    secrets: dict[Role, str] = field(default_factory=dict)

    def call(
        self, method: str, path: str, *, role: Role | None = Role.SUBMITTER, **request: object
    ) -> httpx.Response:
        headers = dict(request.pop("headers", {}))  # type: ignore[call-overload]
        if role is not None:
            headers["Authorization"] = f"Bearer {self.secrets[role]}"
        return asyncio.run(self._send(method, path, headers=headers, **request))

    async def _send(self, method: str, path: str, **request: object) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://assay") as client:
            return await client.request(method, path, **request)  # type: ignore[arg-type]


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = open_database(tmp_path / "assay.db")
    yield opened
    opened.dispose()


@pytest.fixture
def order() -> Order:
    return Order(champion=CHAMPION, base_model=MODEL, dataset=DATASET, hours_to_complete=0.5)


@pytest.fixture
def submit(engine: Engine, order: Order) -> Callable[..., Run]:
    """Submits the order; in a given state if asked, without the way there."""
    numbers = count(1)

    def submit_one(state: RunState = RunState.SUBMITTED, **given: object) -> Run:
        values: dict[str, object] = {
            "run_id": f"run-{next(numbers):03}",
            "actor": "ada",
            "idempotency_key": None,
            "now": START,
        } | given
        with engine.begin() as conn:
            run = runs.submit(conn, order, **values)  # type: ignore[arg-type]
            conn.execute(update(run_table).where(run_table.c.id == run.id).values(state=state))
            return runs.get(conn, run.id)

    return submit_one


@pytest.fixture
def stocked(engine: Engine) -> Engine:
    """The database with an admitted champion, a model and a dataset."""
    with engine.begin() as conn:
        stock(conn)
    return engine


def stock(conn: Connection) -> None:
    champions.add(
        conn,
        ChampionRow(
            manifest_sha256=CHAMPION,
            name="god-text-assay-reference",
            channel="text",
            commit="1" * 40,
            tree="2" * 40,
            contract_epoch="E4",
            release_bundle=b"release",
            proposed_by="ada",
            proposed_at=START,
        ),
    )
    champions.add_approval(
        conn, CHAMPION, approver="olu", policy_sha256="e" * 64, bundle=b"approval", approved_at=START
    )
    champions.add_admission(
        conn,
        CHAMPION,
        policy_sha256="e" * 64,
        allowed=True,
        reasons=[],
        bundle=b"admission",
        decided_by="ada",
        decided_at=START,
        approvals=[sha256_hex(b"approval")],
    )
    for kind, digest in ((ArtifactKind.MODEL, MODEL), (ArtifactKind.DATASET, DATASET)):
        artifacts.add(
            conn,
            Artifact(
                root_sha256=digest,
                kind=kind,
                name=f"local/{kind}",
                facts={"rows": 3},
                imported_by="ada",
                imported_at=START,
            ),
        )


@pytest.fixture
def api(stocked: Engine, tmp_path: Path, clock: FixedClock) -> Api:
    numbers = count(1)
    made = create_home(tmp_path / "made", name="test", now=START)  # whose signatures count here
    (tmp_path / "trust").symlink_to(made.trust_dir.resolve())
    services = Services(
        engine=stocked,
        home=Home(tmp_path),
        capacity=Capacity(max_parallel_runs=1, needed_free_bytes=0),
        clock=clock,
        new_run_id=lambda: f"run-{next(numbers):03}",
    )
    built = Api(app=create_app(services), services=services, clock=clock)
    with stocked.begin() as conn:
        for role in Role:
            name = "ada" if role is Role.SUBMITTER else f"a-{role}"  # ada submits the runs of `submit`
            new = tokens.create(conn, name=name, role=role, actor="root", now=START)
            built.secrets[role] = new.secret
    return built


@pytest.fixture
def appliance(tmp_path: Path) -> Iterator[Appliance]:
    """A home with people, and nothing admitted."""
    create_home(tmp_path / "home", name="test", now=START)
    add_person(open_home(tmp_path / "home"), name=APPROVER, role=KeyRole.APPROVER, now=START)
    add_person(open_home(tmp_path / "home"), name=PUBLISHER, role=KeyRole.PUBLISHER, now=START)
    with open_appliance(tmp_path / "home", FixedClock()) as opened:
        yield opened


@pytest.fixture
def champion(appliance: Appliance) -> ChampionRow:
    """Proposed, with a report that finds nothing."""
    return propose(appliance)


@pytest.fixture(scope="session")
def world_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    build_world(root)
    return root


@pytest.fixture
def world(world_template: Path, tmp_path: Path) -> Iterator[World]:
    """An appliance with everything but a run; its jobs are done by `tests.appliance.world.trains`."""
    with open_world(copy_world(world_template, tmp_path)) as opened:
        yield opened
