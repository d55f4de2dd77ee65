"""Which hostile probes find an open door under gVisor, and why that is no hole to the host.

The answers are gVisor's own kernel's; what they do to the host is judged by the canaries, by the facts of the
control group, and by the probes of the host's own files, of which none is open.

What is covered: every probe of `runner.probes` that answers ALLOWED behind these walls; one that is not here
fails the self-check.
What is not covered: how many flaws gVisor's kernel has; its filter on the host is what stands behind it.
"""

from collections.abc import Mapping

from runner.spec import Profile

DISCLOSED: Mapping[str, str] = {
    "fs.oom_score_adj_lower": "a number in gVisor's own /proc; sentry and gofer keep theirs, as measured",
    "fs.devices_open": "gVisor's own /dev/fuse and /dev/net/tun, not the host's; mounting is filtered",
    "res.cpu_share": "gVisor counts a task that waits for a processor as running; the control group's quota "
    "holds, as its own count of CPU time shows",
}
# Open besides to a guest whose id inside is 0.
DISCLOSED_TO_CHAMPIONS: Mapping[str, str] = {
    "fs.proc_sys_write": "gVisor's own /proc/sysrq-trigger, which does nothing",
    "res.disk_fill_dev": "gVisor's own /dev has no size; what is in it counts as the guest's memory",
}
# Each process of a guest costs the sentry about 4 MiB of the guest's memory: with many more, the self-check's
# memory limit is met before its limit of processes.
SELFCHECK_PIDS = 48


def disclosed(profile: Profile) -> Mapping[str, str]:
    """Probe → reason, for guests of `profile`."""
    return DISCLOSED if profile is Profile.STRICT else {**DISCLOSED, **DISCLOSED_TO_CHAMPIONS}
