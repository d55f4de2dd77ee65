"""A tournament from a file that was saved on another machine."""

import json
import os
from pathlib import Path

import pytest

from tests.tournament_sync.tournament_server import TOURNAMENT_ID, details, latest
from tournament_sync.errors import SourceUnavailableError, TournamentError
from tournament_sync.tournament.saved import read_saved, saved_details

OTHER_ID = "tourn_ffffffffffffffff_20261101"


@pytest.mark.parametrize("answer", [details(), latest()], ids=["details", "latest"])
def test_finds_the_tournament_in_either_answer(tmp_path: Path, answer: object) -> None:
    (tmp_path / "saved.json").write_text(json.dumps(answer))
    found = saved_details(read_saved(tmp_path / "saved.json"), tournament_id=TOURNAMENT_ID)
    assert found.tournament_id == TOURNAMENT_ID


def test_finds_the_tournament_in_any_channel() -> None:
    other = details(tournament_id=OTHER_ID, tournament_type="environment")
    data = json.dumps(latest(environment=other)).encode()
    assert saved_details(data, tournament_id=OTHER_ID).tournament_id == OTHER_ID


@pytest.mark.parametrize(
    ("answer", "told"),
    [(details(), TOURNAMENT_ID), (latest(), TOURNAMENT_ID), (latest(text=None), "no tournament")],
)
def test_refuses_an_answer_about_others(answer: object, told: str) -> None:
    with pytest.raises(TournamentError, match=f"asked for {OTHER_ID}, the saved answer is about {told}"):
        saved_details(json.dumps(answer).encode(), tournament_id=OTHER_ID)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"burn_data":1,"burn_data":2}', b'{"burn_data":{},"text":7}'])
def test_refuses_what_is_no_answer(data: bytes) -> None:
    with pytest.raises(TournamentError):
        saved_details(data, tournament_id=TOURNAMENT_ID)


def test_refuses_a_file_over_the_limit(tmp_path: Path) -> None:
    (tmp_path / "saved.json").write_bytes(b"12345")
    assert read_saved(tmp_path / "saved.json", max_bytes=5) == b"12345"
    with pytest.raises(TournamentError, match=r"saved\.json is over the limit of 4 bytes"):
        read_saved(tmp_path / "saved.json", max_bytes=4)


def test_refuses_what_is_no_regular_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"{}")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    for name, message in [
        ("link", "links are not followed"),
        ("absent", "cannot be read"),
        (".", "is not a regular file"),
        ("pipe", "is not a regular file"),
        ("nul\0", "cannot be read"),
    ]:
        with pytest.raises(SourceUnavailableError, match=message):
            read_saved(tmp_path / name)
