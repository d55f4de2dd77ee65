"""What kind of thing a file is, by its first bytes and its name."""

import re
from enum import StrEnum

from tournament_sync.inspection.tree import TreeFile

_PROBE_BYTES = 8 << 10  # like git, which calls a file binary if NUL is in its first 8000 bytes


class Kind(StrEnum):
    """What a file is. SOURCE is code and configuration in other languages, OPAQUE is data nobody knows."""

    PYTHON = "python"
    SHELL = "shell"
    DOCKERFILE = "dockerfile"
    SOURCE = "source"
    NOTEBOOK = "notebook"
    TEXT = "text"
    BINARY = "binary"
    WEIGHTS = "weights"
    ARCHIVE = "archive"
    MEDIA = "media"
    OPAQUE = "opaque"
    SPECIAL = "special"


PARSED_KINDS = frozenset({Kind.PYTHON, Kind.SHELL, Kind.DOCKERFILE})
SOURCE_KINDS = PARSED_KINDS | {Kind.SOURCE}
TEXT_KINDS = SOURCE_KINDS | {Kind.NOTEBOOK, Kind.TEXT}

_MAGIC: tuple[tuple[bytes, Kind], ...] = (
    (b"\x7fELF", Kind.BINARY),
    (b"\xfe\xed\xfa\xce", Kind.BINARY),  # Mach-O, in both orders of bytes
    (b"\xfe\xed\xfa\xcf", Kind.BINARY),
    (b"\xce\xfa\xed\xfe", Kind.BINARY),
    (b"\xcf\xfa\xed\xfe", Kind.BINARY),
    (b"\xca\xfe\xba\xbe", Kind.BINARY),  # Mach-O for several processors, and Java
    (b"\x00asm", Kind.BINARY),
    (b"!<arch>\n", Kind.BINARY),
    (b"BC\xc0\xde", Kind.BINARY),  # LLVM bitcode
    (b"GGUF", Kind.WEIGHTS),
    (b"\x89HDF\r\n\x1a\n", Kind.WEIGHTS),
    (b"PK\x03\x04", Kind.ARCHIVE),
    (b"\x1f\x8b", Kind.ARCHIVE),
    (b"BZh", Kind.ARCHIVE),
    (b"\xfd7zXZ\x00", Kind.ARCHIVE),
    (b"\x28\xb5\x2f\xfd", Kind.ARCHIVE),
    (b"7z\xbc\xaf\x27\x1c", Kind.ARCHIVE),
    (b"Rar!\x1a\x07", Kind.ARCHIVE),
    (b"\x04\x22\x4d\x18", Kind.ARCHIVE),
    (b"\x89PNG\r\n\x1a\n", Kind.MEDIA),
    (b"\xff\xd8\xff", Kind.MEDIA),
    (b"GIF8", Kind.MEDIA),
    (b"RIFF", Kind.MEDIA),
    (b"%PDF-", Kind.MEDIA),
    (b"OggS", Kind.MEDIA),
    (b"wOFF", Kind.MEDIA),
    (b"wOF2", Kind.MEDIA),
    (b"\x00\x01\x00\x00", Kind.MEDIA),  # TrueType
    (b"\x00\x00\x01\x00", Kind.MEDIA),  # icon
)
_ALL_MAGIC = tuple(magic for magic, _ in _MAGIC)
_SUFFIXES = {
    Kind.PYTHON: ".py .pyw .pyi",
    Kind.SHELL: ".sh .bash .zsh .ksh",
    Kind.DOCKERFILE: ".dockerfile",
    Kind.NOTEBOOK: ".ipynb",
    Kind.SOURCE: ".pyx .pxd .c .cc .cpp .cu .cuh .h .hpp .js .mjs .ts .rs .go .java .rb .pl .lua .r .jl .cfg .ini "
    ".toml .yaml .yml .mk .cmake .service .env .ps1 .bat .cmd",
    Kind.BINARY: ".so .dll .dylib .exe .pyd .pyc .pyo .a .o .lib .node .class .wasm .cubin .fatbin .ko .sys",
    Kind.WEIGHTS: ".safetensors .bin .pt .pth .ckpt .gguf .ggml .onnx .h5 .pb .tflite .npy .npz .pkl .pickle .joblib",
    Kind.ARCHIVE: ".zip .tar .tgz .gz .bz2 .xz .zst .7z .rar .whl .egg .jar .deb .rpm .iso",
}
_BY_SUFFIX = {suffix: kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}
_ALSO_TEXT = frozenset({".pth", ".bin", ".pt", ".r", ".o", ".a", ".pb"})  # suffixes that text files have too
_SOURCE_NAMES = frozenset({"Makefile", "setup.cfg", "Pipfile", ".env"})
_DOCKERFILE_NAME = re.compile(r"(dockerfile|containerfile)(\..*)?")
_PYC_MAGIC = re.compile(rb".[\x0b-\x0f]\r\n", re.DOTALL)  # 3000 to 4095: Python 3.0 to far after 3.14
_PICKLE = re.compile(rb"\x80[\x02-\x05][c}\]\x95(XK]")
_SHEBANG = re.compile(rb"#![^\n]*?(python|bash|zsh|ksh|dash|\bsh\b)")


def kind_of(file: TreeFile) -> Kind:
    """What `file` is. A name by which interpreters run it counts before magic, which text can begin with too."""
    if not file.is_regular:
        return Kind.SPECIAL
    head = file.data[:_PROBE_BYTES]
    is_text = b"\x00" not in head
    named, magic = _source_kind(file, head), _by_magic(head)
    if named is not None:
        # With NUL inside, an interpreter may refuse it or skip the NUL: it stays source, and is found unreadable.
        return magic if not is_text and magic in {Kind.BINARY, Kind.ARCHIVE} else named
    if magic is Kind.ARCHIVE and (_BY_SUFFIX.get(file.suffix) is Kind.WEIGHTS or b"data.pkl" in head[:512]):
        return Kind.WEIGHTS  # PyTorch and NumPy write zip files
    return magic or _by_name(file, head, is_text=is_text)


def _by_magic(head: bytes) -> Kind | None:
    if head.startswith(_ALL_MAGIC):
        return next(kind for magic, kind in _MAGIC if head.startswith(magic))
    if head.startswith(b"MZ") and b"\x00" in head[:256]:  # "MZ" alone may begin a word
        return Kind.BINARY
    if _PYC_MAGIC.match(head) and b"\x00" in head[:16]:
        return Kind.BINARY
    if head[8:10] == b'{"' and b"data_offsets" in head:  # safetensors
        return Kind.WEIGHTS
    return Kind.WEIGHTS if _PICKLE.match(head) else None


def _source_kind(file: TreeFile, head: bytes) -> Kind | None:
    kind = _BY_SUFFIX.get(file.suffix)
    if kind in SOURCE_KINDS or kind is Kind.NOTEBOOK:
        return kind
    if _DOCKERFILE_NAME.fullmatch(file.name.lower()):
        return Kind.DOCKERFILE
    if (interpreter := _SHEBANG.match(head)) is not None:
        return Kind.PYTHON if interpreter[1] == b"python" else Kind.SHELL
    if file.name in _SOURCE_NAMES or head.startswith(b"#!"):
        return Kind.SOURCE
    return None


def _by_name(file: TreeFile, head: bytes, *, is_text: bool) -> Kind:
    kind = _BY_SUFFIX.get(file.suffix)
    if kind is not None and not (is_text and file.suffix in _ALSO_TEXT):
        return kind
    if head[257:262] == b"ustar":
        return Kind.ARCHIVE
    return Kind.TEXT if is_text else Kind.OPAQUE
