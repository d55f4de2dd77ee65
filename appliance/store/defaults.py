"""The champion that an order gets which names none, per channel and task type."""

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from appliance.store.tables import champion_default as default_table


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionDefault:
    """`champion` is the manifest's root digest."""

    channel: str
    task_type: str
    champion: str
    set_by: str
    set_at: datetime


def put(conn: Connection, default: ChampionDefault) -> None:
    """Make it the default of its channel and task type; the log keeps what was before."""
    place = (
        default_table.c.channel == default.channel,
        default_table.c.task_type == default.task_type,
    )
    conn.execute(delete(default_table).where(*place))
    conn.execute(insert(default_table).values(asdict(default)))


def get(conn: Connection, *, channel: str, task_type: str) -> ChampionDefault | None:
    """The default, whatever became of its champion since; None if nobody set one."""
    place = (default_table.c.channel == channel, default_table.c.task_type == task_type)
    row = conn.execute(select(default_table).where(*place)).one_or_none()
    return None if row is None else ChampionDefault(**row._asdict())


def list_defaults(conn: Connection) -> tuple[ChampionDefault, ...]:
    """All defaults, by channel and task type."""
    query = select(default_table).order_by(default_table.c.channel, default_table.c.task_type)
    return tuple(ChampionDefault(**row._asdict()) for row in conn.execute(query))
