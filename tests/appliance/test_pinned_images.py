"""What a training job starts in: the image that the release pins, the shipped environment, or nothing at all."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.domain import RunState
from appliance.errors import ArtifactError
from appliance.image_keeping import import_image
from appliance.jobs import TrainingLaunch, training_launch
from appliance.pinned_images import said_pins, verified_pins
from appliance.store import artifacts, champions
from appliance.store.champions import ChampionRow
from appliance.store.engine import reading
from attestation.statement import Subject
from runner.contract.resources import SHM_BYTES
from runner.spec import Access, Image, Profile, parse_spec
from tests.appliance.pinned import DOCKERFILE, make_image, pin_for, pin_images, release_pinning
from tests.appliance.world import APPROVER, PROPOSER, PUBLISHER, World

Launch = Callable[[ChampionRow], TrainingLaunch]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return make_image(tmp_path / "image.tar", Env=["PATH=/opt/bin", "LD_LIBRARY_PATH=/cuda", "HF_TOKEN=hf_x"])


@pytest.fixture
def champion(world: World) -> ChampionRow:
    with reading(world.ports.engine) as connection:
        return champions.get(connection, world.order.champion)


@pytest.fixture
def launch(world: World) -> Launch:
    run = world.submit()
    with reading(world.ports.engine) as connection:
        base = artifacts.get(connection, world.order.base_model)
    return lambda champion: training_launch(run, champion=champion, base=base, ports=world.ports)


def test_a_champion_without_images_starts_in_the_shipped_environment(
    world: World, champion: ChampionRow, launch: Launch
) -> None:
    spec = launch(champion).spec
    assert (spec.runtime, spec.image, spec.profile) == (world.ports.runtime, None, Profile.CHAMPION)
    assert [mount.access for mount in spec.mounts] == [Access.COPY, Access.READ, Access.READ]


def test_a_pinned_image_is_the_root(
    world: World, champion: ChampionRow, archive: Path, launch: Launch
) -> None:
    pinned = pin_images(world.appliance, champion, pin_for(archive))
    image = import_image(world.appliance, pinned, archive, actor=PROPOSER)
    spec = launch(pinned).spec
    assert spec.image == Image(tree=str(image.tree), manifest_sha256=pin_for(archive).manifest)
    assert (spec.runtime, spec.profile, spec.cwd) == (None, Profile.CHAMPION, "/workspace")
    assert spec.argv[:4] == ("python", "-m", "trainer", "--task-id")
    assert (spec.env["PATH"], spec.env["LD_LIBRARY_PATH"], spec.env["TZ"]) == ("/opt/bin", "/cuda", "UTC")
    assert "HF_TOKEN" not in spec.env
    assert all(mount.target.startswith("/cache/") for mount in spec.mounts)


def test_an_image_of_another_dockerfile_is_not_taken(
    world: World, champion: ChampionRow, archive: Path, launch: Launch
) -> None:
    pin = pin_for(archive, dockerfile="dockerfiles/standalone-image-trainer.dockerfile")
    spec = launch(pin_images(world.appliance, champion, pin)).spec
    assert (spec.runtime, spec.image) == (world.ports.runtime, None)


def test_a_pinned_image_that_is_not_here_ends_the_run_with_what_to_do(
    world: World, champion: ChampionRow, archive: Path
) -> None:
    pin_images(world.appliance, champion, pin_for(archive))
    world.submit()
    run = world.settle()
    assert run.state is RunState.FAILED
    assert run.reason is not None
    assert (
        f"starts in image sha256:{pin_for(archive).manifest}, built of {DOCKERFILE}, which is not"
        in run.reason
    )
    assert "`assay images import ARCHIVE --champion god-text-reference --as NAME`" in run.reason
    assert world.launcher.poll(run.id) is None


def test_a_run_in_an_image_reaches_its_end(world: World, champion: ChampionRow, archive: Path) -> None:
    pinned = pin_images(world.appliance, champion, pin_for(archive))
    import_image(world.appliance, pinned, archive, actor=PROPOSER)
    run = world.submit()
    assert world.settle().state is RunState.LOGGED
    started = parse_spec((world.launcher.job_dir(run.id) / "job.json").read_bytes())
    assert started.image is not None
    assert started.image.manifest_sha256 == pin_for(archive).manifest


@pytest.mark.parametrize(("granted", "given"), [(1 << 30, 1 << 30), (64 << 30, SHM_BYTES)])
def test_shared_memory_is_the_contracts_or_what_the_operator_grants_if_less(
    world: World, champion: ChampionRow, launch: Launch, granted: int, given: int
) -> None:
    limits = replace(world.ports.limits, shm_bytes=granted)
    with reading(world.ports.engine) as connection:
        base = artifacts.get(connection, world.order.base_model)
    run = world.submit("run-2")
    ports = replace(world.ports, limits=limits)
    spec = training_launch(run, champion=champion, base=base, ports=ports).spec
    assert spec.limits == replace(limits, shm_bytes=given, wall_clock_s=spec.limits.wall_clock_s)


def test_a_release_of_another_champion_is_not_believed(
    world: World, champion: ChampionRow, archive: Path, launch: Launch
) -> None:
    signer = world.appliance.home.person_signer(PUBLISHER)
    subject = (Subject(name=champion.name, sha256="0" * 64),)
    changed = release_pinning(champion, pin_for(archive), signer=signer, subjects=subject)
    with pytest.raises(ArtifactError, match=f"of sha256:{'0' * 64}, wanted a champion-release"):
        launch(changed)


def test_a_release_that_no_publisher_signed_is_not_believed(
    world: World, champion: ChampionRow, archive: Path, launch: Launch
) -> None:
    signer = world.appliance.home.person_signer(APPROVER)
    changed = release_pinning(champion, pin_for(archive), signer=signer)
    with pytest.raises(ArtifactError, match="the release of god-text-reference does not verify"):
        launch(changed)
    assert said_pins(changed.release_bundle) == (pin_for(archive),)


def test_pins_are_read_as_they_were_signed(world: World, champion: ChampionRow, archive: Path) -> None:
    pins = (pin_for(archive), pin_for(archive, dockerfile="ops/docker/x.dockerfile"))
    pinned = pin_images(world.appliance, champion, *pins)
    assert verified_pins(pinned, trust=world.appliance.home.trust()) == pins
    assert said_pins(pinned.release_bundle) == pins


@pytest.mark.parametrize("what", ["approval", "nothing"])
def test_what_is_no_release_pins_nothing(world: World, what: str) -> None:
    with reading(world.ports.engine) as connection:
        bundles = {
            "approval": champions.approvals(connection, world.order.champion)[0].bundle,
            "nothing": b"",
        }
    assert said_pins(bundles[what]) == ()
