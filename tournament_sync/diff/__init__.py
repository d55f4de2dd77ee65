"""What changed between two champions, as values, text and HTML. Nothing of either is imported or executed.

Champions are training repositories of Gradients.io's tournament (https://gradients.io).
"""

from tournament_sync.diff.model import ChampionDiff, encode_diff, parse_diff
from tournament_sync.diff.run import compare

__all__ = ["ChampionDiff", "compare", "encode_diff", "parse_diff"]
