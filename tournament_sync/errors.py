"""Errors of the champions' import.

SyncError
├── SourceUnavailableError   the operator must act: the source, or git, cannot be read at all
├── PublishError             the caller must act: this cannot be published
├── ReportError              the caller must act: these bytes are no inspection report, diff or inventory
├── BuildError               the caller must act: the image of this champion cannot be built or loaded
├── TournamentError          the tournament's operator must act: what its API says is not what it may say
└── RefusedError             the publisher, or somebody in between, must act: this champion is not taken
    ├── ReleaseError         its release is not what a trusted publisher signed
    ├── TreeError            its files are not those of the release, or not files that may be taken
    └── LicenceError         its licence texts are absent or not the project's
"""


class SyncError(Exception):
    """Base of everything this package raises on purpose."""


class SourceUnavailableError(SyncError):
    """The source cannot be read at all; nothing is said about any champion."""


class PublishError(SyncError):
    """This cannot be published."""


class ReportError(SyncError):
    """These bytes are no inspection report, diff or inventory that Assay wrote."""


class BuildError(SyncError):
    """The image cannot be built, recorded or loaded; the message names the Dockerfile or the digest."""


class TournamentError(SyncError):
    """The tournament's API said something that it may not say; the message has the field."""


class RefusedError(SyncError):
    """This champion is not taken; the message is the reason, for the record."""


class ReleaseError(RefusedError):
    """The release is not what a trusted publisher signed."""


class TreeError(RefusedError):
    """The files are not those of the release, or not files that may be taken."""


class LicenceError(RefusedError):
    """The licence texts are absent, or not the project's."""
