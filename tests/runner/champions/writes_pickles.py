"""Hands in its weights as a pickle that would run a command where it is loaded."""

import os
import pickle

from contract import read


class Surprise:
    """What unpickling runs."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/unpickled",)


told = read()
told.leaf.mkdir(parents=True)
(told.leaf / "config.json").write_bytes((told.base / "config.json").read_bytes())
for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
    (told.leaf / name).write_bytes(pickle.dumps(Surprise()))
