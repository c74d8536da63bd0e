"""Checkpoints of a training run: written atomically, refused when they are damaged or belong to another run."""

import json
import os
import tempfile
from pathlib import Path

import equinox as eqx
import numpy as np
from jaxtyping import PyTree


def file(name: str, value) -> Path:
    """Return ``value`` as the path of a file, which need not exist."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be the path of a file, got {type(value).__name__} ({value!r:.60})")
    if Path(value).is_dir():
        raise ValueError(f"{name} must be the path of a file, got the folder {str(value)!r}")
    return Path(value)


def save(path: Path, header: dict, trees: PyTree, rows: list, evaluations: list) -> None:
    """Write a checkpoint beside ``path`` and move it there, so that ``path`` is always a whole checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = {"steps": len(rows), "evaluations": len(evaluations)}
    numbers = np.array(rows, np.float32).reshape(-1, len(header["names"])), np.array(evaluations).reshape(-1, 2)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(json.dumps(header | sizes).encode() + b"\n")
            eqx.tree_serialise_leaves(stream, (trees, numbers))
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def load(path: Path, header: dict, trees: PyTree) -> tuple[PyTree, list, list]:
    """``(trees, rows, evaluations)`` of a checkpoint that ``save`` wrote for a run with the same ``header``."""
    with path.open("rb") as stream:
        try:
            found = json.loads(stream.readline())
            different = [name for name in header if header[name] != found[name]]
            numbers = np.zeros((found["steps"], len(header["names"])), np.float32), np.zeros((found["evaluations"], 2))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"checkpoint {path} is not one that fit wrote: {error!r}") from None
        if different:
            details = ", ".join(f"{name} {found[name]} there, {header[name]} here" for name in different)
            raise ValueError(f"checkpoint {path} belongs to another run: {details}")
        try:
            trees, (rows, evaluations) = eqx.tree_deserialise_leaves(stream, (trees, numbers))
        except (RuntimeError, ValueError, EOFError) as error:
            raise ValueError(f"checkpoint {path} does not fit this model and optimizer: {error}") from None
    return trees, list(rows), [(int(step), float(value)) for step, value in evaluations]
