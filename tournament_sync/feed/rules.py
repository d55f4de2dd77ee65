"""Which rule of the TUF specification a feed broke, in words for the operator who has to act on it."""

import re

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    LengthOrHashMismatchError,
    RepositoryError,
    SlowRetrievalError,
    UnsignedMetadataError,
)

# How python-tuf 7 words its refusals. Only the name of the rule hangs on it: the refusal itself never does.
_ROLLBACK = re.compile(
    r"New (?:timestamp|snapshot) version |Expected \S+\.json version |New snapshot is missing "
)
_WRONG_ROOT = re.compile(r"root was signed|Expected root version")


def is_unreachable(error: Exception) -> bool:
    """Whether nothing was learned: no rule was broken by a feed that does not answer."""
    return type(error) is DownloadError and "(rule: " not in f"{error}"


def broken_rule(error: Exception) -> str:
    """The refusal and its rule, for any error of python-tuf but that of expired metadata."""
    found = f"{error}"
    match error:
        case UnsignedMetadataError() | BadVersionNumberError() if _WRONG_ROOT.match(found):
            rule = "root rotation: a new root needs the signatures of the old one's keys and its own"
        case UnsignedMetadataError():
            rule = "threshold of signatures"
        case RepositoryError() if _ROLLBACK.match(found):
            rule = "rollback: nothing older than what was seen before"
        case BadVersionNumberError() | LengthOrHashMismatchError():
            rule = "mix-and-match: every file must be the one that the signed snapshot lists"
        case DownloadLengthMismatchError():
            rule = "endless data: no file is longer than signed, or than its limit"
        case SlowRetrievalError():
            rule = "slow retrieval"
        case DownloadHTTPError():
            rule = "completeness: everything that is listed must be there"
        case DownloadError() if is_unreachable(error):
            return found
        case _:
            rule = "form"
    return f"{found} (rule: {rule})"
