"""Names and paths of a feed, its keys, its custom metadata, and claims of releases."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from tuf.api.metadata import Role

from tests.tournament_sync.feed_site import NAME, Site
from tournament_sync.champion import Channel
from tournament_sync.errors import PublishError, ReleaseError
from tournament_sync.feed.custom import FeedRelease, encode_custom, parse_custom
from tournament_sync.feed.files import copy_file, locked, put_file, write_file
from tournament_sync.feed.keys import KeyFolder
from tournament_sync.feed.layout import (
    ROLES,
    archive_target,
    champion_name,
    metadata_file,
    revocations_target,
    role_paths,
    target_file,
)
from tournament_sync.feed.released import read_claims

# Layout


def test_a_target_s_name_tells_channel_and_champion() -> None:
    for channel in Channel:
        assert champion_name(archive_target(channel, NAME), channel) == NAME


@pytest.mark.parametrize(
    "path",
    [
        "text/revocations.json",
        "image/god-text-a.champion.tar",
        "text/text/god-text-a.champion.tar",
        "text/God.champion.tar",
        "text/.champion.tar",
        "god-text-a.champion.tar",
        "god-text-a",
        "text/god-text-a.tar",
        "",
    ],
)
def test_other_paths_name_no_champion(path: str) -> None:
    assert champion_name(path, Channel.TEXT) is None


def test_files_of_one_name_and_other_content_are_two_files() -> None:
    assert target_file("text/a.champion.tar", "ab") == "targets/text/ab.a.champion.tar"
    assert metadata_file("root", 3) == "metadata/3.root.json"
    assert revocations_target(Channel.IMAGE) == "image/revocations.json"
    assert role_paths(Channel.IMAGE) == ["image/*"]


# Custom metadata


@given(
    release=st.text(st.characters(exclude_categories=["Cs"])),
    keyless=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
)
def test_custom_metadata_is_read_as_it_was_written(release: str, keyless: str | None) -> None:
    given = FeedRelease(release=release.encode(), keyless=None if keyless is None else keyless.encode())
    assert parse_custom(encode_custom(given)) == given


def test_custom_metadata_with_half_a_character_is_refused() -> None:
    with pytest.raises(ReleaseError, match="release holds an unpaired surrogate"):
        parse_custom({"assay": {"release": "\ud800", "keyless": None}})


# Keys


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    return KeyFolder(folder=tmp_path)


def role_of(*signers, threshold: int = 1) -> Role:
    return Role([signer.public_key.keyid for signer in signers], threshold)


def test_keys_get_numbers_that_are_free(folder: KeyFolder) -> None:
    folder.create("root")
    (folder.folder / "root-7.pem").write_bytes((folder.folder / "root-1.pem").read_bytes())
    folder.create("root")
    assert sorted(path.name for path in folder.folder.iterdir()) == ["root-1.pem", "root-7.pem", "root-8.pem"]


def test_only_keys_that_the_role_names_sign_for_it(folder: KeyFolder) -> None:
    first, second = folder.create("text"), folder.create("text")
    folder.create("image")
    (found,) = folder.signers("text", role_of(second))
    assert found.public_key == second.public_key
    assert {
        each.public_key.keyid for each in folder.signers("text", role_of(first, second, threshold=2))
    } == {
        first.public_key.keyid,
        second.public_key.keyid,
    }


def test_a_copy_of_a_key_is_no_second_key(folder: KeyFolder) -> None:
    first = folder.create("root")
    (folder.folder / "root-2.pem").write_bytes((folder.folder / "root-1.pem").read_bytes())
    (folder.folder / "root-2.pem").chmod(0o600)
    role = Role([first.public_key.keyid, "another"], 2)
    with pytest.raises(PublishError, match="role root needs 2 of its 2 keys, 1 found"):
        folder.signers("root", role)


def test_refuses_a_key_that_others_may_read(folder: KeyFolder) -> None:
    signer = folder.create("text")
    (folder.folder / "text-1.pem").chmod(0o640)
    with pytest.raises(PublishError, match=r"text-1.pem: key without passphrase has mode 640, wanted 600"):
        folder.signers("text", role_of(signer))


def test_an_encrypted_key_may_lie_where_modes_do_not_count(tmp_path: Path) -> None:
    folder = KeyFolder(folder=tmp_path, passphrase=b"x")
    signer = folder.create("root")
    (tmp_path / "root-1.pem").chmod(0o755)
    assert folder.signers("root", role_of(signer))


@pytest.mark.parametrize("content", [b"", b"no key", b"x" * 100_000])
def test_refuses_what_is_no_key(folder: KeyFolder, content: bytes) -> None:
    (folder.folder / "text-1.pem").write_bytes(content)
    with pytest.raises(PublishError, match=r"text-1.pem: key cannot be read"):
        folder.signers("text", Role(["x"], 1))


def test_refuses_a_key_of_another_kind(folder: KeyFolder) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    path = folder.folder / "text-1.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    with pytest.raises(PublishError, match=r"text-1.pem: not an Ed25519 key"):
        folder.signers("text", Role(["x"], 1))


def test_refuses_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="is no folder of keys"):
        KeyFolder(folder=tmp_path / "absent").signers("text", Role(["x"], 1))


# Files


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    write_file(tmp_path / "new/x", b"1")
    write_file(tmp_path / "new/x", b"22")
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "new").iterdir()] == [("x", b"22")]


@pytest.mark.parametrize("what", ["write", "copy"])
def test_a_link_in_the_place_of_the_part_is_not_followed(tmp_path: Path, what: str) -> None:
    """Whoever had the stick before knows the name."""
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "source").write_bytes(b"new")
    (tmp_path / ".x.part").symlink_to(tmp_path / "precious")
    if what == "write":
        write_file(tmp_path / "x", b"new")
    else:
        put_file(copy_file(tmp_path / "source", tmp_path / ".x.part", max_bytes=9).path, tmp_path / "x")
    assert not (tmp_path / "x").is_symlink()
    assert [(tmp_path / name).read_bytes() for name in ("x", "precious")] == [b"new", b"precious"]


def test_a_folder_is_held_by_one_publisher(tmp_path: Path) -> None:
    with locked(tmp_path):
        pid = os.fork()
        if pid == 0:
            # The child must not get it while the parent holds it: a lock that does not wait would fail here.
            import fcntl

            handle = os.open(tmp_path, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os._exit(3)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3


# Claims


def test_reads_what_a_release_claims(tmp_path: Path, publisher, now) -> None:
    site = Site(tmp_path, publisher, now)
    site.archive(NAME, channel=Channel.ENVIRONMENT)
    release = (tmp_path / f"{NAME}.release").read_bytes()
    claims = read_claims(release)
    assert (claims.name, claims.channel, claims.bundle) == (NAME, Channel.ENVIRONMENT, release)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff"])
def test_refuses_what_claims_nothing(data: bytes) -> None:
    with pytest.raises(ReleaseError, match="not a release: "):
        read_claims(data)


def test_every_channel_is_a_role() -> None:
    assert set(ROLES) == {"root", "targets", "snapshot", "timestamp", *(channel.value for channel in Channel)}
