"""Layers of hostile images: nothing leaves the tree, nothing is kept that a container would not have."""

import gzip
import os
import stat
import tarfile
from pathlib import Path

import pytest

from runner.images.errors import ImageError
from runner.images.layers import LayerBlob, UnpackLimits, apply_layer
from runner.images.tree import Tree
from tests.runner.image_layers import MTIME, Item, blob, file, folder, hard_link, layer, link, sha256

LIMITS = UnpackLimits()
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="owners are kept by root only")


def lay(
    at: Path, *tars: bytes, limits: UnpackLimits = LIMITS, keeps_owners: bool = os.geteuid() == 0
) -> Path:
    """A tree of these layers, beside a file that no layer may reach."""
    (at / "outside").write_text("mine")
    root = at / "root"
    root.mkdir()
    with Tree(root, keeps_owners=keeps_owners, max_depth=limits.max_depth) as tree:
        for tar in tars:
            apply_layer(tree, blob(at / "blob", tar), diff_id=sha256(tar), limits=limits)
        tree.finish()
    return root


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def refused(at: Path, *items: Item, message: str, limits: UnpackLimits = LIMITS) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        lay(at, layer(*items), limits=limits)
    assert str(caught.value).startswith(f"layer sha256:{sha256(layer(*items))}: ")
    assert sorted(path.name for path in at.iterdir()) == ["blob", "outside", "root"]
    assert (at / "outside").read_text() == "mine"


def test_files_folders_and_links_are_as_the_layer_says(tmp_path: Path) -> None:
    root = lay(
        tmp_path,
        layer(
            folder("./"),
            folder("bin/", 0o711),
            file("bin/tool", b"#!", mode=0o755),
            file("etc/deep/er", b"implied folders"),
            link("usr", "bin"),
            hard_link("bin/again", "bin/tool"),
        ),
    )
    assert names(root) == ["bin", "bin/again", "bin/tool", "etc", "etc/deep", "etc/deep/er", "usr"]
    assert (root / "bin/tool").read_bytes() == b"#!"
    assert (root / "bin/tool").stat().st_mtime == MTIME
    assert stat.S_IMODE((root / "bin/tool").stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "bin").stat().st_mode) == 0o711
    assert stat.S_IMODE((root / "etc/deep").stat().st_mode) == 0o755
    assert (root / "usr").readlink() == Path("bin")
    assert (root / "bin/again").samefile(root / "bin/tool")


@pytest.mark.parametrize("target", ["../outside", "/outside", "/../../outside", "../../../../../outside"])
def test_a_link_is_made_whatever_it_names_and_never_followed(tmp_path: Path, target: str) -> None:
    root = lay(tmp_path, layer(link("x", target), file("x", b"changed")))
    assert (root / "x").read_bytes() == b"changed"
    assert not (root / "x").is_symlink()
    assert (tmp_path / "outside").read_text() == "mine"


@pytest.mark.parametrize("target", ["/", "..", "../..", "/..", "/proc/self/root", "/proc/self/cwd"])
def test_a_folder_behind_a_link_stays_inside(tmp_path: Path, target: str) -> None:
    """`/` is the tree's root for every link in it, as in a container."""
    at = tmp_path / "a" / "b"
    at.mkdir(parents=True)
    try:
        root = lay(at, layer(link("door", target), file("door/planted", b"x")))
    except ImageError as error:
        assert "leads to nothing" in str(error)  # there is no /proc in the tree
    else:
        assert (root / "planted").read_bytes() == b"x"
    assert not [path for path in tmp_path.rglob("planted") if not path.is_relative_to(at / "root")]


def test_a_lower_layers_link_is_followed_inside(tmp_path: Path) -> None:
    root = lay(tmp_path, layer(folder("usr/lib"), link("lib", "usr/lib")), layer(file("lib/libc.so", b"elf")))
    assert (root / "lib").is_symlink()
    assert (root / "usr/lib/libc.so").read_bytes() == b"elf"


def test_a_link_to_nothing_is_no_folder(tmp_path: Path) -> None:
    refused(tmp_path, link("a", "/nowhere"), file("a/b"), message=r"'a/b': lies behind a link that leads to")


def test_links_in_a_circle_are_no_folder(tmp_path: Path) -> None:
    refused(tmp_path, link("a", "b"), link("b", "a"), file("a/x"), message=r"'a/x': Too many levels")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    refused(tmp_path, file("a"), file("a/b"), message=r"'a/b': Not a directory")


@pytest.mark.parametrize("name", ["../x", "a/../../x", "a/..", ".."])
def test_a_name_that_climbs_is_refused(tmp_path: Path, name: str) -> None:
    refused(tmp_path, file(name), message="a name that climbs out of its folder")


def test_an_absolute_name_is_of_the_tree(tmp_path: Path) -> None:
    root = lay(tmp_path, layer(file("/etc/passwd", b"root")))
    assert (root / "etc/passwd").read_bytes() == b"root"


def test_the_root_is_a_folder_for_ever(tmp_path: Path) -> None:
    refused(tmp_path, link("./", "/"), message="would take the place of the root folder")


@pytest.mark.parametrize("target", ["../outside", "a/../../outside"])
def test_a_hard_link_that_climbs_is_refused(tmp_path: Path, target: str) -> None:
    refused(tmp_path, hard_link("x", target), message="a name that climbs")


@pytest.mark.parametrize(
    ("before", "target", "message"),
    [
        ([], "/outside", "no file of the image"),
        ([], "no/such", "No such file"),
        ([folder("dir")], "dir", "no file of the image"),
        ([], "", "no file of the image"),
        ([link("up", "/..")], "up/outside", "no file of the image"),
    ],
)
def test_a_hard_link_to_what_is_no_file_inside_is_refused(
    tmp_path: Path, before: list[Item], target: str, message: str
) -> None:
    refused(tmp_path, *before, hard_link("x", target), message=message)


def test_a_hard_link_to_a_link_is_another_link(tmp_path: Path) -> None:
    root = lay(tmp_path, layer(link("a", "../outside"), hard_link("b", "a")))
    assert (root / "b").is_symlink()
    assert (tmp_path / "outside").stat().st_nlink == 1


def test_a_file_written_over_a_hard_link_leaves_the_other_name_alone(tmp_path: Path) -> None:
    root = lay(tmp_path, layer(file("a", b"one"), hard_link("b", "a")), layer(file("b", b"two")))
    assert ((root / "a").read_bytes(), (root / "b").read_bytes()) == (b"one", b"two")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_and_pipes_are_left_out_and_counted(tmp_path: Path, kind: bytes) -> None:
    tar = layer(file("dev/null", b"not one"), Item(name="dev/null", type=kind), file("dev/x"))
    (tmp_path / "root").mkdir()
    with Tree(tmp_path / "root", keeps_owners=False, max_depth=9) as tree:
        done = apply_layer(tree, blob(tmp_path / "blob", tar), diff_id=sha256(tar), limits=LIMITS)
        tree.finish()
    assert names(tmp_path / "root") == ["dev", "dev/x"]
    assert (done.skipped, done.entries, done.size_bytes) == (1, 3, len(tar))


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6777, 0o1755])
def test_bits_that_give_rights_are_dropped_from_files(tmp_path: Path, mode: int) -> None:
    root = lay(tmp_path, layer(file("su", mode=mode)))
    assert stat.S_IMODE((root / "su").stat().st_mode) == mode & 0o777


def test_folders_keep_the_sticky_bit_and_lose_the_others(tmp_path: Path) -> None:
    root = lay(tmp_path, layer(folder("tmp", 0o1777), folder("var", 0o6755)))
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
    assert stat.S_IMODE((root / "var").stat().st_mode) == 0o755


def test_a_folder_that_nobody_may_write_takes_what_later_layers_bring(tmp_path: Path) -> None:
    root = lay(tmp_path, layer(folder("ro", 0o555)), layer(file("ro/x", b"x")), keeps_owners=False)
    assert (root / "ro/x").read_bytes() == b"x"
    assert stat.S_IMODE((root / "ro").stat().st_mode) == 0o755  # an ordinary user must be able to remove it


@needs_root
def test_owners_are_kept_and_links_not_followed_for_it(tmp_path: Path) -> None:
    root = lay(
        tmp_path, layer(folder("d", owner=7), file("f", owner=1234), link("l", "../outside", owner=99))
    )
    assert [os.lstat(root / name).st_uid for name in "dfl"] == [7, 1234, 99]
    assert (tmp_path / "outside").stat().st_uid == 0


def test_an_owner_that_no_kernel_knows_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, file("x", pax={"uid": str(1 << 32)}), message="uid 4294967296, wanted 0 to 4294967294")


def test_extended_attributes_are_not_kept(tmp_path: Path) -> None:
    root = lay(
        tmp_path, layer(file("x", pax={"SCHILY.xattr.user.x": "1", "SCHILY.xattr.security.capability": "y"}))
    )
    assert os.listxattr(root / "x") == []


# Whiteouts.


def test_a_whiteout_hides_what_lower_layers_have(tmp_path: Path) -> None:
    below = layer(file("a/one"), file("a/two"), file("b/three"))
    root = lay(tmp_path, below, layer(file("a/.wh.one"), file(".wh.b")))
    assert names(root) == ["a", "a/two"]


@pytest.mark.parametrize("is_first", [True, False])
def test_a_whiteout_leaves_what_its_own_layer_has(tmp_path: Path, is_first: bool) -> None:
    below = layer(file("a/old"), file("a/deep/old"), file("a/both", b"old"))
    items = [file("a/new"), file("a/deep/new"), file("a/both", b"new")]
    whiteout = [file("a/.wh..wh..opq")]
    root = lay(tmp_path, below, layer(*whiteout, *items) if is_first else layer(*items, *whiteout))
    assert names(root) == ["a", "a/both", "a/deep", "a/deep/new", "a/new"]
    assert (root / "a/both").read_bytes() == b"new"


@pytest.mark.parametrize(
    "name", ["a/.wh..wh..opq", ".wh.a", "a/./.wh..wh..opq", "l/.wh..wh..opq", ".wh..wh..opq"]
)
def test_whiteouts_of_one_folder_list_it_once_however_many_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    listed: list[object] = []
    real = os.listdir

    def counted(folder: int) -> list[str]:
        listed.append(folder)
        return real(folder)

    monkeypatch.setattr(os, "listdir", counted)
    top = [item for n in range(50) for item in (file(f"a/b/new-{n}"), file(name))]
    root = lay(tmp_path, layer(file("a/old"), file("a/b/old"), link("l", "a")), layer(*top))
    assert len(listed) <= 3  # the root, a and b
    assert (root / "a/b/new-49").exists()
    assert not list(root.rglob("old"))


def test_the_next_layer_hides_again_what_this_one_hid(tmp_path: Path) -> None:
    whiteout = file("a/.wh..wh..opq")
    root = lay(tmp_path, *(layer(file(f"a/b/{n}"), whiteout, whiteout) for n in range(3)))
    assert names(root) == ["a", "a/b", "a/b/2"]


def test_a_named_whiteout_empties_a_folder_that_its_own_layer_makes_anew(tmp_path: Path) -> None:
    root = lay(tmp_path, layer(file("a/old")), layer(file("a/new"), file(".wh.a")))
    assert names(root) == ["a", "a/new"]


def test_a_whiteout_hides_a_link_and_not_what_it_names(tmp_path: Path) -> None:
    root = lay(
        tmp_path,
        layer(folder("real"), file("real/x"), link("l", "real"), link("out", "../outside")),
        layer(file(".wh.l"), file(".wh.out")),
    )
    assert names(root) == ["real", "real/x"]
    assert (tmp_path / "outside").exists()


def test_a_whiteout_behind_a_link_stays_inside(tmp_path: Path) -> None:
    root = lay(tmp_path, layer(link("up", "../.."), file("kept")), layer(file("up/.wh.outside")))
    assert names(root) == ["kept", "up"]
    assert (tmp_path / "outside").exists()


@pytest.mark.parametrize(
    "name", ["no/such/.wh.x", ".wh.x", "no/.wh..wh..opq", "file/.wh.x", "file/.wh..wh..opq"]
)
def test_a_whiteout_of_nothing_does_nothing(tmp_path: Path, name: str) -> None:
    assert names(lay(tmp_path, layer(file("file")), layer(file(name)))) == ["file"]


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "a/.wh..."])
def test_a_whiteout_of_no_name_is_refused(tmp_path: Path, name: str) -> None:
    refused(tmp_path, file(name), message="a whiteout of no name")


def test_marks_of_old_storage_drivers_are_left_out(tmp_path: Path) -> None:
    assert names(lay(tmp_path, layer(file(".wh..wh.aufs"), file("x")))) == ["x"]


def test_a_folder_takes_the_place_of_a_file_and_the_other_way_round(tmp_path: Path) -> None:
    root = lay(
        tmp_path,
        layer(file("a"), file("b/inside"), link("c", "b")),
        layer(folder("a"), file("b"), folder("c")),
    )
    assert names(root) == ["a", "b", "c"]
    assert [(root / name).is_dir() and not (root / name).is_symlink() for name in "abc"] == [
        True,
        False,
        True,
    ]


def test_a_folder_that_is_there_keeps_its_files_and_gets_the_new_mode(tmp_path: Path) -> None:
    root = lay(tmp_path, layer(folder("a", 0o700), file("a/x")), layer(folder("a", 0o750)))
    assert names(root) == ["a", "a/x"]
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o750


def test_a_folder_that_was_hidden_does_not_hand_its_mode_on(tmp_path: Path) -> None:
    root = lay(tmp_path, layer(folder("a", 0o711)), layer(file(".wh.a")), layer(file("a/x")))
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o755


# Limits and damage.


def test_too_many_entries_are_refused(tmp_path: Path) -> None:
    items = [file(str(number)) for number in range(4)]
    refused(tmp_path, *items, message="more than the 3 entries", limits=UnpackLimits(max_entries=3))


def test_a_layer_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    tar = layer(file("zeros", bytes(1 << 20)))
    (tmp_path / "root").mkdir()
    with Tree(tmp_path / "root", keeps_owners=False, max_depth=9) as tree:
        small = blob(tmp_path / "blob", gzip.compress(tar))
        assert small.size_bytes < 5000
        with pytest.raises(ImageError, match="unpacks to more than the 9999 bytes"):
            apply_layer(tree, small, diff_id=sha256(tar), limits=UnpackLimits(max_bytes=9999))


@pytest.mark.parametrize("maker", [file, folder])
def test_too_deep_a_name_is_refused(tmp_path: Path, maker: type) -> None:
    refused(tmp_path, maker("a/" * 5 + "x"), message="lies in more than", limits=UnpackLimits(max_depth=5))


def test_links_do_not_make_a_deeper_tree(tmp_path: Path) -> None:
    """Each name is short; together they would nest without end."""
    items = [item for n in range(4) for item in (folder(f"l{n}/b/c"), link(f"l{n + 1}", f"l{n}/b/c"))]
    refused(tmp_path, *items, message="lies in more than 7 folders", limits=UnpackLimits(max_depth=8))


def test_a_path_longer_than_the_kernel_takes_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, file("/".join(["n" * 250] * 14)), message="a path of more than 3000 bytes")


def test_names_are_bytes(tmp_path: Path) -> None:
    root = lay(tmp_path, layer(file("caf\udce9/\nx", b"latin")))
    assert [os.fsencode(path.name) for path in root.iterdir()] == [b"caf\xe9"]


@pytest.mark.parametrize("is_compressed", [True, False])
def test_a_layer_in_the_midst_of_a_file_is_read_from_there_to_its_end(
    tmp_path: Path, is_compressed: bool
) -> None:
    tar = layer(file("x", b"content"))
    data = gzip.compress(tar) if is_compressed else tar
    (tmp_path / "archive").write_bytes(b"before" + data + b"after")
    (tmp_path / "root").mkdir()
    with Tree(tmp_path / "root", keeps_owners=False, max_depth=9) as tree:
        part = LayerBlob(path=tmp_path / "archive", offset=6, size_bytes=len(data))
        apply_layer(tree, part, diff_id=sha256(tar), limits=LIMITS)
    assert (tmp_path / "root/x").read_bytes() == b"content"


ONE = layer(file("x"))
PRESSED = gzip.compress(ONE, mtime=0)
DAMAGED = {
    "zstd": (b"\x28\xb5\x2f\xfd rest", "zstd, which is not taken"),
    "cut gzip": (PRESSED[:-9], "cannot be unpacked"),
    "wrong checksum": (PRESSED[:-8] + bytes(8), "cannot be unpacked"),
    "gzip in name only": (b"\x1f\x8bnot really", "cannot be unpacked"),
    "cut tar": (ONE[:700], "truncated header"),
    "cut content": (layer(file("x", bytes(9999)))[:2000], "'x': ends early"),
    "another layer": (layer(file("y")), "unpacks to sha256:"),
    "something behind": (ONE + b"more", "unpacks to sha256:"),
    "nothing": (b"", "unpacks to sha256:"),
}


@pytest.mark.parametrize(("data", "message"), DAMAGED.values(), ids=DAMAGED)
def test_what_is_not_the_layer_of_the_digest_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "root").mkdir()
    tree = Tree(tmp_path / "root", keeps_owners=False, max_depth=9)
    with tree, pytest.raises(ImageError, match=message):
        apply_layer(tree, blob(tmp_path / "blob", data), diff_id=sha256(ONE), limits=LIMITS)


def test_a_layer_that_went_away_is_told(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    gone = LayerBlob(path=tmp_path / "gone", offset=0, size_bytes=9)
    tree = Tree(tmp_path / "root", keeps_owners=False, max_depth=9)
    with tree, pytest.raises(ImageError, match="gone cannot be read: No such file"):
        apply_layer(tree, gone, diff_id="0" * 64, limits=LIMITS)
