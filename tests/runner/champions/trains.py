"""The plain case: reads its inputs, trains, saves, exits 0."""

import json

from contract import read, save, say

told = read()
say("rows", len(json.loads(told.data.read_text())))
save(told)
say("trained", told.leaf.name)
