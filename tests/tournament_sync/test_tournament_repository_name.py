"""What the name of a published repository says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tournament_sync.champion import Channel, is_champion_name
from tournament_sync.tournament.repository_name import RepositoryName, parse_repository_name

TOURNAMENT_ID = "tourn_00112233aabbccdd_20261101"
PLACE = "tourn-00112233aabbccdd-20261101"


@pytest.mark.parametrize("channel", Channel)
@pytest.mark.parametrize("position", [1, 2, 10])
def test_reads_every_channel_and_position(channel: Channel, position: int) -> None:
    assert parse_repository_name(f"god-{channel}-{PLACE}-position-{position}") == RepositoryName(
        channel=channel, tournament_id=TOURNAMENT_ID, position=position, hotkey8=None
    )


def test_reads_the_form_of_2025_as_first_place() -> None:
    assert parse_repository_name("god-text-winner-tourn-41875086c32e33e3-20250714") == RepositoryName(
        channel=Channel.TEXT, tournament_id="tourn_41875086c32e33e3_20250714", position=1, hotkey8=None
    )


def test_reads_a_duplicate_entry_without_position() -> None:
    assert parse_repository_name(f"god-image-{PLACE}-dedup-5fw2abcd") == RepositoryName(
        channel=Channel.IMAGE, tournament_id=TOURNAMENT_ID, position=None, hotkey8="5fw2abcd"
    )


@pytest.mark.parametrize(
    "name",
    [
        "",
        "trainer",
        f"god-text-{PLACE}",
        f"god-text-{PLACE}-position-0",
        f"god-text-{PLACE}-position-01",
        f"god-text-{PLACE}-position-10000",
        f"god-text-{PLACE}-position-",
        f"god-text-{PLACE}-position-1\n",
        f"god-text-{PLACE}-position-1-fork",
        f"god-text-{PLACE}-position-١",
        f"god-text-winner-{PLACE}-position-1",
        f"god-text-{PLACE}-dedup-5FW2ABCD",
        f"god-text-{PLACE}-dedup-5fw2abc",
        f"god-audio-{PLACE}-position-1",
        f"God-text-{PLACE}-position-1",
        f"gradients-opensource/god-text-{PLACE}-position-1",
        "god-text-tourn-00112233AABBCCDD-20261101-position-1",
        "god-text-tourn-00112233aabbccd-20261101-position-1",
        "god-text-tourn-00112233aabbccdd-20261301-position-1",
        "god-text-tourn-00112233aabbccdd-20260230-position-1",
    ],
)
def test_other_names_say_nothing(name: str) -> None:
    assert parse_repository_name(name) is None


@given(
    st.sampled_from(Channel),
    st.text("0123456789abcdef", min_size=16, max_size=16),
    st.dates().filter(lambda day: day.year >= 1000),
    st.integers(1, 9999),
)
def test_every_name_that_is_given_is_read_and_may_name_a_champion(channel, digits, day, position) -> None:
    tournament_id = f"tourn_{digits}_{day:%Y%m%d}"
    name = f"god-{channel}-{tournament_id}-position-{position}".replace("_", "-")
    assert is_champion_name(name)
    assert parse_repository_name(name) == RepositoryName(
        channel=channel, tournament_id=tournament_id, position=position, hotkey8=None
    )
