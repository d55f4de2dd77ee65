"""What the walls around a run were, as one plain value: the screen of a compliance officer, in every form.

Champions are the work of Gradients.io's participants (https://gradients.io).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from pydantic import TypeAdapter

from appliance.domain import Run
from appliance.dossier import ATTRIBUTION
from appliance.isolation_walls import Section, State, Wall, judge_walls
from appliance.measured_facts import Facts, Row, fact, shown
from runner.isolation_demand import TIERS

MAX_REMARKS: Final = 100
NOT_TOLD_WHETHER: Final = "whether anything was left unenforced is not told"

# Beginnings of remarks and why they matter; a remark that is not listed is told without a reason.
WHY_IT_MATTERS: Final[Mapping[str, str]] = {
    "cpu_millis": "it could take processor time from other work on this machine; it could not read more",
    "memory_bytes": "many processes together could take more memory than was granted, and crowd out other work",
    "pids": "it could start more processes than were granted, and crowd out other work",
    "user id": "a hole in the other walls would lead to what the appliance's own user may read",
    "groups": "a hole in the other walls would lead to what these groups may read",
    "seccomp": "that exactly this filter was loaded is the appliance's word, not a measurement",
    "gVisor's kernel alone": "these hold as long as that kernel does; the control group bounds all of it together",
    "devices": "a device node that reached its /dev could be opened; it can make none itself",
    "swap": "parts of its memory could be written to this machine's disk",
    "/dev takes files": "what it writes there counts as its memory, and is gone afterwards",
}
NO_REASON: Final = "see docs/threat-model.md"
NOT_PROVED: Final = (
    "A kernel or an administrator of this machine that was taken over can lie about all of it; only attestation by"
    " the hardware would tell.",
    "The model itself can carry what was in the data: whoever gets the model may get parts of them.",
    "Times come from this machine's own clock.",
    "Timing, heat and power can tell something to whoever shares the machine at the same time.",
)
SHARED_KERNEL: Final = (
    "Host and champion shared one kernel: a flaw of it, reached by an allowed call, would be a way out."
)
OWN_KERNEL: Final = (
    "A program answered for the kernel: a flaw of it, and then one of the host's kernel, would be a way out."
)
SHARED_GPU_DRIVER: Final = "The GPU driver is the host's: a flaw of it would be a way out."


class Purpose(StrEnum):
    """Which of a run's two guests."""

    TRAIN = "train"
    EVALUATE = "evaluate"


GUESTS: Final[Mapping[Purpose, str]] = {
    Purpose.TRAIN: "the champion",
    Purpose.EVALUATE: "the evaluation",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is known of one guest's walls, and how. `asked` are limits; None: they are not at hand.

    `environment` are the names of the ordered variables; None: those named like secrets are told.
    """

    purpose: Purpose
    facts: Facts
    is_signed: bool
    source: str  # for a person: the claim's digest, or that there is none yet
    asked: Mapping[str, int] | None
    environment: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """Something that was not enforced, and why that matters."""

    remark: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestWalls:
    """The walls around one guest. `violations` stopped it before it ran."""

    purpose: Purpose
    guest: str
    verdict: str
    state: State
    source: str
    is_signed: bool
    measured_at: str | None
    released_at: str | None
    walls: tuple[Wall, ...]
    host: tuple[Row, ...]
    violations: tuple[str, ...]
    unenforced: tuple[Remark, ...]
    not_proved: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolationReport:
    """The screen: what was asked, then each guest."""

    run_id: str
    champion: str | None
    asked: tuple[Row, ...]
    guests: tuple[GuestWalls, ...]
    attribution: str = ATTRIBUTION


def isolation_report(run: Run, found: tuple[Found, ...], *, champion: str | None) -> IsolationReport:
    """What `found` says of the run's guests. Pure."""
    return IsolationReport(
        run_id=run.id, champion=champion, asked=_asked(run), guests=tuple(map(_guest, found))
    )


def plain(report: IsolationReport) -> dict[str, Any]:  # Any: plain JSON
    """`report` as the API writes it; `parse_report` gives the same value back."""
    written: dict[str, Any] = TypeAdapter(IsolationReport).dump_python(report, mode="json")
    return written


def parse_report(answer: object) -> IsolationReport:
    """The report that the API wrote. Raises ValueError for anything else."""
    return TypeAdapter(IsolationReport).validate_python(answer)


def sections(guest: GuestWalls) -> tuple[tuple[Section, tuple[Wall, ...]], ...]:
    """The guest's walls by the part of the screen that tells of them."""
    return tuple(
        (section, walls)
        for section in Section
        if (walls := tuple(wall for wall in guest.walls if wall.section is section))
    )


def _asked(run: Run) -> tuple[Row, ...]:
    walls = run.order.walls
    if walls is None:
        return (Row(name="policy", value="ordered before data sets were classified"),)
    return (
        Row(name="classification of the data", value=walls.classification.value),
        Row(name="walls", value=f"{walls.driver}, tier {shown(TIERS.get(walls.driver))}"),
        Row(
            name="walls of the evaluation",
            value=f"{walls.evaluation_driver}, tier {shown(TIERS.get(walls.evaluation_driver))}",
        ),
        Row(name="isolation policy", value=f"sha256:{walls.policy_sha256}"),
    )


def _guest(found: Found) -> GuestWalls:
    walls = judge_walls(found.facts, asked=found.asked, environment=found.environment)
    violations = _texts(fact(found.facts, "violations"))
    return GuestWalls(
        purpose=found.purpose,
        guest=GUESTS[found.purpose],
        verdict=_verdict(found, walls, violations),
        state=_state(walls, violations),
        source=found.source,
        is_signed=found.is_signed,
        measured_at=_text(fact(found.facts, "measured_at")),
        released_at=_text(fact(found.facts, "released_at")),
        walls=walls,
        host=_host(found.facts),
        violations=violations or (),
        unenforced=_unenforced(found.facts),
        not_proved=_not_proved(found.facts),
    )


def _state(walls: tuple[Wall, ...], violations: tuple[str, ...] | None) -> State:
    """The worst of all walls; nobody having said whether they are as asked is as bad as one that is not told."""
    states = {wall.state for wall in walls} | ({State.NOT_TOLD} if violations is None else set())
    if violations:
        return State.BROKEN
    return max(states, key=list(State).index)


def _verdict(found: Found, walls: tuple[Wall, ...], violations: tuple[str, ...] | None) -> str:
    who = GUESTS[found.purpose]
    counts = {state: sum(wall.state is state for wall in walls) for state in State}
    parts = [f"{counts[State.HELD]} of {len(walls)} walls held"]
    parts += [f"{n} {state.value}" for state, n in counts.items() if n and state is not State.HELD]
    when = f"measured at {_text(fact(found.facts, 'measured_at')) or 'a time that is not told'}"
    if walls[-1].state is State.HELD:
        when += f", before {who}'s first instruction"
    verdict = f"{', '.join(parts)}; {when}"
    if violations is None:
        return f"{verdict}; whether they were as asked is not told"
    if violations:
        return f"{who.capitalize()} was not started: its walls were weaker than asked. {verdict}"
    return verdict


def _host(facts: Facts) -> tuple[Row, ...]:
    host = fact(facts, "host")
    known = ("kernel", "machine", "cpu", "security_modules", "lockdown")
    more = sorted(set(host) - set(known)) if isinstance(host, Mapping) else ()
    image = fact(facts, "image")
    has_none = isinstance(facts, Mapping) and "image" in facts and image is None
    return (
        Row(name="driver", value=shown(fact(facts, "driver"))),
        Row(name="version", value=shown(fact(facts, "driver_version"))),
        Row(name="tier", value=shown(fact(facts, "tier"))),
        Row(name="profile", value=shown(fact(facts, "profile"))),
        Row(name="image", value="none: the appliance's own environment" if has_none else shown(image)),
        *(Row(name=name.replace("_", " "), value=shown(fact(host, name))) for name in (*known, *more)),
        *_gpu_rows(facts),
        Row(name="usage", value=shown(fact(facts, "after", "usage"))),
        Row(name="processes left at the end", value=shown(fact(facts, "after", "survivors"))),
        Row(name="left on the host", value=shown(fact(facts, "after", "remnants"))),
    )


def _gpu_rows(facts: Mapping[str, Any]) -> tuple[Row, ...]:
    """What NVML said of the granted devices; no row of its own where none was granted."""
    if fact(facts, "gpus") == []:
        return (Row(name="GPUs", value="none granted"),)
    told = fact(facts, "gpu_facts")
    devices = fact(facts, "gpu_facts", "devices")
    rows = [Row(name="GPU driver", value=shown(fact(facts, "gpu_facts", "driver")))] if told else []
    rows.append(
        Row(name="confidential computing", value=shown(fact(facts, "gpu_facts", "confidential_computing")))
    )
    for device in devices if isinstance(devices, list) else []:
        name = str(fact(device, "uuid"))[:80] if isinstance(device, Mapping) else "GPU"
        rows.append(Row(name=name, value=shown(device)))
    return tuple(rows)


def _unenforced(facts: Facts) -> tuple[Remark, ...]:
    remarks = _texts(fact(facts, "unenforced"))
    if remarks is None:
        return (Remark(remark=NOT_TOLD_WHETHER, why=NO_REASON),)
    return tuple(Remark(remark=remark, why=_why(remark)) for remark in remarks)


def _why(remark: str) -> str:
    return next((why for begin, why in WHY_IT_MATTERS.items() if remark.startswith(begin)), NO_REASON)


def _not_proved(facts: Facts) -> tuple[str, ...]:
    kernel = OWN_KERNEL if fact(facts, "driver") == "gvisor" else SHARED_KERNEL
    return (kernel, *((SHARED_GPU_DRIVER,) if fact(facts, "gpus") else ()), *NOT_PROVED)


def _text(value: object) -> str | None:
    return shown(value) if isinstance(value, str) and value else None


def _texts(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list | tuple):
        return None
    return tuple(shown(text) for text in value[:MAX_REMARKS])
