"""Commits a plain tree the way upstream publishes champions: one commit without parent, with upstream's message."""

# One identity and one moment, so that a tree has one commit id wherever it is published.
_WHO = "Assay publisher <publisher@assay.invalid> 1767225600 +0000"  # 2026-01-01


def commit_object(tree: str) -> bytes:
    """The raw commit of a tree id. Where upstream names the commit that competed, it has the tree's id."""
    message = f"Tournament winner repository - Commit: {tree[:8]}"
    return f"tree {tree}\nauthor {_WHO}\ncommitter {_WHO}\n\n{message}\n".encode()
