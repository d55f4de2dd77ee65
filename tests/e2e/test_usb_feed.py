"""A feed is published on one site, carried on a stick, and taken on another that has no network.

The whole way, with the real commands: published, exported, synced, inspected, approved by two people in two
ways, adopted, revoked. Then everything that may be wrong with a stick.
"""

import re
import subprocess
import threading
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from appliance.demo.offline import without_network
from appliance.domain import RunState
from attestation.times import format_time
from audit.event import EventKind
from tests.e2e.usb_feed import (
    CARRIER,
    ELSEWHERE,
    FIRST,
    HERE,
    SECOND,
    Site,
    Vetting,
    assay,
    change_a_byte,
    done,
    make_trusting,
    make_vetting,
    plug_in,
)
from tournament_sync.feed.publisher import add_release, export_feed, init_feed
from tournament_sync.feed.serve import feed_server

# Not skipped where namespaces cannot be made: then this proof is missing, and that must be seen.
pytestmark = pytest.mark.sandbox

ONE, BOTH, REVOKED = range(3)  # what the sticks hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """A site that took and adopted the first champion from the stick at `usb`; each test has a copy of it."""

    site: Site
    usb: Path
    vetting: Vetting

    def plug_in(self, stick: int) -> None:
        plug_in(self.vetting.sticks[stick], self.usb)

    def sync(self, *words: str | Path) -> "subprocess.CompletedProcess[str]":
        return self.site.try_("champions", "sync", self.usb, "--as", CARRIER, *words)


@pytest.fixture(scope="module", autouse=True)
def empty_namespace() -> None:
    """What `without_network` gives: one interface, and that is down."""
    made = subprocess.run(
        without_network(["cat", "/proc/net/dev"]), capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        pytest.fail(f"no network namespace can be made here, so nothing is proved: {made.stderr}")
    assert re.findall(r"^ *(\S+):", made.stdout, re.MULTILINE) == ["lo"]


@pytest.fixture(scope="module")
def vetting(tmp_path_factory: pytest.TempPathFactory) -> Vetting:
    return make_vetting(tmp_path_factory.mktemp("vetting"))


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory, vetting: Vetting) -> Site:
    """Nothing is taken yet. Not to be changed."""
    return make_trusting(tmp_path_factory.mktemp("bank"), vetting)


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory, vetting: Vetting, trusting: Site) -> Carried:
    """Taken, approved here and elsewhere, adopted. Not to be changed."""
    folder = tmp_path_factory.mktemp("carried")
    site, usb = trusting.copy(folder / "home"), folder / "usb"
    carried = Carried(site=site, usb=usb, vetting=vetting)
    carried.plug_in(ONE)
    done(carried.sync("--root", vetting.root))
    said = ("--as", HERE, "--printed-name", "Olu Approver", "--reason", "read whole")
    site.assay("champions", "approve", FIRST, *said)
    site.assay("champions", "approve", FIRST, "--bundle", sign_elsewhere(carried, trusting.home.parent))
    site.assay("champions", "adopt", FIRST, "--as", CARRIER)
    return carried


def sign_elsewhere(carried: Carried, keys: Path) -> Path:
    """The approval of somebody who has the request, the stick and a key, and neither home nor network."""
    request, bundle = carried.usb.parent / "request.json", carried.usb.parent / "approval.json"
    request.write_text(carried.site.assay("champions", "show", FIRST, "--approval-request"))
    (seen,) = carried.usb.glob(f"targets/text/*.{FIRST}.champion.tar")
    said = ("--as", ELSEWHERE, "--printed-name", "Pia Approver", "--reason", "compared with the stick")
    key = ("--sign-with", keys / f"{ELSEWHERE}.pem", "--bundle-out", bundle, "--seen", seen)
    done(assay("champions", "approve", "--request", request, *said, *key, is_offline=True))
    return bundle


@pytest.fixture
def carried(adopted: Carried, tmp_path: Path) -> Carried:
    """A copy of one's own; the stick is where it was, since a feed is known by its place."""
    return Carried(site=adopted.site.copy(tmp_path / "home"), usb=adopted.usb, vetting=adopted.vetting)


def test_a_feed_over_the_network_is_out_of_reach_there(
    trusting: Site, vetting: Vetting, tmp_path: Path
) -> None:
    """The control: the same command with a network finds what it does not find without."""
    with feed_server(vetting.feed, host="127.0.0.1", port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        words = ("champions", "sync", url, "--root", vetting.root, "--as", CARRIER)
        without = trusting.copy(tmp_path / "without").try_(*words)
        connected = Site(home=trusting.copy(tmp_path / "connected").home, is_offline=False)
        assert connected.assay(*words) == ""
        server.shutdown()
    assert (without.returncode, "unreachable" in without.stderr) == (3, True), without.stderr


def test_two_people_adopt_what_came_on_a_stick(adopted: Carried) -> None:
    shown = adopted.site.show(FIRST)
    assert shown["champion"]["status"] == "adopted"
    assert shown["champion"]["proposed_by"] == CARRIER
    assert shown["champion"]["approved_by"] == [HERE, ELSEWHERE]
    assert (shown["came_by"], shown["came_from"]) == ("feed", str(adopted.usb))
    assert [event.kind for event in adopted.site.events(shown["champion"]["manifest_sha256"])] == [
        EventKind.CHAMPION_SYNCED,
        EventKind.CHAMPION_INSPECTED,
        EventKind.CHAMPION_APPROVED,
        EventKind.CHAMPION_APPROVED,
        EventKind.CHAMPION_ADMITTED,
    ]


def test_its_report_is_read_without_a_network(adopted: Carried) -> None:
    said = adopted.site.assay("champions", "inspect", FIRST)
    assert "Gradients.io (https://gradients.io)" in said
    assert "yes InstructTextTask" in said


def test_the_carrier_cannot_approve_it(carried: Carried) -> None:
    said = ("--as", CARRIER, "--printed-name", "Ana Carrier", "--reason", "I carried it")
    refused = carried.site.try_("champions", "approve", FIRST, *said)
    assert (refused.returncode, "another person must approve it" in refused.stderr) == (1, True)


def test_the_digests_of_the_release_are_equal_on_both_sites(adopted: Carried, vetting: Vetting) -> None:
    """Of another champion too, lest anything be equal to anything."""
    here = adopted.site.release(FIRST)
    assert here == vetting.site.release(FIRST)
    other = vetting.site.release(SECOND)
    assert {what for what in here if here[what] == other[what]} == set()


def test_a_revocation_travels_and_fails_what_is_queued(carried: Carried) -> None:
    carried.site.submit(FIRST)
    carried.plug_in(REVOKED)
    synced = carried.sync()
    assert synced.returncode == 0, synced.stderr
    assert synced.stderr.startswith(f"new      {SECOND}")
    assert (carried.site.status(FIRST), carried.site.status(SECOND)) == ("revoked", "proposed")
    run = carried.site.run()
    assert run.state is RunState.FAILED
    why = rf"champion {FIRST} was revoked by {CARRIER}: .*{re.escape(str(carried.usb))}.* at \S+Z: it phones home"
    assert re.fullmatch(why, run.reason or "")
    carried.site.check_log()


def test_the_same_stick_again_changes_nothing(carried: Carried) -> None:
    carried.plug_in(REVOKED)
    done(carried.sync())
    before = carried.site.rows(), carried.site.files()
    again = carried.sync()
    assert (again.returncode, again.stderr.splitlines()[0]) == (0, f"known    {SECOND}")
    assert (carried.site.rows(), carried.site.files()) == before


# What may be wrong with a stick.


def version(data: bytes) -> int:
    """The byte that says which version this is."""
    return data.index(b'"version": ') + len(b'"version": ')


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("metadata/timestamp.json", "rule: threshold of signatures"),
        ("metadata/*.snapshot.json", "rule: mix-and-match"),
        ("metadata/*.text.json", "rule: mix-and-match"),
    ],
)
def test_refuses_metadata_in_which_one_byte_was_changed(carried: Carried, part: str, said: str) -> None:
    carried.plug_in(REVOKED)
    (file,) = carried.usb.glob(part)
    change_a_byte(file, find=version)
    _check_refused(carried, said)


def test_refuses_a_list_of_revocations_in_which_one_byte_was_changed(carried: Carried) -> None:
    """Nor is anything else of that stick taken: who changed the list may have left out the next one."""
    carried.plug_in(REVOKED)
    (file,) = carried.usb.glob("targets/text/*.revocations.json")
    change_a_byte(file, find=lambda data: data.index(b"phones"))
    _check_refused(carried, r"text/revocations\.json: .*not what the feed signed.*rule: target")
    assert carried.site.status(FIRST) == "adopted"


def test_refuses_an_archive_in_which_one_byte_was_changed(carried: Carried) -> None:
    """By name; all that is new is the log's word of it."""
    carried.plug_in(BOTH)
    (archive,) = carried.usb.glob(f"targets/text/*.{SECOND}.champion.tar")
    change_a_byte(archive)
    before = carried.site.rows(), carried.site.files()
    refused = carried.sync()
    assert refused.returncode == 1
    why = rf"text/{SECOND}\.champion\.tar is not what the feed signed: .* \(rule: target\)"
    assert re.search(rf"refused  {SECOND}: {why}", refused.stderr)
    assert carried.site.files() == before[1]
    new = set(carried.site.rows()) - set(before[0])
    assert [event.kind for event in carried.site.events(SECOND)] == [EventKind.CHAMPION_REFUSED]
    assert {re.sub(r"\W.*", "", row.partition("INTO ")[2].strip('"')) for row in new} == {
        "log_outbox",
        "sqlite_sequence",
    }
    # Whole again, it is taken.
    carried.plug_in(BOTH)
    done(carried.sync())
    assert carried.site.status(SECOND) == "proposed"


def test_refuses_an_older_stick(carried: Carried, tmp_path: Path) -> None:
    """Also in another place: a feed is remembered by its root."""
    carried.plug_in(REVOKED)
    done(carried.sync())
    carried.plug_in(ONE)
    _check_refused(carried, "rule: rollback")
    elsewhere = Carried(site=carried.site, usb=tmp_path / "other-usb", vetting=carried.vetting)
    elsewhere.plug_in(BOTH)
    _check_refused(elsewhere, "rule: rollback", "--root", carried.vetting.root)


def test_an_expired_stick_is_taken_only_by_breaking_the_glass(
    trusting: Site, vetting: Vetting, tmp_path: Path
) -> None:
    published = vetting.since - timedelta(days=60)
    feed, keys, usb = tmp_path / "feed", tmp_path / "keys", tmp_path / "usb"
    vetting.site.assay("champions", "export", SECOND, "--into", tmp_path / "second.tar")
    init_feed(feed, keys=keys, now=published)
    add_release(feed, keys=keys, archive=tmp_path / "second.tar", now=published)
    expires_at = export_feed(feed, usb, now=published).expires_at
    carried = Carried(site=trusting.copy(tmp_path / "home"), usb=usb, vetting=vetting)
    root = ("--root", keys / "root.json")
    _check_refused(
        carried,
        rf"timestamp of the feed expired at {format_time(expires_at)} .*: import a fresh copy of the feed,"
        " or break the glass with a logged time of reference",
        *root,
    )
    then = format_time(published + timedelta(days=1))
    assert carried.sync(*root, "--break-glass", then).returncode == 2  # nobody says why
    done(carried.sync(*root, "--break-glass", then, "--reason", "the courier was robbed"))
    assert carried.site.status(SECOND) == "proposed"
    broken, _ = carried.site.events(str(usb))
    assert (broken.kind, broken.actor) == (EventKind.SOURCE_BREAK_GLASS, CARRIER)
    assert broken.detail == {"as_of": then, "reason": "the courier was robbed"}
    carried.site.check_log()


def _check_refused(carried: Carried, said: str, *words: str | Path) -> None:
    """The stick as a whole, with that message, and the home is as it was."""
    before = carried.site.rows(), carried.site.files()
    refused = carried.sync(*words)
    assert refused.returncode == 3, refused.stderr
    assert re.search(said, refused.stderr), refused.stderr
    assert (carried.site.rows(), carried.site.files()) == before
