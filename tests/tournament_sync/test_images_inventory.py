"""The inventory is CycloneDX 1.7 by its own schema, the same bytes each time, and names what it does not know."""

import json
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from attestation import canonical
from tests.tournament_sync.images import Json, tar_of, write_image
from tournament_sync.images.bases import ResolvedBase
from tournament_sync.images.content import ImageContent, Package, PackageKind
from tournament_sync.images.instructions import read_instructions
from tournament_sync.images.inventory import encode_inventory, package_url
from tournament_sync.images.oci import open_archive

DOCKERFILE = "ops/docker/standalone-text-trainer.dockerfile"
BASE = ResolvedBase(
    dockerfile=DOCKERFILE, line=1, reference="localhost/base:1", pinned=f"localhost/base@sha256:{'ab' * 32}"
)
TEXT = "FROM localhost/base:1\nCOPY --chown=1:1 scripts \\\n  /workspace\nRUN echo '\u001b[2J</script>'\n"


def package(kind: PackageKind, name: str, version: str = "1", **changes: str) -> Package:
    return Package(kind=kind, name=name, version=version, locations=("a/place",), **changes)


LIBC = package(PackageKind.DEBIAN, "libc6", "1:2.36-9+deb12u9~x", architecture="amd64")
TORCH = package(PackageKind.PYTHON, "torch", "2.5.0+cpu")
ODD = package(PackageKind.PYTHON, "</script>\\x1b", "", problem="name or version is none: x")


@pytest.fixture
def inventory(tmp_path: Path) -> bytes:
    return encode(tmp_path, LIBC, TORCH, ODD)


def encode(folder: Path, *packages: Package, system: str = "debian") -> bytes:
    image = open_archive(write_image(folder / "image.tar", [tar_of({"a": b""})]))
    return encode_inventory(
        image,
        ImageContent(system=system, system_version="12" if system else "", packages=packages),
        dockerfile=DOCKERFILE,
        bases=[BASE],
        instructions=read_instructions(TEXT, dockerfile=DOCKERFILE),
    )


def component(document: Json, name: str) -> Json:
    (found,) = [one for one in document["components"] if one["name"] == name]
    return dict(found)


def test_is_valid_by_the_schema_of_its_version(inventory: bytes, tmp_path: Path) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_7)
    for document in (inventory, encode(tmp_path), encode(tmp_path, system="")):
        assert validator.validate_str(document.decode()) is None
    broken = json.loads(inventory) | {"unknown": 1}
    assert validator.validate_str(json.dumps(broken)) is not None


def test_is_the_same_bytes_for_the_same_image(inventory: bytes, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert encode(other, LIBC, TORCH, ODD) == inventory
    assert canonical.encode(json.loads(inventory)) == inventory
    assert encode(other, LIBC) != inventory


def test_names_the_image_its_bases_and_whose_champion_it_is(inventory: bytes, tmp_path: Path) -> None:
    document = json.loads(inventory)
    image = open_archive(tmp_path / "image.tar")
    told = document["metadata"]["component"]
    assert told["hashes"] == [{"alg": "SHA-256", "content": image.manifest_sha256}]
    assert told["description"] == "Image of a champion of Gradients.io (https://gradients.io)"
    base = component(document, "localhost/base:1")
    assert base["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert base["properties"] == [{"name": "assay:named-at", "value": f"{DOCKERFILE}:1"}]


def test_names_each_instruction_as_it_was_run(inventory: bytes) -> None:
    (formula,) = json.loads(inventory)["formulation"]
    (workflow,) = formula["workflows"]
    assert [(step["name"], step["commands"][0]["executed"]) for step in workflow["steps"]] == [
        ("line 1", "FROM localhost/base:1"),
        ("line 2", "COPY --chown=1:1 scripts   /workspace"),
        ("line 4", "RUN echo '\u001b[2J</script>'"),
    ]


def test_names_packages_with_place_and_url(inventory: bytes) -> None:
    document = json.loads(inventory)
    assert component(document, "debian")["type"] == "operating-system"
    torch = component(document, "torch")
    assert (torch["version"], torch["purl"]) == ("2.5.0+cpu", "pkg:pypi/torch@2.5.0%2Bcpu")
    assert torch["evidence"] == {"occurrences": [{"location": "a/place"}]}


def test_a_package_that_says_nonsense_has_a_problem_and_no_url(inventory: bytes) -> None:
    odd = component(json.loads(inventory), "</script>\\x1b")
    assert "purl" not in odd
    assert odd["properties"] == [{"name": "assay:problem", "value": "name or version is none: x"}]


def test_never_claims_to_be_complete(inventory: bytes) -> None:
    assert json.loads(inventory)["compositions"] == [{"aggregate": "incomplete", "assemblies": ["image"]}]


def test_every_reference_is_there_once(inventory: bytes) -> None:
    references = [part.partition(b'"')[0] for part in inventory.split(b'"bom-ref":"')[1:]]
    assert len(references) == len(set(references)) == 8


@pytest.mark.parametrize(
    ("given", "system", "wanted"),
    [
        (LIBC, "ubuntu", "pkg:deb/ubuntu/libc6@1:2.36-9%2Bdeb12u9~x?arch=amd64"),
        (LIBC, "", "pkg:deb/debian/libc6@1:2.36-9%2Bdeb12u9~x?arch=amd64"),
        (LIBC, "a/b?c", "pkg:deb/a%2Fb%3Fc/libc6@1:2.36-9%2Bdeb12u9~x?arch=amd64"),
        (package(PackageKind.DEBIAN, "g++"), "debian", "pkg:deb/debian/g%2B%2B@1"),
        (package(PackageKind.PYTHON, "a-b", "1!2"), "debian", "pkg:pypi/a-b@1%212"),
    ],
)
def test_package_urls_are_written_by_their_specification(given: Package, system: str, wanted: str) -> None:
    assert package_url(given, system=system) == wanted
