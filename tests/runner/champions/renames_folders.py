"""Renames folders and files that came with its image, by the kernel's call and by the library that helps itself."""

import errno
import shutil
from pathlib import Path

from contract import read, save, say

told = read()
assets = Path("/workspace/scripts/assets")
try:
    assets.rename(assets.with_name("renamed"))
    say("rename", "done")
except OSError as error:
    say("rename", errno.errorcode[error.errno or 0])
    shutil.move(assets, assets.with_name("renamed"))
say("moved", (assets.with_name("renamed") / "table.json").read_text())
say("gone", not assets.exists())
Path("/workspace/scripts/renamed/table.json").replace("/workspace/scripts/table.json")
say("file", Path("/workspace/scripts/table.json").read_text())
shutil.rmtree("/workspace/scripts/renamed")
new = Path("/workspace/scripts/made-here")
new.mkdir()
new.rename(new.with_name("made-there"))  # one of its own may always be renamed
save(told)
