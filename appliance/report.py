"""The short report of a run, for people; every number in it is also a signed claim."""

from collections.abc import Iterator

from appliance.attest import RunFacts
from appliance.evaluation import Metrics
from attestation.isolation import Measured, told


def run_report(facts: RunFacts) -> str:
    """Plain text: what was trained on what, held-out loss before and after, verdict, walls."""
    run, champion, metrics = facts.run, facts.champion, facts.metrics
    lines = [
        f"Assay run {run.id}",
        "",
        f"champion    {champion.name}, commit {champion.commit[:12]}, tree {champion.tree[:12]}",
        f"base model  {facts.base_model_name}, sha256:{run.order.base_model[:16]}…",
        f"dataset     sha256:{facts.dataset.root_sha256[:16]}…, {metrics.rows} rows held out",
        f"model       sha256:{facts.model.root_sha256}",
        f"verdict     {facts.verdict.verdict.value}",
        f"held-out    {loss_line(metrics)}",
        *_walls("training", facts.isolation_train),
        *_walls("evaluation", facts.isolation_evaluate),
        f"time        {facts.exit.released_at} to {facts.exit.ended_at}, ended: {facts.exit.reason.value}",
        "",
        "Training script by a champion of Gradients-on-Demand. Attribution: Gradients.io (https://gradients.io)",
        "",
    ]
    return "\n".join(lines)


def _walls(guest: str, measured: Measured) -> Iterator[str]:
    """What was measured around `guest`: a line of its own for whatever a reader must not overlook."""
    after = measured["after"]
    yield f"walls       of {guest}: {told(measured)}"
    yield f"            not enforced: {', '.join(measured['unenforced']) or 'nothing'}"
    if after["out_of_memory"] is not None:
        yield f"            memory that ran out: {after['out_of_memory']}"
    if after["remnants"]:
        yield f"            left behind: {', '.join(after['remnants'])}"


def loss_line(metrics: Metrics) -> str:
    """Held-out loss before → after with the paired interval of the difference, in nats."""
    return (
        f"loss {nats(metrics.mean_before)} → {nats(metrics.mean_after)} nats per token,"
        f" difference {nats(metrics.mean_difference)}"
        f" ({metrics.confidence_permille / 10:g} % interval {nats(metrics.low)} … {nats(metrics.high)},"
        f" {metrics.rows} rows)"
    )


def nats(micronats: int) -> str:
    """Micronats as nats with four decimals."""
    return f"{micronats / 1e6:.4f}"
