"""Opens 65 536 files at once, as loaders of many shards do, up to what it is allowed."""

import os
import resource

from contract import read, save, say

told = read()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
say("limit", hard)
opened: list[int] = []
try:
    while len(opened) < 65_536:
        opened.append(os.open("/dev/null", os.O_RDONLY))
    say("opened", len(opened))
except OSError as error:
    say("refused", error.strerror)
    say("opened", len(opened))
for descriptor in opened:
    os.close(descriptor)
save(told)
