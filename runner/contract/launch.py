"""How a champion of each contract epoch is started, so that it notices no difference to the tournament.

Arguments, their order, paths and environment are upstream's; secrets that upstream hands out are not.
What is covered: epochs E2 to E4, all text tasks but environment tasks, image tasks.
What is not covered: E1 (no licence), environment tasks (their servers run beside the champion), champions
that need an image build, composite tasks of an unused branch, upstream's salted hash in place of a model id.

Source: the Gradients champion contract. Gradients.io (https://gradients.io).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.contract.arguments import arguments
from runner.contract.cache import cache_mounts
from runner.contract.check import check
from runner.contract.environment import environment
from runner.contract.epochs import EPOCHS, ContractEpoch, EntryPoint
from runner.contract.order import ContractError, TrainingInputs, TrainingOrder
from runner.contract.output import OUTPUT_TARGET, WRITABLE_PATHS, output_folders, output_leaf
from runner.contract.tasks import EnvironmentTask, ImageTask
from runner.dockerfile import read_dockerfile
from runner.spec import Mount


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractLaunch:
    """What the sandbox must start and show. The model appears at `output_leaf`, below the output."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    mounts: tuple[Mount, ...]
    output_target: str
    output_folders: tuple[str, ...]
    output_leaf: str
    entry: EntryPoint
    writable_paths: tuple[str, ...]  # see contract.output


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDockerfile:
    """A champion's Dockerfile for a task, relative to its tree."""

    entry: EntryPoint
    name: str


def contract_launch(order: TrainingOrder, *, tree: Path, inputs: TrainingInputs) -> ContractLaunch:
    """How to start the champion in `tree` for this order. Touches nothing; reads the Dockerfile.

    Raises ContractError for an order outside the contract, DockerfileError for a champion that needs an
    image build.
    """
    check(order, inputs=inputs)
    if isinstance(order.task, EnvironmentTask):
        raise ContractError(
            f"{order.task.type} needs environment servers beside the champion (sidecars); "
            "no policy allows them yet"
        )
    found = find_dockerfile(tree, epoch=order.epoch, entries=entry_points(order))
    dockerfile = read_dockerfile(tree, found.name)
    return ContractLaunch(
        argv=(*dockerfile.entrypoint, *arguments(order)),
        env=environment(order, inputs=inputs, image=dockerfile.env),
        cwd=dockerfile.workdir,
        mounts=(
            *(Mount(source=str(tree / c.source), target=c.target) for c in dockerfile.copies),
            *cache_mounts(order, inputs=inputs),
        ),
        output_target=OUTPUT_TARGET,
        output_folders=output_folders(order),
        output_leaf=output_leaf(order),
        entry=found.entry,
        writable_paths=WRITABLE_PATHS[found.entry],
    )


def entry_points(order: TrainingOrder) -> tuple[EntryPoint, ...]:
    """The champion's images that may do this task, in the order of looking."""
    if isinstance(order.task, ImageTask):
        return EPOCHS[order.epoch].image_entries[order.task.model_type]
    return (EntryPoint.TEXT,)


def find_dockerfile(tree: Path, *, epoch: ContractEpoch, entries: tuple[EntryPoint, ...]) -> FoundDockerfile:
    """The first Dockerfile there is. Raises ContractError if there is none or a link leads to it."""
    folders = EPOCHS[epoch].dockerfile_folders if epoch in EPOCHS else ()
    for entry in entries:
        for folder in folders:
            name = f"{folder}/{entry.dockerfile}"
            steps = [tree / folder.split("/")[0], tree / folder, tree / name]
            if any(step.is_symlink() for step in steps):
                raise ContractError(f"{name} leads through a link")
            if (tree / name).is_file():
                return FoundDockerfile(entry=entry, name=name)
    wanted = " or ".join(entry.dockerfile for entry in entries)
    raise ContractError(f"no {wanted}; looked in {', '.join(folders) or 'no folder'}")
