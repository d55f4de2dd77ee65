"""What the real drivers measure is what the screen understands: nothing of it is "not told"."""

from pathlib import Path
from typing import Any

import pytest

from appliance.attest import walls_with_end
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
    spec = order("/bin/true", driver=driver, profile=profile)
    ended = sandbox_of(driver).run(
        spec,
        job_dir=tmp_path,
        on_measured=measured.append,
        should_cancel=lambda: False,
    )
    facts = walls_with_end(measured[0], ended, job_dir=str(tmp_path))
    assert facts["violations"] == []
    asked = {"memory_bytes": spec.limits.memory_bytes, "pids": spec.limits.pids}
    names = frozenset(spec.env)
    found = {
        wall.name: (wall.state, wall.sentence) for wall in judge_walls(facts, asked=asked, environment=names)
    }
    assert {name: told for name, told in found.items() if told[0] not in (State.HELD, State.PARTLY)} == {}
    fitting = [one.demand for one in POLICY.requirements.values() if one.demand.min_tier <= TIERS[driver]]
    assert shortfalls(facts, fitting[-1]) == ()  # the strictest of them
