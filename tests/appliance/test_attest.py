"""What is claimed about a run: every kind once, in order, linked by digests, without floats."""

import json
from dataclasses import replace
from typing import Any

import pytest

from appliance.attest import Claim, RunImage, order_sha256, sign_claims, walls_with_end
from appliance.domain import RunState
from appliance.evaluation import parse_metrics
from appliance.run_facts import facts_of
from attestation import isolation
from attestation.bundle import open_bundle, parse_bundle
from attestation.canonical import encode
from attestation.claims import Kind, kind_of, open_claim
from attestation.digest import sha256_hex
from attestation.keys import load_public_key
from runner import isolation_demand
from runner.launcher.fake import MOMENT, SUCCESS
from tests.appliance.isolation_facts import good_facts
from tests.appliance.world import RUN_ID, SUBMITTER, World


@pytest.fixture
def claims(world: World) -> tuple[Claim, ...]:
    """The claims about a run that was evaluated; signed without being kept."""
    world.submit()
    while world.run().state is not RunState.EVALUATED:
        world.advance()
    facts = facts_of(world.run(), world.ports)  # the pipeline's own way of gathering them
    assert facts is not None
    return sign_claims(facts, signer=world.ports.signer)


def predicate(claims: tuple[Claim, ...], kind: Kind, world: World) -> dict[str, Any]:
    (bundle,) = [claim.bundle for claim in claims if claim.kind == kind]
    statement = open_bundle(parse_bundle(bundle), load_public_key(world.ports.signer.public_pem))
    return dict(statement.predicate)


def test_every_kind_is_claimed_once_in_order(claims: tuple[Claim, ...]) -> None:
    assert [claim.kind for claim in claims] == list(Kind)


def test_every_claim_opens_as_what_it_says_it_is(claims: tuple[Claim, ...], world: World) -> None:
    for claim in claims:
        opened = open_claim(claim.bundle, world.appliance.home.trust(), file=claim.kind)
        assert kind_of(opened.statement) == claim.kind
        assert claim.sha256 == sha256_hex(claim.bundle)


def test_a_bundle_is_one_line(claims: tuple[Claim, ...]) -> None:
    assert not any(b"\n" in claim.bundle for claim in claims)


def test_run_names_its_order_by_digest(claims: tuple[Claim, ...], world: World) -> None:
    said = predicate(claims, Kind.TRAINING_RUN, world)
    assert said["order"] == {"sha256": order_sha256(world.order)}
    assert (said["runId"], said["submittedBy"]) == (RUN_ID, SUBMITTER)
    assert said["champion"]["manifest"] == {"sha256": world.order.champion}
    assert said["dataset"]["manifest"] == {"sha256": world.order.dataset}


def test_run_and_evaluation_name_the_walls_they_ran_behind(claims: tuple[Claim, ...], world: World) -> None:
    digest = {claim.kind: claim.sha256 for claim in claims}
    assert predicate(claims, Kind.TRAINING_RUN, world)["isolation"]["sha256"] == digest["isolation-train"]
    assert predicate(claims, Kind.EVALUATION, world)["isolation"]["sha256"] == digest["isolation-evaluate"]


def test_walls_are_claimed_with_what_was_counted_at_the_end(claims: tuple[Claim, ...], world: World) -> None:
    for kind in (Kind.ISOLATION_TRAIN, Kind.ISOLATION_EVALUATE):
        measured = predicate(claims, kind, world)["measured"]
        assert measured["mounts"] == good_facts()["mounts"]
        assert (measured["measured_at"], measured["released_at"]) == (SUCCESS.measured_at, MOMENT)
        assert measured["after"] == {
            "ended_at": MOMENT,
            "network_bytes": {},
            "out_of_memory": None,
            "survivors": 0,
            "usage": {},
            "remnants": [],
        }


def test_what_was_counted_at_the_end_is_told_without_the_host_s_folders() -> None:
    ended = replace(
        SUCCESS,
        network_bytes={"lo": {"received_bytes": 3, "sent_bytes": 4}},
        out_of_memory="cuda",
        usage={"cpu_ms": 7},
        remnants=("image file /srv/jobs/run-1/root.img", "loop device loop3 holds /srv/jobs/run-1/root.img"),
    )
    after = walls_with_end(good_facts(), ended, job_dir="/srv/jobs/run-1")["after"]
    assert after["network_bytes"] == {"lo": {"received_bytes": 3, "sent_bytes": 4}}
    assert (after["out_of_memory"], after["usage"]) == ("cuda", {"cpu_ms": 7})
    assert after["remnants"] == ["image file root.img", "loop device loop3 holds root.img"]


def test_sizes_that_json_readers_read_differently_are_claimed_as_text() -> None:
    size = 9223372036854771712  # "no limit", as some kernels write it
    mounts = [{"target": "/in", "size_bytes": size, "inodes": 5}]
    made = walls_with_end(good_facts() | {"mounts": mounts}, SUCCESS, job_dir="/srv")
    assert made["mounts"] == [{"target": "/in", "size_bytes": str(size), "inodes": 5}]
    assert encode(made)


def test_reader_and_appliance_know_the_same_tiers() -> None:
    assert dict(isolation.TIERS) == dict(isolation_demand.TIERS)


def test_without_an_image_the_champion_is_claimed_to_have_run_in_the_shipped_environment(
    claims: tuple[Claim, ...], world: World
) -> None:
    run = predicate(claims, Kind.TRAINING_RUN, world)
    shipped = {"python": "3.11.9", "packages": {"sha256": "9" * 64}}
    assert (run["runtime"], run["image"]) == (shipped, None)
    assert predicate(claims, Kind.EVALUATION, world)["runtime"] == shipped
    assert dependencies(claims, world)[-1] == {"uri": "runtime:python", "digest": shipped["packages"]}


def test_with_an_image_it_is_named_wherever_the_environment_would_be(world: World) -> None:
    world.submit()
    while world.run().state is not RunState.EVALUATED:
        world.advance()
    facts = facts_of(world.run(), world.ports)
    assert facts is not None
    image = RunImage(dockerfile="dockerfiles/text.dockerfile", manifest_sha256="1a" * 32)
    claims = sign_claims(replace(facts, image=image), signer=world.ports.signer)
    run = predicate(claims, Kind.TRAINING_RUN, world)
    assert (run["runtime"], run["image"]) == (None, {"sha256": "1a" * 32})
    assert predicate(claims, Kind.EVALUATION, world)["runtime"]["python"] == "3.11.9"
    assert dependencies(claims, world)[3:] == [
        {"uri": "image:dockerfiles/text.dockerfile", "digest": {"sha256": "1a" * 32}}
    ]


def dependencies(claims: tuple[Claim, ...], world: World) -> list[dict[str, Any]]:
    build = predicate(claims, Kind.PROVENANCE, world)["buildDefinition"]
    found: list[dict[str, Any]] = build["resolvedDependencies"]
    return found


def test_limits_are_whole_numbers_with_their_unit(claims: tuple[Claim, ...], world: World) -> None:
    limits = predicate(claims, Kind.TRAINING_RUN, world)["limits"]
    assert limits["wall_clock_ms"] == 1_800_000
    assert limits["grace_ms"] == 3_000
    assert all(type(value) is int for value in limits.values())


def test_evaluation_tells_the_metrics_of_the_run(claims: tuple[Claim, ...], world: World) -> None:
    said, metrics = predicate(claims, Kind.EVALUATION, world), parse_metrics(world.run().metrics or "")
    assert (said["meanBefore"], said["meanAfter"]) == (metrics.mean_before, metrics.mean_after)
    assert said["losses"] == {"sha256": metrics.losses_sha256}


def test_no_claim_holds_a_float(claims: tuple[Claim, ...]) -> None:
    def refuse(text: str) -> None:
        raise AssertionError(f"float {text}")

    for claim in claims:
        json.loads(parse_bundle(claim.bundle).payload, parse_float=refuse)


@pytest.mark.parametrize(
    "changes",
    [
        {"champion": "0" * 64},
        {"base_model": "0" * 64},
        {"dataset": "0" * 64},
        {"hours_to_complete": 0.25},
        {"task_type": "DpoTask"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_order_has_another_digest(world: World, changes: dict[str, Any]) -> None:
    assert order_sha256(replace(world.order, **changes)) != order_sha256(world.order)
