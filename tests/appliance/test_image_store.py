"""The store of images: each unpacked once, whatever dies or runs beside it, and never removed under a user."""

import os
import shutil
from fcntl import LOCK_EX, flock
from pathlib import Path
from types import SimpleNamespace

import pytest

from appliance.errors import ArtifactError, ConflictError, HomeError, NotFoundError
from appliance.home import Home
from appliance.image_store import ImageStore
from runner.images.lease import hold_image
from runner.images.unpack import UnpackedImage
from tests.appliance.pinned import TOP, make_image
from tests.appliance.world import START
from tournament_sync.images.oci import OciArchive, open_archive


@pytest.fixture
def images(tmp_path: Path) -> ImageStore:
    (tmp_path / "home").mkdir()
    return ImageStore(Home(tmp_path / "home"))


@pytest.fixture
def archive(tmp_path: Path) -> OciArchive:
    return open_archive(make_image(tmp_path / "image.tar"))


@pytest.fixture
def unpacked(images: ImageStore, archive: OciArchive) -> UnpackedImage:
    return images.unpack(archive, now=START)


def visible(images: ImageStore) -> list[str]:
    """What lies in the store but locks."""
    return sorted(path.name for path in images.root.iterdir() if not path.name.endswith(".lock"))


def yes() -> bool:
    return True


def nothing() -> None:
    pass


def test_an_image_is_unpacked_under_its_manifest_and_found_again(
    images: ImageStore, archive: OciArchive, unpacked: UnpackedImage
) -> None:
    assert images.find(archive.manifest_sha256) == unpacked
    assert unpacked.tree == images.root / archive.manifest_sha256 / "tree"
    assert (unpacked.tree / "workspace/train.py").read_bytes() == b"print()"
    assert not (unpacked.tree / "old").exists()
    assert unpacked.facts.config_sha256 == archive.config_sha256
    assert visible(images) == [archive.manifest_sha256]


def test_what_is_not_here_is_not_found(images: ImageStore) -> None:
    assert images.find("0" * 64) is None
    assert images.list() == ()
    with pytest.raises(NotFoundError, match="no image sha256:0000"):
        images.verify("0" * 64)


@pytest.mark.parametrize("name", ["", "..", "0" * 63, "A" * 64, "../" + "0" * 61])
def test_a_name_that_is_no_manifest_is_refused(images: ImageStore, name: str) -> None:
    with pytest.raises(NotFoundError, match="wanted 64 hexadecimal digits"):
        images.find(name)


def test_an_image_that_is_here_is_not_unpacked_again(
    images: ImageStore, archive: OciArchive, unpacked: UnpackedImage
) -> None:
    before = (unpacked.tree / "bin/sh").stat().st_ino
    assert images.unpack(archive, now=START.replace(year=2027)) == unpacked
    assert (unpacked.tree / "bin/sh").stat().st_ino == before


def test_an_image_is_not_unpacked_where_the_disk_would_run_full(
    images: ImageStore, archive: OciArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = SimpleNamespace(f_bavail=(2 << 30) - 4096, f_frsize=1)
    monkeypatch.setattr(os, "fstatvfs", lambda _: full)
    with pytest.raises(
        ArtifactError, match=r"has 2147479552 bytes free, wanted .* and 2147483648 in reserve"
    ):
        images.unpack(archive, now=START)
    assert visible(images) == []


def test_two_at_once_unpack_once(images: ImageStore, archive: OciArchive) -> None:
    """Whoever comes second waits, and finds what the first one made."""
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            try:
                images.unpack(archive, now=START)
            except BaseException:  # noqa: BLE001  a child that must not return
                os._exit(1)
            os._exit(0)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    images.verify(archive.manifest_sha256)
    assert visible(images) == [archive.manifest_sha256]


@pytest.mark.parametrize("name", ["tree/bin/sh", "manifest.json", "image.json", "tree.list"])
def test_a_damaged_image_is_told_and_repaired_by_unpacking_again(
    images: ImageStore, archive: OciArchive, unpacked: UnpackedImage, name: str
) -> None:
    (images.root / archive.manifest_sha256 / name).write_bytes(b"changed")
    with pytest.raises(ArtifactError, match=r"was changed|cannot be used"):
        images.verify(archive.manifest_sha256)
    assert images.unpack(archive, now=START) == unpacked
    images.verify(archive.manifest_sha256)
    assert visible(images) == [archive.manifest_sha256]


def test_a_damaged_image_in_use_is_left_to_its_user(
    images: ImageStore, archive: OciArchive, unpacked: UnpackedImage
) -> None:
    (unpacked.tree / "bin/sh").write_bytes(b"changed")
    lock = hold_image(unpacked.tree)
    with pytest.raises(ConflictError, match="was changed and is in use"):
        images.unpack(archive, now=START)
    os.close(lock)
    images.unpack(archive, now=START)


def test_an_image_under_another_ones_name_is_not_used(
    images: ImageStore, archive: OciArchive, unpacked: UnpackedImage
) -> None:
    shutil.copytree(images.root / archive.manifest_sha256, images.root / ("0" * 64), symlinks=True)
    with pytest.raises(ArtifactError, match=f"holds image sha256:{archive.manifest_sha256}"):
        images.find("0" * 64)
    assert [bool(kept.problem) for kept in images.list()] == sorted(
        [True, False], reverse=archive.manifest_sha256 > "0" * 64
    )


def test_an_archive_that_changed_since_it_was_opened_is_not_unpacked(
    images: ImageStore, archive: OciArchive
) -> None:
    shutil.copy(make_image(archive.path.with_name("other"), TOP), archive.path)
    with pytest.raises(ArtifactError, match=r"cannot be (unpacked|read again)"):
        images.unpack(archive, now=START)
    assert visible(images) == []


def test_an_image_for_another_machine_is_refused(images: ImageStore, tmp_path: Path) -> None:
    archive = open_archive(make_image(tmp_path / "other.tar", architecture="riscv64"))
    with pytest.raises(ArtifactError, match="is for 'riscv64', this machine is"):
        images.unpack(archive, now=START)


def test_a_store_that_cannot_be_written_is_told(tmp_path: Path, archive: OciArchive) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "images").write_text("no folder")
    with pytest.raises(HomeError, match=r"images: .*File exists"):
        ImageStore(Home(tmp_path / "home")).unpack(archive, now=START)


# Removal.


def test_an_image_is_removed_and_the_rest_stays(
    images: ImageStore, archive: OciArchive, unpacked: UnpackedImage, tmp_path: Path
) -> None:
    other = images.unpack(open_archive(make_image(tmp_path / "other.tar", TOP)), now=START)
    told: list[bool] = []
    assert images.remove(
        archive.manifest_sha256, if_still=yes, then=lambda: told.append(unpacked.tree.exists())
    )
    assert told == [False]
    assert visible(images) == [other.facts.manifest_sha256]


def test_an_image_in_use_is_not_removed(
    images: ImageStore, archive: OciArchive, unpacked: UnpackedImage
) -> None:
    lock = hold_image(unpacked.tree)
    assert [kept.is_in_use for kept in images.list()] == [True]
    assert not images.remove(archive.manifest_sha256, if_still=yes, then=nothing)
    os.close(lock)
    assert [kept.is_in_use for kept in images.list()] == [False]
    assert images.find(archive.manifest_sha256) == unpacked


def test_whether_it_is_needed_is_asked_when_nobody_can_begin_to_use_it(
    images: ImageStore, archive: OciArchive, unpacked: UnpackedImage
) -> None:
    seen: list[bool] = []

    def is_needed_now() -> bool:
        seen.append(images.list()[0].is_in_use)  # by whoever asks
        return False

    assert not images.remove(archive.manifest_sha256, if_still=is_needed_now, then=nothing)
    assert (seen, images.find(archive.manifest_sha256)) == ([True], unpacked)


class Killed(BaseException):
    """Stands for kill -9: nothing of ours catches it."""


def die() -> None:
    raise Killed


def test_a_removal_that_was_cut_short_is_finished_and_told(
    images: ImageStore, archive: OciArchive, unpacked: UnpackedImage
) -> None:
    with pytest.raises(Killed):
        images.remove(archive.manifest_sha256, if_still=yes, then=die)
    assert images.find(archive.manifest_sha256) is None
    told: list[str] = []
    images.sweep(told.append)
    images.sweep(told.append)
    assert (told, visible(images)) == ([archive.manifest_sha256], [])


def test_an_image_that_came_back_meanwhile_is_not_told_as_gone(
    images: ImageStore, archive: OciArchive, unpacked: UnpackedImage
) -> None:
    with pytest.raises(Killed):
        images.remove(archive.manifest_sha256, if_still=yes, then=die)
    images.unpack(archive, now=START)
    told: list[str] = []
    images.sweep(told.append)
    assert (told, visible(images)) == ([], [archive.manifest_sha256])


@pytest.mark.parametrize("is_alive", [True, False])
def test_half_an_image_is_swept_once_nobody_works_on_it(
    images: ImageStore, archive: OciArchive, is_alive: bool
) -> None:
    images.root.mkdir()
    half = images.root / f".{archive.manifest_sha256}.unpacking"
    (half / "tree").mkdir(parents=True)
    with (images.root / f".{archive.manifest_sha256}.lock").open("wb") as lock:
        if is_alive:
            flock(lock, LOCK_EX)
        images.sweep(lambda name: None)
        assert half.exists() == is_alive
    assert images.list() == ()


def test_listing_names_what_cannot_be_used(
    images: ImageStore, archive: OciArchive, unpacked: UnpackedImage
) -> None:
    (images.root / archive.manifest_sha256 / "config.json").write_bytes(b"{}")
    (kept,) = images.list()
    assert kept.image is None
    assert "the manifest names" in kept.problem
    assert kept.manifest_sha256 == archive.manifest_sha256
