"""What the TUF specification wants refused, each once, by a repository that has the keys to try it."""

import copy
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tuf.api.metadata import MetaFile

from tests.tournament_sync.tuf_repository import CHANNELS, TOP, TufRepository
from tournament_sync.errors import SourceUnavailableError
from tournament_sync.feed.client import FeedSource
from tournament_sync.feed.trusted import MAX_ROOT_BYTES, MAX_SNAPSHOT_BYTES, MAX_TIMESTAMP_BYTES

ONLINE = ("timestamp", "snapshot", "targets", *CHANNELS)


@pytest.fixture
def repository(tmp_path: Path, now: datetime) -> TufRepository:
    return TufRepository(tmp_path / "repository", now=now)


@pytest.fixture
def source(repository: TufRepository, tmp_path: Path, now: datetime) -> Callable[..., FeedSource]:
    """A client with one state; `at`: what its clock says."""
    first = repository.first_root

    def make(
        *, state: str = "state", at: datetime = now, root: bytes = first, **options: object
    ) -> FeedSource:
        return FeedSource(
            repository.folder,
            state=tmp_path / state,
            root=root,
            clock=lambda: at,
            **options,  # type: ignore[arg-type]
        )

    return make


def refused(source: FeedSource, rule: str) -> str:
    with pytest.raises(SourceUnavailableError, match=rule) as caught:
        source.offers()
    return str(caught.value)


# Signatures and thresholds


def test_a_feed_whose_every_role_is_signed_is_read(source) -> None:
    assert source().offers() == ()
    assert source().revocations() == ()


@pytest.mark.parametrize("role", ONLINE)
def test_refuses_a_role_that_nobody_signed(repository: TufRepository, source, role: str) -> None:
    repository.signers[role] = []
    repository.publish()
    refused(source(), rf"{role} was signed by 0/1 keys \(rule: threshold of signatures\)")


@pytest.mark.parametrize("role", ONLINE)
def test_refuses_a_role_signed_by_the_key_of_another(repository: TufRepository, source, role: str) -> None:
    other = "snapshot" if role == "timestamp" else "timestamp"
    repository.signers[role] = repository.signers[other]
    repository.publish()
    refused(source(), rf"{role} was signed by 0/1 keys")


@pytest.mark.parametrize("role", ["targets", "text"])
def test_one_of_two_signatures_is_not_two(repository: TufRepository, source, role: str) -> None:
    repository.add_key(role)
    repository.delegator(role).get_delegated_role(role).threshold = 2
    repository.publish_root()
    repository.publish()
    assert source().offers() == ()
    repository.signers[role].pop()
    repository.publish()
    refused(source(), rf"{role} was signed by 1/2 keys")


def test_the_same_key_twice_is_one_signature(repository: TufRepository, source) -> None:
    repository.add_key("targets")
    repository.signed["root"].get_delegated_role("targets").threshold = 2
    repository.publish_root()
    repository.signers["targets"] = [repository.signers["targets"][0]] * 2
    repository.publish()
    refused(source(), "targets was signed by 1/2 keys")


# Roots


def test_follows_a_chain_of_roots(repository: TufRepository, source) -> None:
    for _ in range(5):
        repository.add_key("root")
        repository.publish_root()
    assert source().status().root_version == 6


def test_refuses_a_root_that_the_old_keys_did_not_sign(repository: TufRepository, source) -> None:
    repository.replace_key("root")
    repository.publish_root()
    refused(source(), r"root was signed by 0/1 keys \(rule: root rotation")


def test_refuses_a_root_that_its_own_keys_did_not_sign(repository: TufRepository, source) -> None:
    old = list(repository.signers["root"])
    repository.replace_key("root")
    repository.publish_root(old)
    refused(source(), r"root was signed by 0/1 keys \(rule: root rotation")


def test_refuses_a_root_below_the_threshold_of_the_old_one(repository: TufRepository, source) -> None:
    repository.add_key("root")
    repository.signed["root"].get_delegated_role("root").threshold = 2
    repository.publish_root()
    repository.publish_root(repository.signers["root"][:1])
    refused(source(), r"root was signed by 1/2 keys \(rule: root rotation")


def test_refuses_a_root_under_the_number_of_another(repository: TufRepository, source) -> None:
    repository.publish_root()
    repository.publish_root()
    third = repository.folder / "metadata/3.root.json"
    third.rename(repository.folder / "metadata/2.root.json")
    refused(source(), r"Expected root version 2.*\(rule: root rotation")


def test_a_refused_root_leaves_the_trusted_one(repository: TufRepository, source, tmp_path: Path) -> None:
    source().offers()
    repository.replace_key("root")
    repository.publish_root()
    refused(source(), "root rotation")
    (repository.folder / "metadata/2.root.json").unlink()
    assert source().status().root_version == 1


def test_a_new_root_takes_the_keys_of_others_away(repository: TufRepository, source) -> None:
    source().offers()
    stolen = list(repository.signers["snapshot"])
    repository.replace_key("snapshot")
    repository.publish_root()
    repository.publish()
    assert source().status().root_version == 2
    repository.signers["snapshot"] = stolen
    repository.publish()
    refused(source(), "snapshot was signed by 0/1 keys")


@pytest.mark.parametrize("root", [b"", b"{}", b"no JSON", b'{"signed":{}}', b"[" * 100_000])
def test_refuses_a_pinned_root_that_is_none(source, root: bytes) -> None:
    refused(source(root=root), "the pinned root is no root of a feed")


def test_refuses_a_pinned_root_of_another_feed(source, tmp_path: Path, now: datetime) -> None:
    other = TufRepository(tmp_path / "other", now=now)
    refused(source(root=other.first_root), "timestamp was signed by 0/1 keys")


def test_a_stolen_timestamp_key_that_ran_ahead_is_recovered_from(repository: TufRepository, source) -> None:
    repository.publish(lambda it: setattr(it.signed["timestamp"], "version", 10**6))
    assert source().status().timestamp_version == 10**6
    repository.signed["timestamp"].version = 2
    repository.replace_key("timestamp")
    repository.publish_root()
    repository.publish()
    assert source().status().timestamp_version == 3


# Rollback


def older(repository: TufRepository, tmp_path: Path, names: tuple[str, ...]) -> Callable[[], None]:
    """Publish something newer; the answer puts the older files of `names` back."""
    kept = tmp_path / "kept"
    shutil.copytree(repository.folder, kept)
    repository.publish()
    return lambda: [shutil.copy(kept / name, repository.folder / name) for name in names] and None


def test_refuses_an_older_timestamp(repository: TufRepository, source, tmp_path: Path) -> None:
    roll_back = older(repository, tmp_path, ("metadata/timestamp.json",))
    source().offers()
    roll_back()
    refused(source(), r"New timestamp version 1 must be >= 2 \(rule: rollback")


def test_an_older_timestamp_passes_where_nothing_is_remembered(
    repository: TufRepository, source, tmp_path: Path
) -> None:
    roll_back = older(repository, tmp_path, ("metadata/timestamp.json",))
    source().offers()
    roll_back()
    assert source(state="fresh").status().timestamp_version == 1


def test_the_same_timestamp_again_is_nothing_new(source) -> None:
    assert source().status().changed
    assert not source().status().changed


def test_refuses_an_older_snapshot_under_a_newer_timestamp(repository: TufRepository, source) -> None:
    repository.publish()
    source().offers()
    repository.signed["snapshot"].version = 0
    repository.publish()
    refused(source(), r"New snapshot version must be >= 2, got version 1 \(rule: rollback")


@pytest.mark.parametrize("role", ["targets", "text"])
def test_refuses_an_older_role_under_a_newer_snapshot(repository: TufRepository, source, role: str) -> None:
    repository.publish()
    source().offers()
    repository.signed[role].version = 0
    repository.publish()
    refused(source(), rf"Expected {role}\.json version .* \(rule: rollback")


def test_refuses_a_snapshot_that_forgets_a_role(repository: TufRepository, source) -> None:
    source().offers()
    repository.publish(lambda it: it.signed["snapshot"].meta.pop("text.json"), "targets")
    refused(source(), r"missing info for 'text.json' \(rule: rollback")


# Freeze


@pytest.mark.parametrize("role", ["root", *ONLINE])
def test_refuses_an_expired_role_and_says_since_when(
    repository: TufRepository, source, now: datetime, role: str
) -> None:
    repository.signed[role].expires = now
    repository.publish_root()
    repository.publish()
    message = refused(source(), "rule: freeze")
    assert f"{role} of the feed expired at 2026-11-21T02:00:00Z" in message
    assert "import a fresh copy of the feed, or break the glass with a logged time of reference" in message


def test_a_feed_counts_until_the_second_it_expires(source, now: datetime) -> None:
    last = now + timedelta(days=7, seconds=-1)
    assert source(at=last).status().expires_at == last + timedelta(seconds=1)
    refused(source(at=last + timedelta(seconds=1)), "timestamp of the feed expired|root of the feed expired")


def test_what_was_read_before_expires_as_well(source, now: datetime) -> None:
    source().offers()
    refused(source(at=now + timedelta(days=8)), "rule: freeze")


def test_an_expired_root_in_between_is_followed(repository: TufRepository, source, now: datetime) -> None:
    expires = repository.signed["root"].expires
    repository.signed["root"].expires = now - timedelta(days=1)
    repository.publish_root()
    repository.signed["root"].expires = expires
    repository.publish_root()
    assert source().status().root_version == 3


@pytest.mark.parametrize("role", ["root", *ONLINE])
def test_broken_glass_reads_what_was_current_then(
    repository: TufRepository, source, now: datetime, role: str
) -> None:
    repository.signed[role].expires = now
    repository.publish_root()
    repository.publish()
    then = now - timedelta(seconds=1)
    assert source(break_glass_reference_time=then).offers() == ()


def test_broken_glass_does_not_read_what_had_expired_then(source, now: datetime) -> None:
    refused(source(break_glass_reference_time=now + timedelta(days=8)), "rule: freeze")


def test_broken_glass_still_refuses_rollback(
    repository: TufRepository, source, tmp_path: Path, now: datetime
) -> None:
    roll_back = older(repository, tmp_path, ("metadata/timestamp.json",))
    source().offers()
    roll_back()
    refused(source(break_glass_reference_time=now), "rule: rollback")


# Mix-and-match


def test_refuses_a_snapshot_that_the_timestamp_does_not_list(repository: TufRepository, source) -> None:
    repository.signed["snapshot"].unrecognized_fields["other"] = "content"
    repository.write("metadata/1.snapshot.json", repository.metadata("snapshot"))
    refused(source(), r"rule: (mix-and-match|endless)")


@pytest.mark.parametrize("role", ["targets", "text"])
def test_refuses_a_role_that_the_snapshot_does_not_list(repository: TufRepository, source, role: str) -> None:
    other = copy.deepcopy(repository.signed[role])
    repository.publish(lambda it: it.signed[role].unrecognized_fields.update(x="old"))
    kept = (repository.folder / f"metadata/2.{role}.json").read_bytes()
    repository.signed[role] = other
    repository.signed[role].version = 1
    repository.publish(lambda it: it.signed[role].unrecognized_fields.update(x="new"))
    repository.write(f"metadata/2.{role}.json", kept)
    refused(source(), r"rule: mix-and-match")


def test_refuses_a_role_of_another_version_than_the_snapshot_lists(repository: TufRepository, source) -> None:
    data = repository.metadata("text")
    repository.publish(None, "targets")
    meta = MetaFile.from_data(1, data, ["sha256"])
    meta.version = 5
    repository.signed["snapshot"].meta["text.json"] = meta
    repository.write("metadata/5.text.json", data)
    repository.publish(None, "targets")
    refused(source(), r"Expected text v5, got v1\. \(rule: mix-and-match")


def test_refuses_a_delegated_role_that_no_snapshot_lists(repository: TufRepository, source) -> None:
    repository.signed["snapshot"].meta.pop("text.json")
    repository.publish(None, "targets")
    refused(source(), "Role text was delegated but is not part of snapshot")


@pytest.mark.parametrize("name", ["1.snapshot", "1.targets", "1.text", "timestamp"])
def test_refuses_a_feed_that_lacks_what_it_lists(repository: TufRepository, source, name: str) -> None:
    (repository.folder / f"metadata/{name}.json").unlink()
    refused(source(), r"is not there \(rule: completeness")


# Endless data


@pytest.mark.parametrize(("name", "limit"), [("timestamp", MAX_TIMESTAMP_BYTES), ("2.root", MAX_ROOT_BYTES)])
def test_reads_no_more_than_a_limit(repository: TufRepository, source, name: str, limit: int) -> None:
    repository.write(f"metadata/{name}.json", b" " * (limit + 1))
    refused(source(), rf"maximum allowed length of {limit} \(rule: endless data")


@pytest.mark.parametrize("role", ["snapshot", "targets", "text"])
def test_reads_no_more_than_was_signed(repository: TufRepository, source, role: str) -> None:
    path = repository.folder / f"metadata/1.{role}.json"
    path.write_bytes(path.read_bytes() + b" ")
    refused(source(), r"rule: endless data")


def test_a_timestamp_that_signs_a_snapshot_without_length_has_a_limit(
    repository: TufRepository, source
) -> None:
    repository.signed["timestamp"].version = 2
    repository.signed["timestamp"].snapshot_meta = MetaFile(1)
    repository.write("metadata/timestamp.json", repository.metadata("timestamp"))
    repository.write("metadata/1.snapshot.json", b" " * (MAX_SNAPSHOT_BYTES + 1))
    refused(source(), rf"maximum allowed length of {MAX_SNAPSHOT_BYTES}")


# Delegations and paths


def test_refuses_a_role_that_lists_what_belongs_to_another(repository: TufRepository, source) -> None:
    repository.add_target("image/god-image-a.champion.tar", b"x", role="text")
    repository.publish()
    refused(source(), r"role 'text' lists 'image/god-image-a.champion.tar', which is outside its paths")


@pytest.mark.parametrize(
    "path", ["text/a/b.champion.tar", "../text/a.champion.tar", "/text/a.champion.tar", "text"]
)
def test_refuses_a_target_outside_the_paths_of_its_role(repository: TufRepository, source, path: str) -> None:
    repository.signed["text"].targets[path] = repository.signed["text"].targets["text/revocations.json"]
    repository.publish()
    refused(source(), r"outside its paths \['text/\*'\] \(rule: delegation\)")


@pytest.mark.parametrize(
    "name", ["God.champion.tar", "a.tar", ".champion.tar", "revocations.json.champion.tar"]
)
def test_refuses_a_target_that_is_nothing_that_a_channel_has(
    repository: TufRepository, source, name: str
) -> None:
    repository.add_target(f"text/{name}", b"x", role="text")
    repository.publish()
    refused(source(), "which is neither a champion's archive nor its list of revocations")


def test_refuses_a_feed_that_delegates_no_channel(repository: TufRepository, source) -> None:
    del repository.signed["targets"].delegations.roles["image"]
    repository.publish()
    refused(source(), r"the feed delegates nothing to a role 'image' \(rule: delegation\)")


def test_refuses_a_channel_that_may_not_sign_its_revocations(repository: TufRepository, source) -> None:
    repository.signed["targets"].delegations.roles["image"].paths = ["image/*.champion.tar"]
    repository.publish()
    refused(source(), r"role 'image' may not sign 'image/revocations.json'")


def test_a_key_that_the_delegator_took_away_signs_no_more(repository: TufRepository, source) -> None:
    source().offers()
    stolen = list(repository.signers["text"])
    repository.replace_key("text")
    repository.publish()
    assert source().offers() == ()
    repository.signers["text"] = stolen
    repository.publish()
    refused(source(), "text was signed by 0/1 keys")


def test_what_a_taken_away_key_signed_before_is_refused_from_the_state_too(
    repository: TufRepository, source
) -> None:
    source().offers()
    kept = repository.signers["text"]
    repository.replace_key("text")
    repository.signers["text"] = kept
    # The same text.json, byte for byte: only the delegation has changed.
    repository.publish(None, "targets")
    refused(source(), "text was signed by 0/1 keys")


@pytest.mark.parametrize("hashes", [{"sha512": "a" * 128}, {"sha256": "../../etc"}, {"sha256": "A" * 64}])
def test_refuses_a_target_without_a_plain_sha256(repository: TufRepository, source, hashes) -> None:
    target = repository.add_target("text/god-text-a.champion.tar", b"x", role="text")
    target.hashes = hashes
    repository.publish()
    refused(source(), r"'text/god-text-a.champion.tar': expected 64 lower-case hexadecimal digits")


def test_refuses_a_target_with_a_second_digest(repository: TufRepository, source) -> None:
    target = repository.add_target("text/god-text-a.champion.tar", b"x", role="text")
    target.hashes["md5"] = "a" * 32
    repository.publish()
    refused(source(), "has other digests than SHA-256")


# Form


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b"[" * 10_000, b'{"signed":1,"signatures":[]}'])
@pytest.mark.parametrize("name", ["timestamp", "2.root"])
def test_refuses_what_is_no_metadata(repository: TufRepository, source, name: str, data: bytes) -> None:
    repository.write(f"metadata/{name}.json", data)
    refused(source(), "the feed is refused: ")


def test_refuses_a_role_in_the_place_of_another(repository: TufRepository, source) -> None:
    repository.write("metadata/timestamp.json", repository.metadata("snapshot"))
    refused(source(), "the feed is refused: ")


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(name=st.sampled_from(["timestamp", "1.snapshot", "1.targets", "1.text"]), data=st.data())
def test_any_changed_byte_is_refused_with_an_error_of_ours(
    repository: TufRepository, source, tmp_path: Path, name: str, data: st.DataObject
) -> None:
    path = repository.folder / f"metadata/{name}.json"
    good = path.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    new = data.draw(st.binary(min_size=0, max_size=3).filter(lambda new: new != good[at : at + 1]))
    path.write_bytes(good[:at] + new + good[at + 1 :])
    shutil.rmtree(tmp_path / "state", ignore_errors=True)
    try:
        source().offers()
    except SourceUnavailableError:
        return
    finally:
        path.write_bytes(good)
    # What is signed is the canonical form: white space of the timestamp, which no digest covers, may differ.
    assert name == "timestamp"


def test_every_role_is_attacked() -> None:
    assert {*ONLINE, "root"} == {*TOP, *CHANNELS}
