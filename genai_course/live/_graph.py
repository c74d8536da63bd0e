"""The graph of a live figure while it is built: values, operations, constants."""

import json
import math
from typing import NamedTuple

import numpy as np


class Value(NamedTuple):
    """An array that is known only in the browser."""

    id: int
    shape: tuple[int, ...]
    dtype: np.dtype


def row_major(shape) -> list[int]:
    """Strides, in elements, of an array that is stored row by row."""
    return [math.prod(shape[i + 1 :]) for i in range(len(shape))]


class Graph:
    """Operations in order, the shapes of all values, and the constants that they need."""

    def __init__(self):
        self.shapes, self.operations, self.constants, self._ids = [], [], {}, {}

    def value(self, shape, dtype) -> Value:
        """A new value."""
        self.shapes.append([int(n) for n in shape])
        return Value(len(self.shapes) - 1, tuple(self.shapes[-1]), np.dtype(dtype))

    def id_of(self, x) -> int:
        """The number of a value; a constant gets one when it is first asked for."""
        if isinstance(x, Value):
            return x.id
        x = np.asarray(x)
        if not (x.dtype == bool or np.issubdtype(x.dtype, np.number)):
            raise NotImplementedError(f"a live figure cannot hold a constant of type {x.dtype}, such as a random key")
        content = (x.shape, str(x.dtype), x.tobytes())
        if content not in self._ids:
            self._ids[content] = self.value(x.shape, x.dtype).id
            self.constants[self._ids[content]] = x
        return self._ids[content]

    def emit(self, op: str, inputs, shape, dtype, **details) -> Value:
        """Add an operation; return its result."""
        ids, out = [self.id_of(x) for x in inputs], self.value(shape, dtype)
        details = json.loads(json.dumps(details, default=int))  # NumPy's integers are no JSON
        self.operations.append({"op": op, "in": ids, "out": out.id, **details})
        return out

    def reshape(self, x, shape):
        """The same elements in the same order."""
        if not isinstance(x, Value):
            return np.asarray(x).reshape(shape)
        return x if x.shape == tuple(shape) else self.emit("same", [x], shape, x.dtype)

    def take(self, x, shape, strides, offset=0):
        """The array whose element [i, j, …] is element offset + i·strides[0] + j·strides[1] + … of ``x``."""
        shape, strides, offset = [int(n) for n in shape], [int(s) for s in strides], int(offset)
        if offset == 0 and math.prod(shape) == math.prod(x.shape) and strides == row_major(shape):
            return self.reshape(x, shape)
        if not isinstance(x, Value) and math.prod(shape) <= x.size:
            flat = np.ascontiguousarray(x).reshape(-1)
            index = offset + sum(np.indices(shape)[d] * s for d, s in enumerate(strides)) if shape else offset
            return flat[np.asarray(index, int)]
        return self.emit("take", [x], shape, x.dtype, strides=strides, offset=offset)

    def permute(self, x, order):
        """Axes in another order."""
        strides = row_major(x.shape)
        return self.take(x, [x.shape[i] for i in order], [strides[i] for i in order])

    def broadcast(self, x, shape):
        """An array of this shape, or of one element, which the operations accept with any shape."""
        if tuple(x.shape) == tuple(shape) or math.prod(x.shape) == 1:
            return x
        return self.take(x, shape, [s if n > 1 else 0 for n, s in zip(x.shape, row_major(x.shape))])
