"""The tournament API's answers as values, from bytes that nobody signed.

Covered: size, depth, duplicate keys, types and bounds of every field that is kept, agreement of an answer
with itself. Not covered: whether it is true (tournament_sync.tournament.crosscheck compares).
Fields that Assay does not use are not kept: among them what participants wrote themselves, and tokens.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config

from tournament_sync.champion import Channel
from tournament_sync.errors import TournamentError
from tournament_sync.tournament.foreign_json import decode_json

MAX_ANSWER_BYTES = 8 << 20  # three tournaments with all their scores have about 1 MB
MAX_PARTICIPANTS = 4096  # a tournament has 4 to 40; the network has 256 places
MAX_POSITION = 9999
TOURNAMENT_ID_PATTERN = r"tourn_[0-9a-f]{16}_[0-9]{8}"

# A public format: what we do not know is left alone.
_FOREIGN = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)
_MAX_FOUND_CHARS = 60

TournamentId = Annotated[str, Field(pattern=f"^{TOURNAMENT_ID_PATTERN}$")]
RoundId = Annotated[str, Field(pattern=f"^{TOURNAMENT_ID_PATTERN}_round_[0-9]{{3,6}}$")]
Hotkey = Annotated[str, Field(pattern="^[1-9A-HJ-NP-Za-km-z]{46,49}$")]  # SS58: base58 of 35 bytes or so
# Participants choose it, so one of them could keep everybody else's answer from being read: bounded only.
ClaimedCommit = Annotated[str, Field(max_length=4096)]
# Set by the tournament itself. No user name: a token may stand there.
RepositoryUrl = Annotated[
    str, Field(max_length=300, pattern=r"^https://[A-Za-z0-9.-]+(:[0-9]{1,5})?/[A-Za-z0-9._/-]+$")
]


class TournamentStatus(StrEnum):
    """How far a tournament is."""

    PENDING = "pending"
    ACTIVE = "active"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


@with_config(_FOREIGN)
@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """One row of a tournament.

    `training_commit_hash` is the participant's own word: any text. `had_github_token`: the answer carried
    one, which no public answer may; the token itself is not kept.
    """

    tournament_id: Annotated[str, Field(max_length=100)]
    hotkey: Hotkey
    eliminated_in_round_id: RoundId | None = None
    final_position: Annotated[int, Field(ge=1, le=MAX_POSITION)] | None = None
    training_commit_hash: ClaimedCommit | None = None
    backup_repo: RepositoryUrl | None = None
    had_github_token: Annotated[
        bool,
        BeforeValidator(lambda found: found is not None),
        Field(validation_alias="github_token"),
    ] = False


@with_config(_FOREIGN)
@dataclass(frozen=True, slots=True, kw_only=True)
class TournamentDetails:
    """One tournament.

    `base_winner_hotkey` is who defended the title, `winner_hotkey` who won; a defender that won may stand
    there under a key of its own (crosscheck.EMISSION_BURN_HOTKEY).
    """

    tournament_id: TournamentId
    tournament_type: Channel
    status: TournamentStatus
    base_winner_hotkey: Hotkey | None = None
    winner_hotkey: Hotkey | None = None
    participants: Annotated[tuple[Participant, ...], Field(max_length=MAX_PARTICIPANTS)]


@with_config(_FOREIGN)
@dataclass(frozen=True, slots=True, kw_only=True)
class LatestDetails:
    """The latest tournament of each channel, None where there was none."""

    text: TournamentDetails | None = None
    image: TournamentDetails | None = None
    environment: TournamentDetails | None = None

    def of(self, channel: Channel) -> TournamentDetails | None:
        """That channel's tournament."""
        match channel:
            case Channel.TEXT:
                return self.text
            case Channel.IMAGE:
                return self.image
            case Channel.ENVIRONMENT:
                return self.environment


@with_config(_FOREIGN)
@dataclass(frozen=True, slots=True, kw_only=True)
class TopMiner:
    """One row of a ranking; `weight` is its share of the emission."""

    hotkey: Hotkey
    rank: Annotated[int, Field(ge=1, le=MAX_POSITION)]
    weight: float


Ranking = Annotated[tuple[TopMiner, ...], Field(max_length=MAX_PARTICIPANTS)]


@with_config(_FOREIGN)
@dataclass(frozen=True, slots=True, kw_only=True)
class TournamentWeights:
    """Who is paid for the latest tournaments, in the API's order."""

    text_top_miners: Ranking
    image_top_miners: Ranking
    environment_top_miners: Ranking = ()


_T = TypeVar("_T")

_DETAILS = TypeAdapter(TournamentDetails)
_LATEST = TypeAdapter(LatestDetails)
_WEIGHTS = TypeAdapter(TournamentWeights)


def parse_details(data: bytes) -> TournamentDetails:
    """A TournamentDetailsResponse. Raises TournamentError, which names the field."""
    return _parsed(_DETAILS, data)


def parse_latest(data: bytes) -> LatestDetails:
    """A LatestTournamentsDetailsResponse. Raises TournamentError, which names the field."""
    latest = _parsed(_LATEST, data)
    # All else may be absent, so that any object would do.
    if "burn_data" not in decode_json(data, max_bytes=MAX_ANSWER_BYTES):
        raise TournamentError("burn_data: missing, so this is no answer about the latest tournaments")
    for channel in Channel:
        details = latest.of(channel)
        if details is not None and details.tournament_type is not channel:
            raise TournamentError(f"{channel}.tournament_type: found {details.tournament_type.value!r}")
    return latest


def parse_weights(data: bytes) -> TournamentWeights:
    """A TournamentWeightsResponse. Raises TournamentError, which names the field."""
    return _parsed(_WEIGHTS, data)


def _parsed(adapter: TypeAdapter[_T], data: bytes) -> _T:
    # The second parser reads bytes of which the first has made sure that they have one reading.
    decode_json(data, max_bytes=MAX_ANSWER_BYTES)
    try:
        return adapter.validate_json(data)
    except ValidationError as error:
        raise TournamentError(_first(error)) from None  # its text quotes the answer, secrets too


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    return f"{path.lstrip('.') or 'answer'}: {first['msg']}, found {_found(first['input'])}"


# Any: a piece of JSON.
def _found(value: Any) -> str:
    match value:
        case dict() | list() | tuple():
            return f"{type(value).__name__} of {len(value)}"
        case str() if "@" in value:
            return f"text of {len(value)} characters"  # a URL with a password is a secret
        case _:
            shown = ascii(value)
            return shown if len(shown) <= _MAX_FOUND_CHARS else f"{shown[:_MAX_FOUND_CHARS]}…"
