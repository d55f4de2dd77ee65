from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from appliance.domain import Classification, Order
from appliance.errors import ForbiddenError, InvalidOrderError
from appliance.isolation_policy import Defaults, load_isolation_policy
from appliance.orders import check_order, with_walls
from appliance.store import artifacts, champions
from tests.appliance.vetting import NOBODY

POLICY = load_isolation_policy(Path(__file__).parents[2] / "policies")


def test_order_of_what_is_here_is_taken(stocked: Engine, order: Order) -> None:
    with stocked.connect() as conn:
        check_order(conn, order, submitter="ada", trust=NOBODY)


@pytest.mark.parametrize(
    ("part", "found"),
    [("champion", "no such champion"), ("base_model", "no such model"), ("dataset", "no such dataset")],
)
def test_names_the_part_that_is_not_here(stocked: Engine, order: Order, part: str, found: str) -> None:
    with stocked.connect() as conn, pytest.raises(InvalidOrderError, match=found) as refused:
        check_order(conn, replace(order, **{part: "0" * 64}), submitter="ada", trust=NOBODY)  # type: ignore[arg-type]  # a part's name
    assert (refused.value.checked, refused.value.found) == (part, found)


def test_dataset_is_no_base_model(stocked: Engine, order: Order) -> None:
    with stocked.connect() as conn, pytest.raises(InvalidOrderError, match="local/dataset is a dataset"):
        check_order(conn, replace(order, base_model=order.dataset), submitter="ada", trust=NOBODY)


def test_refused_champion_is_told_with_reasons(stocked: Engine, order: Order) -> None:
    with stocked.begin() as conn:
        champions.add_admission(
            conn,
            order.champion,
            policy_sha256="e" * 64,
            allowed=False,
            reasons=["licence: found none"],
            bundle=None,
            decided_by="ada",
            decided_at=datetime(2026, 11, 21, tzinfo=UTC),
        )
        with pytest.raises(InvalidOrderError, match="is not admitted: licence: found none"):
            check_order(conn, order, submitter="ada", trust=NOBODY)


def test_whoever_approved_the_champion_cannot_run_it(stocked: Engine, order: Order) -> None:
    with stocked.connect() as conn, pytest.raises(ForbiddenError, match="Olu approved"):
        check_order(conn, order, submitter="Olu", trust=NOBODY)


@pytest.fixture
def restricted(stocked: Engine, order: Order) -> Engine:
    """The database with its data set classified as what needs most."""
    with stocked.begin() as conn:
        artifacts.set_facts(conn, order.dataset, {"rows": 3, "classification": "restricted"})
    return stocked


def test_order_gets_the_walls_of_its_data_set(restricted: Engine, order: Order) -> None:
    with restricted.connect() as conn:
        walls = with_walls(conn, order, policy=POLICY, defaults=Defaults()).walls
    assert walls is not None
    assert (walls.classification, walls.driver) == (Classification.RESTRICTED, "gvisor")


def test_order_that_asks_for_less_than_its_data_set_needs_is_refused(
    restricted: Engine, order: Order
) -> None:
    asked = replace(order, driver="oci")
    with restricted.connect() as conn, pytest.raises(InvalidOrderError, match="oci, tier 2; restricted data"):
        with_walls(conn, asked, policy=POLICY, defaults=Defaults(driver="gvisor"))
