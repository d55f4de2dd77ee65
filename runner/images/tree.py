"""The folder that layers are laid into: every change to it, each resolved as a container would and no further.

What is covered: the folder that a name lies in is resolved inside the tree, whatever links the image has; the
last part of a name is never followed. Set-user-id and set-group-id bits are dropped.
What is not covered: extended attributes, of which none is kept; folders' times; owners, where we are not root.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from runner.images.errors import ImageError
from runner.images.in_root import open_folder, path_of
from runner.images.tar import Attributes

Parts = tuple[bytes, ...]

_MAX_PATH_BYTES = 3000  # Linux takes 4096, and the tree itself lies somewhere
_IMPLIED_MODE = 0o755  # of folders that no entry describes
_FILE_BITS, _FOLDER_BITS = 0o777, 0o1777
_READABLE, _USABLE = 0o400, 0o700  # what an ordinary user leaves itself


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """An open folder, and the name that it has in the tree when no link is gone through."""

    folder: int
    path: bytes

    def below(self, name: bytes) -> bytes:
        return self.path + b"/" + name if self.path else name


class Tree:
    """A tree under construction. Names are tuples of parts, without `..`; () is the root."""

    def __init__(self, folder: Path, *, keeps_owners: bool, max_depth: int) -> None:
        """`folder` is empty, and nobody else's to reach."""
        self._root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._base = path_of(self._root)
        self._keeps_owners = keeps_owners
        self._max_depth = max_depth
        # Modes are set at the end: until then everything can be written by us.
        self._modes: dict[bytes, int] = {b"": _IMPLIED_MODE}
        self._layer: set[bytes] = set()
        # Folders in which nothing of lower layers is left. Nobody lists them again: whiteouts may come by the
        # million, and so may what this layer brought.
        self._cleared: set[bytes] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._root)

    def begin_layer(self) -> None:
        """From now on, what is there already is of lower layers."""
        self._layer.clear()
        self._cleared.clear()

    def free_bytes(self) -> int:
        """What the file system has left for programs that are not root's."""
        facts = os.fstatvfs(self._root)
        return facts.f_bavail * facts.f_frsize

    def folder(self, parts: Parts, attributes: Attributes) -> None:
        """Make a folder; one that is there keeps what is in it."""
        if not parts:
            self._describe(self._root, b"", attributes)
            return
        with self._parent(parts) as place:
            path = place.below(parts[-1])
            if not _is_folder(_mode_at(place, parts[-1])):
                self._remove(place, parts[-1])
                os.mkdir(parts[-1], _USABLE, dir_fd=place.folder)
            made = os.open(parts[-1], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place.folder)
            try:
                self._describe(made, path, attributes)
            finally:
                os.close(made)
            self._remember(path)

    def file(self, parts: Parts, attributes: Attributes, content: Iterable[bytes]) -> None:
        """Make a file in place of what is there."""
        with self._free(parts) as place:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            made = os.open(parts[-1], flags, 0o600, dir_fd=place.folder)
            with open(made, "wb") as file:  # noqa: PTH123  # a descriptor, not a path
                for chunk in content:
                    file.write(chunk)
                file.flush()
                mode = attributes.mode & _FILE_BITS
                if self._keeps_owners:
                    os.fchown(made, attributes.user_id, attributes.group_id)
                else:
                    mode |= _READABLE
                os.fchmod(made, mode)
                # Python compares a source's time with the one that its compiled file names.
                os.utime(made, (attributes.modified_s, attributes.modified_s))

    def link(self, parts: Parts, attributes: Attributes, *, target: bytes) -> None:
        """Make a symbolic link in place of what is there; `target` may be anything."""
        with self._free(parts) as place:
            os.symlink(target, parts[-1], dir_fd=place.folder)
            if self._keeps_owners:
                os.chown(
                    parts[-1],
                    attributes.user_id,
                    attributes.group_id,
                    dir_fd=place.folder,
                    follow_symlinks=False,
                )

    def hard_link(self, parts: Parts, *, target: Parts) -> None:
        """Make another name for the file or link `target` of this tree, in place of what is there."""
        with self._enter(target[:-1]) as source:
            mode = _mode_at(source, target[-1]) if target else None
            if mode is None or _is_folder(mode):
                raise ImageError("is a hard link to what is no file of the image")
            with self._free(parts) as place:
                os.link(
                    target[-1],
                    parts[-1],
                    src_dir_fd=source.folder,
                    dst_dir_fd=place.folder,
                    follow_symlinks=False,
                )

    def clear(self, parts: Parts) -> None:
        """Remove what is there, whichever layer it came from."""
        if parts:
            with self._parent(parts) as place:
                self._remove(place, parts[-1])

    def hide(self, parts: Parts) -> None:
        """Remove what lower layers have there, and below it; what this layer brought stays."""
        try:
            with self._enter(parts[:-1]) as place:
                self._hide(place, parts[-1])
        except (FileNotFoundError, NotADirectoryError):
            return  # there is nothing to hide

    def hide_content(self, parts: Parts) -> None:
        """Remove what lower layers have in that folder; what this layer brought stays."""
        try:
            with self._enter(parts) as place:
                self._hide_below(place)
        except (FileNotFoundError, NotADirectoryError):
            return

    def ensure_folder(self, parts: Parts) -> None:
        """Make the folder if nothing is there, as container runtimes do for the working directory."""
        with self._enter(parts, make=True):
            pass

    def finish(self) -> None:
        """Give every folder the mode that its last entry says, those below before those above."""
        for path, mode in sorted(self._modes.items(), key=lambda item: -item[0].count(b"/")):
            folder = open_folder(path, root=self._root)
            try:
                os.fchmod(folder, mode if self._keeps_owners else mode | _USABLE)
            finally:
                os.close(folder)

    @contextmanager
    def _free(self, parts: Parts) -> Iterator[_Place]:
        """The parent of a name that is free now, and is this layer's afterwards."""
        if not parts:
            raise ImageError("would take the place of the root folder")
        with self._parent(parts) as place:
            self._remove(place, parts[-1])
            yield place
            self._remember(place.below(parts[-1]))

    @contextmanager
    def _parent(self, parts: Parts) -> Iterator[_Place]:
        with self._enter(parts[:-1], make=True) as place:
            yield place

    @contextmanager
    def _enter(self, parts: Parts, *, make: bool = False) -> Iterator[_Place]:
        """The folder of that name, links on the way followed inside the tree; made if asked for."""
        folder = self._open(parts, make=make)
        try:
            path = path_of(folder)[len(self._base) :].lstrip(b"/")
            if len(path) > _MAX_PATH_BYTES:
                raise ImageError(f"lies in a path of more than {_MAX_PATH_BYTES} bytes")
            if path and path.count(b"/") + 1 >= self._max_depth:
                raise ImageError(f"lies in more than {self._max_depth - 1} folders")
            yield _Place(folder=folder, path=path)
        finally:
            os.close(folder)

    def _open(self, parts: Parts, *, make: bool) -> int:
        try:
            return open_folder(b"/".join(parts), root=self._root)
        except FileNotFoundError:
            if not make:
                raise
        with self._enter(parts[:-1], make=True) as above:
            try:
                os.mkdir(parts[-1], _USABLE, dir_fd=above.folder)
            except FileExistsError as error:
                raise ImageError("lies behind a link that leads to nothing") from error
            self._modes[above.below(parts[-1])] = _IMPLIED_MODE
        return open_folder(b"/".join(parts), root=self._root)

    def _describe(self, folder: int, path: bytes, attributes: Attributes) -> None:
        if self._keeps_owners:
            os.fchown(folder, attributes.user_id, attributes.group_id)
        self._modes[path] = attributes.mode & _FOLDER_BITS

    def _remember(self, path: bytes) -> None:
        """It is this layer's, and so are the folders that it is in."""
        while path not in self._layer and path:
            self._layer.add(path)
            path = path.rpartition(b"/")[0]

    def _hide(self, place: _Place, name: bytes) -> None:
        path = place.below(name)
        if path not in self._layer:  # then neither is anything below it
            self._remove(place, name)
        elif path not in self._cleared and _is_folder(_mode_at(place, name)):
            folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place.folder)
            try:
                self._hide_below(_Place(folder=folder, path=path))
            finally:
                os.close(folder)

    def _hide_below(self, place: _Place) -> None:
        if place.path in self._cleared:
            return
        for name in os.listdir(place.folder):  # noqa: PTH208  a descriptor
            self._hide(place, os.fsencode(name))
        self._cleared.add(place.path)

    def _remove(self, place: _Place, name: bytes) -> None:
        mode, path = _mode_at(place, name), place.below(name)
        if mode is None:
            return
        if not _is_folder(mode):
            os.unlink(name, dir_fd=place.folder)
            return
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place.folder)
        try:
            for child in os.listdir(folder):  # noqa: PTH208  a descriptor
                self._remove(_Place(folder=folder, path=path), os.fsencode(child))
        finally:
            os.close(folder)
        os.rmdir(name, dir_fd=place.folder)
        del self._modes[path]


def _mode_at(place: _Place, name: bytes) -> int | None:
    try:
        return os.stat(name, dir_fd=place.folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None


def _is_folder(mode: int | None) -> bool:
    return mode is not None and stat.S_ISDIR(mode)
