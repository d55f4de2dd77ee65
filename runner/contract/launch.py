"""How a champion of each contract epoch is started, so that it notices no difference to the tournament.

Arguments, their order, paths and environment are upstream's; secrets that upstream hands out are not.
What is covered: epochs E2 to E4, all text tasks but environment tasks, image tasks; champions in their own
image, or, if none was built of the Dockerfile, in the shipped runtime environment.
What is not covered: E1 (no licence), environment tasks (their servers run beside the champion), images that
start as another user than root, composite tasks of an unused branch, upstream's salted hash in place of a
model id.

Source: the Gradients champion contract. Gradients.io (https://gradients.io).
"""

from collections.abc import Callable, Mapping
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
from runner.images.config import ImageConfig
from runner.images.unpack import UnpackedImage
from runner.spec import Access, Image, Mount

# Dockerfile, relative to the tree → the image that was built of it; None if the champion has none.
ImageOf = Callable[[str], UnpackedImage | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractLaunch:
    """What the sandbox must start and show. The model appears at `output_leaf`, below the output.

    `image` is the root file system, None for the shipped runtime environment.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    mounts: tuple[Mount, ...]
    output_target: str
    output_folders: tuple[str, ...]
    output_leaf: str
    entry: EntryPoint
    writable_paths: tuple[str, ...]  # see contract.output
    image: Image | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDockerfile:
    """A champion's Dockerfile for a task, relative to its tree."""

    entry: EntryPoint
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """What the champion says itself about being started, in a Dockerfile or in its image."""

    entrypoint: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    code: tuple[Mount, ...]
    image: Image | None


def no_image(dockerfile: str) -> UnpackedImage | None:
    """An ImageOf for a champion of which no image was built."""
    del dockerfile
    return None


def contract_launch(
    order: TrainingOrder, *, tree: Path, inputs: TrainingInputs, image_of: ImageOf = no_image
) -> ContractLaunch:
    """How to start the champion in `tree` for this order. Touches nothing; reads the Dockerfile.

    Raises ContractError for an order outside the contract or an image that it does not fit, DockerfileError
    for a champion that needs an image and has none; and what `image_of` raises.
    """
    check(order, inputs=inputs)
    if isinstance(order.task, EnvironmentTask):
        raise ContractError(
            f"{order.task.type} needs environment servers beside the champion (sidecars); "
            "no policy allows them yet"
        )
    found = find_dockerfile(tree, epoch=order.epoch, entries=entry_points(order))
    image = image_of(found.name)
    start = _in_runtime(tree, found.name) if image is None else _in_image(image, found.name)
    return ContractLaunch(
        argv=(*start.entrypoint, *arguments(order)),
        env=environment(order, inputs=inputs, image=start.env),
        cwd=start.cwd,
        mounts=(*start.code, *cache_mounts(order, inputs=inputs)),
        output_target=OUTPUT_TARGET,
        output_folders=output_folders(order),
        output_leaf=output_leaf(order),
        entry=found.entry,
        writable_paths=WRITABLE_PATHS[found.entry],
        image=start.image,
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


def _in_runtime(tree: Path, name: str) -> _Start:
    dockerfile = read_dockerfile(tree, name)
    return _Start(
        entrypoint=dockerfile.entrypoint,
        env=dockerfile.env,
        cwd=dockerfile.workdir,
        # In an image they would be the champion's to change, and are.
        code=tuple(
            Mount(source=str(tree / c.source), target=c.target, access=Access.COPY) for c in dockerfile.copies
        ),
        image=None,
    )


def _in_image(image: UnpackedImage, name: str) -> _Start:
    """As Docker would: arguments follow the entry point in place of the command; code is in the image."""
    config = image.config
    _check_image(config, name)
    return _Start(
        entrypoint=config.entrypoint,
        env=config.environment,
        cwd=config.working_folder,
        code=(),
        image=Image(tree=str(image.tree), manifest_sha256=image.facts.manifest_sha256),
    )


def _check_image(config: ImageConfig, name: str) -> None:
    if not config.entrypoint:
        raise ContractError(f"the image of {name} has no entry point for the contract's arguments to follow")
    if not config.is_for_root:
        raise ContractError(
            f"the image of {name} starts as user {config.user[:100]!r}; a champion's one user here is root,"
            " which is nobody outside"
        )
