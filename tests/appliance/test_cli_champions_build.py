"""`assay champions build` and `load`: an image is built once, pinned by a release, and loaded by that digest only."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.cli.image_pins import read_pins, write_pin
from tests.appliance.champion_cli import ATTRIBUTION, NAME, Site, assay, make_archive, make_site, make_tree
from tests.appliance.world import PROPOSER, propose
from tests.tournament_sync.images import BASE, import_base, tar_of, write_image
from tournament_sync.champion import ImagePin
from tournament_sync.images.build import BuiltImage
from tournament_sync.images.tools import ImageTools, ask, usual_tools

DOCKERFILE = "ops/docker/standalone-text-trainer.dockerfile"


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageTools]:
    """podman's storage for every call that says nothing else, with the base image in it."""
    with tempfile.TemporaryDirectory(prefix="podman-", dir="/tmp") as folder:
        tools = replace(
            usual_tools(),
            root=Path(folder) / "storage",
            run_root=Path(folder) / "run",
            storage_driver="vfs",
            timeout_s=120,
        )
        config = Path(folder) / "storage.conf"
        config.write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{tools.root}"\nrunroot = "{tools.run_root}"\n'
        )
        monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(config))
        import_base(tools)
        yield tools
        ask(tools, "rmi", "--all", "--force", doing="cleaning up")


def tree_with_dockerfile(tmp_path: Path) -> Path:
    tree = make_tree(tmp_path)
    (tree / DOCKERFILE).write_text(f"FROM {BASE}\nCOPY . /workspace\n")
    return tree


@pytest.mark.images
def test_built_here_pinned_in_the_feed_and_loaded_there(storage: ImageTools, tmp_path: Path) -> None:
    site: Site = make_site(tmp_path)
    (tmp_path / "publisher.pem").write_bytes((site.home / "keys" / "feed.pem").read_bytes())
    (tmp_path / "publisher.pem").chmod(0o600)
    tree, built = str(tree_with_dockerfile(tmp_path)), str(tmp_path / "built")
    done = assay("champions", "build", tree, "--into", built, "-o", "json")
    assert done.exit_code == 0, done.stderr
    (image,) = json.loads(done.stdout)["images"]
    assert json.loads(done.stdout)["attribution"] == ATTRIBUTION
    assert image["dockerfile"] == DOCKERFILE
    assert image["bases"][0].startswith(BASE.partition(":")[0] + "@sha256:")
    (pin,) = read_pins(tmp_path / "built")
    assert pin.manifest == image["manifest_sha256"]

    feed, keys = str(tmp_path / "feed"), ("--keys", str(tmp_path / "keys"))
    assert assay("feed", "init", feed, *keys).exit_code == 0
    released = ("--name", NAME, "--channel", "text", "--epoch", "E4")
    signed = ("--sign-with", str(tmp_path / "publisher.pem"), "--images", built)
    assert assay("feed", "add", feed, tree, *released, *signed, *keys).exit_code == 0
    root = ("--root", str(tmp_path / "keys" / "root.json"))
    assert site.assay("champions", "sync", feed, "--as", PROPOSER, *root).exit_code == 0
    assert f"images        {DOCKERFILE} sha256:{pin.manifest}" in site.assay("champions", "show", NAME).stdout

    loaded = site.assay("champions", "load", NAME, "--archive", image["archive"])
    assert loaded.exit_code == 0, loaded.stderr
    assert loaded.stdout.strip().endswith(f"@sha256:{pin.manifest}")
    again = site.assay("champions", "load", NAME, "--archive", image["archive"], "-o", "json")
    assert json.loads(again.stdout) == {"champion": NAME, "state": "loaded", "image": loaded.stdout.strip()}


@pytest.mark.images
def test_a_build_that_fails_pins_nothing(storage: ImageTools, tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    (tree / DOCKERFILE).write_text(f"FROM {BASE}\nRUN exit 7\n")
    done = assay("champions", "build", str(tree), "--into", str(tmp_path / "built"))
    assert (done.exit_code, DOCKERFILE in done.stderr) == (1, True)
    assert list((tmp_path / "built").glob("*.pin.json")) == []


def test_a_champion_without_dockerfiles_is_told(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    (tree / DOCKERFILE).unlink()
    done = assay("champions", "build", str(tree), "--into", str(tmp_path / "built"))
    assert (done.exit_code, "none of the contract's Dockerfiles" in done.stderr) == (1, True)
    assert not (tmp_path / "built").exists()


@pytest.mark.parametrize("dockerfile", ["../outside", "nothing", "run.sh"])
def test_a_dockerfile_that_is_none_is_refused(tmp_path: Path, dockerfile: str) -> None:
    words = ("--into", str(tmp_path / "built"), "--dockerfile", dockerfile)
    done = assay("champions", "build", str(make_tree(tmp_path)), *words)
    assert done.exit_code == 1
    assert done.stderr.count("cannot be read") <= 1
    assert list(tmp_path.glob("built/*.pin.json")) == []


def test_two_dockerfiles_of_one_name_are_refused_before_anything_is_built(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    other = "dockerfiles/" + Path(DOCKERFILE).name
    (tree / other).parent.mkdir()
    (tree / other).write_text("FROM scratch\nCOPY . /other\n")
    words = ("--dockerfile", DOCKERFILE, "--dockerfile", other)
    done = assay("champions", "build", str(tree), "--into", str(tmp_path / "built"), *words)
    assert (done.exit_code, "would be called standalone-text-trainer" in done.stderr) == (1, True)
    assert not (tmp_path / "built").exists()


@pytest.mark.images
def test_a_second_dockerfile_of_one_name_does_not_replace_the_first_ones_image(
    storage: ImageTools, tmp_path: Path
) -> None:
    tree = tree_with_dockerfile(tmp_path)
    other = "dockerfiles/" + Path(DOCKERFILE).name
    (tree / other).parent.mkdir()
    (tree / other).write_text(f"FROM {BASE}\nCOPY . /other\n")
    words = ("champions", "build", str(tree), "--into", str(tmp_path / "built"), "--dockerfile")
    done = assay(*words, DOCKERFILE)
    assert done.exit_code == 0, done.stderr
    before = {path: path.read_bytes() for path in (tmp_path / "built").iterdir()}
    done = assay(*words, other)
    assert (done.exit_code, "an earlier image is not replaced" in done.stderr) == (1, True)
    assert {path: path.read_bytes() for path in (tmp_path / "built").iterdir()} == before
    assert [pin.dockerfile for pin in read_pins(tmp_path / "built")] == [DOCKERFILE]


def test_a_pin_is_written_through_no_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("a.pin.json", ".a.pin.json.part"):
        (tmp_path / name).symlink_to(victim)
    image = BuiltImage(
        pin=ImagePin(dockerfile="a.dockerfile", manifest="1" * 64, archive="2" * 64, inventory="3" * 64),
        archive=tmp_path / "a.oci.tar",
        inventory=tmp_path / "a.cdx.json",
        bases=(),
    )
    assert write_pin(image) == tmp_path / "a.pin.json"
    assert not (tmp_path / "a.pin.json").is_symlink()
    assert victim.read_text() == "mine"


def test_an_image_that_the_release_does_not_pin_is_not_loaded(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    archive = make_archive(tmp_path, site.publisher())
    assert site.assay("champions", "import", str(archive), "--as", PROPOSER).exit_code == 0
    image = write_image(tmp_path / "image.tar", [tar_of({"a": b"content"})])
    done = site.assay("champions", "load", NAME, "--archive", str(image))
    assert (done.exit_code, "pins no image sha256:" in done.stderr) == (1, True)


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_what_is_no_image_is_not_loaded(tmp_path: Path, content: bytes | None) -> None:
    site = make_site(tmp_path)
    with site.opened() as appliance:
        propose(appliance, published_at=site.now)
    if content is not None:
        (tmp_path / "image.tar").write_bytes(content)
    done = site.assay("champions", "load", "god-text-reference", "--archive", str(tmp_path / "image.tar"))
    assert (done.exit_code, done.stdout) == (1, "")


def test_the_image_of_a_revoked_champion_is_not_loaded(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    archive = make_archive(tmp_path, site.publisher())
    assert site.assay("champions", "import", str(archive), "--as", PROPOSER).exit_code == 0
    gone = site.assay("champions", "revoke", NAME, "--as", PROPOSER, "--reason", "reads the evaluator")
    assert gone.exit_code == 0, gone.stderr
    image = write_image(tmp_path / "image.tar", [tar_of({"a": b"content"})])
    done = site.assay("champions", "load", NAME, "--archive", str(image))
    assert (done.exit_code, f"{NAME} was revoked" in done.stderr, done.stdout) == (1, True, "")
