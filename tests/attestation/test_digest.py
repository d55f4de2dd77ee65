import subprocess
from pathlib import Path

import pytest

from attestation.digest import folder_sha256, parse_sha256_hex, sha256_hex
from attestation.errors import MalformedError

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_parses_what_it_writes() -> None:
    assert parse_sha256_hex(sha256_hex(b"")) == EMPTY


@pytest.mark.parametrize(
    "text", [EMPTY.upper(), EMPTY[:-1], EMPTY + "0", f"{EMPTY}\n", "١" * 64, "", None, 7]
)
def test_rejects_every_other_form(text: object) -> None:
    with pytest.raises(MalformedError, match="64 lower-case hexadecimal digits"):
        parse_sha256_hex(text)


def test_folder_digest_is_what_coreutils_compute(tmp_path: Path) -> None:
    files = {"b.txt": b"1", "a/z.txt": b"2", "B.txt": b"3", "a.txt": b"4"}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    command = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs sha256sum | sha256sum"
    said = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, check=True, text=True)
    assert said.stdout.split()[0] == folder_sha256({name: sha256_hex(data) for name, data in files.items()})
