"""Ways around the plain names in Python, each told; and ordinary code, which is not."""

import pytest

from tournament_sync.inspection.python_code import read_python


def rules(source: str) -> set[str]:
    return {found.rule for found in read_python(source.encode(), file="x.py").findings}


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("__builtins__.__dict__['ex' + 'ec'](x)", "python-builtins"),
        ("globals()['__builtins__']['ev' + 'al'](x)", "python-builtins"),
        ("import builtins\nvars(builtins)[n](x)", "python-builtins"),
        ("import builtins\nbuiltins.__dict__[n](x)", "python-builtins"),
        ("import json\njson.__builtins__['eval'](x)", "python-builtins"),
        ("import runpy\nrunpy.run_path('notes.txt')", "python-odd-script"),
        ("import subprocess, sys\nsubprocess.run([sys.executable, 'notes.txt'])", "python-odd-script"),
        ("import subprocess\nsubprocess.run(['bash', 'notes.cfg'])", "python-odd-script"),
        ("import os\nos.execv('/app/notes.dat', ['x'])", "python-odd-script"),
        ("from importlib.machinery import SourceFileLoader as S\nS('m', 'notes.txt')", "python-odd-script"),
        ("import cProfile\ncProfile.run(open('notes.txt').read())", "python-exec"),
        ("import timeit\ntimeit.timeit(stmt=open('x').read())", "python-exec"),
        ("import cffi\ncffi.FFI().dlopen('/app/notes.txt')", "python-native"),
        ("import numpy\nnumpy.ctypeslib.load_library('x', '.')", "python-native"),
        ("import ctypes\nctypes.CFUNCTYPE(None)(address)()", "python-native"),
        ("import mmap\nmmap.mmap(-1, 4096, prot=7)", "python-native"),
        ("import mmap\nmmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)", "python-native"),
    ],
)
def test_a_detour_is_told(source: str, rule: str) -> None:
    assert rule in rules(source)


@pytest.mark.parametrize(
    "source",
    [
        "import subprocess, sys\nsubprocess.run([sys.executable, 'train.py', '--data', 'rows.json'])",
        "import subprocess\nsubprocess.run(['cp', 'a.json', 'b.json'])",
        "import runpy\nrunpy.run_path('train.py')",
        "import timeit\ntimeit.timeit('x()', setup='pass')",
        "import mmap\nmmap.mmap(-1, 4096, prot=3)",
        "config = {'__import__': 1}",
        "vars(args)['epochs']",
        "import torch\ntorch.cuda.__builtins__ = torch.xpu.__builtins__",
    ],
)
def test_ordinary_code_is_not(source: str) -> None:
    assert not rules(source) & {"python-builtins", "python-odd-script", "python-exec", "python-native"}
