"""Which champion an order gets that names none: set by a person, never by adopting one."""

from types import MappingProxyType
from typing import Final

from sqlalchemy import Connection

from appliance.adoption import ChampionState, status_of
from appliance.assembly import Appliance
from appliance.champion_report import kept_report
from appliance.errors import ConflictError, InvalidOrderError
from appliance.home import checked_name
from appliance.store import defaults
from appliance.store.champions import ChampionRow
from appliance.store.defaults import ChampionDefault
from attestation.trust import TrustRoot
from audit.event import Event, EventKind
from audit.store import enqueue
from tournament_sync.champion import Channel
from tournament_sync.inspection.report import Support

# The tournament that a task type belongs to. Source: gradients-contract.md, 2.1 and 5.3.
CHANNEL_OF_TASK: Final = MappingProxyType(
    {
        "InstructTextTask": Channel.TEXT,
        "DpoTask": Channel.TEXT,
        "GrpoTask": Channel.TEXT,
        "ChatTask": Channel.TEXT,
        "ImageTask": Channel.IMAGE,
        "EnvTask": Channel.ENVIRONMENT,
    }
)


def set_default(
    appliance: Appliance, *, channel: str, task_type: str, champion: ChampionRow, actor: str
) -> None:
    """Make `champion` what orders of `task_type` get in `channel` that name no champion.

    Raises InvalidOrderError for a task type of another channel, ConflictError for a champion that is not
    adopted, is of another channel, or whose report says that it cannot do such tasks; "unknown" is a risk that
    whoever sets the default takes.
    """
    checked_name(actor)
    _check_task(channel, task_type)
    default = ChampionDefault(
        channel=channel,
        task_type=task_type,
        champion=champion.manifest_sha256,
        set_by=actor,
        set_at=appliance.clock.now(),
    )
    event = Event(
        kind=EventKind.CHAMPION_DEFAULT,
        subject=champion.manifest_sha256,
        actor=actor,
        at=default.set_at,
        detail={"channel": channel, "name": champion.name, "task": task_type},
    )
    trust = appliance.home.trust()
    with appliance.engine.begin() as connection:
        _check_fit(connection, champion, channel=channel, task_type=task_type, trust=trust)
        defaults.put(connection, default)
        enqueue(connection, event)


def default_for(connection: Connection, *, channel: str, task_type: str) -> ChampionDefault | None:
    """The default, whatever became of its champion since: an order of it is checked like any other."""
    return defaults.get(connection, channel=channel, task_type=task_type)


def _check_task(channel: str, task_type: str) -> None:
    wanted = CHANNEL_OF_TASK.get(task_type)
    if wanted is None or wanted != channel:
        found = "no task type of any" if wanted is None else f"a task type of {wanted}, not of {channel}"
        raise InvalidOrderError(
            f"{task_type[:80]} is {found}",
            checked="task type",
            found=task_type[:80],
            wanted=" or ".join(name for name, of in CHANNEL_OF_TASK.items() if of == channel),
        )


def _check_fit(
    connection: Connection, champion: ChampionRow, *, channel: str, task_type: str, trust: TrustRoot
) -> None:
    status = status_of(connection, champion, trust=trust)
    if status.state is not ChampionState.ADOPTED:
        raise ConflictError(f"{champion.name} is {status.state}; only an adopted champion can be a default")
    if champion.channel != channel:
        raise ConflictError(f"{champion.name} is of channel {champion.channel}, not of {channel}")
    report = kept_report(connection, champion.manifest_sha256, trust=trust)
    # A report may have a task type in several kinds, "ImageTask (flux)": one that it can do is enough.
    rows = () if report is None else report.capabilities
    of_task = [row for row in rows if row.task_type.partition(" ")[0] == task_type]
    if of_task and all(row.support is Support.NO for row in of_task):
        raise ConflictError(f"{champion.name} cannot do {task_type}: {of_task[0].reason}")
