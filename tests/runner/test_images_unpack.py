"""A folder of an image: bound to its manifest, all there or not at all, and found to be changed when it was."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from runner.images.errors import ImageError
from runner.images.layers import UnpackLimits
from runner.images.lease import claim_image, hold_image
from runner.images.listing import list_tree
from runner.images.unpack import PackedImage, open_image, remove_folder, unpack_image, verify_image
from tests.runner.image_layers import NOW, file, folder, hard_link, layer, link, packed, sha256, unpacked

BASE = layer(folder("bin"), file("bin/sh", b"#!", mode=0o755), link("usr", "/"), file("old"))
TOP = layer(file("app/train.py", b"print()"), file(".wh.old"), hard_link("app/again.py", "app/train.py"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Disk:
    """Stands for a file system of that size, filled by what lies below `folder`."""

    def __init__(self, folder: Path, *, size_bytes: int) -> None:
        self._folder, self._size = folder, size_bytes
        self.asked = self.most_used_bytes = 0

    def told(self, _: int) -> SimpleNamespace:
        self.asked += 1
        files = (
            path for path in self._folder.glob("**/tree/**/*") if not path.is_symlink() and path.is_file()
        )
        used = sum(path.stat().st_size for path in files)
        self.most_used_bytes = max(self.most_used_bytes, used)
        return SimpleNamespace(f_bavail=self._size - used, f_frsize=1)


def unpack(image: PackedImage, into: Path, **more: object) -> None:
    given = {"manifest_sha256": sha256(image.manifest), "into": into, "now": NOW, **more}
    unpack_image(image, **given)  # type: ignore[arg-type]  # tests give what they like


@pytest.mark.parametrize("is_compressed", [True, False])
def test_an_image_becomes_a_folder_that_can_be_opened(tmp_path: Path, is_compressed: bool) -> None:
    image = packed(tmp_path, BASE, TOP, is_compressed=is_compressed, WorkingDir="/app")
    made = unpack_image(image, manifest_sha256=sha256(image.manifest), into=tmp_path / "image", now=NOW)
    assert made == open_image(tmp_path / "image")
    assert made.tree == tmp_path / "image" / "tree"
    assert names(made.tree) == ["app", "bin", "usr"]
    assert (made.facts.manifest_sha256, made.facts.config_sha256) == (
        sha256(image.manifest),
        sha256(image.config),
    )
    assert (made.facts.entries, made.facts.skipped) == (7, 0)  # the root is one of them
    assert made.facts.unpacked_at == "2026-11-21T02:00:00Z"
    assert made.facts.tree_sha256 == list_tree(made.tree).sha256
    assert made.config.entrypoint == ("/bin/true",)


def test_the_same_image_gives_the_same_list_wherever_it_is_unpacked(tmp_path: Path) -> None:
    one, two = unpacked(tmp_path / "one", BASE, TOP), unpacked(tmp_path / "two", BASE, TOP)
    assert one.facts == two.facts


def test_the_working_folder_is_made_as_container_runtimes_do(tmp_path: Path) -> None:
    assert (unpacked(tmp_path, BASE, WorkingDir="/usr/work/scripts").tree / "work/scripts").is_dir()


def test_a_working_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be made: Not a directory"):
        unpacked(tmp_path, BASE, WorkingDir="/bin/sh")


def test_nothing_is_there_when_a_layer_is_wrong(tmp_path: Path) -> None:
    image = packed(tmp_path / "blobs", BASE, TOP)
    image.layers[1].path.write_bytes(layer(file("other")))
    with pytest.raises(ImageError, match=f"layer sha256:{sha256(TOP)}: "):
        unpack(image, tmp_path / "image")
    assert names(tmp_path) == ["blobs"]


def test_what_a_crash_left_is_replaced(tmp_path: Path) -> None:
    left = tmp_path / ".image.unpacking" / "tree" / "half"
    left.mkdir(parents=True)
    unpack(packed(tmp_path / "blobs", BASE), tmp_path / "image")
    assert not (tmp_path / "image/tree/half").exists()
    assert not (tmp_path / ".image.unpacking").exists()


def test_an_image_is_not_unpacked_over_another(tmp_path: Path) -> None:
    before = unpacked(tmp_path, BASE)
    with pytest.raises(ImageError, match="image cannot be made"):
        unpack(packed(tmp_path / "others", TOP), tmp_path / "image")
    assert verify_image(tmp_path / "image") == before.facts


def test_another_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=f"wanted sha256:{'0' * 64}"):
        unpack(packed(tmp_path, BASE), tmp_path / "image", manifest_sha256="0" * 64)


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    image = packed(tmp_path, BASE)
    with pytest.raises(ImageError, match="the manifest names"):
        unpack(replace(image, config=image.config + b" "), tmp_path / "image")


@pytest.mark.parametrize(
    ("count", "limits", "message"),
    [
        (1, UnpackLimits(), "1 layers and 2 of the configuration"),
        (2, UnpackLimits(max_layers=1), "at most 1"),
        (2, UnpackLimits(max_entries=6), "more than the 2 entries that are left"),
        (2, UnpackLimits(max_bytes=len(BASE) + 9), "more than the 9 bytes that are left"),
    ],
)
def test_limits_are_of_all_layers_together(
    tmp_path: Path, count: int, limits: UnpackLimits, message: str
) -> None:
    image = packed(tmp_path, BASE, TOP)
    with pytest.raises(ImageError, match=message):
        unpack(replace(image, layers=image.layers[:count]), tmp_path / "image", limits=limits)
    assert not (tmp_path / "image").exists()


def test_an_image_that_does_not_fit_is_refused_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(BASE) + len(TOP)
    limits = UnpackLimits(reserve_bytes=1000)
    disk = Disk(tmp_path, size_bytes=size + 999)
    monkeypatch.setattr(os, "fstatvfs", disk.told)
    with pytest.raises(
        ImageError, match=f"has {size + 999} bytes free, wanted at least {size} for .* and 1000 in"
    ):
        unpack(packed(tmp_path, BASE, TOP), tmp_path / "image", limits=limits)
    assert (disk.asked, names(tmp_path)) == (1, ["layer-0", "layer-1"])
    monkeypatch.setattr(os, "fstatvfs", Disk(tmp_path, size_bytes=2 * size + 1000).told)
    unpack(packed(tmp_path, BASE, TOP), tmp_path / "image", limits=limits)


def test_an_image_that_is_larger_than_it_is_packed_leaves_the_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bomb is stopped on its way, one look at the disk after the reserve was touched."""
    disk = Disk(tmp_path / ".image.unpacking", size_bytes=100 << 20)
    monkeypatch.setattr(os, "fstatvfs", disk.told)
    image = packed(tmp_path, BASE, layer(file("bomb", bytes(90 << 20))), is_compressed=True)
    message = "'bomb': the file system of the images has .* wanted at least 0 for .* and 62914560 in reserve"
    with pytest.raises(ImageError, match=message):
        unpack(image, tmp_path / "image", limits=UnpackLimits(reserve_bytes=60 << 20))
    assert disk.most_used_bytes < 80 << 20
    assert names(tmp_path) == ["layer-0", "layer-1"]


# Later.


def test_an_image_that_nobody_touched_verifies(tmp_path: Path) -> None:
    made = unpacked(tmp_path, BASE, TOP)
    assert verify_image(tmp_path / "image") == made.facts


def relink(tree: Path, *, target: str) -> None:
    (tree / "usr").unlink()
    (tree / "usr").symlink_to(target)


TAMPERING: dict[str, tuple[Callable[[Path], object], str]] = {
    "content": (lambda tree: (tree / "app/train.py").write_bytes(b"evil()!"), "app/again.py"),
    "mode": (lambda tree: (tree / "bin/sh").chmod(0o777), "bin/sh"),
    "folder's mode": (lambda tree: (tree / "bin").chmod(0o700), "bin"),
    "new file": (lambda tree: (tree / "bin/another").touch(), "bin/another"),
    "gone": (lambda tree: (tree / "bin/sh").unlink(), "bin/sh"),
    "link": (lambda tree: relink(tree, target="bin"), "usr"),
    "pipe": (lambda tree: os.mkfifo(tree / "pipe"), "'pipe' is no file, folder or link"),
    "link of the old length": (lambda tree: relink(tree, target="."), "usr"),
}


@pytest.mark.parametrize(("tamper", "named"), TAMPERING.values(), ids=TAMPERING)
def test_a_change_is_found_and_named(tmp_path: Path, tamper: Callable[[Path], object], named: str) -> None:
    made = unpacked(tmp_path, BASE, TOP)
    tamper(made.tree)
    with pytest.raises(ImageError, match=named):
        verify_image(tmp_path / "image")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("manifest.json", "manifest.json was changed"),
        ("config.json", "the manifest names"),
        ("tree.list", "tree.list was changed"),
        ("image.json", "does not describe an image"),
    ],
)
def test_a_changed_document_is_found(tmp_path: Path, name: str, message: str) -> None:
    unpacked(tmp_path, BASE)
    with (tmp_path / "image" / name).open("ab") as document:
        document.write(b" x")
    with pytest.raises(ImageError, match=message):
        verify_image(tmp_path / "image")


@pytest.mark.parametrize(
    "change",
    [{"v": 2}, {"entries": "7"}, {"entries": True}, {"extra": 1}, {"tree_sha256": None}],
    ids=str,
)
def test_facts_of_another_shape_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    unpacked(tmp_path, BASE)
    facts = tmp_path / "image" / "image.json"
    facts.write_text(json.dumps({**json.loads(facts.read_text()), **change}))
    with pytest.raises(ImageError, match="does not describe an image"):
        open_image(tmp_path / "image")


def test_what_is_no_image_is_told(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"image.json cannot be read: No such file"):
        open_image(tmp_path)


# Use and removal.


def test_an_image_in_use_cannot_be_claimed(tmp_path: Path) -> None:
    tree = unpacked(tmp_path, BASE).tree
    first, second = hold_image(tree), hold_image(tree)
    os.close(first)
    assert claim_image(tmp_path / "image") is None
    os.close(second)
    claimed = claim_image(tmp_path / "image")
    assert claimed is not None
    os.close(claimed)


def test_an_image_that_is_gone_cannot_be_held(tmp_path: Path) -> None:
    tree = unpacked(tmp_path, BASE).tree
    shutil.rmtree(tmp_path / "image")
    with pytest.raises(ImageError, match="is no image that can be used: No such file"):
        hold_image(tree)
    with pytest.raises(ImageError, match="is no image that can be removed: No such file"):
        claim_image(tmp_path / "image")


def test_whoever_waits_for_a_removal_is_told_of_it(tmp_path: Path) -> None:
    """The lock that was opened before the removal is of no use after it."""
    tree = unpacked(tmp_path, BASE).tree
    claimed = claim_image(tmp_path / "image")
    assert claimed is not None
    child = os.fork()
    if child == 0:
        os.close(claimed)  # a copy of ours would be the same lock
        try:
            hold_image(tree)
        except ImageError as error:
            os._exit(0 if "was removed; import its image again" in str(error) else 1)
        os._exit(2)
    while f"-> FLOCK  ADVISORY  READ {child} " not in Path("/proc/locks").read_text():
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
    (tmp_path / "image").rename(tmp_path / "removed")
    os.close(claimed)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_folder_that_forbids_it_is_removed(tmp_path: Path) -> None:
    (tmp_path / "x" / "locked" / "in").mkdir(parents=True)
    (tmp_path / "x" / "link").symlink_to(tmp_path)
    (tmp_path / "x" / "locked").chmod(0)
    remove_folder(tmp_path / "x")
    remove_folder(tmp_path / "x")
    assert names(tmp_path) == []
