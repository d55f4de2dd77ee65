"""The JSON documents of an OCI image layout, read strictly: one reading, no unknown keys, known media types.

Strict, since they are written by our own builds: keys that differ from known ones in case only would be read by
the container tools and not by us.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel, to_pascal

from attestation import canonical
from attestation.errors import MalformedError
from tournament_sync.errors import BuildError

MAX_JSON_BYTES = 4 << 20  # OCI distribution specification: of a manifest
MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
GZIP_LAYER = f"{LAYER}+gzip"

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)=([^\0]*)", re.ASCII | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """What a container made from the image would do, as the image says it. None of it is to be trusted."""

    architecture: str
    environment: Mapping[str, str]
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    working_folder: str
    user: str


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Camel(_Strict):
    model_config = ConfigDict(alias_generator=to_camel)


class Descriptor(_Camel):
    """Names a blob."""

    media_type: str
    digest: str
    size: int

    @property
    def sha256(self) -> str:
        return sha256_of(self.digest)


class Layout(_Camel):
    """The file oci-layout."""

    image_layout_version: Literal["1.0.0"]


class Index(_Camel):
    """The file index.json. Its entry has no annotations: a name there would become a name where it is loaded."""

    schema_version: Literal[2]
    media_type: Literal["application/vnd.oci.image.index.v1+json"] = "application/vnd.oci.image.index.v1+json"
    manifests: tuple[Descriptor, ...]


class ImageManifest(_Camel):
    """Configuration and layers of one image."""

    schema_version: Literal[2]
    media_type: Literal["application/vnd.oci.image.manifest.v1+json"] = MANIFEST
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: dict[str, str] = {}


class _Run(_Strict):
    model_config = ConfigDict(alias_generator=to_pascal)

    user: str = ""
    exposed_ports: dict[str, dict[str, str]] = {}
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    volumes: dict[str, dict[str, str]] = {}
    working_dir: str = ""
    labels: dict[str, str] | None = None
    stop_signal: str = ""


class _Step(_Strict):
    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class _RootFs(_Strict):
    type: Literal["layers"]
    diff_ids: tuple[str, ...]


class Configuration(_Strict):
    """The image's configuration (OCI image specification, config.md)."""

    created: str = ""
    author: str = ""
    architecture: str
    variant: str = ""
    os: Literal["linux"]
    config: _Run = _Run()
    rootfs: _RootFs
    history: tuple[_Step, ...] = ()

    def image_config(self) -> ImageConfig:
        """Its part about containers. Raises BuildError for variables that are none or are set twice."""
        environment: dict[str, str] = {}
        for variable in self.config.env:
            parts = _VARIABLE.fullmatch(variable)
            if parts is None or parts[1] in environment:
                raise BuildError(f"the configuration sets {variable[:100]!r}, no variable or one set before")
            environment[parts[1]] = parts[2]
        return ImageConfig(
            architecture=self.architecture,
            environment=environment,
            entrypoint=self.config.entrypoint or (),
            command=self.config.cmd or (),
            working_folder=self.config.working_dir or "/",
            user=self.config.user,
        )


Document = TypeVar("Document", Layout, Index, ImageManifest, Configuration)


def parse_document(model: type[Document], data: bytes, *, name: str) -> Document:
    """The document `name`. Raises BuildError for anything that another reader might read otherwise."""
    try:
        canonical.decode(data, max_bytes=MAX_JSON_BYTES)  # no key twice
        return model.model_validate_json(data)
    except MalformedError as error:
        raise BuildError(f"{name}: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BuildError(f"{name}: {where[:200]!r}: {first['msg'][:200]}") from error


def sha256_of(digest: str) -> str:
    """The hexadecimal digits of a digest in its written form. Raises BuildError for any other algorithm."""
    parts = _DIGEST.fullmatch(digest)
    if parts is None:
        raise BuildError(f"digest {digest[:100]!r} is not sha256: and 64 hexadecimal digits")
    return parts[1]
