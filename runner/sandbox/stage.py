"""Putting a guest's root together in the holder's own mount namespace.

    runtime: skeleton ─┐                    image: unpacked tree, ids mapped ─┐
                       ├─► strict: as it is, read-only                        │
                       └─► champion: overlay, changes on a quota volume ◄─────┘
    then, below it: the runtime's parts and the order's inputs read-only, the output volume, the gate

What is covered: everything that the guest sees is mounted here with its final flags, whatever walls follow;
nothing that it writes reaches a file of the host.
What is not covered: /proc and /dev, which belong to the walls. An ordinary user owns what its guests see as
their own, and has no idmapped mounts: trees of other owners cannot be changed by its guests.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runner import linux
from runner.errors import SandboxUnavailableError
from runner.images.lease import hold_image
from runner.sandbox import rootfs, volume
from runner.sandbox.gate import TARGET as GATE_TARGET
from runner.sandbox.gate import find_gate
from runner.sandbox.identity import Identity
from runner.sandbox.idmap import clone_mapped, open_user_namespace
from runner.sandbox.interpreter import VENV_TARGET, base_packages, interpreter_parts
from runner.sandbox.walls import StagedMount
from runner.spec import Access, Mount, Profile, SandboxSpec

CACHE = "/cache"  # of the champion contract: an image brings an empty one at most
PARENTS = ("/mnt", "/srv", "/tmp")  # noqa: S108  covered in our own mount namespace only
_TMPFS = linux.MS_NOSUID | linux.MS_NODEV


@dataclass(frozen=True, slots=True, kw_only=True)
class Volumes:
    """What the guest may write on; `root` is None for a strict guest."""

    output: volume.Volume
    root: volume.Volume | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """Where things are in the holder's mount namespace."""

    root: str
    output: str
    upper: str | None  # the volume that takes a champion's changes
    scratch: Path
    mounts: tuple[StagedMount, ...]
    late: Mapping[str, int]  # inputs that are not mounted yet: target → open source


@dataclass(slots=True, kw_only=True)
class _Builder:
    spec: SandboxSpec
    identity: Identity
    label: str
    base: str
    users: int | None  # the user namespace that maps ids, or None
    root: int = -1
    changes: str = ""  # folder for the overlays' changes
    overlays: int = 0

    @property
    def owner(self) -> int:
        return self.identity.user_id

    def overlay(self, lower: str, target: int) -> None:
        """Mount an overlay of `lower` at the open `target`; changes go to a folder of the volume."""
        self.overlays += 1
        own = Path(self.changes, str(self.overlays))
        for name in ("upper", "work"):
            (own / name).mkdir(parents=True)
        shutil.copystat(lower, own / "upper")
        os.chown(own / "upper", self.owner, self.owner)
        options = f"lowerdir={lower},upperdir={own}/upper,workdir={own}/work"
        if not self.identity.is_own:
            options += ",userxattr"
        linux.mount("overlay", f"/proc/self/fd/{target}", kind="overlay", flags=_TMPFS, options=options)

    def lower(self, source: int) -> str:
        """A folder that shows the tree open at `source` as the guest's own, read-only."""
        folder = Path(self.base, f"lower{self.overlays + 1}")
        folder.mkdir()
        point = os.open(folder, linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            tree = clone_mapped(source, user_namespace=self.users)
        except OSError as error:
            raise SandboxUnavailableError(
                f"files of this host cannot be shown with other owners: {error.strerror}; keep the appliance's "
                "home on ext4, XFS or Btrfs, where the kernel maps ids"
            ) from error
        linux.attach_tree(tree, point)
        os.close(tree)
        os.close(point)
        return str(folder)


def prepare_volumes(spec: SandboxSpec, *, identity: Identity, job: int, job_dir: Path) -> Volumes:
    """Begin to make the guest's volumes, before any namespace."""
    limits, owner, may = spec.limits, identity.user_id, identity.is_own
    return Volumes(
        output=volume.prepare(
            "output", size_bytes=limits.output_bytes, inodes=limits.output_inodes,
            owner=owner, job=job, job_dir=job_dir, may_mount=may,
        ),
        root=None if spec.profile is Profile.STRICT else volume.prepare(
            "root", size_bytes=limits.root_bytes, inodes=limits.root_inodes,
            owner=owner, job=job, job_dir=job_dir, may_mount=may,
        ),
    )  # fmt: skip


def build(spec: SandboxSpec, volumes: Volumes, *, identity: Identity, label: str, mounts_late: bool) -> Built:
    """Build everything; the calling process must be in a mount namespace of its own.

    With `mounts_late` the order's inputs get their mount points only; `attach_late` does the rest.

    Raises SandboxUnavailableError for a source that is missing or a host that cannot do it, SpecError for an
    image whose own links stand where mounts must be.
    """
    if spec.image is not None:
        hold_image(Path(spec.image.tree))  # never closed: nobody removes the image until we end
    sources = _open_sources(spec)
    gate = os.open(find_gate(), linux.O_PATH | os.O_CLOEXEC)
    users = open_user_namespace(identity.user_id) if identity.is_own else None
    base = _cover()
    scratch = Path(base, "scratch")
    scratch.mkdir(mode=0o700)
    builder = _Builder(spec=spec, identity=identity, label=label, base=base, users=users)
    output = _mount_volume(volumes.output, f"{base}/out", label=label, may_execute=False)
    upper = _mount_root(builder, volumes.root, sources)
    covered = [
        _cover_inputs(builder, top)
        for top in input_tops(spec)
        if top == CACHE or not rootfs.has_folder(builder.root, top)  # what an image has stays as it is
    ]
    inputs = {m.target for m in spec.mounts if m.access is Access.READ} if mounts_late else set()
    late = {target: sources.pop(target) for target in inputs}
    for target, source in late.items():
        is_folder = Path(f"/proc/self/fd/{source}").is_dir()
        os.close(rootfs.make_point(builder.root, target, is_folder=is_folder, owner=builder.owner))
    mounts = [*_attach_all(builder, sources, gate=gate, output=output)]
    _finish_root(builder)
    for top in covered:
        _make_read_only(f"{base}/root{top}")
        mounts.append(StagedMount(target=top, writable=False))
    for descriptor in (*sources.values(), gate, builder.root, *(() if users is None else (users,))):
        os.close(descriptor)
    return Built(
        root=f"{base}/root", output=output, upper=upper, scratch=scratch, mounts=tuple(mounts), late=late
    )


def attach_late(built: Built, *, pid: int, prefix: str) -> tuple[StagedMount, ...]:
    """Mount the inputs, read-only, in the mount namespace of process `pid`, whose guest's `/` is `prefix`.

    A process of ours enters that namespace for it; nothing of the guest runs meanwhile.
    Raises SandboxUnavailableError.
    """
    trees = {target: clone_mapped(source, user_namespace=None) for target, source in built.late.items()}
    namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    said, tell = os.pipe2(os.O_CLOEXEC)
    child = linux.fork_bound()
    if child == 0:
        try:
            linux.enter_namespace(namespace)
            for target, tree in trees.items():
                point = os.open(f"{prefix}{target}", linux.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
                linux.attach_tree(tree, point)
            os._exit(0)
        except OSError as error:
            os.write(tell, str(error).encode())
        finally:
            os._exit(1)
    for descriptor in (tell, namespace, *trees.values(), *built.late.values()):
        os.close(descriptor)
    words = os.read(said, 4096).decode(errors="replace")
    os.close(said)
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise SandboxUnavailableError(f"the inputs cannot be mounted: {words}")
    return tuple(StagedMount(target=target, writable=False) for target in sorted(built.late))


def _cover() -> str:
    """Cover a folder of the host with an empty tmpfs, in our namespace only; returns its path."""
    for parent in PARENTS:
        if Path(parent).is_dir():
            options = "size=64m,nr_inodes=16384,mode=0755"
            linux.mount("tmpfs", parent, kind="tmpfs", flags=_TMPFS, options=options)
            return parent
    raise SandboxUnavailableError(f"none of {', '.join(PARENTS)} is there to build a sandbox in")


def _open_sources(spec: SandboxSpec) -> dict[str, int]:
    """Open everything that will be shown, before the stage may cover it. Target → descriptor; `/` is an image."""
    sources = {m.target: m.source for m in spec.mounts}
    if spec.image is not None:
        sources["/"] = spec.image.tree
    if spec.runtime is not None:
        packages = f"{VENV_TARGET}/lib/python{spec.runtime.python_version}/site-packages"
        sources |= {"/usr": "/usr", **interpreter_parts(spec.runtime), packages: spec.runtime.site_packages}
    opened: dict[str, int] = {}
    for target, source in sources.items():
        try:
            opened[target] = os.open(source, linux.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise SandboxUnavailableError(
                f"{source} cannot be shown to the guest: {error.strerror}; "
                f"let the user id {os.geteuid()} reach it"
            ) from error
    return opened


def _mount_volume(made: volume.Volume, target: str, *, label: str, may_execute: bool) -> str:
    Path(target).mkdir()
    volume.mount(made, target, label=label, may_execute=may_execute)
    return target


def _mount_root(builder: _Builder, made: volume.Volume | None, sources: Mapping[str, int]) -> str | None:
    """Mount the root at `base/root` and open it; returns where its changes lie on a volume of their own."""
    base = builder.base
    Path(base, "root").mkdir()
    point = os.open(f"{base}/root", linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    upper = None
    if made is not None:
        upper = _mount_volume(made, f"{base}/changes", label=builder.label, may_execute=True)
    else:
        Path(base, "changes").mkdir()
    builder.changes = f"{base}/changes"
    if builder.spec.image is not None:
        builder.overlay(builder.lower(sources["/"]), point)
    else:
        skeleton = Path(base, "skeleton")
        rootfs.build_skeleton(skeleton, builder.spec, owner=builder.owner)
        if made is not None:
            builder.overlay(str(skeleton), point)
        else:
            linux.mount(str(skeleton), f"{base}/root", flags=linux.MS_BIND)
    os.close(point)
    builder.root = os.open(f"{base}/root", linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if builder.spec.image is not None:
        rootfs.prepare_image_root(builder.root, owner=builder.owner)
    return upper


def _attach_all(
    builder: _Builder, sources: Mapping[str, int], *, gate: int, output: str
) -> list[StagedMount]:
    """Attach everything below the root, flags included."""
    spec, limits = builder.spec, builder.spec.limits
    by_target = {m.target: m for m in spec.mounts}
    mounts = []
    # Parents first: a runtime's parts lie in one another.
    for target in sorted(target for target in sources if target != "/"):
        mounts.append(_attach(builder, sources[target], target, by_target.get(target)))
    _attach_tree(builder, gate, GATE_TARGET, writable=False)
    mounts.append(StagedMount(target=GATE_TARGET, writable=False))
    folder = os.open(output, linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    rootfs.make_folders(folder, spec.output_folders, owner=builder.owner)
    _attach_tree(builder, folder, spec.output_target, writable=True)
    os.close(folder)
    mounts.append(
        StagedMount(
            target=spec.output_target,
            writable=True,
            size_bytes=limits.output_bytes,
            inodes=limits.output_inodes,
        )
    )
    if spec.runtime is not None:
        _hide_base_packages(builder)
    return mounts


def _attach(builder: _Builder, source: int, target: str, mount: Mount | None) -> StagedMount:
    if mount is None or mount.access is Access.READ:
        _attach_tree(builder, source, target, writable=False)
        return StagedMount(target=target, writable=False)
    if Path(f"/proc/self/fd/{source}").is_dir():
        point = rootfs.make_point(builder.root, target, is_folder=True, owner=builder.owner)
        builder.overlay(builder.lower(source), point)
        os.close(point)
        return StagedMount(target=target, writable=True)
    # A file may be replaced by the guest, which a mount would forbid: it gets a copy.
    copy = rootfs.make_point(builder.root, target, is_folder=False, owner=builder.owner)
    shutil.copyfile(f"/proc/self/fd/{source}", f"/proc/self/fd/{copy}")
    os.close(copy)
    return StagedMount(target=target, writable=True)


def _attach_tree(builder: _Builder, source: int, target: str, *, writable: bool) -> None:
    is_folder = Path(f"/proc/self/fd/{source}").is_dir()
    point = rootfs.make_point(builder.root, target, is_folder=is_folder, owner=builder.owner)
    tree = clone_mapped(source, user_namespace=None, writable=writable)
    linux.attach_tree(tree, point)
    os.close(tree)
    os.close(point)


def _hide_base_packages(builder: _Builder) -> None:
    assert builder.spec.runtime is not None
    hidden = Path(f"{builder.base}/root{base_packages(builder.spec.runtime)}")
    if hidden.is_dir():
        flags = _TMPFS | linux.MS_RDONLY
        linux.mount("tmpfs", str(hidden), kind="tmpfs", flags=flags, options="size=4k,mode=0755")


def _finish_root(builder: _Builder) -> None:
    """The working folder, as an engine makes it; then the flags of the root itself."""
    spec = builder.spec
    if spec.profile is Profile.CHAMPION and not rootfs.has_folder(builder.root, spec.cwd):
        os.close(rootfs.make_point(builder.root, spec.cwd, is_folder=True, owner=builder.owner))
    if spec.profile is Profile.STRICT:
        _make_read_only(f"{builder.base}/root")


def input_tops(spec: SandboxSpec) -> tuple[str, ...]:
    """First folders of the inputs of a guest with a writable root, where nothing but inputs lies below.

    They are read-only as a whole, as upstream's /cache is.
    """
    if spec.profile is Profile.STRICT:
        return ()
    taken = {_top(m.target) for m in spec.mounts if m.access is Access.COPY}
    taken |= {_top(spec.output_target), _top(spec.cwd)}
    return tuple(sorted({_top(m.target) for m in spec.mounts if _has_top(m)} - taken))


def _has_top(mount: Mount) -> bool:
    return mount.access is Access.READ and mount.target.count("/") > 1


def _top(path: str) -> str:
    return "/" + path.split("/")[1]


def _cover_inputs(builder: _Builder, top: str) -> str:
    """Mount an empty folder for mount points at `top`, so that it can be made read-only with them."""
    point = rootfs.make_point(builder.root, top, is_folder=True, owner=builder.owner)
    linux.mount("tmpfs", f"/proc/self/fd/{point}", kind="tmpfs", flags=_TMPFS, options="size=1m,mode=0755")
    os.close(point)
    return top


def _make_read_only(path: str) -> None:
    flags = linux.MOUNT_ATTR_RDONLY | linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV
    folder = os.open(path, linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    linux.set_mount_flags(folder, flags=flags, recursive=False)
    os.close(folder)
