"""Whether two pieces of a syntax tree are the same, wherever they stand and however they are laid out."""

import ast


def is_same(old: object, new: object) -> bool:
    """Whether two nodes, or lists of them, have the same fields; lines and columns do not count.

    Ends at the first difference, which is what makes it faster than a digest of each side. Without recursion: how
    deep a champion nests must not decide whether it is compared.
    """
    pending = [(old, new)]
    while pending:
        before, after = pending.pop()
        if before.__class__ is not after.__class__:
            return False
        if isinstance(before, ast.AST):
            pending.extend((getattr(before, name), getattr(after, name)) for name in before._fields)
        elif isinstance(before, list) and isinstance(after, list):
            if len(before) != len(after):
                return False
            pending.extend(zip(before, after, strict=True))
        elif before != after:
            return False
    return True
