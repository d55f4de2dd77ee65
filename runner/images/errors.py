"""Errors of images: one kind, since whoever hands an image over must act on all of them."""

from runner.errors import RunnerError


class ImageError(RunnerError):
    """This image cannot be unpacked or used; the message has the layer or file, what was found and wanted."""
