"""`assay champions import`, `propose`, `sync`, `sources` with real archives, repositories and feeds."""

import json
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.store.engine import reading
from attestation.times import format_time
from audit.event import EventKind
from audit.store import events_of
from tests.appliance.champion_cli import NAME, Site, make_archive, make_key, make_site, make_tree
from tests.appliance.world import PROPOSER
from tests.tournament_sync.tournament_server import WINNER, details, participant
from tournament_sync.feed.publisher import add_release, init_feed, revoke_release

AS = ("--as", PROPOSER)
GIT = ("--name", NAME, "--channel", "text", "--epoch", "E4")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def manifest_of(site: Site, name: str = NAME) -> str:
    return str(
        json.loads(site.assay("champions", "show", name, "-o", "json").stdout)["champion"]["manifest_sha256"]
    )


def names(site: Site) -> list[str]:
    listed = json.loads(site.assay("champions", "list", "-o", "json").stdout)
    return [champion["name"] for champion in listed["champions"]]


# Archives.


def test_imports_an_archive_and_says_so(site: Site, tmp_path: Path) -> None:
    archive = make_archive(tmp_path, site.publisher())
    done = site.assay("champions", "import", str(archive), *AS)
    assert (done.exit_code, done.stdout) == (0, "")
    new, manifest, findings, following = done.stderr.splitlines()
    assert new.startswith(f"new      {NAME}  commit ")
    assert manifest.split() == ["manifest", f"sha256:{manifest_of(site)}"]
    assert findings.split()[0] == "findings:"
    assert following == f"next     look: assay champions show {NAME}; then approve by another person"
    again = site.assay("champions", "import", str(archive), *AS, "-o", "json")
    assert json.loads(again.stdout) == {"new": [], "known": [NAME], "refused": [], "revoked": []}
    assert again.stderr.splitlines()[-1] == "nothing new"


def test_propose_is_the_same_verb(site: Site, tmp_path: Path) -> None:
    archive = make_archive(tmp_path, site.publisher())
    done = site.assay("champions", "propose", str(archive), *AS, "-o", "json")
    (new,) = json.loads(done.stdout)["new"]
    assert (new["name"], new["manifest_sha256"]) == (NAME, manifest_of(site))
    shown = json.loads(site.assay("champions", "show", NAME, "-o", "json").stdout)
    assert (shown["champion"]["proposed_by"], shown["came_by"]) == (PROPOSER, "archive")


def test_refuses_an_archive_by_a_publisher_who_is_not_trusted(site: Site, tmp_path: Path) -> None:
    archive = make_archive(tmp_path, make_key(tmp_path / "stranger.pem"))
    done = site.assay("champions", "import", str(archive), *AS)
    assert (done.exit_code, "is not in the trust root" in done.stderr) == (1, True)
    assert "`assay people trust NAME --role publisher --public-key FILE" in done.stderr
    assert done.stderr.endswith("assay: 1 champion was refused\n")
    assert names(site) == []


def test_refuses_an_archive_that_was_changed(site: Site, tmp_path: Path) -> None:
    archive = make_archive(tmp_path, site.publisher())
    content = archive.read_bytes()
    archive.write_bytes(content.replace(b"echo hello", b"echo hacks"))
    done = site.assay("champions", "import", str(archive), *AS)
    assert (done.exit_code, "refused" in done.stderr) == (1, True)
    assert names(site) == []


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_an_archive_that_cannot_be_read_is_exit_3_and_named(site: Site, tmp_path: Path, prefix: str) -> None:
    done = site.assay("champions", "import", f"{prefix}{tmp_path / 'missing.tar'}", *AS)
    assert (done.exit_code, f"{tmp_path / 'missing.tar'}" in done.stderr) == (3, True)


def test_a_plain_folder_is_not_imported_but_told_how_to(site: Site, tmp_path: Path) -> None:
    done = site.assay("champions", "import", str(make_tree(tmp_path)), *AS)
    assert (done.exit_code, "is a plain folder" in done.stderr, "`assay feed add`" in done.stderr) == (
        1,
        True,
        True,
    )
    assert names(site) == []


def test_names_of_an_archive_cannot_be_chosen(site: Site, tmp_path: Path) -> None:
    archive = make_archive(tmp_path, site.publisher())
    done = site.assay("champions", "import", str(archive), *AS, "--name", "other")
    assert (done.exit_code, "an archive says its own" in " ".join(done.stderr.split())) == (2, True)


# Git.


def repository(tmp_path: Path) -> tuple[str, str]:
    """A repository as upstream publishes it, and its one commit."""
    tree = make_tree(tmp_path)

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=op", "-c", "user.email=op@example.invalid"]
        done = subprocess.run(["git", *who, *arguments], cwd=tree, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "--quiet", "--initial-branch=main")
    git("add", ".")
    git("commit", "--quiet", "--message", "Tournament winner repository - Commit: 0a1b2c3d")
    return str(tree), git("rev-parse", "HEAD")


def test_imports_from_git_at_a_commit_under_the_sites_own_key(site: Site, tmp_path: Path) -> None:
    url, commit = repository(tmp_path)
    done = site.assay("champions", "import", url, "--commit", commit, *GIT, *AS)
    assert (done.exit_code, done.stdout) == (0, "")
    shown = json.loads(site.assay("champions", "show", NAME, "-o", "json").stdout)
    assert (shown["came_by"], shown["champion"]["commit"]) == ("git", commit)
    assert (shown["release"]["publisher"], shown["release"]["origin"]) == ("intake", url)


@pytest.mark.parametrize("prefix", ["", "file://", "./"])
def test_imports_what_inspect_takes(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    url, commit = repository(tmp_path)
    monkeypatch.chdir(tmp_path)
    what = f"./{Path(url).name}" if prefix == "./" else f"{prefix}{url}"
    done = site.assay("champions", "import", f"{what}@{commit}", *GIT, *AS)
    assert done.exit_code == 0, done.stderr
    shown = json.loads(site.assay("champions", "show", NAME, "-o", "json").stdout)
    origin = f"file://{url}" if prefix == "file://" else url  # signed, so it means the same everywhere
    assert (shown["release"]["origin"], shown["champion"]["commit"]) == (origin, commit)


def test_a_repository_without_a_commit_is_told_with_its_head(site: Site, tmp_path: Path) -> None:
    url, commit = repository(tmp_path)
    done = site.assay("champions", "import", url, *GIT, *AS)
    assert (done.exit_code, f"its HEAD is {commit}" in done.stderr) == (1, True)
    two = site.assay("champions", "import", f"{url}@{commit}", "--commit", "0" * 40, *GIT, *AS)
    assert (two.exit_code, names(site)) == (2, [])


def test_an_import_that_the_tournament_disagrees_with_does_not_look_fine(site: Site, tmp_path: Path) -> None:
    url, commit = repository(tmp_path)
    saved = tmp_path / "details.json"
    saved.write_text(json.dumps(details(participants=[participant(WINNER, final_position=2)])))
    words = ("--name", NAME, *GIT[2:], "--tournament", str(saved))
    done = site.assay("champions", "import", f"{url}@{commit}", *words, *AS, "-o", "json")
    assert done.exit_code == 0, done.stderr
    told = [line.split()[1:3] for line in done.stderr.splitlines() if "tournament: " in line]
    assert ["high", "tournament-position:"] in told
    (new,) = json.loads(done.stdout)["new"]
    assert [[f["severity"], f"{f['rule']}:"] for f in new["tournament_findings"]] == told
    again = site.assay("champions", "import", f"{url}@{commit}", *words, *AS)
    assert "tournament: high tournament-position: " in again.stderr


@pytest.mark.parametrize("commit", ["main", "0" * 39, "v1.0", "0" * 40])
def test_refuses_what_is_no_commit_there(site: Site, tmp_path: Path, commit: str) -> None:
    url, _ = repository(tmp_path)
    done = site.assay("champions", "import", url, "--commit", commit, *GIT, *AS)
    assert done.exit_code in (1, 3)
    assert names(site) == []


@pytest.mark.parametrize("missing", ["--name", "--channel", "--epoch"])
def test_git_does_not_say_what_only_its_bringer_knows(site: Site, tmp_path: Path, missing: str) -> None:
    given = dict(zip(GIT[::2], GIT[1::2], strict=True))
    del given[missing]
    words = [word for pair in given.items() for word in pair]
    done = site.assay(
        "champions", "import", "https://example.invalid/x.git", "--commit", "0" * 40, *words, *AS
    )
    assert done.exit_code == 2


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        ("some-winner", b"{}", "does not say of which tournament it is"),
        (NAME, b"not json", "details.json: "),
        (NAME, json.dumps({"tournament_id": "x"}).encode(), "details.json: tournament_id: "),
        (NAME, None, "details.json cannot be read"),
    ],
)
def test_a_tournaments_word_that_cannot_be_read_stops_the_import(
    site: Site, tmp_path: Path, name: str, answer: bytes | None, said: str
) -> None:
    url, commit = repository(tmp_path)
    saved = tmp_path / "details.json"
    if answer is not None:
        saved.write_bytes(answer)
    words = ("--name", name, *GIT[2:], "--tournament", str(saved))
    done = site.assay("champions", "import", url, "--commit", commit, *words, *AS)
    assert done.exit_code in (1, 3)
    assert said in done.stderr
    assert names(site) == []


# Feeds.


@pytest.fixture
def feed(site: Site, tmp_path: Path) -> Path:
    """A TUF feed with one champion; its keys and first root are in `keys`."""
    folder, keys = tmp_path / "feed", tmp_path / "keys"
    init_feed(folder, keys=keys, now=site.now)
    archive = make_archive(tmp_path, site.publisher())
    add_release(folder, keys=keys, archive=archive, now=site.now)
    return folder


def sync(site: Site, feed: Path, *more: str) -> Any:
    return site.assay("champions", "sync", str(feed), *AS, *more)


def test_syncs_a_feed_whose_root_is_given_once(site: Site, feed: Path, tmp_path: Path) -> None:
    first = sync(site, feed, "--root", str(tmp_path / "keys" / "root.json"), "-o", "json")
    assert first.exit_code == 0
    assert [new["name"] for new in json.loads(first.stdout)["new"]] == [NAME]
    again = sync(site, feed, "-o", "json")
    assert json.loads(again.stdout) == {"new": [], "known": [NAME], "refused": [], "revoked": []}
    with site.opened() as appliance, reading(appliance.engine) as conn:
        events = [logged.event for logged in events_of(conn, str(feed))]
    assert [(event.kind, event.actor) for event in events] == [(EventKind.SOURCE_ADDED, PROPOSER)]


def test_a_feed_whose_root_nobody_gave_is_refused(site: Site, feed: Path) -> None:
    done = sync(site, feed)
    assert (done.exit_code, "give its first root" in done.stderr) == (1, True)
    assert "wanted --root root.json, got another way than the feed" in done.stderr
    assert names(site) == []


def test_another_root_for_a_known_feed_is_refused(site: Site, feed: Path, tmp_path: Path) -> None:
    assert sync(site, feed, "--root", str(tmp_path / "keys" / "root.json")).exit_code == 0
    init_feed(tmp_path / "other", keys=tmp_path / "other-keys", now=site.now)
    done = sync(site, feed, "--root", str(tmp_path / "other-keys" / "root.json"))
    assert (done.exit_code, "another root is kept" in done.stderr) == (1, True)


def test_a_root_that_is_not_the_feeds_is_not_kept(site: Site, feed: Path, tmp_path: Path) -> None:
    init_feed(tmp_path / "other", keys=tmp_path / "other-keys", now=site.now)
    assert sync(site, feed, "--root", str(tmp_path / "other-keys" / "root.json")).exit_code == 3
    assert sync(site, feed, "--root", str(tmp_path / "keys" / "root.json")).exit_code == 0


def test_a_stick_that_is_mounted_elsewhere_brings_no_older_state(
    site: Site, feed: Path, tmp_path: Path
) -> None:
    root = str(tmp_path / "keys" / "root.json")
    shutil.copytree(feed, tmp_path / "older")
    revoke_release(feed, keys=tmp_path / "keys", name=NAME, reason="reads rows", now=site.now)
    assert sync(site, feed, "--root", root).exit_code == 0
    done = sync(site, tmp_path / "older", "--root", root)
    assert done.exit_code == 3
    assert names(site) == []


def test_what_the_feed_revokes_is_revoked_here(site: Site, feed: Path, tmp_path: Path) -> None:
    assert sync(site, feed, "--root", str(tmp_path / "keys" / "root.json")).exit_code == 0
    revoke_release(feed, keys=tmp_path / "keys", name=NAME, reason="reads rows", now=site.now)
    done = sync(site, feed, "-o", "json")
    assert done.exit_code == 0
    (told,) = json.loads(done.stdout)["revoked"]
    assert (told["name"], told["state"], "reads rows" in told["reason"]) == (NAME, "revoked", True)
    assert f"revoked  {NAME}: " in done.stderr and "nothing new" not in done.stderr
    assert json.loads(sync(site, feed, "-o", "json").stdout)["revoked"] == []  # told once
    shown = site.assay("champions", "show", NAME).stdout
    assert f"{NAME}  REVOKED" in shown
    assert "reads rows" in shown


def test_what_came_another_way_is_held_when_a_feed_revokes_it(site: Site, feed: Path, tmp_path: Path) -> None:
    assert site.assay("champions", "import", str(tmp_path / f"{NAME}.champion.tar"), *AS).exit_code == 0
    revoke_release(feed, keys=tmp_path / "keys", name=NAME, reason="reads rows", now=site.now)
    done = sync(site, feed, "--root", str(tmp_path / "keys" / "root.json"), "-o", "json")
    assert done.exit_code == 0, done.stderr
    (told,) = json.loads(done.stdout)["revoked"]
    assert (told["name"], told["state"]) == (NAME, "held")
    assert f"held     {NAME}: " in done.stderr


def test_an_expired_feed_needs_broken_glass_which_is_logged(site: Site, tmp_path: Path) -> None:
    then = site.now - timedelta(days=100)
    old, keys = tmp_path / "old", tmp_path / "old-keys"
    init_feed(old, keys=keys, now=then)
    root = ("--root", str(keys / "root.json"))
    refused = sync(site, old, *root)
    assert (refused.exit_code, "expired" in refused.stderr) == (3, True)
    as_of = format_time(then + timedelta(days=1))
    done = sync(site, old, *root, "--break-glass", as_of, "--reason", "the courier is ill")
    assert done.exit_code == 0, done.stderr
    with site.opened() as appliance, reading(appliance.engine) as conn:
        glass, _ = [logged.event for logged in events_of(conn, str(old))]
    assert (glass.kind, glass.actor) == (EventKind.SOURCE_BREAK_GLASS, PROPOSER)
    assert dict(glass.detail) == {"as_of": as_of, "reason": "the courier is ill"}
    digest = site.assay("champions", "digest").stdout
    assert "BREAK-GLASS" in digest and "the courier is ill" in digest


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--break-glass", "2026-01-01T00:00:00Z"), 2),
        (("--reason", "because"), 2),
        (("--break-glass", "lately", "--reason", "because"), 2),
        (("--break-glass", "2999-01-01T00:00:00Z", "--reason", "because"), 1),
        (("--break-glass", "2026-01-01T00:00:00Z", "--reason", " "), 1),
    ],
)
def test_glass_is_broken_with_a_past_time_and_a_reason_only(
    site: Site, feed: Path, tmp_path: Path, words: tuple[str, ...], code: int
) -> None:
    done = sync(site, feed, "--root", str(tmp_path / "keys" / "root.json"), *words)
    assert done.exit_code == code
    assert names(site) == []


def test_a_folder_of_releases_of_which_nobody_says_that_they_are_current_is_no_feed(
    site: Site, feed: Path, tmp_path: Path
) -> None:
    shutil.rmtree(feed / "metadata")  # the archive and its release are whole
    done = sync(site, feed, "--root", str(tmp_path / "keys" / "root.json"))
    assert (done.exit_code, "is not there" in done.stderr) == (3, True)
    assert names(site) == []


@pytest.mark.parametrize("feed", ["missing", "https://127.0.0.1:1/feed"])
def test_a_feed_that_is_not_there_is_exit_3(site: Site, tmp_path: Path, feed: str) -> None:
    init_feed(tmp_path / "other", keys=tmp_path / "keys", now=site.now)
    where = feed if "//" in feed else str(tmp_path / feed)
    done = site.assay("champions", "sync", where, *AS, "--root", str(tmp_path / "keys" / "root.json"))
    assert (done.exit_code, done.stdout) == (3, "")
    if "//" in feed:
        assert "the feed cannot be reached: " in done.stderr
        assert "refused" not in done.stderr.replace("Connection refused", "") and "rule:" not in done.stderr


def test_a_root_of_any_size_is_refused(site: Site, feed: Path, tmp_path: Path) -> None:
    (tmp_path / "huge").write_bytes(b" " * 600_000)
    done = sync(site, feed, "--root", str(tmp_path / "huge"))
    assert (done.exit_code, "over the limit" in done.stderr) == (1, True)


def test_scheduled_feeds_are_added_listed_and_removed(site: Site, feed: Path, tmp_path: Path) -> None:
    root = ("--root", str(tmp_path / "keys" / "root.json"))
    added = site.assay("champions", "sources", "add", str(feed), *AS, *root, "-o", "json")
    assert (added.exit_code, json.loads(added.stdout)["location"]) == (0, str(feed))
    assert site.assay("champions", "sources", "add", str(feed), *AS, *root).exit_code == 1
    (source,) = json.loads(site.assay("champions", "sources", "list", "-o", "json").stdout)["sources"]
    assert (source["location"], source["added_by"], source["interval_s"]) == (str(feed), PROPOSER, 3600)
    assert str(feed) in site.assay("champions", "sources", "list").stdout
    assert sync(site, feed).exit_code == 0  # its root is known
    removed = site.assay("champions", "sources", "remove", str(feed), *AS, "-o", "json")
    assert json.loads(removed.stdout) == {"location": str(feed), "state": "removed"}
    assert site.assay("champions", "sources", "remove", str(feed), *AS).exit_code == 1


@pytest.mark.parametrize(
    ("words", "wanted"),
    [(("relative/feed",), "an absolute path"), (("/feed", "--every-s", "5"), "5 s; wanted 60…2592000 s")],
)
def test_sources_that_cannot_be_are_refused_with_what_is_wanted(
    site: Site, tmp_path: Path, words: tuple[str, ...], wanted: str
) -> None:
    (tmp_path / "root.json").write_bytes(b"{}")
    done = site.assay("champions", "sources", "add", *words, *AS, "--root", str(tmp_path / "root.json"))
    assert (done.exit_code, wanted in done.stderr) == (1, True)
