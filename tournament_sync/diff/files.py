"""Which files of two trees differ, by digest; only what differs is read again."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from attestation.oms import Manifest
from tournament_sync.diff.model import Change, FileChange
from tournament_sync.errors import TreeError
from tournament_sync.inspection.rules import shown
from tournament_sync.tree_files import Stamp, read_chunks, survey

_EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A tree: its files with stamps and digests."""

    folder: Path
    stamps: Mapping[str, Stamp]
    digests: Mapping[str, str]

    def read(self, name: str, *, max_bytes: int) -> bytes | None:
        """The content of a file; None if it is longer. Raises TreeError if it is not the file that was hashed."""
        stamp = self.stamps[name]
        if stamp.size_bytes > max_bytes:
            return None
        data = b"".join(read_chunks(self.folder, name, stamp))
        if (found := hashlib.sha256(data).hexdigest()) != self.digests[name]:
            raise TreeError(f"{name[:120]!r} has digest {found}, its manifest says {self.digests[name]}")
        return data


def open_side(folder: Path, manifest: Manifest | None) -> Side:
    """The files below `folder`; digests from `manifest` if there is one, else read. Raises TreeError."""
    stamps = survey(folder)
    if manifest is None:
        return Side(folder=folder, stamps=stamps, digests={n: _hash(folder, n, s) for n, s in stamps.items()})
    digests = {file.name: file.sha256 for file in manifest.files}
    if digests.keys() != stamps.keys():
        name = min(digests.keys() ^ stamps.keys())
        where = "in the manifest only" if name in digests else "not in the manifest"
        raise TreeError(f"{name[:120]!r} is {where}")
    return Side(folder=folder, stamps=stamps, digests=digests)


def file_changes(old: Side, new: Side) -> tuple[FileChange, ...]:
    """Every file that differs, by path."""
    removed = sorted(old.digests.keys() - new.digests.keys())
    added = sorted(new.digests.keys() - old.digests.keys())
    renamed = dict(_renamed(old, removed, new, added))
    changes = [_change(old, source, new, target, Change.RENAMED) for target, source in renamed.items()]
    gone = set(renamed.values())
    changes += [_change(old, name, new, None, Change.REMOVED) for name in removed if name not in gone]
    changes += [_change(old, None, new, name, Change.ADDED) for name in added if name not in renamed]
    for name in old.digests.keys() & new.digests.keys():
        if old.digests[name] != new.digests[name]:
            changes.append(_change(old, name, new, name, Change.CONTENT))
        elif old.stamps[name].is_executable != new.stamps[name].is_executable:
            changes.append(_change(old, name, new, name, Change.MODE))
    return tuple(sorted(changes, key=lambda change: (change.path, change.change)))


def changed_names(old: Side, new: Side) -> list[str]:
    """The names of files that both have with different content, sorted."""
    return sorted(
        name for name in old.digests.keys() & new.digests.keys() if old.digests[name] != new.digests[name]
    )


def _hash(folder: Path, name: str, stamp: Stamp) -> str:
    digest = hashlib.sha256()
    for chunk in read_chunks(folder, name, stamp):
        digest.update(chunk)
    return digest.hexdigest()


def _renamed(old: Side, removed: list[str], new: Side, added: list[str]) -> Iterator[tuple[str, str]]:
    """Pairs of new and old name. Names in order, so that both directions find the same pairs."""
    sources: dict[str, list[str]] = defaultdict(list)
    for name in removed:
        if old.digests[name] != _EMPTY:  # all empty files are equal; that says nothing
            sources[old.digests[name]].append(name)
    taken: dict[str, int] = defaultdict(int)
    for name in added:
        digest = new.digests[name]
        if taken[digest] < len(sources.get(digest, ())):
            yield name, sources[digest][taken[digest]]
            taken[digest] += 1


def _change(old: Side, source: str | None, new: Side, target: str | None, change: Change) -> FileChange:
    return FileChange(
        path=shown(target if target is not None else source or ""),
        old_path=shown(source or "") if change is Change.RENAMED else "",
        change=change,
        old_sha256=None if source is None else old.digests[source],
        new_sha256=None if target is None else new.digests[target],
        old_is_executable=None if source is None else old.stamps[source].is_executable,
        new_is_executable=None if target is None else new.stamps[target].is_executable,
    )
