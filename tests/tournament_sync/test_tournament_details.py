"""From bytes of the tournament's API to values, or an error that names the field."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tournament_sync.tournament_server import (
    ORIGIN,
    RUNNER_UP,
    TOURNAMENT_ID,
    TRAINED,
    WINNER,
    details,
    latest,
    participant,
    weights,
)
from tournament_sync.champion import Channel
from tournament_sync.errors import TournamentError
from tournament_sync.tournament.details import (
    MAX_ANSWER_BYTES,
    MAX_PARTICIPANTS,
    Participant,
    TopMiner,
    TournamentStatus,
    parse_details,
    parse_latest,
    parse_weights,
)

PARSERS: tuple[Callable[[bytes], object], ...] = (parse_details, parse_latest, parse_weights)
ANSWERS = tuple(json.dumps(answer).encode() for answer in (details(), latest(), weights()))


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def without(value: dict[str, object], key: str) -> bytes:
    return encoded({name: item for name, item in value.items() if name != key})


def test_details_say_what_was_answered() -> None:
    found = parse_details(encoded(details()))
    assert (found.tournament_id, found.tournament_type) == (TOURNAMENT_ID, Channel.TEXT)
    assert found.status is TournamentStatus.COMPLETED
    assert (found.winner_hotkey, found.base_winner_hotkey) == (WINNER, "5" + "B" * 47)
    assert found.participants[0] == Participant(
        tournament_id=TOURNAMENT_ID,
        hotkey=WINNER,
        final_position=1,
        training_commit_hash=TRAINED,
        backup_repo=ORIGIN,
    )
    assert found.participants[1].eliminated_in_round_id == f"{TOURNAMENT_ID}_round_002"


@pytest.mark.parametrize("channel", Channel)
def test_reads_every_channel(channel: Channel) -> None:
    answer = latest(**{"text": None, channel.value: details(tournament_type=channel.value)})
    found = parse_latest(encoded(answer))
    assert [found.of(other) is not None for other in Channel] == [other is channel for other in Channel]


@pytest.mark.parametrize("status", TournamentStatus)
def test_reads_every_status(status: TournamentStatus) -> None:
    assert parse_details(encoded(details(status=status.value))).status is status


def test_weights_are_in_the_order_of_the_answer() -> None:
    found = parse_weights(encoded(weights()))
    assert found.text_top_miners == (
        TopMiner(hotkey=WINNER, rank=1, weight=0.375),
        TopMiner(hotkey=RUNNER_UP, rank=2, weight=0.0625),
    )
    assert found.image_top_miners == found.environment_top_miners == ()


def test_weights_of_a_time_without_environments_are_read() -> None:
    assert parse_weights(without(weights(), "environment_top_miners")).environment_top_miners == ()


def test_what_a_participant_wrote_keeps_nobody_from_reading_the_rest() -> None:
    strange = participant(
        WINNER, training_repo=["?"], training_commit_hash="main\u0007", requested_datasets=7
    )
    found = parse_details(encoded(details(participants=[strange])))
    assert found.participants[0].training_commit_hash == "main\u0007"


def test_unknown_fields_are_left_alone() -> None:
    answer = details(new_field={"x": [1, 2.5, None]}, participants=[participant(WINNER, rank_next_week=1)])
    assert parse_details(encoded(answer)).participants[0].hotkey == WINNER


def test_token_on_the_wire_is_noted_and_not_kept() -> None:
    leaking = participant(WINNER, github_token="ghp_0123456789")
    found = parse_details(encoded(details(participants=[leaking, participant(RUNNER_UP)])))
    assert [row.had_github_token for row in found.participants] == [True, False]
    assert "ghp_" not in repr(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tournament_id": "tourn_1"}, "^tournament_id: String should match pattern"),
        ({"tournament_id": TOURNAMENT_ID + "\n"}, "^tournament_id: String should match pattern"),
        ({"tournament_id": TOURNAMENT_ID[:-1] + "١"}, "^tournament_id: String should match pattern"),
        (
            {"tournament_type": "audio"},
            "^tournament_type: Input should be 'text', 'image' or 'env.* found 'audio'",
        ),
        ({"status": "done"}, "^status: Input should be 'pending'"),
        ({"status": None}, "^status: Input should be 'pending'.* found None"),
        ({"winner_hotkey": "5" + "0" * 47}, "^winner_hotkey: String should match"),  # no zero in base58
        ({"winner_hotkey": "W" * 500}, "^winner_hotkey: String should match.*…$"),
        ({"winner_hotkey": 5}, "^winner_hotkey: Input should be a valid string, found 5"),
        ({"participants": {}}, "^participants: Input should be a valid .*, found dict of 0"),
        ({"participants": [WINNER]}, r"^participants\[0\]: Input should be an object"),
        ({"participants": [participant("")]}, r"^participants\[0\]\.hotkey: .* found ''"),
        (
            {"participants": [participant(WINNER, final_position=0)]},
            r"\[0\]\.final_position: .* greater than",
        ),
        (
            {"participants": [participant(WINNER, final_position=10_000)]},
            r"\[0\]\.final_position: .* less than",
        ),
        (
            {"participants": [participant(WINNER, final_position="1")]},
            r"\.final_position: .* a valid integer",
        ),
        (
            {"participants": [participant(WINNER, final_position=1.5)]},
            r"\.final_position: .* a valid integer",
        ),
        (
            {"participants": [participant(WINNER, final_position=True)]},
            r"\.final_position: .* a valid integer",
        ),
        ({"participants": [participant(WINNER, training_commit_hash=7)]}, r"\.training_commit_hash: "),
        (
            {"participants": [participant(WINNER, training_commit_hash="c" * 5000)]},
            r"at most 4096 characters",
        ),
        ({"participants": [participant(WINNER, backup_repo="git@github.com:x/y")]}, r"\.backup_repo: "),
        ({"participants": [participant(WINNER, backup_repo="https://x/y\n")]}, r"\.backup_repo: "),
        (
            {"participants": [participant(WINNER, backup_repo="https://x/" + "y" * 300)]},
            "at most 300 characters",
        ),
        ({"participants": [participant(WINNER, tournament_id=None)]}, r"\.tournament_id: .* a valid string"),
        ({"participants": [participant(WINNER, eliminated_in_round_id="2")]}, r"\.eliminated_in_round_id: "),
    ],
)
def test_refuses_field_of_another_form(change: dict[str, object], message: str) -> None:
    with pytest.raises(TournamentError, match=message) as refused:
        parse_details(encoded(details(**change)))
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("key", ["tournament_id", "tournament_type", "status", "participants"])
def test_refuses_details_without_a_field(key: str) -> None:
    with pytest.raises(TournamentError, match=f"^{key}: Field required"):
        parse_details(without(details(), key))


def test_password_in_a_url_is_not_repeated() -> None:
    secret = participant(WINNER, backup_repo="https://somebody:ghp_0123@github.com/x/y")
    with pytest.raises(TournamentError, match=r"backup_repo: .* found text of 40 characters") as refused:
        parse_details(encoded(details(participants=[secret])))
    assert "ghp_" not in f"{refused.value}{refused.value.__cause__}"


def test_refuses_more_participants_than_a_tournament_has() -> None:
    many = [participant(WINNER)] * (MAX_PARTICIPANTS + 1)
    with pytest.raises(TournamentError, match=f"^participants: .* at most {MAX_PARTICIPANTS}"):
        parse_details(encoded(details(participants=many)))


def test_error_in_a_later_participant_has_its_number() -> None:
    rows = [participant(WINNER), participant(RUNNER_UP, final_position=-1)]
    with pytest.raises(TournamentError, match=r"^text\.participants\[1\]\.final_position: "):
        parse_latest(encoded(latest(text=details(participants=rows))))


def test_refuses_a_tournament_under_another_channel() -> None:
    with pytest.raises(TournamentError, match=r"^image\.tournament_type: found 'text'"):
        parse_latest(encoded(latest(text=None, image=details())))


@pytest.mark.parametrize("answer", [{}, {"detail": "Not Found"}, {"text": None, "image": None}])
def test_refuses_an_object_that_is_no_answer_about_the_latest(answer: object) -> None:
    with pytest.raises(TournamentError, match=r"^burn_data: missing"):
        parse_latest(encoded(answer))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"hotkey": WINNER, "rank": 0, "weight": 1.0}, r"^text_top_miners\[0\]\.rank: "),
        ({"hotkey": WINNER, "rank": 1, "weight": "1"}, r"^text_top_miners\[0\]\.weight: .* valid number"),
        ({"hotkey": WINNER, "rank": 1}, r"^text_top_miners\[0\]\.weight: Field required"),
    ],
)
def test_refuses_a_ranking_of_another_form(row: object, message: str) -> None:
    with pytest.raises(TournamentError, match=message):
        parse_weights(encoded(weights(text_top_miners=[row])))


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("answer", [b"null", b"[]", b"1", b'"x"'])
def test_refuses_what_is_no_object(parse: Callable[[bytes], object], answer: bytes) -> None:
    with pytest.raises(TournamentError, match=r"^answer: Input should be an object"):
        parse(answer)


@pytest.mark.parametrize("parse", PARSERS)
def test_refuses_an_answer_over_the_limit(parse: Callable[[bytes], object]) -> None:
    with pytest.raises(TournamentError, match=f"over the limit of {MAX_ANSWER_BYTES}"):
        parse(b" " * (MAX_ANSWER_BYTES + 1))


@pytest.mark.parametrize("answer", ANSWERS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_spliced_answer_is_a_value_or_our_error(answer: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(answer)))
    splices = [b"", b"\0", b'"', b"[[[[", b"{}", b"null", b"1e999", b"-1", b"\\ud800", b"\xff", b"9" * 400]
    piece = data.draw(st.sampled_from(splices) | st.binary(max_size=8))
    gone = data.draw(st.integers(0, 12))
    for parse in PARSERS:
        try:
            parse(answer[:at] + piece + answer[at + gone :])
        except TournamentError:
            continue


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_our_error(data: bytes) -> None:
    for parse in PARSERS:
        with pytest.raises(TournamentError):
            parse(data)
