"""Says what was built into an image: a CycloneDX 1.7 document, the same bytes for the same image.

Written key by key and not with a library: the ones there are leave out how something was made (`formulation`)
and add a random serial number and the time.
"""

import uuid
from collections.abc import Iterable
from urllib.parse import quote

from attestation import __version__, canonical
from tournament_sync.images.bases import ResolvedBase
from tournament_sync.images.content import ImageContent, Package, PackageKind
from tournament_sync.images.oci import OciArchive
from tournament_sync.inspection.dockerfile_syntax import Instruction

_MAX_COMMAND = 4000
_ATTRIBUTION = "Gradients.io (https://gradients.io)"
_COVERED = (
    "Debian packages by dpkg's status and Python packages by their metadata; nothing else was looked for"
)


def encode_inventory(
    image: OciArchive,
    content: ImageContent,
    *,
    dockerfile: str,
    bases: Iterable[ResolvedBase],
    instructions: Iterable[Instruction],
) -> bytes:
    """The inventory of `image`, canonical JSON. `instructions` are those that it was built by."""
    components = [
        *(_system(content) for _ in [0] if content.system),
        *(_base(base) for base in bases),
        *(_package(package, system=content.system) for package in content.packages),
    ]
    return canonical.encode(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.7",
            "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, image.manifest_sha256)}",
            "version": 1,
            "metadata": {
                "lifecycles": [{"phase": "post-build"}],
                "tools": {"components": [{"type": "application", "name": "assay", "version": __version__}]},
                "component": _image(image, dockerfile),
            },
            "components": components,
            # Never "complete": what a Dockerfile copies or clones has no record.
            "compositions": [{"aggregate": "incomplete", "assemblies": ["image"]}],
            "formulation": [_formula(instructions, dockerfile)],
        }
    )


def _image(image: OciArchive, dockerfile: str) -> dict[str, object]:
    return {
        "type": "container",
        "bom-ref": "image",
        "name": dockerfile,
        "version": f"sha256:{image.manifest_sha256}",
        "description": f"Image of a champion of {_ATTRIBUTION}",
        "hashes": [{"alg": "SHA-256", "content": image.manifest_sha256}],
        "properties": [
            _property("architecture", image.config.architecture),
            _property("attribution", _ATTRIBUTION),
            _property("covered", _COVERED),
            *(_property("layer", f"sha256:{layer.sha256}") for layer in image.layers),
        ],
    }


def _system(content: ImageContent) -> dict[str, object]:
    return {
        "type": "operating-system",
        "bom-ref": "system",
        "name": content.system,
        "version": content.system_version,
    }


def _base(base: ResolvedBase) -> dict[str, object]:
    return {
        "type": "container",
        "bom-ref": f"base:{base.line}",
        "name": base.reference,
        "version": f"sha256:{base.sha256}",
        "hashes": [{"alg": "SHA-256", "content": base.sha256}],
        "properties": [_property("named-at", f"{base.dockerfile}:{base.line}")],
    }


def _package(package: Package, *, system: str) -> dict[str, object]:
    told: dict[str, object] = {
        "type": "library",
        "bom-ref": ":".join(
            (package.kind, package.name, package.version, package.architecture, package.problem)
        ),
        "name": package.name,
        "version": package.version,
        "evidence": {"occurrences": [{"location": location} for location in package.locations]},
    }
    if package.problem:
        return told | {"properties": [_property("problem", package.problem)]}
    return told | {"purl": package_url(package, system=system)}


def package_url(package: Package, *, system: str) -> str:
    """The package's name in the form of the package URL specification."""
    parts = [quote(package.name, safe=".-_~"), quote(package.version, safe=".-_~:")]
    if package.kind is PackageKind.PYTHON:
        return f"pkg:pypi/{parts[0]}@{parts[1]}"
    vendor = quote(system or "debian", safe=".-_~")
    architecture = f"?arch={quote(package.architecture, safe='.-_~')}" if package.architecture else ""
    return f"pkg:deb/{vendor}/{parts[0]}@{parts[1]}{architecture}"


def _formula(instructions: Iterable[Instruction], dockerfile: str) -> dict[str, object]:
    return {
        "bom-ref": "build",
        "workflows": [
            {
                "bom-ref": "build:dockerfile",
                "uid": dockerfile,
                "name": dockerfile,
                "taskTypes": ["build"],
                "steps": [
                    {
                        "name": f"line {one.line}",
                        "commands": [
                            {"executed": " ".join([one.name, *one.flags, one.value])[:_MAX_COMMAND]}
                        ],
                    }
                    for one in instructions
                ],
            }
        ],
    }


def _property(name: str, value: str) -> dict[str, str]:
    return {"name": f"assay:{name}", "value": value}
