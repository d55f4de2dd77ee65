"""A champion's image is built once from a base of Debian packages, pinned, carried over and started elsewhere."""

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from attestation.files import hash_folder
from tests.tournament_sync.images import (
    BASE,
    debian_packages,
    image_files,
    import_base,
    podman,
    sha256,
    tar_of,
    write_image,
)
from tests.tournament_sync.registry import serving
from tournament_sync.errors import BuildError
from tournament_sync.images.build import BuiltImage, build_image, find_dockerfiles
from tournament_sync.images.content import PackageKind, read_content
from tournament_sync.images.load import load_image
from tournament_sync.images.oci import open_archive, unpacked
from tournament_sync.images.tar import TarReader
from tournament_sync.images.tools import BuildNetwork, ImageTools, ask

DOCKERFILE = "ops/docker/standalone-text-trainer.dockerfile"
TEXT = f"""ARG VERSION=1
FROM {BASE.rpartition(":")[0]}:$VERSION
COPY wheels /wheels
RUN python3 -m zipfile -e /wheels/trainer.whl /opt/venv/lib/python3.11/site-packages && rm -r /wheels
# Without network there is the loopback interface only.
RUN python3 -c "import os; assert os.listdir('/sys/class/net') == ['lo']" && \\
    python3 -c "import os; assert 'ASSAY_TOKEN' not in os.environ"
COPY . /workspace
WORKDIR /workspace/scripts
ENTRYPOINT ["python3", "text_trainer.py"]
"""

pytestmark = pytest.mark.images
Champion = Callable[[str], Path]


@pytest.fixture(scope="module")
def vetting() -> Iterator[ImageTools]:
    """The connected host's storage, with the base image in it."""
    with podman() as tools:
        import_base(tools)
        yield tools


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A champion's repository."""
    folder = tmp_path_factory.mktemp("champion") / "tree"
    for name, text in {
        DOCKERFILE: TEXT,
        "scripts/text_trainer.py": "import sys, os; print('started', sys.argv[1:], os.listdir('/sys/class/net'))\n",
        "scripts/secret.py": "left out\n",
        ".dockerignore": "scripts/secret.py\n",
        ".containerignore": "*\n",  # upstream's builder knows no such file
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "wheels").mkdir()
    with zipfile.ZipFile(folder / "wheels/trainer.whl", "w") as wheel:
        wheel.writestr("trainer/__init__.py", "")
        wheel.writestr(
            "trainer-2.1.dist-info/METADATA", "Metadata-Version: 2.1\nName: Trainer\nVersion: 2.1\n\n"
        )
    return folder


@pytest.fixture(scope="module")
def built(tree: Path, vetting: ImageTools, tmp_path_factory: pytest.TempPathFactory) -> BuiltImage:
    os.environ["ASSAY_TOKEN"] = "secret"
    try:
        return build_image(tree, DOCKERFILE, into=tmp_path_factory.mktemp("out") / "new", tools=vetting)
    finally:
        del os.environ["ASSAY_TOKEN"]


@pytest.fixture
def champion(tmp_path: Path) -> Champion:
    """The tree of a champion with the given Dockerfile and nothing else."""

    def make(text: str) -> Path:
        path = tmp_path / "tree" / DOCKERFILE
        path.parent.mkdir(parents=True)
        path.write_text(text)
        return tmp_path / "tree"

    return make


def digest_of(tools: ImageTools, image: str) -> str:
    return ask(tools, "image", "inspect", "--format", "{{.Digest}}", image, doing="inspect")


def left_in(tools: ImageTools) -> tuple[str, str]:
    """Names of images and ids of containers in a storage."""
    images = ask(tools, "images", "--all", "--format", "{{.Repository}}:{{.Tag}}", doing="images")
    return images, ask(tools, "ps", "--all", "--external", "--quiet", doing="containers")


def test_pins_what_lies_in_the_files(built: BuiltImage) -> None:
    image = open_archive(built.archive)
    assert (built.pin.manifest, built.pin.archive) == (
        image.manifest_sha256,
        sha256(built.archive.read_bytes()),
    )
    assert built.pin.inventory == sha256(built.inventory.read_bytes())
    assert built.pin.dockerfile == DOCKERFILE
    assert (image.config.entrypoint, image.config.working_folder) == (
        ("python3", "text_trainer.py"),
        "/workspace/scripts",
    )


def test_resolves_the_base_to_the_digest_that_it_had(built: BuiltImage, vetting: ImageTools) -> None:
    (base,) = built.bases
    assert (base.dockerfile, base.line, base.reference) == (DOCKERFILE, 2, BASE)
    assert base.pinned == f"localhost/base@{digest_of(vetting, BASE)}"
    written = built.archive.with_name("standalone-text-trainer.dockerfile").read_text()
    wanted = TEXT.replace("localhost/base:$VERSION", base.pinned).replace("\\\n", "").splitlines()
    assert [line for line in written.splitlines() if line] == [line for line in wanted if line[0] != "#"]


def test_lists_the_packages_of_base_and_champion(built: BuiltImage) -> None:
    found = read_content(open_archive(built.archive))
    debian = [one for one in found.packages if one.kind is PackageKind.DEBIAN]
    assert {one.name for one in debian} == debian_packages()
    assert not any(one.problem for one in found.packages)
    (python,) = [one for one in found.packages if one.kind is PackageKind.PYTHON]
    assert (python.name, python.version) == ("trainer", "2.1")
    assert python.locations == ("opt/venv/lib/python3.11/site-packages/trainer-2.1.dist-info/METADATA",)


def test_writes_an_inventory_that_others_can_read(built: BuiltImage) -> None:
    text = built.inventory.read_text()
    assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(text) is None
    names = {one["name"]: one for one in json.loads(text)["components"]}
    assert names["trainer"]["purl"] == "pkg:pypi/trainer@2.1"
    assert names[BASE]["version"] == f"sha256:{built.bases[0].sha256}"
    assert "RUN python3 -m zipfile -e /wheels/trainer.whl" in text


def test_copies_what_upstream_would_copy(built: BuiltImage) -> None:
    image = open_archive(built.archive)
    with unpacked(image, image.layers[-1]) as stream:
        names = {entry.name for entry in TarReader(stream, where="T")}
    assert "workspace/scripts/text_trainer.py" in names
    assert "workspace/scripts/secret.py" not in names


def test_the_same_tree_on_the_same_base_gives_the_same_image(
    built: BuiltImage, tree: Path, vetting: ImageTools, tmp_path: Path
) -> None:
    before = hash_folder(tree)
    left = left_in(vetting)
    again = build_image(tree, DOCKERFILE, into=tmp_path, tools=vetting)
    assert (again.pin.manifest, again.pin.inventory) == (built.pin.manifest, built.pin.inventory)
    assert hash_folder(tree) == before
    assert left_in(vetting) == left == (BASE, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"standalone-text-trainer.{end}" for end in ("cdx.json", "dockerfile", "log", "oci.tar")
    ]


def test_loads_elsewhere_by_digest_and_starts_without_a_network(built: BuiltImage) -> None:
    options = ("--rm", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
    with podman() as customer:
        reference = load_image(built.archive, pin=built.pin, tools=customer)
        assert digest_of(customer, reference) == f"sha256:{built.pin.manifest}"
        said = ask(customer, "run", *options, reference, "--task-id", "1", doing="run")
    assert said == "started ['--task-id', '1'] ['lo']"


def test_a_base_from_a_registry_is_pinned_to_what_was_pulled(
    champion: Champion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = image_files([tar_of({"base": b""})])
    known = tmp_path / "registries.conf"
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(known))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with podman() as tools:
        with serving(layout, name="some/base", tag="latest") as host:
            known.write_text(f'[[registry]]\nlocation = "{host}"\ninsecure = true\n')
            tree = champion(f"FROM {host}/some/base:latest\nCOPY ops /ops\n")
            built = build_image(tree, DOCKERFILE, into=tmp_path / "out", tools=tools)
        digest = json.loads(layout["index.json"])["manifests"][0]["digest"]
        assert [base.pinned for base in built.bases] == [f"{host}/some/base@{digest}"]
        with pytest.raises(
            BuildError, match=f"{DOCKERFILE}:1: base image {host}/some/base:latest: podman ended"
        ):
            build_image(tree, DOCKERFILE, into=tmp_path / "again", tools=tools)


def test_a_base_that_is_not_there_is_named_with_its_line(
    champion: Champion, vetting: ImageTools, tmp_path: Path
) -> None:
    tree = champion(f"FROM {BASE}\nCOPY --from=localhost/none:1 /a /b\n")
    with pytest.raises(BuildError, match=f"{DOCKERFILE}:2: base image localhost/none:1: podman ended with"):
        build_image(tree, DOCKERFILE, into=tmp_path / "out", tools=vetting)
    assert not (tmp_path / "out").exists()


def test_a_base_with_another_digest_than_the_dockerfile_says_is_not_used(
    champion: Champion, vetting: ImageTools, tmp_path: Path
) -> None:
    tree = champion(f"FROM localhost/base@sha256:{'0' * 64}\n")
    with pytest.raises(
        BuildError, match=f"{DOCKERFILE}:1: base image localhost/base@sha256:0+: podman ended"
    ):
        build_image(tree, DOCKERFILE, into=tmp_path / "out", tools=vetting)


def test_a_command_that_fails_leaves_its_log_and_nothing_else(
    champion: Champion, vetting: ImageTools, tmp_path: Path
) -> None:
    left = left_in(vetting)
    tree = champion(f"FROM {BASE}\nRUN echo reason of failure && exit 7\n")
    with pytest.raises(BuildError, match=rf"{DOCKERFILE}: build: podman ended with 7: .*exit status 7"):
        build_image(tree, DOCKERFILE, into=tmp_path / "out", tools=vetting)
    assert "reason of failure" in (tmp_path / "out/standalone-text-trainer.log").read_text()
    assert not list((tmp_path / "out").glob("*.tar"))
    assert left_in(vetting) == left


def test_a_build_that_takes_too_long_is_ended_whole(
    champion: Champion, vetting: ImageTools, tmp_path: Path
) -> None:
    left = left_in(vetting)
    length = f"{400 + os.getpid()}.75"
    tree = champion(f"FROM {BASE}\nRUN echo begins && sleep {length}\n")
    with pytest.raises(BuildError, match=f"{DOCKERFILE}: build: not done within 5 s"):
        build_image(tree, DOCKERFILE, into=tmp_path / "out", tools=replace(vetting, build_timeout_s=5))
    assert "begins" in (tmp_path / "out/standalone-text-trainer.log").read_text()
    assert not any(length.encode() in path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline"))
    assert left_in(vetting) == left


def test_a_command_has_few_rights_and_sees_neither_the_tree_nor_the_host(
    champion: Champion, vetting: ImageTools, tmp_path: Path
) -> None:
    script = (
        "import os, pathlib; status = pathlib.Path('/proc/self/status').read_text();"
        " print([line.split()[1] for line in status.splitlines() if line.startswith(('CapBnd', 'Seccomp:'))]);"
        f" print(os.path.exists('{tmp_path}'), os.path.exists('/dev/kmsg'), len(os.listdir('/dev')) < 30)"
    )
    tree = champion(f'FROM {BASE}\nRUN python3 -c "{script}"\n')
    build_image(tree, DOCKERFILE, into=tmp_path / "out", tools=vetting)
    log = (tmp_path / "out/standalone-text-trainer.log").read_text()
    assert "['00000000000000fb', '2']\nFalse False True\n" in log


def test_a_base_with_triggers_is_not_built_from(
    champion: Champion, vetting: ImageTools, tmp_path: Path
) -> None:
    trigger, name = "RUN --mount=type=bind,from=s,source=/lnk,target=/host,rw true", "localhost/triggers:1"
    (tmp_path / "D").write_text(f"FROM scratch\nCOPY D /D\nONBUILD {trigger}\n")
    words = ("build", "--quiet", "--format", "docker", "--file", str(tmp_path / "D"), "--tag", name)
    ask(vetting, *words, str(tmp_path), doing="base with triggers")
    try:
        with pytest.raises(
            BuildError, match=f"{DOCKERFILE}:1: base image {name}: has ONBUILD triggers.*RUN --mount"
        ):
            build_image(champion(f"FROM {name}\n"), DOCKERFILE, into=tmp_path / "tree-out", tools=vetting)
    finally:
        ask(vetting, "rmi", name, doing="cleaning up")
    assert not (tmp_path / "tree-out").exists()


@pytest.mark.parametrize(
    "text",
    [
        # CVE-2024-1753: with podman 4.3.1 this writes anywhere on the host.
        "FROM {base} AS s\nRUN ln -s / /lnk\nFROM {base}\n"
        "RUN --mount=type=bind,from=s,source=/lnk,target=/host,rw touch /host{outside}\n",
        "FROM {base}\nRUN --mount=type=bind,rw,source=.,target=/ctx echo PWND > /ctx/LICENSE\n",
        "FROM {base}\nRUN --mount=type=cache,id=pip,target=/c touch /c/poison\n",
        "FROM {base}\nRUN --network=host true\n",
    ],
)
def test_no_command_reaches_out_of_its_container(
    champion: Champion, vetting: ImageTools, tmp_path: Path, text: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    tree = champion(text.format(base=BASE, outside=outside / "escaped"))
    (tree / "LICENSE").write_text("text")
    before = hash_folder(tree)
    with pytest.raises(BuildError, match=rf"{DOCKERFILE}:\d: RUN '--(mount|network)=.*' is refused"):
        build_image(tree, DOCKERFILE, into=tmp_path / "out", tools=vetting)
    assert hash_folder(tree) == before
    assert not list(outside.iterdir())
    assert not (tmp_path / "out").exists()


def scripted(tmp_path: Path, script: str) -> ImageTools:
    """A podman that builds as the script says; `$context` and `$out` are the last and the --output argument."""
    program = tmp_path / "bin-podman"
    program.write_text(
        "#!/bin/sh\nwhile [ $# -gt 1 ]; do case $1 in --iidfile) id=$2;; build|version|save|rmi|ps) verb=$1;;"
        " --output) out=$2;; esac; shift; done; context=$1\n"
        f'case $verb in version) echo 4.3.1;; build) echo 1 > "$id"; {script};; *) echo 1;; esac\n'
    )
    program.chmod(0o755)
    return ImageTools(podman=str(program), timeout_s=20, build_timeout_s=20)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can wrap a program that is not podman")


@as_root
@pytest.mark.parametrize(
    ("script", "which"),
    [
        ('echo PWND > "$context/LICENSE"', "build-.*/tree"),
        ('touch "$context/PWN"', "build-.*/tree"),
        ('rm "$context/LICENSE"; ln -s /etc/passwd "$context/LICENSE"', "build-.*/tree"),
        ("echo PWND > {tree}/LICENSE", "{tree}"),
    ],
)
def test_what_was_built_from_other_files_is_not_pinned(
    champion: Champion, tmp_path: Path, script: str, which: str
) -> None:
    tree = champion("FROM scratch\nCOPY . /\n")
    (tree / "LICENSE").write_text("text")
    tools = scripted(tmp_path, script.format(tree=tree))
    with pytest.raises(BuildError, match=which.format(tree=tree) + " (is not what it was|cannot be read)"):
        build_image(tree, DOCKERFILE, into=tmp_path / "out", tools=tools)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "standalone-text-trainer.dockerfile",
        "standalone-text-trainer.log",
    ]


@as_root
def test_a_build_has_only_a_copy_of_the_tree(champion: Champion, tmp_path: Path) -> None:
    tree = champion("FROM scratch\nCOPY . /\n")
    (tree / "LICENSE").write_text("text")
    (tree / "LICENSE").chmod(0o444)
    before = hash_folder(tree)
    script = 'for f in "$context"/LICENSE; do echo PWND > "$f"; done'
    with pytest.raises(BuildError, match=r"\['LICENSE'\] changed; nothing is pinned"):
        build_image(tree, DOCKERFILE, into=tmp_path / "out", tools=scripted(tmp_path, script))
    assert hash_folder(tree) == before
    assert (tree / "LICENSE").stat().st_nlink == 1


@as_root
def test_writes_through_no_link(champion: Champion, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "out").mkdir()
    for end in ("dockerfile", "log"):
        (tmp_path / f"out/standalone-text-trainer.{end}").symlink_to(victim)
    with pytest.raises(BuildError, match="podman ended with 7"):
        build_image(
            champion("FROM scratch\nCOPY . /\n"),
            DOCKERFILE,
            into=tmp_path / "out",
            tools=scripted(tmp_path, "exit 7"),
        )
    assert victim.read_text() == "mine"
    assert not any(path.is_symlink() for path in (tmp_path / "out").iterdir())


@pytest.mark.parametrize("end", ["oci.tar", "cdx.json"])
@pytest.mark.parametrize("is_link", [True, False])
def test_an_earlier_image_is_not_replaced(
    champion: Champion, tmp_path: Path, end: str, is_link: bool
) -> None:
    there = tmp_path / f"out/standalone-text-trainer.{end}"
    there.parent.mkdir()
    if is_link:
        there.symlink_to(tmp_path / "nowhere")
    else:
        there.write_text("earlier")
    with pytest.raises(BuildError, match=f"{there} is there already; an earlier image is not replaced"):
        build_image(
            champion("FROM scratch\nCOPY . /\n"),
            DOCKERFILE,
            into=tmp_path / "out",
            tools=ImageTools(podman="none"),
        )
    assert list(there.parent.iterdir()) == [there]


@as_root
@pytest.mark.parametrize("end", ["oci.tar", "cdx.json"])
def test_a_file_that_comes_during_the_build_is_not_replaced(
    champion: Champion, tmp_path: Path, end: str
) -> None:
    there = tmp_path / f"out/standalone-text-trainer.{end}"
    image = write_image(tmp_path / "image.tar", [tar_of({"a": b""})])
    tools = scripted(tmp_path, f"echo theirs > {there}")
    program = Path(tools.podman)
    program.write_text(program.read_text().replace("*) echo 1", f'save) cp {image} "$out";; *) echo 1'))
    with pytest.raises(BuildError, match=f"{DOCKERFILE}: .*: File exists"):
        build_image(champion("FROM scratch\nCOPY . /\n"), DOCKERFILE, into=tmp_path / "out", tools=tools)
    assert there.read_text() == "theirs\n"


@pytest.mark.parametrize("line", ["ADD https://a.invalid/x /y", "ADD $URL /y"])
def test_a_build_without_a_network_does_not_fetch(champion: Champion, tmp_path: Path, line: str) -> None:
    tools = ImageTools(podman="none", build_network=BuildNetwork.NONE)
    with pytest.raises(BuildError, match=f"{DOCKERFILE}:2: ADD .* may fetch, and this build has no network"):
        build_image(champion(f"FROM scratch\n{line}\n"), DOCKERFILE, into=tmp_path / "out", tools=tools)


def test_takes_the_dockerfile_that_upstream_takes(tmp_path: Path) -> None:
    assert find_dockerfiles(tmp_path) == ()
    for name in (
        "dockerfiles/standalone-text-trainer.dockerfile",
        "ops/docker/standalone-text-trainer.dockerfile",
        "dockerfiles/standalone-image-toolkit-trainer.dockerfile",
        "ops/docker/other.dockerfile",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_dockerfiles(tmp_path) == (
        "ops/docker/standalone-text-trainer.dockerfile",
        "dockerfiles/standalone-image-toolkit-trainer.dockerfile",
    )


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "none", "link"])
def test_refuses_a_dockerfile_that_is_no_file_of_the_tree(
    champion: Champion, name: str, tmp_path: Path
) -> None:
    tree = champion("FROM a\n")
    (tree / "link").symlink_to(DOCKERFILE)
    with pytest.raises(BuildError, match=f"{name}: cannot be read: "):
        build_image(tree, name, into=tmp_path / "out", tools=ImageTools(podman="none"))


def test_refuses_a_dockerfile_that_is_no_text(champion: Champion, tmp_path: Path) -> None:
    tree = champion("")
    (tree / DOCKERFILE).write_bytes(b"FROM \xff")
    with pytest.raises(BuildError, match="cannot be read: 'utf-8' codec"):
        build_image(tree, DOCKERFILE, into=tmp_path / "out", tools=ImageTools(podman="none"))


def test_refuses_to_write_into_the_tree(champion: Champion) -> None:
    tree = champion("FROM scratch\nCOPY ops /ops\n")
    with pytest.raises(BuildError, match="is inside the tree that is built"):
        build_image(tree, DOCKERFILE, into=tree / "ops/out", tools=ImageTools(podman="none"))


def test_a_place_that_cannot_be_written_is_told(champion: Champion, tmp_path: Path) -> None:
    tree = champion("FROM scratch\nCOPY ops /ops\n")
    (tmp_path / "file").touch()
    with pytest.raises(BuildError, match=f"{DOCKERFILE}: {tmp_path}/file/out: Not a directory"):
        build_image(tree, DOCKERFILE, into=tmp_path / "file/out", tools=ImageTools(podman="none"))
