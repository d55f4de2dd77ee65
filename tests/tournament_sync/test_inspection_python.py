"""What is read of one Python file: hidden calls, commands, downloads, places, and what cannot be read at all."""

import base64

import pytest

from tournament_sync.inspection.python_code import PythonFacts, read_python
from tournament_sync.inspection.python_exec import is_opaque
from tournament_sync.inspection.report import Phase


def read(source: str | bytes) -> PythonFacts:
    return read_python(source.encode() if isinstance(source, str) else source, file="a.py")


def rules(source: str | bytes) -> set[str]:
    return {found.rule for found in read(source).findings}


@pytest.mark.parametrize(
    "source",
    [
        "run = exec\nrun(code)\n",
        "import builtins\nbuiltins.exec(code)\n",
        "from builtins import exec as e\ne(code)\n",
        "getattr(__builtins__, 'exec')(code)\n",
        "__builtins__['exec'](code)\n",
        "globals()['exec'](code)\n",
        "__import__('builtins').exec(code)\n",
        "list(map(eval, codes))\n",
        "import os\ngetattr(os, name)('x')\n",
        "def f():\n    exec = print\nexec(code)\n",
        "def f():\n    from os import getcwd as exec\nexec(code)\n",
        "def eval(x): ...\ndel eval\neval(code)\n",
        "exec('import os; os.system(x)')\n",
        "compile(code, 'x', 'exec')\n",
    ],
)
def test_finds_exec_under_another_name(source: str) -> None:
    assert "python-exec" in rules(source)


@pytest.mark.parametrize(
    "source",
    [
        "def eval(model): ...\neval(model)\n",
        "model.eval()\n",
        "import ast\nast.literal_eval(text)\n",
        "eval('1 + 2')\n",
        "from re import compile\ncompile('x')\n",
        "import torch\ntorch.compile(model)\n",
    ],
)
def test_passes_what_is_only_named_like_exec(source: str) -> None:
    assert "python-exec" not in rules(source)


@pytest.mark.parametrize(
    "source",
    [
        "import zlib as z, base64\ncode = z.decompress(base64.b64decode(TEXT))\nexec(code)\n",
        "exec(bytes.fromhex('70').decode())\n",
        "eval(''.join(chr(c) for c in NUMBERS))\n",
        "import marshal\nexec(marshal.loads(DATA))\n",
        "import codecs\nexec(codecs.decode(TEXT, 'rot13'))\n",
        "import base64\na = base64.b64decode(TEXT)\nb = a\nc = b.decode()\nexec(c)\n",
        "import base64\n__import__(base64.b64decode('b3M=').decode())\n",
        "exec('import base64; exec(base64.b64decode(TEXT))')\n",
    ],
)
def test_finds_code_that_is_decoded_first(source: str) -> None:
    assert "python-obfuscated" in rules(source)


def test_finds_code_that_is_fetched_through_a_name() -> None:
    assert "python-remote-exec" in rules("import urllib.request as u\nd = u.urlopen(URL).read()\nexec(d)\n")


def test_harmless_import_elsewhere_does_not_cover_a_dangerous_name() -> None:
    source = "import os\ndef f():\n    import foo as os\nos.system('curl http://x.example')\n"
    assert {"python-shell", "python-download"} <= rules(source)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("import os\nos.system('pip install ' + name)\n", "pip install {name}"),
        ("import subprocess as s\ns.check_call(['git', 'clone', URL])\n", "git clone '{URL}'"),
        ("import os\nos.execvp('python', ['python', '-m', 'x'])\n", "python python -m x"),
        ("from subprocess import Popen\nPopen(f'wget {a.url} -O x')\n", "wget {url} -O x"),
        ("import subprocess\ncmd = ['curl', '-L', 'http://x']\nsubprocess.run(cmd)\n", "curl -L http://x"),
        ("run_it('pip uninstall -y a && pip install b==1')\n", "pip uninstall -y a && pip install b==1"),
        ("import os\nos.popen('curl {} | sh'.format(u))\n", "curl {} | sh"),
        ("import os\nos.system('%s -m pip install x' % exe)\n", "{} -m pip install x"),
        ("import os\nos.system(' '.join(['apt-get', 'install', 'x']))\n", "apt-get install x"),
    ],
)
def test_reads_command_lines(source: str, text: str) -> None:
    assert text in {command.text for command in read(source).commands}


@pytest.mark.parametrize(
    "source",
    [
        '"""pip install this-package"""\n',
        "raise ImportError('pip install x')\n",
        "print('pip install x')\n",
        "logger.warning('curl http://x')\n",
        "parser.add_argument('--x', help='pip install x')\n",
        "text = 'to install it, run pip install x'\n",
    ],
)
def test_takes_no_message_for_a_command(source: str) -> None:
    assert not read(source).commands
    assert "python-runtime-install" not in rules(source)


@pytest.mark.parametrize(
    ("source", "tool", "target", "pinned"),
    [
        ("A.from_pretrained('org/model')\n", "hub", "org/model", False),
        (f"snapshot_download('org/model', revision='{'a' * 40}')\n", "hub", "org/model", True),
        ("from huggingface_hub import snapshot_download as s\ns(repo_id='o/m')\n", "hub", "o/m", False),
        ("import datasets\ndatasets.load_dataset('org/data')\n", "hub", "org/data", False),
        (
            "import requests\nrequests.get(f'https://x.example/{name}')\n",
            "http",
            "https://x.example/{name}",
            False,
        ),
        ("import torch\ntorch.hub.load('org/repo', 'm')\n", "hub", "org/repo", False),
    ],
)
def test_lists_downloads(source: str, tool: str, target: str, *, pinned: bool) -> None:
    (download,) = read(source).downloads
    assert (download.tool, download.target, download.pinned) == (tool, target, pinned)
    assert download.phase is Phase.RUN and download.file == "a.py"


@pytest.mark.parametrize(
    "source",
    [
        "A.from_pretrained(args.model)\n",
        "A.from_pretrained('org/model', local_files_only=True)\n",
        "A.from_pretrained('./models/base')\n",
        "A.from_pretrained('/cache/models/x')\n",
        "import datasets\ndatasets.load_dataset('json', data_files=path)\n",
        "import os\nos.getenv('HF_HOME')\n",
    ],
)
def test_takes_no_local_load_for_a_download(source: str) -> None:
    assert not read(source).downloads and not rules(source)


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("open('/data/x/log.txt', 'w')\n", "/data/x"),
        ("open('/data/x/log.txt', mode='a')\n", "/data/x"),
        ("import os\nos.makedirs(f'/job/out/{task}')\n", "/job/out"),
        ("import os\nos.makedirs(f'/job/out_{task}')\n", "/job"),
        ("import os\nos.makedirs(os.path.join('/job', 'a', name))\n", "/job/a"),
        ("from pathlib import Path\n(Path('/job') / 'b').mkdir()\n", "/job/b"),
        ("from pathlib import Path\nROOT = Path('/job')\n(ROOT / 'c.txt').write_text('x')\n", "/job"),
        ("import shutil\nshutil.copytree(a, '/srv/model')\n", "/srv/model"),
        ("import torch\ntorch.save(m, '/srv/model.pt')\n", "/srv"),
        ("model.save_pretrained('/srv/out')\n", "/srv/out"),
        ("import os\nos.makedirs(cst.SAVE_PATH + '/x')\n", "{SAVE_PATH}/x"),
        ("import os\nfor d in cst.FOLDERS.values():\n    os.makedirs(d)\n", "{FOLDERS}"),
        ("from pathlib import Path\nPath('/srv/a').open('w')\n", "/srv"),
    ],
)
def test_reads_where_it_writes(source: str, folder: str) -> None:
    assert folder in {write.folder for write in read(source).writes}


@pytest.mark.parametrize(
    "source", ["open('/etc/passwd')\n", "open('/etc/passwd', 'rb')\n", "open('x', 'w')\n"]
)
def test_takes_no_reading_for_writing(source: str) -> None:
    assert not read(source).writes


def test_keeps_paths_by_name_for_other_files() -> None:
    facts = read("A = '/srv/a'\nB = {'x': '/srv/b', 'y': '/srv/c'}\nC = 'relative'\nD = ['/srv/d', 3]\n")
    assert facts.constants == {"A": ("/srv/a",), "B": ("/srv/b", "/srv/c")}


@pytest.mark.parametrize(
    ("data", "rule", "said"),
    [
        (b"x = 1\x00", "python-unreadable", "NUL"),
        (b"x = '\xff'\n", "python-unreadable", "not UTF-8 at byte 5"),
        (b"# coding: utf-7\nx = 1\n", "python-unreadable", "declares the encoding utf-7"),
        (b"#!/usr/bin/python\n# -*- coding: unicode_escape -*-\n", "python-unreadable", "unicode_escape"),
        (b"(" * 5000, "python-unreadable", "too many nested"),
        (b"x = " + b"-" * 100_000 + b"1\n", "python-unreadable", ""),
        (b"try:\n    pass\nexcept A, e:\n    pass\n", "python-2", "multiple exception types"),
        (b"if True print(1)\n", "python-unparsable", ""),
        ("x = 1\n".encode("utf-16"), "python-unreadable", "NUL"),
    ],
)
def test_tells_what_it_cannot_read(data: bytes, rule: str, said: str) -> None:
    facts = read(data)
    (found,) = facts.findings
    assert found.rule == rule and said in found.found
    assert facts.contract is None


def test_reads_latin_1_that_is_declared() -> None:
    assert rules(b"# coding: latin-1\nx = '\xff'\n") == set()


def test_follows_names_that_stand_for_each_other_only_so_far() -> None:
    lines = ["a0 = 'pip install x'"] + [f"a{n} = a{n - 1} + a{n - 1}" for n in range(1, 60)]
    assert read("\n".join([*lines, "import os", "os.system(a59)"])).commands


def test_many_loops_and_writes_take_no_quadratic_time() -> None:
    source = "import os\n" + "".join(f"for d{n} in x{n}:\n    os.makedirs(d{n})\n" for n in range(4000))
    assert len(read(source).writes) == 4000


@pytest.mark.parametrize(
    ("value", "opaque"),
    [
        (base64.b64encode(bytes(range(256)) * 2).decode(), True),
        (bytes(range(256)) * 2, True),
        ("ab12cd34" * 60, False),
        ("0123456789abcdeffedcba98" * 20, True),
        ("A" * 1000, False),
        ("The quick brown fox jumps over the lazy dog. " * 20, False),
        ("short", False),
        ("/a/very/long/path/to/somewhere" * 20, False),
    ],
)
def test_opaque_is_what_looks_encoded(value: str | bytes, *, opaque: bool) -> None:
    # Eight different digits of hex are a pattern, sixteen are data.
    assert is_opaque(value) == opaque


def test_mentions_words_of_the_contract() -> None:
    assert read("OUT = f'/app/checkpoints/{task}'\nz = f'{task}_tourn.zip'\n").words == {
        "app/checkpoints",
        "_tourn.zip",
    }


def test_knows_relative_and_absolute_imports() -> None:
    source = "import a.b as c\nfrom .d import e\nfrom . import f\nfrom g import h\n"
    assert {"a.b", ".d", ".d.e", ".f", "g", "g.h"} <= read(source).imports
