"""Errors of the audit log.

AuditError
├── EventError      the caller must act: what is to be logged is no event of the vocabulary
└── LogStateError   the operator must act: database and published checkpoint cannot both be right
"""


class AuditError(Exception):
    """Base of everything this package raises on purpose."""


class EventError(AuditError):
    """What is to be logged, or was found in the log, is no event of the vocabulary."""


class LogStateError(AuditError):
    """The log's stored state contradicts itself or what was published. Nothing is signed on top of it."""
