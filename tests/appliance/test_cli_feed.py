"""`assay feed`: from an empty folder to a feed that a site takes champions from, and takes them back."""

import hashlib
import json
import shutil
import subprocess
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.ports import SystemClock
from attestation.bundle import parse_bundle
from attestation.statement import parse_statement
from tests.appliance.champion_cli import Site, assay, make_archive, make_key, make_site, make_tree
from tests.appliance.world import PROPOSER, PUBLISHER
from tests.tournament_sync.images import tar_of, write_image
from tests.tournament_sync.tournament_server import ORIGIN, REPOSITORY, TRAINED, WINNER, details, participant
from tournament_sync.champion import ImagePin
from tournament_sync.feed.client import FeedSource
from tournament_sync.feed.publisher import init_feed
from tournament_sync.feed.serve import feed_server
from tournament_sync.images.oci import open_archive

NAME = REPOSITORY
FACTS = ("--name", NAME, "--channel", "text", "--epoch", "E4")


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    made = assay("feed", "init", str(tmp_path / "feed"), "--keys", str(tmp_path / "keys"))
    assert made.exit_code == 0, made.stderr
    return tmp_path / "feed"


def run(feed: Path, verb: str, *words: str) -> Any:
    return assay("feed", verb, str(feed), *words, "--keys", str(feed.parent / "keys"))


def listed(feed: Path, tmp_path: Path) -> dict[str, bytes]:
    """Name → release of what a client sees."""
    root = (tmp_path / "keys" / "root.json").read_bytes()
    source = FeedSource(feed, state=tmp_path / "state", root=root)
    return {offer.name: offer.bundle for offer in source.offers()}


def release_of(feed: Path, tmp_path: Path) -> dict[str, Any]:
    return dict(parse_statement(parse_bundle(listed(feed, tmp_path)[NAME]).payload).predicate)


def add_tree(feed: Path, tmp_path: Path, *more: str) -> Any:
    make_key(tmp_path / "publisher.pem")
    tree = make_tree(tmp_path)
    return run(feed, "add", str(tree), *FACTS, "--sign-with", str(tmp_path / "publisher.pem"), *more)


def test_init_prints_the_root_that_sites_need_and_its_digest(tmp_path: Path) -> None:
    done = assay("feed", "init", str(tmp_path / "feed"), "--keys", str(tmp_path / "keys"))
    root = tmp_path / "keys" / "root.json"
    assert done.stdout == f"{root}\n"
    assert hashlib.sha256(root.read_bytes()).hexdigest() in done.stderr
    assert "move root-*.pem" in done.stderr
    again = assay("feed", "init", str(tmp_path / "feed"), "--keys", str(tmp_path / "keys"))
    assert (again.exit_code, "has the keys of a feed already" in again.stderr) == (1, True)


def test_adds_an_archive_once(feed: Path, tmp_path: Path) -> None:
    archive = make_archive(tmp_path, make_key(tmp_path / "publisher.pem"), name=NAME)
    for _ in range(2):
        done = run(feed, "add", str(archive))
        assert (done.exit_code, done.stdout) == (0, f"text/{NAME}.champion.tar\n")
    assert list(listed(feed, tmp_path)) == [NAME]


def test_adds_a_folder_that_the_publisher_releases_on_the_spot(feed: Path, tmp_path: Path) -> None:
    done = add_tree(feed, tmp_path)
    assert (done.exit_code, done.stdout) == (0, f"text/{NAME}.champion.tar\n")
    release = release_of(feed, tmp_path)
    assert (release["name"], release["channel"], release["contractEpoch"]) == (NAME, "text", "E4")
    assert (release["origin"], release["images"], release["tournament"]) == ("tree", [], None)


@pytest.mark.parametrize("missing", ["--name", "--channel", "--epoch"])
def test_releasing_needs_what_only_the_publisher_knows(feed: Path, tmp_path: Path, missing: str) -> None:
    make_key(tmp_path / "publisher.pem")
    given = dict(zip(FACTS[::2], FACTS[1::2], strict=True))
    del given[missing]
    words = [word for pair in given.items() for word in pair]
    done = run(feed, "add", str(make_tree(tmp_path)), *words, "--sign-with", str(tmp_path / "publisher.pem"))
    assert (done.exit_code, listed(feed, tmp_path)) == (2, {})


@pytest.mark.parametrize(
    "words", [FACTS[:2], FACTS[2:4], FACTS[4:], ("--tournament", "x"), ("--images", "x")]
)
def test_an_archive_is_released_already(feed: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    archive = make_archive(tmp_path, make_key(tmp_path / "publisher.pem"), name=NAME)
    assert run(feed, "add", str(archive), *words).exit_code == 2


def test_a_folder_without_a_publishers_key_is_refused(feed: Path, tmp_path: Path) -> None:
    done = run(feed, "add", str(make_tree(tmp_path)))
    assert (done.exit_code, "is no archive" in done.stderr, "--sign-with KEY" in done.stderr) == (
        1,
        True,
        True,
    )
    assert listed(feed, tmp_path) == {}


def test_a_link_in_a_folder_is_released_only_without_it_by_name(feed: Path, tmp_path: Path) -> None:
    make_key(tmp_path / "publisher.pem")
    tree = make_tree(tmp_path)
    (tree / "link").symlink_to("run.sh")
    words = ("add", str(tree), *FACTS, "--sign-with", str(tmp_path / "publisher.pem"))
    refused = run(feed, *words)
    assert (refused.exit_code, "'link' is a symbolic link" in refused.stderr) == (1, True)
    assert "--leave-out link" in refused.stderr
    done = run(feed, *words, "--leave-out", "link", "-o", "json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == {"target": f"text/{NAME}.champion.tar", "state": "listed"}
    assert release_of(feed, tmp_path)["links"] == [{"name": "link", "target": "run.sh"}]


def test_changes_of_a_feed_are_told_to_programs(feed: Path, tmp_path: Path) -> None:
    assert add_tree(feed, tmp_path).exit_code == 0
    revoked = run(feed, "revoke", NAME, "--reason", "reads rows", "-o", "json")
    assert json.loads(revoked.stdout) == {"champion": NAME, "state": "revoked"}
    refreshed = run(feed, "refresh", "-o", "json")
    assert json.loads(refreshed.stdout) == {"feed": str(feed), "state": "refreshed"}
    rotated = json.loads(run(feed, "rotate", "--role", "timestamp", "-o", "json").stdout)
    assert (rotated["role"], len(rotated["key"])) == ("timestamp", 64)
    other = ("feed", "init", str(tmp_path / "b"), "--keys", str(tmp_path / "b-keys"), "-o", "json")
    made = json.loads(assay(*other).stdout)
    root = tmp_path / "b-keys" / "root.json"
    assert (made["root"], made["sha256"]) == (str(root), hashlib.sha256(root.read_bytes()).hexdigest())


def test_an_expired_feed_is_refreshed_before_it_is_exported(tmp_path: Path) -> None:
    old, keys = tmp_path / "old", tmp_path / "old-keys"
    init_feed(old, keys=keys, now=SystemClock().now() - timedelta(days=100))
    done = assay("feed", "export", str(old), "--into", str(tmp_path / "stick"))
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"first `assay feed refresh {old} --keys DIR`" in done.stderr
    assert "break the glass" not in done.stderr


def test_a_key_that_others_can_read_is_refused_before_anything_is_fetched(feed: Path, tmp_path: Path) -> None:
    make_key(tmp_path / "publisher.pem")
    (tmp_path / "publisher.pem").chmod(0o644)
    words = ("https://example.invalid/x.git@" + "0" * 40, *FACTS)
    done = run(feed, "add", *words, "--sign-with", str(tmp_path / "publisher.pem"))
    assert done.exit_code == 3
    assert "publisher.pem" in done.stderr


def saved_answer(tmp_path: Path, **changes: object) -> str:
    row = {
        "final_position": 1,
        "training_commit_hash": TRAINED,
        "backup_repo": ORIGIN,
        **changes,
    }
    path = tmp_path / "details.json"
    path.write_text(json.dumps(details(participants=[participant(WINNER, **row)])))
    return str(path)


def test_what_disagrees_with_the_tournament_is_told_and_not_released(feed: Path, tmp_path: Path) -> None:
    done = add_tree(feed, tmp_path, "--tournament", saved_answer(tmp_path))
    assert done.exit_code == 0
    assert "high tournament-" in done.stderr  # the tree was not committed by the tournament
    assert release_of(feed, tmp_path)["tournament"] is None


def test_a_name_after_no_tournament_cannot_be_compared(feed: Path, tmp_path: Path) -> None:
    make_key(tmp_path / "publisher.pem")
    words = ("--name", "some-winner", *FACTS[2:], "--sign-with", str(tmp_path / "publisher.pem"))
    answer = saved_answer(tmp_path)
    done = run(feed, "add", str(make_tree(tmp_path)), *words, "--tournament", answer)
    assert (done.exit_code, "does not say of which tournament" in done.stderr) == (1, True)


def commit_all(tree: Path) -> str:
    def git(*words: str) -> str:
        who = ("-c", "user.name=op", "-c", "user.email=op@example.invalid")
        done = subprocess.run(["git", *who, *words], cwd=tree, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "--quiet", "--initial-branch=main")
    git("add", ".")
    git("commit", "--quiet", "--message", "Tournament winner repository - Commit: 0a1b2c3d")
    return git("rev-parse", "HEAD")


# Images.


def built_image(
    folder: Path, *, dockerfile: str = "ops/docker/standalone-text-trainer.dockerfile"
) -> ImagePin:
    """What `champions build` leaves: an image, an inventory and their pin."""
    folder.mkdir()
    image = open_archive(write_image(folder / "text.oci.tar", [tar_of({"a": b"content"})]))
    (folder / "text.cdx.json").write_bytes(b"{}")
    pin = ImagePin(
        dockerfile=dockerfile,
        manifest=image.manifest_sha256,
        archive=image.archive_sha256,
        inventory=hashlib.sha256(b"{}").hexdigest(),
    )
    fields = {name: getattr(pin, name) for name in ("archive", "dockerfile", "inventory", "manifest")}
    (folder / "text.pin.json").write_text(json.dumps(fields, separators=(",", ":")))
    return pin


def test_pins_of_built_images_stand_in_the_release(feed: Path, tmp_path: Path) -> None:
    pin = built_image(tmp_path / "built")
    assert add_tree(feed, tmp_path, "--images", str(tmp_path / "built")).exit_code == 0
    (image,) = release_of(feed, tmp_path)["images"]
    assert (image["dockerfile"], image["manifest"]["sha256"]) == (pin.dockerfile, pin.manifest)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("text.pin.json", b"{}", "is no pin"),
        ("text.pin.json", b"\xff", "is no pin"),
        ("text.pin.json", b" " * 5000, "over the limit"),
        ("text.cdx.json", b"{ }", "is not the pin of the image and the inventory beside it"),
        ("text.cdx.json", None, "cannot be read"),
        ("text.oci.tar", b"", ""),
        ("text.pin.json", None, "has no *.pin.json"),
    ],
)
def test_pins_of_other_files_are_refused(
    feed: Path, tmp_path: Path, file: str, content: bytes | None, said: str
) -> None:
    built_image(tmp_path / "built")
    (tmp_path / "built" / file).unlink()
    if content is not None:
        (tmp_path / "built" / file).write_bytes(content)
    done = add_tree(feed, tmp_path, "--images", str(tmp_path / "built"))
    assert (done.exit_code, said in done.stderr) == (1, True)
    assert listed(feed, tmp_path) == {}


# Revoke, rotate, refresh, export.


def test_revoking_takes_it_off_and_its_name_is_not_used_again(feed: Path, tmp_path: Path) -> None:
    archive = make_archive(tmp_path, make_key(tmp_path / "publisher.pem"), name=NAME)
    assert run(feed, "add", str(archive)).exit_code == 0
    done = run(feed, "revoke", NAME, "--reason", "reads rows")
    assert (done.exit_code, listed(feed, tmp_path)) == (0, {})
    again = run(feed, "add", str(archive))
    assert (again.exit_code, "was revoked (reads rows)" in again.stderr) == (1, True)
    assert run(feed, "revoke", "nobody", "--reason", "x").exit_code == 1
    assert run(feed, "revoke", NAME).exit_code == 2


@pytest.mark.parametrize("role", ["timestamp", "text", "targets"])
def test_rotating_prints_the_new_key_and_clients_follow(feed: Path, tmp_path: Path, role: str) -> None:
    listed(feed, tmp_path)
    done = run(feed, "rotate", "--role", role)
    assert done.exit_code == 0, done.stderr
    assert len(done.stdout.strip()) == 64
    listed(feed, tmp_path)


@pytest.mark.parametrize("words", [("--role", "king"), ("--role", "root")])
def test_rotating_what_is_not_clear_is_refused(feed: Path, words: tuple[str, ...]) -> None:
    assert run(feed, "rotate", *words).exit_code == 1


def test_refreshing_needs_the_online_keys_only(feed: Path, tmp_path: Path) -> None:
    for key in (tmp_path / "keys").glob("*.pem"):
        if not key.name.startswith(("timestamp", "snapshot")):
            key.unlink()
    before = listed(feed, tmp_path)
    assert run(feed, "refresh").exit_code == 0
    assert listed(feed, tmp_path) == before
    refused = run(feed, "refresh", "--also", "text")
    assert (refused.exit_code, "role text needs 1" in refused.stderr) == (1, True)


def test_export_gives_a_folder_that_clients_take(feed: Path, tmp_path: Path) -> None:
    archive = make_archive(tmp_path, make_key(tmp_path / "publisher.pem"), name=NAME)
    run(feed, "add", str(archive))
    done = assay("feed", "export", str(feed), "--into", str(tmp_path / "stick"), "-o", "json")
    facts = json.loads(done.stdout)
    assert (facts["folder"], facts["files"] > 5) == (str(tmp_path / "stick"), True)
    assert list(listed(tmp_path / "stick", tmp_path)) == [NAME]
    text = assay("feed", "export", str(feed), "--into", str(tmp_path / "stick"))
    assert "expires_at" in text.stdout


def test_an_expired_feed_is_not_exported(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    init_feed(tmp_path / "old", keys=tmp_path / "keys", now=site.now - timedelta(days=100))
    done = assay("feed", "export", str(tmp_path / "old"), "--into", str(tmp_path / "stick"))
    assert (done.exit_code, "expired" in done.stderr) == (1, True)


def test_keys_with_a_passphrase_need_it(tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_bytes(b"correct horse\n")
    given = ("--keys", str(tmp_path / "keys"), "--passphrase-file", str(tmp_path / "passphrase"))
    assert assay("feed", "init", str(tmp_path / "feed"), *given).exit_code == 0
    assert assay("feed", "refresh", str(tmp_path / "feed"), *given).exit_code == 0
    refused = assay("feed", "refresh", str(tmp_path / "feed"), *given[:2])
    assert (refused.exit_code, "key cannot be read" in refused.stderr) == (1, True)
    missing = assay("feed", "refresh", str(tmp_path / "feed"), *given[:3], str(tmp_path / "nothing"))
    assert (missing.exit_code, "cannot be read" in missing.stderr) == (1, True)


@pytest.mark.parametrize("words", [("refresh",), ("export", "--into", "x"), ("serve-dir", "--port", "0")])
def test_what_is_no_feed_is_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    keys = ("--keys", str(tmp_path)) if words[0] == "refresh" else ()
    done = assay("feed", words[0], str(tmp_path / "nothing"), *words[1:], *keys)
    assert done.exit_code in (1, 3)
    assert done.stderr


# The whole way.


def test_a_commit_without_its_links_goes_through_a_feed_and_out_again(feed: Path, tmp_path: Path) -> None:
    site, tree = make_site(tmp_path), make_tree(tmp_path)
    (tree / "artifacts").symlink_to("/workspace/artifacts")
    commit = commit_all(tree)
    (key,) = (site.home / "keys").rglob(f"{PUBLISHER}*.pem")
    shutil.copy2(key, tmp_path / "publisher.pem")
    words = (f"{tree}@{commit}", *FACTS, "--sign-with", str(tmp_path / "publisher.pem"))
    refused = run(feed, "add", *words)
    assert (refused.exit_code, "'artifacts' is a symbolic link" in refused.stderr) == (1, True)
    added = run(feed, "add", *words, "--leave-out", "artifacts")
    assert added.exit_code == 0, added.stderr
    root = ("--root", str(tmp_path / "keys" / "root.json"))
    synced = site.assay("champions", "sync", str(feed), "--as", PROPOSER, *root)
    assert synced.exit_code == 0, synced.stderr
    out = tmp_path / "again.champion.tar"
    exported = site.assay("champions", "export", NAME, "--into", str(out))
    assert exported.exit_code == 0, exported.stderr
    (published,) = (feed / "targets" / "text").glob("*.champion.tar")
    assert out.read_bytes() == published.read_bytes()
    assert release_of(feed, tmp_path)["links"] == [{"name": "artifacts", "target": "/workspace/artifacts"}]


def test_a_site_takes_a_champion_over_http_and_loses_it_again(feed: Path, tmp_path: Path) -> None:
    site: Site = make_site(tmp_path)
    archive = make_archive(tmp_path, site.publisher(), name=NAME)
    assert run(feed, "add", str(archive)).exit_code == 0
    with feed_server(feed, host="127.0.0.1", port=0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url, by = f"http://127.0.0.1:{server.server_port}", ("--as", PROPOSER)
        first = site.assay("champions", "sync", url, *by, "--root", str(tmp_path / "keys" / "root.json"))
        run(feed, "revoke", NAME, "--reason", "reads rows")
        second = site.assay("champions", "sync", url, *by)
        server.shutdown()
        thread.join()
    assert (first.exit_code, second.exit_code) == (0, 0), first.stderr + second.stderr
    assert f"{NAME}  REVOKED" in site.assay("champions", "show", NAME).stdout
