from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from appliance.domain import Order
from appliance.errors import ForbiddenError, InvalidOrderError
from appliance.orders import check_order
from appliance.store import champions
from tests.appliance.vetting import NOBODY


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
