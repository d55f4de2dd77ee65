"""Stands in for a name of the package docker that is imported and not used."""


class DockerException(Exception):  # noqa: N818  the package's own name
    pass
