"""How many parameters a base model has, by the headers of its weights.

What is covered: whole and sharded weights; each tensor counts once.
What is not covered: weights packed into integers, of which fewer are counted than were packed.
"""

from math import prod
from pathlib import Path

from runner.weights import open_weights


def count_parameters(folder: Path) -> int:
    """Elements of all tensors. Raises WeightsError or SafetensorsError for weights that are not whole."""
    return sum(prod(tensor.shape) for tensor in open_weights(folder).tensors.values())
