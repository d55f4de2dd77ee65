"""What a claim must say of the walls around a guest, and what a reader takes from it. Pure.

Drivers measure more than is demanded here; the rest is bounded and kept. Facts are the host's own word, so a
reader checks what they say, not only that nothing was found wrong.
"""

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from attestation.shapes import (
    Check,
    any_text,
    at_least,
    bounded,
    count,
    either,
    exactly,
    fail,
    integer,
    list_of,
    map_of,
    one_of,
    or_null,
    sha256,
    text,
    time,
    truth,
)
from attestation.weak_walls import weaknesses

# Of each driver, by what has to be broken to be on the host.
TIERS: Final[Mapping[str, int]] = MappingProxyType({"bubblewrap": 1, "oci": 2, "gvisor": 3})
MEASURED_FIRST: Final = "after the first measurement"
MOUNTED_FIRST: Final = "before the measurement"
MAX_FACTS: Final = 20_000  # a thousand mounts, and ten times what is measured of real guests
LOOPBACK: Final = "lo"
_CAPABILITIES = re.compile(r"[0-9a-f]{16}", re.ASCII)

# Any, in the whole module: what was measured is plain JSON, its shape checked once by `check_measured`.
Measured = Mapping[str, Any]


def _capabilities(value: object, path: str) -> None:
    if not isinstance(value, str) or not _CAPABILITIES.fullmatch(value):
        raise fail(path, "16 lower-case hexadecimal digits")


def _no_violation(value: object, path: str) -> None:
    if not isinstance(value, list | tuple):
        raise fail(path, "a list")
    if value:
        raise fail(path, f"walls that were as asked, found {str(list(value))[:400]}")


def _some(inner: Check) -> Check:
    def check(value: object, path: str) -> None:
        inner(value, path)
        if not value:
            raise fail(path, "at least one")

    return check


_bytes = map_of(exactly(received_bytes=count, sent_bytes=count))
_ids = list_of(list_of(integer))  # rows of an id map: inside, outside, how many

# Of any process that stands for the guest on the host.
_capability_sets = exactly(
    CapInh=_capabilities,
    CapPrm=_capabilities,
    CapEff=_capabilities,
    CapBnd=_capabilities,
    CapAmb=_capabilities,
)
_seccomp = at_least(
    mode=count,
    filters=integer,  # -1: this kernel does not count them
    sha256=or_null(sha256),
    sha256_is=one_of("measured", "claimed", "not read"),
)
_namespaces = at_least(
    compared_with=text,
    own=at_least(ipc=truth, mnt=truth, net=truth, pid=truth, user=truth, uts=truth),
)
_gofer = at_least(
    cgroup_joined=truth,
    own_user_id=truth,
    uids=_some(list_of(integer)),
    gids=_some(list_of(integer)),
    groups=list_of(integer),
    uid_map=_some(_ids),
    gid_map=_some(_ids),
    capabilities=_capability_sets,
    no_new_privs=truth,
    seccomp=_seccomp,
    namespaces=_namespaces,
    interfaces=list_of(text),
    routes=count,
)

# Measured before the guest's first instruction, but for the last three. Read it as the specification.
_check_demanded: Check = bounded(
    at_least(
        driver=one_of(*TIERS),
        driver_version=text,
        tier=count,
        profile=one_of("strict", "champion"),
        image=or_null(sha256),  # of the image's manifest; null: the shipped environment
        gpus=list_of(text),  # UUIDs, in the guest's order
        inputs_mounted=one_of(MEASURED_FIRST, MOUNTED_FIRST),
        host=at_least(kernel=any_text, machine=any_text, cpu=any_text),
        cgroup=one_of("v1", "v2", "none"),
        cgroup_joined=truth,
        cgroup_limits=map_of(either(integer, any_text, wanted="an integer or a text")),  # as read back
        own_user_id=truth,
        uids=_some(list_of(integer)),
        gids=_some(list_of(integer)),
        groups=list_of(integer),
        uid_map=_some(_ids),
        gid_map=_some(_ids),
        capabilities=_capability_sets,
        no_new_privs=truth,
        seccomp=_seccomp,
        namespaces=_namespaces,
        mounts=_some(list_of(at_least(target=text, filesystem=text, flags=list_of(text)))),
        interfaces=list_of(text),
        network_bytes=_bytes,
        routes=count,
        limits=map_of(integer),
        open_files=list_of(integer),
        environment_names=list_of(any_text),
        devices=list_of(text),
        # By the guest's own attempts: what it reads of itself, where it could write, whom it could reach.
        inside=at_least(
            status=map_of(any_text),
            interfaces=_bytes,
            write_tries=map_of(text),
            connect_tries=_some(map_of(text)),
        ),
        unenforced=list_of(text),
        violations=_no_violation,
        measured_at=time,
        released_at=time,
        after=exactly(
            ended_at=time,
            network_bytes=_bytes,  # empty: this host did not let anybody look
            out_of_memory=or_null(text),  # which memory ran out
            survivors=count,  # processes of the guest when its output was taken
            usage=map_of(integer),
            remnants=list_of(text),  # what could not be cleaned up
        ),
    ),
    values=MAX_FACTS,
)

# gVisor has filters of its own, which were not asked for, and a second process, which opens the guest's files.
_check_own_kernel = at_least(gofer=_gofer)
_check_shared_kernel = at_least(seccomp=at_least(wanted_sha256=sha256))


def check_measured(value: object, path: str) -> None:
    """Return if `value` is what a claim must say of walls. Raises MalformedError naming the fact."""
    _check_demanded(value, path)
    assert isinstance(value, Mapping)
    (_check_own_kernel if value["driver"] == "gvisor" else _check_shared_kernel)(value, path)


def contradictions(measured: Measured) -> Iterator[str]:
    """Why walls that call themselves whole were not, by the facts beside that: a sentence each."""
    driver, tier = measured["driver"], measured["tier"]
    if TIERS[driver] != tier:
        yield f"tier is {tier}, but {driver} is of tier {TIERS[driver]}"
    for name, moved in sorted(_bytes_beside_loopback(measured).items()):
        yield f"{moved} bytes passed the network interface {name}; wanted none through any but {LOOPBACK}"
    inside = measured["inside"]
    for name in sorted({*measured["interfaces"], *inside["interfaces"]} - {LOOPBACK}):
        yield f"there was the network interface {name}; wanted {LOOPBACK} alone"
    if measured["routes"]:
        yield f"{measured['routes']} network routes led out; wanted none"
    for tried, what in (("connect_tries", "a connection"), ("write_tries", "a write")):
        for target, result in sorted(inside[tried].items()):
            if result != "refused":
                yield f"{what} to {target} from inside was {result}; wanted it refused"
    if survivors := measured["after"]["survivors"]:
        yield f"{survivors} processes of the guest lived when its output was taken; wanted none"
    yield from weaknesses(measured)


def told(measured: Measured) -> str:
    """The walls in one line: driver and tier, root, order of mounting, network."""
    root = "the shipped environment" if measured["image"] is None else f"image {measured['image'][:16]}…"
    gpus = f", {len(measured['gpus'])} GPU" + "s" * (len(measured["gpus"]) > 1) if measured["gpus"] else ""
    return (
        f"{measured['driver']} ({measured['driver_version']}), tier {measured['tier']} of {max(TIERS.values())}, "
        f"profile {measured['profile']}, in {root}{gpus}; inputs mounted {measured['inputs_mounted']}; "
        f"{told_network(measured)}"
    )


def told_network(measured: Measured) -> str:
    """How much left, once `contradictions` found nothing: lo is the guest's own, and goes nowhere."""
    counted = measured["after"]["network_bytes"]
    if not counted:
        return f"no network interface but {LOOPBACK} at the start, bytes not counted at the end"
    own = sum(counted.get(LOOPBACK, {}).values())
    return f"0 bytes passed any network interface but {LOOPBACK} ({own} on {LOOPBACK}, its own)"


def caveats(measured: Measured, *, guest: str) -> Iterator[str]:
    """What a reader must not forget about the walls around `guest`, a sentence each."""
    driver, after = measured["driver"], measured["after"]
    if measured["unenforced"]:
        yield f"Limits: around {guest}, {driver} left unenforced: {', '.join(measured['unenforced'])}."
    if measured["inputs_mounted"] != MEASURED_FIRST:
        yield f"Order: inputs of {guest} were mounted before its walls had been measured."
    if not after["network_bytes"]:
        yield f"Counters: after {guest} this host did not tell how many bytes had passed its network interfaces."
    if after["remnants"]:
        yield f"Clean-up: {guest} left behind {', '.join(after['remnants'])}."


def ways_out(*guests: Measured) -> Iterator[str]:
    """What would have had to be broken to get out, once for each driver among `guests`."""
    for driver in sorted({measured["driver"] for measured in guests}, key=lambda name: TIERS[name]):
        kernel = "gVisor's kernel and then of the host's" if driver == "gvisor" else "the host's kernel"
        yield f"Escape: {driver} is tier {TIERS[driver]} of {max(TIERS.values())}. A flaw of {kernel} is a way out."
    if any(measured["gpus"] for measured in guests):
        yield "GPUs: their driver is the host's. A flaw of it is a way out."


def _bytes_beside_loopback(measured: Measured) -> dict[str, int]:
    """Interface → the most bytes that any of the three counts saw pass it, both ways together."""
    moved: dict[str, int] = {}
    counts = (measured["network_bytes"], measured["inside"]["interfaces"], measured["after"]["network_bytes"])
    for counted in counts:
        for name, both in counted.items():
            if name != LOOPBACK and (total := sum(both.values())):
                moved[name] = max(total, moved.get(name, 0))
    return moved
