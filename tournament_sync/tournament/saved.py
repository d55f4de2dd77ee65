"""Reads a tournament from a JSON file that somebody saved on a connected machine."""

import os
import stat
from pathlib import Path

from tournament_sync.champion import Channel
from tournament_sync.errors import SourceUnavailableError, TournamentError
from tournament_sync.tournament.details import (
    MAX_ANSWER_BYTES,
    TournamentDetails,
    parse_details,
    parse_latest,
)
from tournament_sync.tournament.foreign_json import decode_json


def read_saved(path: Path, *, max_bytes: int = MAX_ANSWER_BYTES) -> bytes:
    """The bytes of the regular file `path`, which may not be a link.

    Raises SourceUnavailableError if it cannot be read, TournamentError if it is too large.
    """
    try:
        # Non-blocking: a pipe without a writer would hold us.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise SourceUnavailableError(f"{path} is not a regular file")
            with open(handle, "rb", closefd=False) as file:
                data = file.read(max_bytes + 1)
        finally:
            os.close(handle)
    except (OSError, ValueError) as error:
        raise SourceUnavailableError(f"{path} cannot be read, links are not followed: {error}") from error
    if len(data) > max_bytes:
        raise TournamentError(f"{path} is over the limit of {max_bytes} bytes")
    return data


def saved_details(data: bytes, *, tournament_id: str) -> TournamentDetails:
    """That tournament from a saved answer: its own details, or those of the latest tournaments.

    Raises TournamentError, also if the answer is about others.
    """
    value = decode_json(data, max_bytes=MAX_ANSWER_BYTES)
    if isinstance(value, dict) and "burn_data" in value:
        latest = parse_latest(data)
        found = [details for channel in Channel if (details := latest.of(channel)) is not None]
    else:
        found = [parse_details(data)]
    for details in found:
        if details.tournament_id == tournament_id:
            return details
    told = ", ".join(details.tournament_id for details in found) or "no tournament"
    raise TournamentError(f"asked for {tournament_id[:80]}, the saved answer is about {told}")
