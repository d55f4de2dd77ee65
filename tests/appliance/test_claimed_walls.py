"""What the real drivers measure, and what is counted after them, is what a reader of the claim demands."""

from pathlib import Path
from typing import Any

import pytest

from appliance.attest import walls_with_end
from attestation.canonical import encode
from attestation.isolation import check_measured, contradictions, told
from runner.sandbox.drivers import DRIVERS, sandbox_of
from runner.spec import Profile
from tests.runner.guests import order

pytestmark = pytest.mark.sandbox


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_real_guest_s_walls_can_be_claimed_and_contradict_nothing(
    driver: str, profile: Profile, tmp_path: Path
) -> None:
    found: list[Any] = []  # Any: plain JSON
    ended = sandbox_of(driver).run(
        order("/bin/true", driver=driver, profile=profile),
        job_dir=tmp_path,
        on_measured=found.append,
        should_cancel=lambda: False,
    )
    measured = walls_with_end(found[0], ended, job_dir=str(tmp_path))
    check_measured(measured, "measured")
    assert list(contradictions(measured)) == []
    assert f"profile {profile}, in the shipped environment; inputs mounted after the first" in told(measured)
    assert "0 bytes passed any network interface but lo" in told(measured)
    assert str(tmp_path) not in encode(measured).decode()
