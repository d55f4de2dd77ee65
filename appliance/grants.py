"""What a run's reservation makes of its sandbox: exactly the granted GPUs, and limits no higher than reserved."""

from collections.abc import Callable
from dataclasses import replace

from appliance.store.reservations import Reservation
from runner.errors import LauncherError
from runner.inventory.gpus import GpuInventory
from runner.inventory.libraries import DriverLibraries, find_libraries
from runner.inventory.units import InventoryError, exclusive, gpu_of
from runner.spec import Gpu, Limits, Mount, SandboxSpec

# Where images look for what an engine injects.
LIBRARY_FOLDER = "/usr/local/nvidia/lib64"


def with_grant(
    spec: SandboxSpec,
    held: Reservation | None,
    *,
    read: Callable[[], GpuInventory],
    is_start: bool = True,
    find: Callable[[str | None], DriverLibraries] = find_libraries,
) -> SandboxSpec:
    """`spec` with what its run has for itself; unchanged for a run that an older Assay placed.

    `read` reads the GPUs anew; it is asked only where some were granted. Only at the start nobody else may compute
    on them: later it is the run itself.
    Raises LauncherError while a granted GPU is not there or somebody else computes on it: the operator must
    act, and the start is tried again.
    """
    if held is None:
        return spec
    limits = limits_within(spec.limits, held)
    if not held.gpus:
        return replace(spec, limits=limits)
    inventory = read()
    granted = replace(spec, limits=limits, gpus=_granted_gpus(held.gpus, inventory, is_start=is_start))
    return granted if spec.image is None else _with_libraries(granted, find(inventory.driver))


def _with_libraries(spec: SandboxSpec, libraries: DriverLibraries) -> SandboxSpec:
    """The host driver's libraries beside an image's own, which lack them; they must fit the kernel's module."""
    if libraries.missing:
        raise LauncherError(
            f"the GPU driver's libraries {', '.join(libraries.missing)} are not on this host; "
            "install the driver whole"
        )
    mounts = tuple(
        Mount(source=str(path), target=f"{LIBRARY_FOLDER}/{name}") for name, path in libraries.files.items()
    )
    own = spec.env.get("LD_LIBRARY_PATH")
    path = LIBRARY_FOLDER if not own else f"{LIBRARY_FOLDER}:{own}"
    return replace(spec, mounts=(*spec.mounts, *mounts), env={**spec.env, "LD_LIBRARY_PATH": path})


def limits_within(limits: Limits, held: Reservation) -> Limits:
    """`limits` with the memory, CPUs and shared memory that were reserved."""
    return replace(
        limits,
        memory_bytes=held.memory_bytes,
        cpu_millis=held.cpu_millis,
        shm_bytes=held.shm_bytes,
    )


def _granted_gpus(uuids: tuple[str, ...], inventory: GpuInventory, *, is_start: bool) -> tuple[Gpu, ...]:
    try:
        gpus = tuple(gpu_of(uuid, inventory) for uuid in uuids)
    except InventoryError as error:
        raise LauncherError(f"a granted GPU cannot be used: {error}") from error
    for gpu in gpus if is_start else ():
        if not (found := exclusive(gpu, inventory)).holds:
            raise LauncherError(f"{gpu.uuid} was granted and is not free: {found.detail}")
    return gpus
