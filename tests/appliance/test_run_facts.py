"""What a job's files say is claimed only if the log, the order and the champion's release say the same."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.domain import Classification, RunState
from appliance.image_keeping import import_image
from appliance.isolation_policy import Defaults, choose_walls, load_isolation_policy
from appliance.run_facts import facts_of
from appliance.store import champions
from appliance.store.engine import reading
from attestation.claims import Kind
from runner.spec import Gpu, Image, SandboxSpec, encode_spec, parse_spec
from tests.appliance.pinned import DOCKERFILE, make_image, pin_for, pin_images
from tests.appliance.test_pipeline import bring_to
from tests.appliance.world import PROPOSER, RUN_ID, World

Edit = Callable[[SandboxSpec], SandboxSpec]


def change_order(world: World, edit: Edit, *, job: str = RUN_ID) -> None:
    """What somebody with the disk does to a job's order after it was given."""
    file = world.launcher.job_dir(job) / "job.json"
    file.write_bytes(encode_spec(edit(parse_spec(file.read_bytes()))))


def change_measurement(world: World, *, job: str = RUN_ID, **facts: Any) -> None:
    file = world.launcher.job_dir(job) / "isolation.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | facts))


def refused(world: World) -> str:
    """Why nothing is signed for the run."""
    run = world.settle()
    assert run.state is RunState.FAILED
    assert "claim:signed" not in world.kinds()
    return run.reason or ""


def ordered(world: World, classification: Classification = Classification.INTERNAL, **defaults: str) -> None:
    """Bring a run over data of that classification to where its claims would be signed."""
    policy = load_isolation_policy(world.appliance.settings.policies_dir)
    world.submit(walls=choose_walls(policy, classification, asked=None, defaults=Defaults(**defaults)))
    for _ in range(20):
        if world.run().state is not RunState.EVALUATED:
            world.advance()
    assert world.run().state is RunState.EVALUATED, world.run().reason


def test_walls_as_ordered_are_claimed_and_verify(world: World) -> None:
    ordered(world, driver="oci", evaluation_driver="gvisor")
    assert world.settle().state is RunState.LOGGED
    claims = world.verify().claims
    assert claims.one(Kind.ISOLATION_TRAIN).predicate["measured"]["driver"] == "oci"
    assert claims.one(Kind.ISOLATION_EVALUATE).predicate["measured"]["tier"] == 3


@pytest.mark.parametrize(
    ("job", "told"),
    [
        (RUN_ID, "the champion had other walls than ordered: found bubblewrap, ordered oci"),
        (f"{RUN_ID}-evaluate", "the evaluation had other walls than ordered: found bubblewrap, ordered oci"),
    ],
)
def test_a_job_that_was_changed_on_disk_to_another_driver_is_found(world: World, job: str, told: str) -> None:
    """The agent obeys the file: it measures walls of the other driver, and finds nothing wrong with them."""
    ordered(world, driver="oci")
    change_order(world, lambda spec: replace(spec, driver="bubblewrap"), job=job)
    change_measurement(world, job=job, driver="bubblewrap", tier=1)
    assert told in refused(world)


def test_an_old_order_without_chosen_walls_had_the_first_driver(world: World) -> None:
    bring_to(world, RunState.EVALUATED)
    change_order(world, lambda spec: replace(spec, driver="oci"))
    change_measurement(world, driver="oci", tier=2)
    assert "found oci, ordered bubblewrap" in refused(world)


@pytest.mark.parametrize(
    ("classification", "facts", "told"),
    [
        (Classification.CONFIDENTIAL, {"unenforced": ["pids: per user id only"]}, "must not be: pids"),
        (
            Classification.RESTRICTED,
            {"seccomp": {"sha256_is": "claimed"}},
            "system-call filter is claimed; wanted it measured",
        ),
        (Classification.RESTRICTED, {"tier": 1}, "the walls are gvisor and call themselves tier 1; it is 3"),
    ],
)
@pytest.mark.parametrize("job", [RUN_ID, f"{RUN_ID}-evaluate"])
def test_walls_below_the_logged_demand_are_found_even_if_the_job_asked_for_less(
    world: World, job: str, classification: Classification, facts: dict[str, Any], told: str
) -> None:
    ordered(world, classification)
    change_order(world, lambda spec: replace(spec, demand=None), job=job)
    change_measurement(world, job=job, **facts)
    assert told in refused(world)


@pytest.mark.parametrize("job", [RUN_ID, f"{RUN_ID}-evaluate"])
def test_a_gpu_that_was_not_granted_is_found(world: World, job: str) -> None:
    bring_to(world, RunState.EVALUATED)
    gpu = Gpu(uuid="GPU-7", nodes=("/dev/nvidia7",))
    change_order(world, lambda spec: replace(spec, gpus=(gpu,)), job=job)
    change_measurement(world, job=job, gpus=["GPU-7"])
    assert "found GPU GPU-7, granted none" in refused(world)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (
            lambda spec: replace(spec, driver="gvisor"),
            "driver of its walls is bubblewrap, its order says gvisor",
        ),
        (
            lambda spec: replace(spec, runtime=None, image=Image(tree="/x", manifest_sha256="1a" * 32)),
            "image of its walls is None, its order says 1a1a",
        ),
        (
            lambda spec: replace(spec, gpus=(Gpu(uuid="GPU-7", nodes=()),)),
            r"gpus of its walls is [], its order says ['GPU-7']",
        ),
    ],
    ids=["driver", "image", "gpus"],
)
def test_files_of_a_job_that_contradict_each_other_are_not_believed(
    world: World, edit: Edit, told: str
) -> None:
    bring_to(world, RunState.EVALUATED)
    change_order(world, edit)
    assert told in refused(world)


def test_a_measurement_that_does_not_name_the_driver_is_not_believed(world: World) -> None:
    bring_to(world, RunState.EVALUATED)
    (world.launcher.job_dir(RUN_ID) / "isolation.json").write_text('{"violations": []}')
    assert "driver of its walls is not told, its order says bubblewrap" in refused(world)


@pytest.mark.parametrize(
    ("content", "told"),
    [("{", "is not JSON"), ("[" * 100_000, "is not JSON"), ("[]", "is not a JSON object")],
    ids=["cut", "deep", "list"],
)
def test_a_measurement_that_cannot_be_read_is_not_signed(world: World, content: str, told: str) -> None:
    bring_to(world, RunState.EVALUATED)
    (world.launcher.job_dir(RUN_ID) / "isolation.json").write_text(content)
    assert told in refused(world)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return make_image(tmp_path / "image.tar")


def test_a_champion_in_its_pinned_image_is_claimed_and_verifies(world: World, archive: Path) -> None:
    with reading(world.ports.engine) as connection:
        champion = champions.get(connection, world.order.champion)
    pinned = pin_images(world.appliance, champion, pin_for(archive))
    import_image(world.appliance, pinned, archive, actor=PROPOSER)
    world.submit()
    run = world.settle()
    assert (run.state, run.reason) == (RunState.LOGGED, None)
    claims, manifest = world.verify().claims, pin_for(archive).manifest
    assert claims.one(Kind.TRAINING_RUN).predicate["image"] == {"sha256": manifest}
    assert claims.one(Kind.ISOLATION_TRAIN).predicate["measured"]["image"] == manifest
    assert claims.one(Kind.ISOLATION_EVALUATE).predicate["measured"]["image"] is None
    facts = facts_of(world.run(), world.ports)
    assert facts is not None
    assert facts.image is not None
    assert facts.image.dockerfile == DOCKERFILE
    report = (world.appliance.home.evidence_dir / RUN_ID / "report.txt").read_text()
    assert f"in image {manifest[:16]}…" in report


def test_an_image_that_the_release_does_not_pin_is_not_claimed(world: World) -> None:
    bring_to(world, RunState.EVALUATED)
    image = Image(tree="/x", manifest_sha256="1a" * 32)
    change_order(world, lambda spec: replace(spec, runtime=None, image=image))
    change_measurement(world, image="1a" * 32)
    assert "ran in image sha256:1a1a" in (reason := refused(world))
    assert "which its release does not pin; it pins none" in reason
