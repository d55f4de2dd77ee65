"""What the name of a published repository says, by the tournament's own naming."""

import re
from dataclasses import dataclass
from datetime import datetime

from tournament_sync.champion import Channel

# G.O.D's repo_uploader writes the second and third form; the first is of July 2025.
_FORM = re.compile(
    r"god-(?P<channel>text|image|environment)-"
    r"(?:winner-(?P<old>tourn-[0-9a-f]{16}-[0-9]{8})"
    r"|(?P<new>tourn-[0-9a-f]{16}-[0-9]{8})-(?:position-(?P<position>[1-9][0-9]{0,3})|dedup-(?P<hotkey8>[0-9a-z]{8})))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryName:
    """`position` is 1 in the old form, for it named the winner, and None for a duplicate entry.

    `hotkey8`: the first 8 characters of a duplicate's hotkey, in lower case.
    """

    channel: Channel
    tournament_id: str
    position: int | None
    hotkey8: str | None


def parse_repository_name(name: str) -> RepositoryName | None:
    """What `name` says, None for a name of another form."""
    match = _FORM.fullmatch(name)
    if match is None:
        return None
    tournament_id = (match["old"] or match["new"]).replace("-", "_")
    if not _is_date(tournament_id[-8:]):
        return None
    return RepositoryName(
        channel=Channel(match["channel"]),
        tournament_id=tournament_id,
        position=1 if match["old"] else int(match["position"]) if match["position"] else None,
        hotkey8=match["hotkey8"],
    )


def _is_date(digits: str) -> bool:
    try:
        datetime.strptime(digits, "%Y%m%d")  # a date has no time zone
    except ValueError:
        return False
    return True
