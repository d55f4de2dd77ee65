"""Probes that a driver is known to leave open, and why each is no hole: part of every self-check's report.

What is covered: answers that a driver cannot give otherwise by its nature.
What is not covered: anything that reaches the host; that fails the self-check whatever stands here, because the
canaries judge it.
"""

from collections.abc import Mapping

from runner.sandbox import gvisor_probes
from runner.spec import Profile

_MOUNTINFO = {
    "env.host_paths_in_mountinfo": "the kernel shows where on the host a bind mount comes from: "
    "names of the appliance's own folders, no data"
}
_BY_DRIVER: Mapping[str, Mapping[str, str]] = {"bubblewrap": _MOUNTINFO, "oci": _MOUNTINFO}
_BY_PROFILE: Mapping[Profile, Mapping[str, str]] = {Profile.STRICT: {}, Profile.CHAMPION: {}}


def disclosed(driver: str, profile: Profile) -> Mapping[str, str]:
    """Probe → reason, for guests of `profile` behind the walls of `driver`."""
    if driver == "gvisor":
        return gvisor_probes.disclosed(profile)
    return {**_BY_DRIVER.get(driver, {}), **_BY_PROFILE[profile]}


def probe_pids(driver: str, *, default: int) -> int:
    """How many processes a self-check's guest may have: a limit that is met before the one of memory."""
    return gvisor_probes.SELFCHECK_PIDS if driver == "gvisor" else default
