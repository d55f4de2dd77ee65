"""Nine walls around a guest, each judged by what was measured of it and told in words for somebody who is no
engineer.

What is covered: each wall from the facts that speak of it, whatever their shape: a fact that is missing or of
another shape is "not told", and never counts as good.
What is not covered: what was asked in detail; the runner compared that before the start, as `violations` say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from appliance.isolation_asked import strange_variables, untried_writes
from appliance.isolation_readings import bounds, bytes_out, is_mount, is_of_kernel, mount_row, not_refused
from appliance.measured_facts import (
    Facts,
    Row,
    amount,
    fact,
    hexadecimal,
    integers,
    is_positive,
    items,
    listed,
    map_rows,
    rows_of,
    shown,
)
from attestation.weak_walls import ADDRESSES, weak_devices, weak_mounts

_CAPABILITY_SETS: Final = frozenset({"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"})
_NAMESPACES: Final = frozenset({"ipc", "mnt", "net", "pid", "user", "uts"})
_PROFILES: Final = ("champion", "strict")
_BOUNDS: Final = ("memory_bytes", "pids", "cpu_quota_us")
_SECCOMP_FILTER_MODE: Final = 2


class State(StrEnum):
    """How a wall stood when it was measured."""

    HELD = "held"
    PARTLY = "partly"
    NOT_TOLD = "not told"
    BROKEN = "broken"


class Section(StrEnum):
    """Where on the screen a wall is told."""

    IDENTITY = "Who it was on the host"
    KERNEL = "Kernel interface"
    FILES = "What it saw"
    NETWORK = "Network"
    LIMITS = "Limits"
    DEVICES = "Devices and GPUs"
    MEASURED = "How this is known"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wall:
    """One wall: how it stood, in one sentence, and the facts behind that."""

    section: Section
    name: str
    state: State
    sentence: str
    rows: tuple[Row, ...]


def judge_walls(
    facts: Facts, *, asked: Mapping[str, int] | None, environment: frozenset[str] | None = None
) -> tuple[Wall, ...]:
    """All nine, in the order of the screen. `asked` are the limits of the order, None if they are not at hand.

    `environment` are the names of the variables of the order, None if they are not at hand.
    """
    return (
        _identity(facts),
        _privileges(facts),
        _system_calls(facts),
        _namespaces(facts),
        _files(facts),
        _network(facts),
        _limits(facts, asked),
        _devices(facts, is_order_known=asked is not None, environment=environment),
        _measurement(facts),
    )


def _identity(facts: Facts) -> Wall:
    state, sentence = State.NOT_TOLD, "Who it was on this machine is not told in full."
    processes = _processes(facts)
    is_own, users = fact(facts, "own_user_id"), integers(fact(facts, "uids"))
    if any(map(_is_administrator, processes)):
        state, sentence = State.BROKEN, "It had an id of this machine's administrator."
    elif users and all(map(_has_told_ids, processes)) and isinstance(is_own, bool):
        state = State.HELD if is_own else State.PARTLY
        sentence = (
            f"It was user {users[0]} of this machine, who owns nothing there, whatever it called itself."
        )
        if not is_own:
            sentence = f"It was user {users[0]} of this machine, as whom the appliance itself runs."
    rows = (
        *rows_of(facts, "uids", "gids", "groups", "uid_map", "gid_map", "own_user_id"),
        *_gofer_rows(facts, "uids", "uid_map"),
    )
    return Wall(
        section=Section.IDENTITY, name="Nobody on the host", state=state, sentence=sentence, rows=rows
    )


def _privileges(facts: Facts) -> Wall:
    state, sentence = State.NOT_TOLD, "Which privileges it had is not told in full."
    sets = fact(facts, "capabilities")
    values = [hexadecimal(value) for value in sets.values()] if isinstance(sets, Mapping) else []
    sealed = [fact(process, "no_new_privs") for process in _processes(facts)]
    if any(values) or False in sealed:
        state, sentence = State.BROKEN, "It had a privilege, or a way to gain one."
    elif (
        isinstance(sets, Mapping)
        and sets.keys() >= _CAPABILITY_SETS
        and None not in values
        and all(value is True for value in sealed)
    ):
        state, sentence = (
            State.HELD,
            "It had no privilege of an administrator and no program could give it one.",
        )
    rows = (
        *rows_of(facts, "capabilities", "no_new_privs", "oom_score_adj"),
        *_gofer_rows(facts, "capabilities", "no_new_privs"),
    )
    return Wall(section=Section.IDENTITY, name="No privileges", state=state, sentence=sentence, rows=rows)


def _system_calls(facts: Facts) -> Wall:
    filters = [fact(process, "seccomp") for process in _processes(facts)]
    state, sentence = State.NOT_TOLD, "Which system calls it could make is not told in full."
    if any(map(_is_unfiltered, filters)):
        state, sentence = State.BROKEN, "It could make any system call: no filter was loaded."
    elif any(map(_is_another_filter, filters)):
        state, sentence = State.BROKEN, "Another filter of system calls was loaded than was wanted."
    elif all(_is_read_back(one, has_own_kernel=_has_own_kernel(facts)) for one in filters):
        state = State.HELD
        sentence = "It could make listed system calls only; the list was read back from the kernel."
        if _has_own_kernel(facts):
            sentence = "A kernel of its own answered its calls, and could make listed calls only; read back."
    elif all(_is_filtered(one) for one in filters):
        state = State.PARTLY
        sentence = "A filter of system calls was loaded; that it is the wanted one was not read back."
    names = ("mode", "filters", "sha256", "sha256_is", "wanted_sha256")
    rows = (
        *(Row(name=f"seccomp {name}", value=shown(fact(facts, "seccomp", name))) for name in names),
        *_gofer_rows(facts, "seccomp"),
    )
    return Wall(section=Section.KERNEL, name="Few system calls", state=state, sentence=sentence, rows=rows)


def _namespaces(facts: Facts) -> Wall:
    own, with_whom = fact(facts, "namespaces", "own"), fact(facts, "namespaces", "compared_with")
    state, sentence = State.NOT_TOLD, "Whether it had views of its own of the system is not told in full."
    shared = sorted(name for name, value in items(own) if value is False)
    if shared:
        state, sentence = State.BROKEN, f"It shared the host's view of: {', '.join(shared)}."
    elif isinstance(own, Mapping) and own.keys() >= _NAMESPACES and all(v is True for v in own.values()):
        state = State.HELD
        sentence = "Processes, files, network, users, names and memory of others were out of its sight."
    rows = (
        Row(name="namespaces of its own", value=shown(own)),
        Row(name="compared with", value=shown(with_whom)),
    )
    return Wall(section=Section.KERNEL, name="A view of its own", state=state, sentence=sentence, rows=rows)


def _files(facts: Facts) -> Wall:
    mounts, tries = fact(facts, "mounts"), fact(facts, "inside", "write_tries")
    state, sentence = State.NOT_TOLD, "What it could read and write is not told in full."
    table = [m for m in mounts if is_mount(m)] if isinstance(mounts, list) else []
    is_whole = bool(table) and isinstance(mounts, list) and len(table) == len(mounts)
    written = not_refused(tries)
    if written:
        state, sentence = State.BROKEN, f"It could write where it must not: {', '.join(written)}."
    elif left := listed(fact(facts, "after", "remnants")):
        state, sentence = State.BROKEN, f"What was its own is left on the host: {shown(left)}."
    elif weak := list(weak_mounts({**_who(facts), "mounts": table})) if table else []:
        state, sentence = State.BROKEN, f"What it saw was mounted weaker than it must be: {shown(weak)}."
    elif (
        is_whole
        and isinstance(tries, Mapping)
        and tries
        and fact(facts, "profile") in _PROFILES
        and (fact(facts, "after") is None or isinstance(fact(facts, "after", "remnants"), list))
        and not untried_writes(facts, table, tries)
    ):
        writable = [m["target"] for m in table if "ro" not in m["flags"] and not is_of_kernel(m)]
        state = State.HELD
        sentence = f"It saw {len(table)} mounts and could write to {len(writable)}; what it tried besides was refused."
    rows = (
        *(mount_row(m) for m in table if not is_of_kernel(m)),
        Row(name="of the kernel", value=shown([m["target"] for m in table if is_of_kernel(m)] or None)),
        Row(name="writes tried from inside", value=shown(tries)),
        Row(name="why they were refused", value=shown(fact(facts, "inside", "write_reasons"))),
    )
    return Wall(
        section=Section.FILES, name="Only what it was given", state=state, sentence=sentence, rows=rows
    )


def _network(facts: Facts) -> Wall:
    interfaces, routes = fact(facts, "interfaces"), fact(facts, "routes")
    tries = fact(facts, "inside", "connect_tries")
    before, seen = fact(facts, "network_bytes"), fact(facts, "inside", "interfaces")
    after = fact(facts, "after", "network_bytes")
    state, sentence = State.NOT_TOLD, "Whether it had a network is not told in full."
    reached, moved = not_refused(tries), sum(map(bytes_out, (before, seen, after)))
    names = {*map(str, listed(interfaces)), *(name for name, _ in items(seen))}
    if reached:
        state, sentence = State.BROKEN, f"A connection out of it succeeded: {', '.join(reached)}."
    elif names - {"lo"} or moved or is_positive(routes):
        state, sentence = State.BROKEN, "It had a network besides its own loopback."
    elif (
        isinstance(interfaces, list)
        and type(routes) is int
        and all(isinstance(one, Mapping) for one in (tries, before, seen, after))
        and all(address in tries for address in ADDRESSES)
    ):
        state = State.HELD if after else State.PARTLY
        sentence = f"It had no network: {len(tries)} connections were tried from inside and all refused."
        if not after:
            sentence = "It had no network when it began; what had passed at its end was not counted."
    rows = (
        Row(name="interfaces", value=shown(interfaces)),
        Row(name="routes that lead out", value=shown(routes)),
        Row(name="connections tried from inside", value=shown(tries)),
        Row(name="bytes before", value=shown(before)),
        Row(name="bytes after", value=shown(after)),
    )
    return Wall(section=Section.NETWORK, name="No network", state=state, sentence=sentence, rows=rows)


def _limits(facts: Facts, ordered: Mapping[str, int] | None) -> Wall:
    version, joined = fact(facts, "cgroup"), fact(facts, "cgroup_joined")
    group, process, asked = fact(facts, "cgroup_limits"), fact(facts, "limits"), ordered or {}
    # Behind gVisor there is room for the walls' own tasks.
    widened = {n: v for n, v in items(fact(facts, "cgroup_wanted")) if n == "pids" and _has_own_kernel(facts)}
    most = {**asked, **{n: v for n, v in widened.items() if n in asked and type(v) is int}}
    state, sentence = State.NOT_TOLD, "Which limits it had is not told in full."
    found = dict(zip(_BOUNDS, bounds(group), strict=True))
    over = [name for name, limit in most.items() if type(n := found.get(name)) is int and not 0 < n <= limit]
    is_told = type(fact(process, "core_bytes")) is int and is_positive(fact(process, "open_files"))
    is_ended, survivors = fact(facts, "after") is not None, fact(facts, "after", "survivors")
    if is_positive(survivors):
        state, sentence = State.BROKEN, f"{survivors} of its processes lived when its output was taken."
    elif fact(process, "core_bytes") not in (None, 0):
        state, sentence = State.BROKEN, "It could leave an image of its memory behind."
    elif version in ("v1", "v2") and (joined is False or over):
        state, sentence = (
            State.BROKEN,
            f"A limit was not the one asked for: {', '.join(over) or 'none held it'}.",
        )
    elif not is_told or ordered is None or (is_ended and type(survivors) is not int):
        pass
    elif version == "none":
        state, sentence = State.PARTLY, "Each of its processes was limited, all of them together were not."
    elif version in ("v1", "v2") and joined is True and all(map(is_positive, found.values())):
        state, sentence = State.HELD, "Memory, processes and processor time were limited as a whole."
    told = sorted({*asked, *(group if isinstance(group, Mapping) else ())})
    rows = (
        Row(name="control group", value=shown(version)),
        *(
            Row(name=name, value=f"asked {amount(name, asked.get(name))}, found {_found(name, facts)}")
            for name in told
        ),
        *(Row(name=f"{name}, with the walls' own", value=shown(value)) for name, value in widened.items()),
        Row(name="limits of each process", value=shown(process)),
    )
    return Wall(section=Section.LIMITS, name="Limits that bite", state=state, sentence=sentence, rows=rows)


def _devices(facts: Facts, *, is_order_known: bool, environment: frozenset[str] | None) -> Wall:
    opened, gpus, nodes = (fact(facts, name) for name in ("open_files", "gpus", "devices"))
    variables = fact(facts, "environment_names")
    strange = strange_variables(listed(variables), asked=environment)
    state, sentence = State.NOT_TOLD, "Which devices it had is not told in full."
    if isinstance(opened, list) and set(map(str, opened)) - {"0", "1", "2"}:
        state, sentence = State.BROKEN, "It was handed an open file of the host besides its input and output."
    elif weak := list(weak_devices(map(str, listed(nodes)), has_gpus=bool(listed(gpus)))):
        state, sentence = State.BROKEN, f"It had a device that was not granted: {shown(weak)}."
    elif strange or fact(facts, "environment_as_asked") is False:
        state, sentence = (
            State.BROKEN,
            f"It was told what was not meant for it: {', '.join(strange) or 'another environment'}.",
        )
    elif (
        opened == [0, 1, 2]
        and all(isinstance(one, list) for one in (gpus, nodes, variables))
        and is_order_known
    ):
        granted = f"{len(gpus) or 'no'} GPU{'s' * (len(gpus) != 1)}"
        state = State.HELD
        sentence = f"It had {granted}, {len(nodes)} device nodes, and no open file of the host."
    rows = (
        *(Row(name=f"GPU {number}", value=shown(gpu)) for number, gpu in enumerate(listed(gpus), 1)),
        Row(name="GPUs", value=shown(len(gpus) if isinstance(gpus, list) else None)),
        Row(name="device nodes", value=shown(nodes)),
        *rows_of(facts, "open_files", "environment_names"),
    )
    return Wall(
        section=Section.DEVICES, name="Only granted devices", state=state, sentence=sentence, rows=rows
    )


def _measurement(facts: Facts) -> Wall:
    same, gate = fact(facts, "same_process"), fact(facts, "gate")
    state, sentence = State.NOT_TOLD, "Whether the right process was measured is not told."
    if same is False:
        state, sentence = State.BROKEN, "Another process took the place of the measured one."
    elif same is True and isinstance(gate, str) and gate and isinstance(fact(facts, "inside"), Mapping):
        state = State.HELD
        sentence = "A program of ours waited in its place while it was measured from outside and from inside."
    rows = rows_of(facts, "gate", "same_process", "inputs_mounted")
    return Wall(section=Section.MEASURED, name="Measured in place", state=state, sentence=sentence, rows=rows)


def _who(facts: Facts) -> dict[str, Any]:
    """What the rules about mounts ask for; whatever is not told is taken for the strictest."""
    return {
        "driver": str(fact(facts, "driver")),
        "profile": str(fact(facts, "profile")),
        "gpus": listed(fact(facts, "gpus")),
    }


def _has_own_kernel(facts: Facts) -> bool:
    return bool(fact(facts, "driver") == "gvisor")


def _processes(facts: Facts) -> list[Any]:
    """Whatever stands for the guest on the host; behind gVisor also what opens its files."""
    return [facts, fact(facts, "gofer")] if _has_own_kernel(facts) else [facts]


def _is_administrator(process: object) -> bool:
    ids = [
        number
        for name in ("uids", "gids", "groups")
        for number in integers(fact(process, name), may_be_empty=True) or ()
    ]
    maps = [map_rows(fact(process, name)) for name in ("uid_map", "gid_map")]
    return 0 in ids or any(row[1] == 0 for table in maps for row in table or ())


def _has_told_ids(process: object) -> bool:
    return (
        all(integers(fact(process, name)) for name in ("uids", "gids"))
        and integers(fact(process, "groups"), may_be_empty=True) is not None
        and all(map_rows(fact(process, name)) for name in ("uid_map", "gid_map"))
    )


def _is_unfiltered(seccomp: object) -> bool:
    mode = fact(seccomp, "mode")
    return type(mode) is int and (mode != _SECCOMP_FILTER_MODE or fact(seccomp, "filters") == 0)


def _is_filtered(seccomp: object) -> bool:
    how, loaded = fact(seccomp, "sha256_is"), fact(seccomp, "sha256")
    is_told = isinstance(how, str) and (how != "measured" or isinstance(loaded, str))
    return is_told and bool(fact(seccomp, "mode") == _SECCOMP_FILTER_MODE)


def _is_another_filter(seccomp: object) -> bool:
    loaded, wanted = fact(seccomp, "sha256"), fact(seccomp, "wanted_sha256")
    return isinstance(loaded, str) and isinstance(wanted, str) and loaded != wanted


def _is_read_back(seccomp: object, *, has_own_kernel: bool) -> bool:
    """gVisor's filters are its own: there is none that was wanted, to compare them with."""
    loaded, wanted = fact(seccomp, "sha256"), fact(seccomp, "wanted_sha256")
    is_as_wanted = bool(loaded == wanted) or (has_own_kernel and wanted is None)
    return _is_filtered(seccomp) and fact(seccomp, "sha256_is") == "measured" and is_as_wanted


def _gofer_rows(facts: Facts, *names: str) -> tuple[Row, ...]:
    if not _has_own_kernel(facts):
        return ()
    return tuple(
        Row(name=f"{name.replace('_', ' ')} of what opens its files", value=shown(fact(facts, "gofer", name)))
        for name in names
    )


def _found(name: str, facts: Facts) -> str:
    return amount(name, fact(facts, "cgroup_limits", name))
