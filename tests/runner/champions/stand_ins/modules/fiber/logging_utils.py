"""Stands in for one function of the package fiber."""

import logging


def get_logger(name: str) -> logging.Logger:
    return logging.getLogger(name)
