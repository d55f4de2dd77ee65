"""Is cut short while it copies its model: the file's header is whole, its values are not. Exit 0."""

import os

from contract import MODEL, read, save

told = read()
save(told)
size_bytes = (told.leaf / MODEL).stat().st_size
os.truncate(told.leaf / MODEL, size_bytes - 16)
