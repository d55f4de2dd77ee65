"""`--tournament`: what the tournament's API says about a champion, asked now or from a saved answer."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.output import progress
from appliance.errors import InvalidOrderError

if TYPE_CHECKING:
    from tournament_sync.tournament.details import TournamentDetails

TournamentOption = Annotated[
    str | None,
    typer.Option(
        "--tournament",
        metavar="URL|FILE",
        help="The tournament's API (https://HOST, nothing behind), or a saved answer of it, to compare.",
    ),
]


def read_tournament(where: str | None, *, name: str) -> "TournamentDetails | None":
    """What is said about the tournament that the champion `name` is named after; None if nobody is to be asked.

    Raises InvalidOrderError for a name that is not after a tournament, SyncError.
    """
    from tournament_sync.errors import TournamentError
    from tournament_sync.tournament.api import TournamentApi
    from tournament_sync.tournament.repository_name import parse_repository_name
    from tournament_sync.tournament.saved import read_saved, saved_details

    if where is None:
        return None
    named = parse_repository_name(name)
    if named is None:
        raise InvalidOrderError(
            f"{name} does not say of which tournament it is, so nothing can be compared",
            checked="--tournament",
            wanted="a name like god-text-tourn-<16 hex digits>-<date>-position-<n>",
        )
    if where.startswith(("http://", "https://")):
        with progress(f"asking {where}"):
            return TournamentApi(where).details(named.tournament_id)
    saved = read_saved(Path(where))
    try:
        return saved_details(saved, tournament_id=named.tournament_id)
    except TournamentError as error:
        raise TournamentError(f"{where}: {error}") from error
