"""What a job was told and what it left are held against the order and the log, whoever can write the files."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.domain import RunState
from appliance.image_keeping import import_image
from appliance.jobs import evaluation_spec
from appliance.store import champions
from appliance.store.engine import reading
from attestation.canonical import encode
from audit.event import EventKind
from runner.images.listing import list_tree
from runner.spec import Mount, SandboxSpec
from tests.appliance.pinned import make_image, pin_for, pin_images
from tests.appliance.test_pipeline import bring_to
from tests.appliance.test_run_facts import change_measurement, change_order, refused
from tests.appliance.world import PROPOSER, RUN_ID, World

EVALUATE = f"{RUN_ID}-evaluate"
Edit = Callable[[SandboxSpec], SandboxSpec]


@pytest.mark.parametrize(
    "edit",
    [
        lambda spec: replace(spec, argv=("/bin/sh", "-c", "another script")),
        lambda spec: replace(spec, env={**spec.env, "LD_PRELOAD": "/x.so"}),
        lambda spec: replace(spec, mounts=(*spec.mounts, Mount(source="/", target="/hostroot"))),
        lambda spec: replace(spec, limits=replace(spec.limits, output_inodes=10**9)),
    ],
    ids=["argv", "env", "mounts", "limits"],
)
class TestOrders:
    def test_an_order_changed_before_it_was_seen_to_run_fails_the_run(self, world: World, edit: Edit) -> None:
        bring_to(world, RunState.PLACED)
        world.advance()
        change_order(world, edit)
        assert f"job {RUN_ID} was not ordered so: job.json is sha256:" in refused(world)

    def test_an_order_changed_later_is_found_before_anything_is_signed(
        self, world: World, edit: Edit
    ) -> None:
        bring_to(world, RunState.EVALUATED)
        change_order(world, edit)
        assert f"job {RUN_ID}: its order is sha256:" in refused(world)

    def test_an_evaluation_that_was_ordered_otherwise_counts_for_nothing(
        self, world: World, edit: Edit
    ) -> None:
        bring_to(world, RunState.HARVESTED)
        world.ports.launcher.submit(evaluation_spec(world.run(), ports=world.ports))
        change_order(world, edit, job=EVALUATE)
        assert f"job {EVALUATE} was not ordered so" in refused(world)


@pytest.mark.parametrize("job", [RUN_ID, EVALUATE])
def test_walls_that_were_measured_around_another_order_are_not_claimed(world: World, job: str) -> None:
    bring_to(world, RunState.EVALUATED)
    change_measurement(world, job=job, order_sha256="0" * 64)
    assert f"job {job}: its agent carried out sha256:{'0' * 64}" in refused(world)


def test_the_digests_of_both_orders_and_of_the_log_are_logged(world: World) -> None:
    bring_to(world, RunState.EVALUATED)
    details = {event.kind: event.detail for event in world.events()}
    for kind, name in (
        (EventKind.RUN_STARTED, "order"),
        (EventKind.RUN_HARVESTED, "log"),
        (EventKind.RUN_EVALUATED, "order"),
    ):
        assert len(str(details[kind][name])) == 64


def test_losses_that_changed_after_they_were_taken_out_are_refused(world: World) -> None:
    bring_to(world, RunState.HARVESTED)
    world.ports.launcher.submit(evaluation_spec(world.run(), ports=world.ports))
    world.ports.launcher.poll(EVALUATE)
    file = world.launcher.job_dir(EVALUATE) / "harvest" / "losses.json"
    losses = json.loads(file.read_bytes())
    losses["after"] = [1] * len(losses["after"])
    file.write_bytes(encode(losses))
    assert "losses.json changed after it was taken out of the sandbox" in refused(world)


def test_a_log_that_changed_after_the_harvest_is_not_claimed(world: World) -> None:
    bring_to(world, RunState.HARVESTED)
    (world.launcher.job_dir(RUN_ID) / "stdout.log").write_text("all is well\n")
    assert f"the log of {RUN_ID} changed" in refused(world)


def test_an_image_that_was_edited_together_with_its_own_list_starts_nothing(
    world: World, tmp_path: Path
) -> None:
    archive = make_image(tmp_path / "image.tar")
    with reading(world.ports.engine) as connection:
        champion = champions.get(connection, world.order.champion)
    pinned = pin_images(world.appliance, champion, pin_for(archive))
    image = import_image(world.appliance, pinned, archive, actor=PROPOSER)
    (image.tree / "more").write_text("attack")
    listed = list_tree(image.tree)
    (image.tree.parent / "tree.list").write_bytes(listed.records)
    facts = json.loads((image.tree.parent / "image.json").read_bytes())
    facts |= {
        "tree_sha256": listed.sha256,
        "entries": listed.entries,
        "size_bytes": listed.size_bytes,
    }
    (image.tree.parent / "image.json").write_text(json.dumps(facts))
    world.submit()
    assert "was changed: its files are listed as sha256:" in refused(world)
    assert world.launcher.poll(RUN_ID) is None
