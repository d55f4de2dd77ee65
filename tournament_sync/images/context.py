"""The throw-away copy of a tree that podman builds from, and the proof that a build changed neither.

Covered: a build that writes where it only should read spoils its own copy, and nothing is pinned.
Not covered: a change that is undone before the build ends.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from attestation.errors import AttestationError
from attestation.files import hash_folder
from attestation.oms import Manifest
from tournament_sync.errors import BuildError

_PERMISSIONS = 0o777


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """`copy` of `tree`, and what both must be whenever somebody looks: contents, and permissions by name."""

    tree: Path
    copy: Path
    manifest: Manifest
    modes: tuple[int, ...]

    def check(self, *, doing: str) -> None:
        """Raise BuildError unless tree and copy are what they were."""
        for folder in (self.copy, self.tree):
            manifest = _manifest(folder, doing)
            if (manifest, _modes(folder, manifest)) != (self.manifest, self.modes):
                raise BuildError(
                    f"{doing}: {folder} is not what it was before the build, which may only read it:"
                    f" {_change(self.manifest, manifest)}; nothing is pinned"
                )


def copy_context(tree: Path, *, into: Path, doing: str) -> Context:
    """A copy of `tree` at `into`, which is not there yet, file by file: a link would lead back to the tree.

    Raises BuildError for a tree with links or special files, and for one that changes meanwhile; OSError.
    """
    manifest = _manifest(tree, doing)
    modes = _modes(tree, manifest)
    into.mkdir(mode=0o700)
    for file in manifest.files:
        to = into / file.name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tree / file.name, to, follow_symlinks=False)
    for file, mode in zip(manifest.files, modes, strict=True):
        (into / file.name).chmod(mode)
    context = Context(tree=tree, copy=into, manifest=manifest, modes=modes)
    context.check(doing=doing)
    return context


def _manifest(folder: Path, doing: str) -> Manifest:
    try:
        return hash_folder(folder)
    except AttestationError as error:
        raise BuildError(f"{doing}: {folder} cannot be read: {error}") from error


def _modes(folder: Path, manifest: Manifest) -> tuple[int, ...]:
    return tuple((folder / file.name).lstat().st_mode & _PERMISSIONS for file in manifest.files)


def _change(before: Manifest, after: Manifest) -> str:
    changed = sorted({file.name for file in {*before.files} ^ {*after.files}})
    return f"{changed[:5]} changed" if changed else "permissions changed"
