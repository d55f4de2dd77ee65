"""`assay images`: what people see of the images that champions start in."""

import json
from pathlib import Path

import pytest

from appliance.cli.images import DEFAULT_KEEP_DAYS
from appliance.image_keeping import KEEP_DAYS
from tests.appliance.champion_cli import ATTRIBUTION, Site, make_site
from tests.appliance.pinned import make_image, pin_for, pin_images
from tests.appliance.world import PROPOSER, propose

NAME = "god-text-reference"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


@pytest.fixture
def archive(site: Site, tmp_path: Path) -> Path:
    """The archive of an image that a proposed champion's release pins."""
    archive = make_image(tmp_path / "image.tar", Env=["PATH=/bin", "SECRET=hf_x"])
    with site.opened() as appliance:
        pin_images(appliance, propose(appliance, published_at=site.now), pin_for(archive))
    return archive


@pytest.fixture
def manifest(site: Site, archive: Path) -> str:
    """The same, imported."""
    done = site.assay("images", "import", str(archive), "--champion", NAME, "--as", PROPOSER)
    assert done.exit_code == 0, done.stderr
    assert f"{NAME} is proposed, not adopted: nothing runs in this image until it is" in done.stderr
    assert done.stdout.strip() == pin_for(archive).manifest
    return str(done.stdout.strip())


def test_an_image_is_listed_with_size_age_and_reason(site: Site, manifest: str) -> None:
    shown = site.assay("images", "list").stdout
    assert manifest in shown
    assert f"unpacked 0 days ago, kept for {KEEP_DAYS}" in shown
    assert ATTRIBUTION in shown
    told = json.loads(site.assay("images", "list", "-o", "json", "--keep-days", "0").stdout)
    assert told["attribution"] == ATTRIBUTION
    (row,) = told["images"]
    assert (row["manifest"], row["kept"], row["in_use"], row["age_days"]) == (manifest, [], False, 0)
    assert "no longer" in site.assay("images", "list", "--keep-days", "0").stdout


def test_an_empty_store_is_no_error(site: Site) -> None:
    assert json.loads(site.assay("images", "list", "-o", "json").stdout)["images"] == []
    assert site.assay("images", "verify").stdout == ""
    assert json.loads(site.assay("images", "gc", "--as", PROPOSER, "-o", "json").stdout)["removed"] == []


def test_an_image_is_shown_without_the_values_of_its_variables(site: Site, manifest: str) -> None:
    shown = site.assay("images", "show", manifest).stdout
    assert "python; -m; trainer" in shown
    assert "PATH; SECRET" in shown
    assert "hf_x" not in shown
    told = json.loads(site.assay("images", "show", f"sha256:{manifest}", "-o", "json").stdout)
    assert (told["entrypoint"], told["working_folder"]) == (["python", "-m", "trainer"], "/workspace")
    missing = site.assay("images", "show", "0" * 64)
    assert (missing.exit_code, "no image sha256:0000" in missing.stderr) == (1, True)


def test_import_says_what_it_took(site: Site, archive: Path, manifest: str) -> None:
    again = site.assay("images", "import", str(archive), "--champion", NAME, "--as", PROPOSER, "-o", "json")
    told = json.loads(again.stdout)
    assert (told["champion"], told["image"]["manifest_sha256"]) == (NAME, manifest)


def test_an_archive_that_is_not_pinned_is_refused(site: Site, archive: Path, tmp_path: Path) -> None:
    other = make_image(tmp_path / "other.tar", User="root")
    done = site.assay("images", "import", str(other), "--champion", NAME, "--as", PROPOSER)
    assert (done.exit_code, "pins no image sha256:" in done.stderr, done.stdout) == (1, True, "")


def test_verification_names_what_changed(site: Site, manifest: str) -> None:
    assert "as it was unpacked" in site.assay("images", "verify").stdout
    assert site.assay("images", "verify", manifest).exit_code == 0
    (site.home / "images" / manifest / "tree" / "bin" / "sh").write_text("another")
    done = site.assay("images", "verify", manifest)
    assert (done.exit_code, "bin/sh is not as it was unpacked" in done.stderr) == (1, True)


def test_a_damaged_image_is_listed_as_such(site: Site, manifest: str) -> None:
    (site.home / "images" / manifest / "image.json").write_text("{}")
    shown = site.assay("images", "list")
    assert (shown.exit_code, "does not describe an image" in shown.stdout) == (0, True)


def test_a_dry_run_removes_nothing(site: Site, manifest: str) -> None:
    gc = ("images", "gc", "--as", PROPOSER, "--keep-days", "0")
    dry = site.assay(*gc, "--dry-run")
    assert (dry.stdout.strip(), "would free" in dry.stderr) == (manifest, True)
    assert json.loads(site.assay(*gc, "--dry-run", "-o", "json").stdout)["removable"] == [manifest]
    assert (site.home / "images" / manifest).is_dir()
    done = site.assay(*gc)
    assert (done.stdout.strip(), "freed 1 MiB of 1 images" in done.stderr) == (manifest, True)
    assert not (site.home / "images" / manifest).exists()


def test_a_young_image_stays_without_being_asked(site: Site, manifest: str) -> None:
    done = json.loads(site.assay("images", "gc", "--as", PROPOSER, "-o", "json").stdout)
    assert done == {"removed": [], "removable": [], "bytes": 0}


def test_the_command_line_keeps_as_long_as_the_store() -> None:
    assert DEFAULT_KEEP_DAYS == KEEP_DAYS
