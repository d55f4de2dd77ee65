"""What the real drivers measure is what the screen understands: nothing of it is "not told"."""

from pathlib import Path
from typing import Any

import pytest

from appliance.isolation_policy import load_isolation_policy
from appliance.isolation_walls import State, judge_walls
from runner.isolation_demand import TIERS, shortfalls
from runner.sandbox.drivers import DRIVERS, sandbox_of
from runner.spec import Profile
from tests.runner.guests import order

pytestmark = pytest.mark.sandbox
POLICY = load_isolation_policy(Path(__file__).parents[2] / "policies")


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("driver", DRIVERS)
def test_every_wall_of_a_real_guest_is_told_and_none_is_broken(
    driver: str, profile: Profile, tmp_path: Path
) -> None:
    measured: list[Any] = []
    sandbox_of(driver).run(
        order("/bin/true", driver=driver, profile=profile),
        job_dir=tmp_path,
        on_measured=measured.append,
        should_cancel=lambda: False,
    )
    (facts,) = measured
    assert facts["violations"] == []
    found = {wall.name: (wall.state, wall.sentence) for wall in judge_walls(facts, asked=None)}
    assert {name: told for name, told in found.items() if told[0] not in (State.HELD, State.PARTLY)} == {}
    least = next(one.demand for one in POLICY.requirements.values() if one.demand.min_tier <= TIERS[driver])
    assert shortfalls(facts, least) == ()
