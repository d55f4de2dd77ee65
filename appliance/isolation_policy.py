"""Which walls a data set's classification asks for: a table of ours as data, and the choice that follows from it.

A table and not Cedar: the question is a comparison on two ordered scales with a reason per step, whose answer is
a driver and a demand rather than yes or no; whoever wants to read it reads one page.

What is covered: the minimum tier, an order that asks for less, defaults that are less and are raised, what a
host must not leave unenforced.
What is not covered: whether the walls are there. The runner measures that, before it mounts any of the data.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NoReturn

from appliance.domain import ChosenWalls, Classification, Run
from appliance.errors import InvalidOrderError, PolicyError
from attestation.canonical import decode
from attestation.digest import sha256_hex
from attestation.errors import MalformedError
from runner.errors import SandboxUnavailableError, SpecError
from runner.isolation_demand import TIERS, Demand, encode_demand, parse_demand, read_demand

FOLDER: Final = "isolation"
FILE: Final = "tiers.json"
VERSION: Final = 1
MAX_POLICY_BYTES: Final = 64 << 10
MAX_REASON_CHARS: Final = 1000
DEFAULT_DRIVER: Final = "bubblewrap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What data of one classification needs, and why."""

    classification: Classification
    demand: Demand
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolationPolicy:
    """The rules, the reasons for the drivers' tiers, and the digest of the file that they were read from."""

    requirements: Mapping[Classification, Requirement]
    driver_reasons: Mapping[str, str]
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What an operator set: the drivers of orders that ask for none, and of evaluations."""

    driver: str = DEFAULT_DRIVER
    evaluation_driver: str = DEFAULT_DRIVER


def load_isolation_policy(policies_dir: Path) -> IsolationPolicy:
    """The rules in `policies_dir`. Raises PolicyError naming what is wrong, and then nothing is ordered or placed."""
    file = policies_dir / FOLDER / FILE
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_POLICY_BYTES + 1)
    except OSError as error:
        raise PolicyError(
            f"{file} cannot be read: {error.strerror}; copy the one that came with this release",
            checked="isolation policy",
        ) from error
    return parse_isolation_policy(data)


def parse_isolation_policy(data: bytes) -> IsolationPolicy:
    """The rules that `data` spells. Raises PolicyError."""
    try:
        raw = decode(data, max_bytes=MAX_POLICY_BYTES)
    except MalformedError as error:
        raise PolicyError(f"isolation policy: {error}", checked="isolation policy") from error
    whole = _object(raw, "the file", {"version", "drivers", "classifications"})
    if type(whole["version"]) is not int or whole["version"] != VERSION:
        _refuse(f"version is {str(whole['version'])[:20]}; wanted {VERSION}")
    requirements = [_requirement(row) for row in _rows(whole["classifications"], "classifications")]
    found = [requirement.classification for requirement in requirements]
    if found != list(Classification):
        _refuse(f"classifications are {', '.join(found)}; wanted {', '.join(Classification)}, in this order")
    for weaker, stricter in pairwise(requirements):
        _check_step(weaker, stricter)
    return IsolationPolicy(
        requirements={requirement.classification: requirement for requirement in requirements},
        driver_reasons=_driver_reasons(whole["drivers"]),
        sha256=sha256_hex(data),
    )


def choose_walls(
    policy: IsolationPolicy, classification: Classification, *, asked: str | None, defaults: Defaults
) -> ChosenWalls:
    """The drivers for an order that asks for `asked`, if for any.

    What is asked for is given or refused, with InvalidOrderError; a default that is too weak is raised to the
    weakest driver that will do. The evaluation reads the same data, so its walls are no weaker than training's.
    """
    requirement = policy.requirements[classification]
    minimum = _weakest_of(requirement.demand.min_tier)
    if asked is not None:
        _check_asked(asked, requirement, minimum=minimum)
    driver = asked or _stronger(defaults.driver, minimum)
    return ChosenWalls(
        classification=classification,
        driver=driver,
        evaluation_driver=_stronger(driver, defaults.evaluation_driver),
        demand=encode_demand(requirement.demand).decode(),
        policy_sha256=policy.sha256,
    )


def driver_of(run: Run) -> str:
    """What puts up the walls of the run's training: `SandboxSpec.driver`, never another one."""
    return DEFAULT_DRIVER if run.order.walls is None else run.order.walls.driver


def evaluation_driver_of(run: Run) -> str:
    """The same for its evaluation."""
    return DEFAULT_DRIVER if run.order.walls is None else run.order.walls.evaluation_driver


def demand_of(run: Run) -> Demand | None:
    """What must be measured before any data is mounted: `SandboxSpec.demand`. None for runs of an older home.

    Raises PolicyError if what is kept of it cannot be read.
    """
    if run.order.walls is None:
        return None
    try:
        return parse_demand(run.order.walls.demand.encode())
    except (SpecError, UnicodeEncodeError) as error:
        raise PolicyError(f"run {run.id}: {error}", checked="isolation demand") from error


def check_placement(run: Run, *, policy: IsolationPolicy, check_driver: Callable[[str], object]) -> None:
    """Return if `run` may be placed here now, with exactly the drivers that were chosen when it was ordered.

    `check_driver` raises SandboxUnavailableError, with the reason and the fix, for a driver that this host cannot
    give. Both are tried before anything starts: a model is not trained that cannot be evaluated.
    Raises InvalidOrderError for a run that the rules ask more for by now, or that this host cannot do.
    """
    walls = run.order.walls
    if walls is None:
        return
    wanted = policy.requirements[walls.classification].demand
    if demand_of(run) != wanted:
        raise InvalidOrderError(
            f"the isolation policy was changed after the run was ordered: {walls.classification} data needed"
            f" {walls.demand}, now {encode_demand(wanted).decode()}; submit it again",
            checked="isolation policy",
            found=walls.policy_sha256,
            wanted=policy.sha256,
        )
    for driver in sorted({walls.driver, walls.evaluation_driver}):
        try:
            check_driver(driver)
        except SandboxUnavailableError as error:
            raise InvalidOrderError(
                f"this host cannot put up the walls {driver}, and no others are taken instead: {error}",
                checked="driver",
                found=str(error),
                wanted=driver,
            ) from error


def _check_asked(asked: str, requirement: Requirement, *, minimum: str) -> None:
    will_do = [driver for driver, tier in TIERS.items() if tier >= requirement.demand.min_tier]
    if asked in will_do:
        return
    found = f"{asked}, tier {TIERS[asked]}" if asked in TIERS else f"{asked[:40]!r}, which is no driver"
    raise InvalidOrderError(
        f"driver is {found}; {requirement.classification} data needs tier {TIERS[minimum]} or higher"
        f" ({' or '.join(will_do)}): {requirement.reason}",
        checked="driver",
        found=found,
        wanted=" or ".join(will_do),
    )


def _weakest_of(min_tier: int) -> str:
    return min((d for d in TIERS if TIERS[d] >= min_tier), key=lambda driver: TIERS[driver])


def _stronger(one: str, other: str) -> str:
    return max((one, other), key=lambda driver: TIERS[driver])


def _requirement(raw: object) -> Requirement:
    own = {"classification", "reason"}
    asked = {"min_tier", "forbidden_unenforced", "needs_measured_filter"}
    row = _object(raw, "a classification", own | asked)
    name = row["classification"]
    if name not in list(Classification):
        _refuse(f"{str(name)[:40]!r} is no classification; wanted {', '.join(Classification)}")
    try:
        demand = read_demand({key: row[key] for key in asked})
    except SpecError as error:
        raise PolicyError(f"isolation policy: {name}: {error}", checked="isolation policy") from error
    return Requirement(
        classification=Classification(name),
        demand=demand,
        reason=_reason(row["reason"], of=name),
    )


def _check_step(weaker: Requirement, stricter: Requirement) -> None:
    """Nothing that a classification asks for is given up by a stricter one."""
    less, more = weaker.demand, stricter.demand
    given_up = [
        name
        for name, is_kept in (
            ("min_tier", less.min_tier <= more.min_tier),
            ("forbidden_unenforced", set(less.forbidden_unenforced) <= set(more.forbidden_unenforced)),
            ("needs_measured_filter", less.needs_measured_filter <= more.needs_measured_filter),
        )
        if not is_kept
    ]
    if given_up:
        _refuse(
            f"{stricter.classification} asks for less than {weaker.classification}: {', '.join(given_up)}"
        )


def _driver_reasons(raw: object) -> dict[str, str]:
    rows = [_object(row, "a driver", {"driver", "tier", "reason"}) for row in _rows(raw, "drivers")]
    found = [(row["driver"], row["tier"]) for row in rows]
    if found != list(TIERS.items()) or any(type(tier) is not int for _, tier in found):
        # Calling a driver stronger than it is would show it data that it must not have.
        _refuse(f"drivers are {str(found)[:200]}; wanted exactly {list(TIERS.items())}, in this order")
    return {row["driver"]: _reason(row["reason"], of=row["driver"]) for row in rows}


# Any: decoded JSON, checked where it is used.
def _object(raw: object, what: str, names: set[str]) -> dict[str, Any]:
    if not isinstance(raw, dict) or set(raw) != names:
        found = ", ".join(sorted(raw))[:200] if isinstance(raw, dict) else type(raw).__name__
        _refuse(f"{what} has {found or 'nothing'}; wanted {', '.join(sorted(names))}")
    return raw


def _rows(raw: object, what: str) -> list[Any]:
    if not isinstance(raw, list):
        _refuse(f"{what} is no list")
    return raw


def _reason(raw: object, *, of: str) -> str:
    if not isinstance(raw, str) or not 0 < len(raw) <= MAX_REASON_CHARS or not raw.isprintable():
        _refuse(f"{of}: reason; wanted 1 to {MAX_REASON_CHARS} printable characters")
    return raw


def _refuse(message: str) -> NoReturn:
    raise PolicyError(f"isolation policy: {message}", checked="isolation policy")
