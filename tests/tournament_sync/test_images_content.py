"""What packages an image holds is read from its layers as they lie on each other; nothing in them is believed."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tournament_sync.images import tar_of, write_image
from tournament_sync.errors import BuildError
from tournament_sync.images import content
from tournament_sync.images.content import ImageContent, Package, PackageKind, read_content
from tournament_sync.images.oci import open_archive

SITE = "opt/venv/lib/python3.11/site-packages"
STATUS = b"""Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u9
Description: text
 Version: of something else

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: half
Status: install reinstreq half-installed
Version: 1
"""

Reads = Callable[..., ImageContent]


def metadata(name: str, version: str) -> bytes:
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: in the text\n".encode()


@pytest.fixture
def reads(tmp_path: Path) -> Reads:
    """What is found in an image of layers given as tars or files."""

    def read(*layers: bytes | dict[str, bytes | str]) -> ImageContent:
        tars = [one if isinstance(one, bytes) else tar_of(one) for one in layers]
        return read_content(open_archive(write_image(tmp_path / "image.tar", tars)))

    return read


def named(found: ImageContent) -> list[tuple[str, str]]:
    return [(package.name, package.version) for package in found.packages]


def test_reads_debian_and_python_packages_and_the_system(reads: Reads) -> None:
    found = reads(
        {
            "usr/lib/os-release": b'PRETTY_NAME="Debian"\nID=debian\nVERSION_ID="12"\n',
            "var/lib/dpkg/status": STATUS,
            f"{SITE}/torch-2.5.0.dist-info/METADATA": metadata("torch", "2.5.0+cpu"),
            "usr/lib/python3/dist-packages/Old_Style.egg-info/PKG-INFO": metadata("Old_Style", "1.0"),
            "usr/lib/python3/dist-packages/older.egg-info": metadata("older", "0.1"),
        }
    )
    assert found == ImageContent(
        system="debian",
        system_version="12",
        packages=(
            Package(
                kind=PackageKind.DEBIAN,
                name="libc6",
                version="2.36-9+deb12u9",
                architecture="amd64",
                locations=("var/lib/dpkg/status",),
            ),
            *(
                Package(kind=PackageKind.PYTHON, name=name, version=version, locations=(location,))
                for name, version, location in [
                    ("old-style", "1.0", "usr/lib/python3/dist-packages/Old_Style.egg-info/PKG-INFO"),
                    ("older", "0.1", "usr/lib/python3/dist-packages/older.egg-info"),
                    ("torch", "2.5.0+cpu", f"{SITE}/torch-2.5.0.dist-info/METADATA"),
                ]
            ),
        ),
    )


def test_reads_images_made_without_dpkg(reads: Reads) -> None:
    found = reads(
        {
            "var/lib/dpkg/status.d/base": b"Package: base-files\nVersion: 12\nArchitecture: all\n",
            "var/lib/dpkg/status.d/base.md5sums": b"00  usr/x\n",
            "etc/os-release": b"ID=distroless\n",
        }
    )
    assert (named(found), found.system) == ([("base-files", "12")], "distroless")


def test_one_package_in_two_places_is_one_with_two_places(reads: Reads) -> None:
    names = [f"{folder}/a-1.dist-info/METADATA" for folder in ("b", "a")]
    (package,) = reads(dict.fromkeys(names, metadata("a", "1"))).packages
    assert package.locations == tuple(sorted(names))


def test_says_nothing_of_an_image_that_says_nothing(reads: Reads) -> None:
    assert reads({"bin/sh": b"x"}) == ImageContent(system="", system_version="", packages=())


ONE = f"{SITE}/a-1.dist-info/METADATA"


@pytest.mark.parametrize(
    ("above", "left"),
    [
        ({}, [("a", "1")]),
        ({ONE: metadata("a", "2")}, [("a", "2")]),
        ({f"{SITE}/a-1.dist-info/.wh.METADATA": b""}, []),
        ({f"{SITE}/.wh.a-1.dist-info": b""}, []),
        ({"opt/.wh.venv": b""}, []),
        ({".wh.opt": b""}, []),
        ({"opt/venv/.wh..wh..opq": b""}, []),
        ({".wh..wh..opq": b""}, []),
        ({"opt/venv": "elsewhere"}, []),
        ({"opt": b"a file now"}, []),
        ({"opt/": b""}, [("a", "1")]),
        ({"opt/other": b"", "opt/.wh.ven": b""}, [("a", "1")]),
        ({"opt/.wh..wh..opq": b"", ONE: metadata("a", "3")}, [("a", "3")]),
        ({ONE: metadata("a", "3"), "opt/.wh.venv": b""}, [("a", "3")]),
    ],
)
def test_a_layer_hides_what_lies_below_and_not_what_it_brings(
    reads: Reads, above: dict[str, bytes | str], left: list[tuple[str, str]]
) -> None:
    assert named(reads({ONE: metadata("a", "1")}, above)) == left


def with_links(*links: tuple[str, bytes, str], files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, kind, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
    return out.getvalue()


def test_reads_packages_that_are_hard_links_into_a_cache(reads: Reads) -> None:
    """As installers that share files between environments leave them."""
    cached = "root/.cache/a-1.dist-info/METADATA"
    layer = with_links((ONE, tarfile.LNKTYPE, cached), files={cached: metadata("a", "1")})
    (package,) = reads(layer).packages
    assert package.locations == (ONE, cached)


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../../etc/passwd", "nowhere"])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_follows_no_link_out_of_the_image(reads: Reads, kind: bytes, target: str) -> None:
    layer = with_links((ONE, kind, target), files={})
    (package,) = reads(layer).packages
    assert (package.name, package.version) == ("a-1", "")
    assert package.problem == "named by its folder: its metadata cannot be read"


@pytest.mark.parametrize(
    ("data", "name", "problem"),
    [
        (b"", "a-1", "named by its folder: its metadata cannot be read"),
        (b"\xff\xfe\x00" * 1000, "a-1", "named by its folder"),
        (b"Name: a\n\nVersion: 1\n", "a-1", "named by its folder"),
        (metadata("../../etc", "1"), "../../etc", "name or version is none: 1"),
        (metadata("a", "1 OR 1"), "a", "name or version is none: 1 OR 1"),
        (metadata("a\x1b[2J", "1"), "a\\x1b[2J", "name or version is none: 1"),
        (metadata("a" * 400, "1"), "a" * 300, "name or version is none: 1"),
        (b"Name: a\xff\nVersion: 1\n\n", "a\ufffd", "name or version is none: 1"),
    ],
)
def test_tells_packages_that_say_nonsense_about_themselves(
    reads: Reads, data: bytes, name: str, problem: str
) -> None:
    (package,) = reads({ONE: data}).packages
    assert package.name == name
    assert package.version == ""
    assert package.problem.startswith(problem)


def test_reads_name_and_version_before_any_length_of_text(reads: Reads) -> None:
    assert named(reads({ONE: metadata("a", "1") + b"x" * (3 << 20)})) == [("a", "1")]


def test_tells_a_list_of_packages_that_cannot_be_read(reads: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    (package,) = reads({"var/lib/dpkg/status": "elsewhere"}).packages
    assert (package.name, package.problem) == ("status", "its record is no file that can be read")
    monkeypatch.setattr(content, "MAX_STATUS_BYTES", 10)
    (package,) = reads({"var/lib/dpkg/status": STATUS}).packages
    assert (package.name, package.problem) == ("status", "its record is no file that can be read")


@pytest.mark.parametrize("name", ["../a", "a/../../b", "a/.."])
def test_refuses_names_that_leave_the_image(reads: Reads, name: str) -> None:
    with pytest.raises(BuildError, match=f"a layer holds '{name}'"):
        reads({name: b""})


def test_refuses_a_layer_that_is_no_tar(reads: Reads) -> None:
    with pytest.raises(BuildError, match=r"layer \w{64}: no tar header at byte 0"):
        reads(b"no tar" * 200)


def test_refuses_more_than_its_limits(reads: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number}.dist-info/METADATA" for number in range(4)]
    for limit in ("MAX_RECORDS", "MAX_ENTRIES"):
        with monkeypatch.context() as patch:
            patch.setattr(content, limit, 2)
            with pytest.raises(BuildError, match=r"a layer has more than .* files or .* packages"):
                reads(dict.fromkeys(names, b""))
    with monkeypatch.context() as patch:
        patch.setattr(content, "MAX_READ_BYTES", 100)
        with pytest.raises(BuildError, match="its packages say more than 100 bytes about themselves"):
            reads({names[0]: b"x" * 60}, {names[1]: b"x" * 60})
    monkeypatch.setattr(content, "MAX_RECORDS", 2)
    with pytest.raises(BuildError, match="more than 2 packages in the image"):
        reads({"var/lib/dpkg/status": b"Package: aa\nVersion: 1\n\n" * 3})


@given(st.binary(max_size=300))
def test_any_record_gives_packages_with_printable_names(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    layer = tar_of({"var/lib/dpkg/status": data, ONE: data, "etc/os-release": data})
    path = write_image(tmp_path_factory.mktemp("any") / "image.tar", [layer])
    found = read_content(open_archive(path))
    told = [found.system, *(text for one in found.packages for text in (one.name, one.version, one.problem))]
    assert all(text.isprintable() and len(text) <= 1200 for text in told)
