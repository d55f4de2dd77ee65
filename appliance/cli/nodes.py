"""`assay nodes`: what this machine has, and what a run would get of it; local on the home."""

from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.options import HomeOption, OutputOption, read_settings
from appliance.cli.output import Format, print_facts, print_json, print_table, talk

if TYPE_CHECKING:
    from appliance.assembly import Appliance
    from appliance.node_view import NodeView
    from appliance.sizing import Size
    from appliance.store.artifacts import Artifact

nodes = typer.Typer(help="Nodes: GPUs, CPUs, memory, and which run has what.", invoke_without_command=True)
JsonOption = Annotated[bool, typer.Option("--json", help="The same as --output json.")]


class TaskName(StrEnum):
    """Task types as people say them; the names of `runner.contract.tasks.TaskType`."""

    INSTRUCT = "INSTRUCT"
    CHAT = "CHAT"
    DPO = "DPO"
    GRPO = "GRPO"
    ENVIRONMENT = "ENVIRONMENT"
    IMAGE = "IMAGE"


def register(app: typer.Typer) -> None:
    """Add the noun to `app`."""
    app.add_typer(nodes, name="nodes")


@nodes.callback()
def show(
    ctx: typer.Context,
    home: HomeOption = None,
    output: OutputOption = Format.TEXT,
    as_json: JsonOption = False,
) -> None:
    """Without a command: the same as `list`."""
    if ctx.invoked_subcommand is None:
        _list(home, Format.JSON if as_json else output)


@nodes.command("list")
def list_nodes(
    home: HomeOption = None, output: OutputOption = Format.TEXT, as_json: JsonOption = False
) -> None:
    """Show this machine: GPUs as the driver tells them, what can be granted, who has it."""
    _list(home, Format.JSON if as_json else output)


@nodes.command("size")
def size(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="An imported base model, by name or digest.")],
    task: Annotated[TaskName, typer.Option(case_sensitive=False, help="The kind of training.")],
    with_kl: Annotated[
        bool, typer.Option("--kl", help="The loss adds the divergence from the base.")
    ] = False,
    gpus: Annotated[int | None, typer.Option(min=0, max=64, help="So many, whatever the rule says.")] = None,
    home: HomeOption = None,
    output: OutputOption = Format.TEXT,
    as_json: JsonOption = False,
) -> None:
    """Say what a run would get on this machine, and why; reserves nothing."""
    from appliance.assembly import capacity_of, open_appliance
    from appliance.nodes import shortage
    from appliance.sizing import Wish, size_for
    from appliance.store import reservations
    from appliance.store.engine import reading
    from runner.contract.parameters import count_parameters
    from runner.contract.tasks import TaskType

    appliance = open_appliance(read_settings(home=home))
    capacity = capacity_of(appliance.settings)
    artifact = _model(appliance, model)
    wish = Wish(
        task=TaskType[task.value],
        parameters=lambda: count_parameters(appliance.store.path(artifact.root_sha256)),
        has_kl=with_kl,
        gpus=capacity.gpus_per_run if gpus is None else gpus,
    )
    room = capacity.node.room()
    sized = size_for(
        wish, room=room, places=capacity.max_parallel_runs, disk_bytes=capacity.needed_free_bytes
    )
    with reading(appliance.engine) as connection:
        held = reservations.list_held(connection)
    missing = shortage(sized, held, room=room, free_bytes=appliance.home.free_bytes())
    if output is Format.JSON or as_json:
        print_json({"model": artifact.name, "task": wish.task, **asdict(sized), "shortage": missing})
    else:
        _print_size(artifact, sized, missing)


def _model(appliance: "Appliance", wanted: str) -> "Artifact":
    from appliance.errors import ConflictError, NotFoundError
    from appliance.store import artifacts
    from appliance.store.engine import reading

    with reading(appliance.engine) as connection:
        known = artifacts.list_artifacts(connection, artifacts.ArtifactKind.MODEL)
    found = [one for one in known if wanted in (one.name, one.root_sha256)]
    if not found:
        raise NotFoundError(f"no imported model {wanted}; `assay models list` shows those that are")
    if len(found) > 1:
        raise ConflictError(f"{len(found)} models are called {wanted}; give the digest")
    return found[0]


def _print_size(artifact: "Artifact", sized: "Size", missing: str | None) -> None:
    from appliance.sizing import cpus, gib

    print_facts(
        {
            "model": artifact.name,
            "GPUs": sized.gpus,
            "each with": gib(sized.gpu_memory_bytes) if sized.gpu_memory_bytes else None,
            "memory": gib(sized.memory_bytes),
            "CPUs": cpus(sized.cpu_millis),
            "shared memory": gib(sized.shm_bytes),
            "free disk": gib(sized.disk_bytes),
            "why": sized.why,
            "now": missing or "there is a place for it",
        }
    )
    for sentence in sized.lowered:
        talk(sentence)


def _list(home: str | None, output: Format) -> None:
    from appliance.assembly import capacity_of, open_appliance
    from appliance.node_view import node_view
    from appliance.store import reservations
    from appliance.store.engine import reading

    appliance = open_appliance(read_settings(home=home))
    source = capacity_of(appliance.settings).node
    with reading(appliance.engine) as connection:
        held = reservations.list_held(connection)
    view = node_view(source.node(appliance.home.root), source.room(), held)
    if output is Format.JSON:
        print_json({"nodes": [asdict(view)]})
    else:
        _print_node(view)


def _print_node(view: "NodeView") -> None:
    from appliance.sizing import cpus, gib

    node, driver = view.inventory, view.inventory.gpus
    print_facts(
        {
            "node": f"{view.name}, {node.host.architecture}, Linux {node.host.kernel}, cgroups {node.host.cgroup}",
            "for runs": f"{cpus(view.cpu_millis)} CPUs, {gib(view.memory_bytes)} of memory",
            "disk": f"{gib(node.disk.free_bytes)} of {gib(node.disk.total_bytes)} free at {node.disk.path}",
            "driver": None
            if driver.reason
            else f"{driver.driver or 'unknown'}, CUDA {driver.cuda or 'unknown'}",
            "GPUs": view.no_gpus,
            **{
                runtime.name: runtime.problem or f"{runtime.version} at {runtime.path}"
                for runtime in node.runtimes
            },
        }
    )
    if view.units:
        print_table(
            ("gpu", "product", "memory", "state"),
            [(unit.uuid, unit.product, gib(unit.memory_bytes), unit.state) for unit in view.units],
        )
    for gpu in driver.gpus:
        for fact, why in gpu.unknown.items():
            talk(f"GPU {gpu.index}: {fact.replace('_', ' ')} {why}")
    if not driver.reason and node.libraries.missing:
        talk(f"driver libraries not found: {', '.join(node.libraries.missing)}")
    for one in view.reservations:
        talk(
            f"run {one.run_id} has {cpus(one.cpu_millis)} CPUs, {gib(one.memory_bytes)} of memory,"
            f" {len(one.gpus)} GPUs"
        )
