"""The short report of a run, for people; every number in it is also a signed claim."""

from appliance.attest import RunFacts
from appliance.evaluation import Metrics


def run_report(facts: RunFacts) -> str:
    """Plain text: what was trained on what, held-out loss before and after, verdict, walls."""
    run, champion, metrics = facts.run, facts.champion, facts.metrics
    walls = facts.isolation_train
    lines = [
        f"Assay run {run.id}",
        "",
        f"champion    {champion.name}, commit {champion.commit[:12]}, tree {champion.tree[:12]}",
        f"base model  {facts.base_model_name}, sha256:{run.order.base_model[:16]}…",
        f"dataset     sha256:{facts.dataset.root_sha256[:16]}…, {metrics.rows} rows held out",
        f"model       sha256:{facts.model.root_sha256}",
        f"verdict     {facts.verdict.verdict.value}",
        f"held-out    {loss_line(metrics)}",
        f"sandbox     {walls.get('driver', '?')}, network interfaces {walls.get('interfaces', '?')},"
        f" cgroup {walls.get('cgroup', '?')}, violations {walls.get('violations', '?')}",
        f"time        {facts.exit.released_at} to {facts.exit.ended_at}, ended: {facts.exit.reason.value}",
        "",
        "Training script by a champion of Gradients-on-Demand. Attribution: Gradients.io (https://gradients.io)",
        "",
    ]
    return "\n".join(lines)


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
