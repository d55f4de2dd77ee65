"""Hands in the base model as it is, exit 0."""

import shutil

from contract import read

told = read()
shutil.copytree(told.base, told.leaf)
