"""What walls must have been measured before a guest is shown any customer data, as one plain value.

What is covered: the driver's tier, remarks about what a host leaves unenforced that are not tolerated, and
whether the loaded system-call filter must have been read back. What was not told counts as missing.
What is not covered: whether the walls are as the sandbox was asked; `violations` of a measurement say that.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from runner.errors import SpecError

# Of each driver, by what an attacker has to break to be on the host. `policies/isolation` has the reasons.
TIERS: Final[Mapping[str, int]] = {"bubblewrap": 1, "oci": 2, "gvisor": 3}

MAX_DEMAND_BYTES: Final = 16 << 10
MAX_PREFIXES: Final = 32
MAX_PREFIX_CHARS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The least that is accepted; `forbidden_unenforced` are beginnings of remarks (`runner.sandbox.measure`)."""

    min_tier: int
    forbidden_unenforced: tuple[str, ...] = ()
    needs_measured_filter: bool = False


def encode_demand(demand: Demand) -> bytes:
    """`demand` as JSON; `parse_demand` gives the same value back."""
    return json.dumps(asdict(demand), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse_demand(data: bytes) -> Demand:
    """The demand that `encode_demand` wrote. Raises SpecError on anything else."""
    if len(data) > MAX_DEMAND_BYTES:
        raise SpecError(f"demand on the walls has {len(data)} bytes; at most {MAX_DEMAND_BYTES} are read")
    try:
        demand = read_demand(json.loads(data))
    except (ValueError, RecursionError) as error:
        raise SpecError(f"demand on the walls is not JSON: {error}") from error
    if encode_demand(demand) != data:
        raise SpecError("demand on the walls is not written as we write it")
    return demand


def read_demand(raw: object) -> Demand:
    """The demand in the JSON object `raw`, as it stands inside a sandbox spec. Raises SpecError."""
    names = {field.name for field in fields(Demand)}
    if not isinstance(raw, Mapping) or set(raw) != names:
        found = sorted(map(str, raw)) if isinstance(raw, Mapping) else type(raw).__name__
        raise SpecError(f"demand on the walls: found {found}; wanted {sorted(names)}")
    tier, prefixes, measured = (
        raw["min_tier"],
        raw["forbidden_unenforced"],
        raw["needs_measured_filter"],
    )
    if type(tier) is not int or tier not in TIERS.values():
        raise SpecError(f"demand on the walls: min_tier is {tier!r}; wanted one of {sorted(TIERS.values())}")
    if not isinstance(prefixes, list | tuple) or len(prefixes) > MAX_PREFIXES:
        raise SpecError(f"demand on the walls: forbidden_unenforced; wanted at most {MAX_PREFIXES} texts")
    if wrong := [prefix for prefix in prefixes if not is_prefix(prefix)]:
        raise SpecError(
            f"demand on the walls: {str(wrong[0])[:40]!r} is no beginning of a remark; "
            f"wanted 1 to {MAX_PREFIX_CHARS} printable characters"
        )
    if not isinstance(measured, bool):
        raise SpecError("demand on the walls: needs_measured_filter; wanted true or false")
    return Demand(min_tier=tier, forbidden_unenforced=tuple(prefixes), needs_measured_filter=measured)


def is_prefix(text: object) -> bool:
    """Whether `text` can be the beginning of a remark: an empty one would be the beginning of every one."""
    return isinstance(text, str) and 0 < len(text) <= MAX_PREFIX_CHARS and text.isprintable()


# Any: what `Walls.measure` tells; a reader of facts never trusts their shape.
def shortfalls(isolation_facts: Mapping[str, Any], demand: Demand) -> tuple[str, ...]:
    """Every way in which measured walls are less than `demand`, one sentence each; empty when in none."""
    return (
        *_tier_shortfalls(isolation_facts, demand.min_tier),
        *_remark_shortfalls(isolation_facts.get("unenforced"), demand.forbidden_unenforced),
        *_filter_shortfalls(isolation_facts.get("seccomp"), is_needed=demand.needs_measured_filter),
    )


def _tier_shortfalls(facts: Mapping[str, Any], wanted: int) -> tuple[str, ...]:
    driver, tier = facts.get("driver"), facts.get("tier")
    if type(tier) is not int or not isinstance(driver, str):
        return (f"the walls' driver and tier were not told; wanted tier {wanted} or higher",)
    if TIERS.get(driver) != tier:
        return (f"the walls are {driver} and call themselves tier {tier}; it is {TIERS.get(driver, 'none')}",)
    if tier < wanted:
        return (f"the walls are {driver}, tier {tier}; wanted tier {wanted} or higher",)
    return ()


def _remark_shortfalls(remarks: object, forbidden: tuple[str, ...]) -> tuple[str, ...]:
    if not forbidden:
        return ()
    if not isinstance(remarks, list | tuple) or not all(isinstance(remark, str) for remark in remarks):
        return ("what this host leaves unenforced was not told",)
    return tuple(
        f"this host leaves unenforced what must not be: {remark}"
        for remark in remarks
        if remark.startswith(forbidden)
    )


def _filter_shortfalls(seccomp: object, *, is_needed: bool) -> tuple[str, ...]:
    if not is_needed:
        return ()
    how = seccomp.get("sha256_is") if isinstance(seccomp, Mapping) else None
    if how == "measured":
        return ()
    return (f"the digest of the loaded system-call filter is {how or 'not told'}; wanted it measured",)
