"""Which images come in, which stay, and what the log has of both."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from appliance.adoption import hold, revoke
from appliance.defaults import set_default
from appliance.errors import AdmissionError, ArtifactError, NotFoundError
from appliance.image_keeping import KEEP_DAYS, collect_images, import_image, list_images, verify_kept
from appliance.image_store import ImageStore
from appliance.store import champions
from appliance.store.champions import ChampionRow
from appliance.store.engine import reading
from audit.event import Event
from audit.store import events_of
from runner.images.lease import hold_image
from runner.images.unpack import UnpackedImage
from tests.appliance.pinned import DOCKERFILE, make_image, pin_for, pin_images
from tests.appliance.world import PROPOSER, World, propose
from tests.runner.image_layers import sha256
from tournament_sync.errors import BuildError
from tournament_sync.images.oci import open_archive

LATER = timedelta(days=KEEP_DAYS, seconds=1)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return make_image(tmp_path / "image.tar")


@pytest.fixture
def adopted(world: World, archive: Path) -> ChampionRow:
    """The world's champion, with a release that pins the image."""
    with reading(world.ports.engine) as connection:
        champion = champions.get(connection, world.order.champion)
    return pin_images(world.appliance, champion, pin_for(archive))


@pytest.fixture
def proposed(world: World, archive: Path) -> ChampionRow:
    """A champion that nobody has adopted."""
    champion = propose(world.appliance, name="god-text-newcomer", note="another")
    return pin_images(world.appliance, champion, pin_for(archive))


@pytest.fixture
def bring(world: World, archive: Path) -> Callable[[ChampionRow], UnpackedImage]:
    return lambda champion: import_image(world.appliance, champion, archive, actor=PROPOSER)


def told(world: World, archive: Path) -> list[Event]:
    with reading(world.ports.engine) as connection:
        return [logged.event for logged in events_of(connection, pin_for(archive).manifest)]


def kinds(world: World, archive: Path) -> list[str]:
    return [event.kind.value for event in told(world, archive)]


def reasons(world: World, **options: int) -> tuple[str, ...]:
    (line,) = list_images(world.appliance, **options)
    return line.reasons


Bring = Callable[[ChampionRow], UnpackedImage]


def test_a_pinned_image_is_unpacked_and_logged_once(
    world: World, archive: Path, adopted: ChampionRow, bring: Bring
) -> None:
    image = bring(adopted)
    assert bring(adopted) == image
    (event,) = told(world, archive)
    assert (event.kind, event.actor, event.subject) == (
        "image:unpacked",
        PROPOSER,
        image.facts.manifest_sha256,
    )
    assert event.detail == {
        "archive": sha256(archive.read_bytes()),
        "champion": adopted.manifest_sha256,
        "dockerfile": DOCKERFILE,
        "tree": image.facts.tree_sha256,
    }
    assert verify_kept(world.appliance, image.facts.manifest_sha256) == image
    assert world.fsck() == ()


def test_an_image_whose_event_was_lost_in_a_crash_gets_it_later(
    world: World, archive: Path, adopted: ChampionRow, bring: Bring
) -> None:
    manifest = pin_for(archive).manifest
    ImageStore(world.appliance.home).unpack(open_archive(archive), now=world.clock.now())
    with pytest.raises(ArtifactError, match=r"the log does not know image .*import it again"):
        verify_kept(world.appliance, manifest)
    bring(adopted)
    assert kinds(world, archive) == ["image:unpacked"]


def test_an_image_that_the_release_does_not_pin_is_refused_by_name(
    world: World, adopted: ChampionRow, archive: Path, tmp_path: Path
) -> None:
    other = make_image(tmp_path / "other.tar", User="0")
    with pytest.raises(
        NotFoundError, match=f"pins no image sha256:.*it pins sha256:{pin_for(archive).manifest}"
    ):
        import_image(world.appliance, adopted, other, actor=PROPOSER)
    assert ImageStore(world.appliance.home).list() == ()


def test_another_archive_of_the_same_image_is_refused(
    world: World, adopted: ChampionRow, archive: Path
) -> None:
    archive.write_bytes(archive.read_bytes() + bytes(512))
    with pytest.raises(
        ArtifactError, match=f"god-text-reference pins sha256:[0-9a-f]* for {DOCKERFILE}: nothing"
    ):
        import_image(world.appliance, adopted, archive, actor=PROPOSER)
    assert ImageStore(world.appliance.home).list() == ()


def test_what_is_no_image_is_refused(world: World, adopted: ChampionRow, archive: Path) -> None:
    archive.write_bytes(b"nothing")
    with pytest.raises(BuildError, match="is not an image that may be loaded"):
        import_image(world.appliance, adopted, archive, actor=PROPOSER)


def test_a_revoked_champions_image_is_refused(world: World, adopted: ChampionRow, bring: Bring) -> None:
    revoke(world.appliance, adopted, actor=PROPOSER, reason="reads the evaluator")
    with pytest.raises(AdmissionError, match="was revoked: its images are not unpacked"):
        bring(adopted)


def test_a_tree_that_was_changed_with_its_list_is_found_by_the_log(
    world: World, archive: Path, adopted: ChampionRow, bring: Bring
) -> None:
    """Whoever changes the files can write a list of them, too; the log has the digest of the first one."""
    image = bring(adopted)
    folder = image.tree.parent
    records = (folder / "tree.list").read_bytes().replace(b"folder 755 0 - bin\0", b"folder 700 0 - bin\0")
    (image.tree / "bin").chmod(0o700)
    (folder / "tree.list").write_bytes(records)
    facts = json.loads((folder / "image.json").read_text()) | {"tree_sha256": sha256(records)}
    (folder / "image.json").write_text(json.dumps(facts))
    ImageStore(world.appliance.home).verify(image.facts.manifest_sha256)
    with pytest.raises(ArtifactError, match=f"logged was sha256:{image.facts.tree_sha256}"):
        verify_kept(world.appliance, image.facts.manifest_sha256)


# What stays.


def test_an_adopted_champions_image_stays_for_ever(world: World, adopted: ChampionRow, bring: Bring) -> None:
    bring(adopted)
    world.clock.at += LATER
    assert reasons(world) == ("champion god-text-reference is adopted",)
    assert collect_images(world.appliance, actor=PROPOSER) == ()


def test_a_held_champions_image_stays_since_a_hold_may_end(
    world: World, adopted: ChampionRow, bring: Bring
) -> None:
    bring(adopted)
    hold(world.appliance, adopted, actor=PROPOSER, reason="being looked at")
    world.clock.at += LATER
    assert reasons(world) == ("champion god-text-reference is held",)


def test_the_reason_of_a_default_is_told(world: World, adopted: ChampionRow, bring: Bring) -> None:
    bring(adopted)
    set_default(
        world.appliance, channel="text", task_type="InstructTextTask", champion=adopted, actor=PROPOSER
    )
    assert "default of text/InstructTextTask" in reasons(world)


def test_an_unfinished_run_keeps_its_image_whatever_becomes_of_the_champion(
    world: World, adopted: ChampionRow, bring: Bring
) -> None:
    bring(adopted)
    run = world.submit()
    world.advance()
    revoke(world.appliance, adopted, actor=PROPOSER, reason="reads the evaluator")
    world.clock.at += LATER
    assert reasons(world) == (f"run {run.id} is placed",)
    world.settle()
    assert world.run().state.is_final
    assert reasons(world) == ()


def test_a_young_image_stays_and_an_old_one_that_nobody_needs_goes(
    world: World, archive: Path, proposed: ChampionRow, bring: Bring
) -> None:
    image = bring(proposed)
    world.clock.at += timedelta(days=3)
    assert reasons(world) == (f"unpacked 3 days ago, kept for {KEEP_DAYS}",)
    assert reasons(world, keep_days=3) == ()
    assert collect_images(world.appliance, actor=PROPOSER) == ()
    world.clock.at += LATER
    (gone,) = collect_images(world.appliance, actor="olu")
    assert gone.manifest_sha256 == image.facts.manifest_sha256
    assert not image.tree.exists()
    assert kinds(world, archive) == ["image:unpacked", "image:removed"]
    assert told(world, archive)[-1].actor == "olu"
    assert collect_images(world.appliance, actor="olu") == ()


def test_an_image_that_came_back_is_logged_again(
    world: World, archive: Path, proposed: ChampionRow, bring: Bring
) -> None:
    bring(proposed)
    collect_images(world.appliance, actor=PROPOSER, keep_days=0)
    bring(proposed)
    assert kinds(world, archive) == ["image:unpacked", "image:removed", "image:unpacked"]


def test_an_image_in_use_stays(world: World, proposed: ChampionRow, bring: Bring) -> None:
    lock = hold_image(bring(proposed).tree)
    assert reasons(world, keep_days=0) == ("in use",)
    assert collect_images(world.appliance, actor=PROPOSER, keep_days=0) == ()
    os.close(lock)
    assert len(collect_images(world.appliance, actor=PROPOSER, keep_days=0)) == 1


def test_a_damaged_image_that_nobody_needs_goes(world: World, proposed: ChampionRow, bring: Bring) -> None:
    (bring(proposed).tree.parent / "image.json").write_text("{}")
    assert reasons(world) == ()
    assert len(collect_images(world.appliance, actor=PROPOSER)) == 1


def test_a_removal_that_was_cut_short_is_logged_by_the_next(
    world: World, archive: Path, proposed: ChampionRow, bring: Bring
) -> None:
    image = bring(proposed)
    image.tree.parent.rename(image.tree.parent.with_name(f".removed-{image.facts.manifest_sha256}"))
    collect_images(world.appliance, actor=PROPOSER)
    assert kinds(world, archive) == ["image:unpacked", "image:removed"]
    assert ImageStore(world.appliance.home).list() == ()


def test_a_release_that_is_none_keeps_nothing_and_breaks_nothing(
    world: World, proposed: ChampionRow, bring: Bring
) -> None:
    bring(proposed)
    other = replace(proposed, manifest_sha256="9" * 64, name="other", release_bundle=b"none")
    with world.ports.engine.begin() as connection:
        champions.add(connection, other)
    assert reasons(world, keep_days=0) == ()
