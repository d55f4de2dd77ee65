"""A feed's place has one spelling and no secret; a root that is trusted for it stays what it is."""

from pathlib import Path

import pytest

from appliance.assembly import Appliance
from appliance.errors import HomeError, InvalidOrderError
from appliance.feed_places import feed_memory, feed_place, keep_root, kept_root, pin_root, pinned_root
from appliance.feeds import BreakGlass, sync_by_hand
from appliance.store.engine import reading
from attestation.digest import sha256_hex
from audit.store import scan_entries
from tests.appliance.world import PROPOSER, START

PLACE = "https://feed.example.org"


@pytest.mark.parametrize(
    ("location", "place"),
    [
        (PLACE, PLACE),
        (f"{PLACE}//", PLACE),
        ("http://127.0.0.1:8470/feed/", "http://127.0.0.1:8470/feed"),
        ("http://[::1]:8470/x@y", "http://[::1]:8470/x@y"),
        ("/media/stick/", "/media/stick"),
        ("file:///media/stick", "/media/stick"),
    ],
)
def test_a_place_has_one_spelling(location: str, place: str) -> None:
    assert feed_place(location) == place
    assert feed_place(place) == place


def test_a_folder_is_told_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert feed_place("feed") == str(tmp_path / "feed")


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("https://ada:s3cret@feed.example.org/x", "carries a user or password"),
        ("https://s3cret@feed.example.org", "carries a user or password"),
        ("https://:s3cret@feed.example.org", "carries a user or password"),
        ("https://feed.example.org\\@s3cret/", "carries a user or password"),
        ("https://feed.example.org/?token=s3cret", "carries a query or fragment"),
        ("https://feed.example.org/#s3cret", "carries a query or fragment"),
        ("HTTPS://ada:s3cret@feed.example.org", "with protocol 'HTTPS' is no feed"),
        ("ftp://ada:s3cret@feed.example.org", "with protocol 'ftp' is no feed"),
        ("file://s3cret@host/feed", "with protocol 'file' is no feed"),
        ("https://", "names no host"),
        ("https://h:s3cret", "cannot be read"),
        ("https://[s3cret", "cannot be read"),
        ("", "of 0 characters"),
        ("/a\nb", "cannot be printed"),
        ("/" + "x" * 500, "of 501 characters"),
    ],
)
def test_refuses_a_place_that_cannot_be_one_or_would_tell_a_secret(location: str, message: str) -> None:
    with pytest.raises(InvalidOrderError, match=message):
        feed_place(location)


@pytest.mark.parametrize(
    "location", ["https://ada:s3cret@feed.example.org/x", "HTTPS://ada:s3cret@feed.example.org"]
)
def test_a_secret_in_a_url_is_in_no_log(appliance: Appliance, location: str) -> None:
    """Breaking the glass is logged before the feed is asked."""
    glass = BreakGlass(reference_time=START.replace(year=2020), reason="no courier")
    with pytest.raises(InvalidOrderError) as caught:
        sync_by_hand(appliance, location, actor=PROPOSER, root=b"root", break_glass=glass)
    assert "s3cret" not in str(caught.value)
    appliance.log.sequence(START)
    with reading(appliance.engine) as conn:
        assert not [entry for entry in scan_entries(conn) if b"s3cret" in entry.entry]


def test_roots_lie_under_their_own_digests(appliance: Appliance) -> None:
    home, roots = appliance.home, (b"one", b"another")
    for root in roots:
        keep_root(home, root)
    assert [kept_root(home, sha256_hex(root), place=PLACE) for root in roots] == list(roots)
    assert feed_memory(home, sha256_hex(b"one")) != feed_memory(home, sha256_hex(b"another"))


def test_a_pinned_root_is_never_replaced(appliance: Appliance) -> None:
    pin_root(appliance.home, PLACE, b"one")
    pin_root(appliance.home, PLACE, b"another")
    with reading(appliance.engine) as conn:
        assert pinned_root(conn, appliance.home, PLACE) == b"one"
        assert pinned_root(conn, appliance.home, "https://another.example.org") is None


@pytest.mark.parametrize("content", [None, b"an attacker's"])
def test_a_kept_root_that_was_changed_is_not_used(appliance: Appliance, content: bytes | None) -> None:
    keep_root(appliance.home, b"one")
    path = feed_memory(appliance.home, sha256_hex(b"one")) / "root.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(HomeError, match=f"the pinned root of {PLACE} (was changed|cannot be read)"):
        kept_root(appliance.home, sha256_hex(b"one"), place=PLACE)


def test_a_pin_that_is_no_file_is_told(appliance: Appliance) -> None:
    pin_root(appliance.home, PLACE, b"one")
    (pin,) = appliance.home.feeds_dir.glob("*/root.json")
    pin.unlink()
    pin.mkdir()
    with (
        reading(appliance.engine) as conn,
        pytest.raises(HomeError, match=f"the root kept of {PLACE} cannot be read"),
    ):
        pinned_root(conn, appliance.home, PLACE)
