"""From a JAX function to a graph that ``runtime.js`` computes in a browser.

``jax.make_jaxpr`` gives the function as a list of primitives. What does not depend on the inputs is computed here,
once; calls are written out, short scans unrolled. Transposing, slicing and broadcasting all become one operation,
``take``, which reads an array with other strides. A primitive without a rule is an error here, in the notebook.
"""

import base64
import math
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.extend.core import Literal

from genai_course import _check
from genai_course.live import _more_rules  # noqa: F401, adds its rules
from genai_course.live._graph import Graph, Value, row_major
from genai_course.live._rules import RULES

VERSION = 1  # of the graph; runtime.js refuses another one
MOST_UNROLLED = 256  # steps of a scan
TOLERANCE = {"int8": 5e-2, "float16": 2e-2, "float32": 1e-3}  # of each kind of weights, relative to the largest number
CALLS = {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "remat", "checkpoint"}


def _folded(equation, inputs) -> list:
    """The results of a primitive all of whose inputs are known."""
    outputs = equation.primitive.bind(*map(jax.numpy.asarray, inputs), **equation.params)
    outputs = outputs if equation.primitive.multiple_results else [outputs]
    return [x if jax.dtypes.issubdtype(x.dtype, jax.dtypes.extended) else np.asarray(x) for x in outputs]


def _can_be_folded(equation, inputs) -> bool:
    """All inputs known; and no broadcast, which would make many numbers to load out of few."""
    if any(isinstance(x, Value) for x in inputs):
        return False
    if equation.primitive.name != "broadcast_in_dim":
        return True
    return math.prod(equation.outvars[0].aval.shape) <= max(1000, sum(np.size(x) for x in inputs))


def trace(graph: Graph, jaxpr, constants: Sequence, inputs: Sequence) -> list:
    """Add all equations of a jaxpr; return its results, each a ``Value`` or a constant."""
    known = dict(zip(jaxpr.constvars, constants)) | dict(zip(jaxpr.invars, inputs))

    def get(v):
        return np.asarray(v.val, v.aval.dtype) if isinstance(v, Literal) else known[v]

    for equation in jaxpr.eqns:
        arguments, name, params = [get(v) for v in equation.invars], equation.primitive.name, equation.params
        if _can_be_folded(equation, arguments):
            results = _folded(equation, arguments)
        elif name in CALLS:
            inner = next(params[p] for p in ("jaxpr", "call_jaxpr", "fun_jaxpr") if p in params)
            closed = hasattr(inner, "consts")
            results = trace(graph, inner.jaxpr if closed else inner, inner.consts if closed else [], arguments)
        elif name == "scan":
            results = _unrolled(graph, equation, arguments)
        elif name in RULES:
            results = RULES[name](graph, equation, arguments)
            results = results if isinstance(results, list) else [results]
        else:
            raise NotImplementedError(f"a live figure cannot compute the JAX primitive {name!r}: it has no rule for it")
        known |= dict(zip(equation.outvars, results))
    return [get(v) for v in jaxpr.outvars]


def _unrolled(graph: Graph, equation, arguments) -> list:
    """A scan, step after step."""
    p, body = equation.params, equation.params["jaxpr"]
    if p["length"] > MOST_UNROLLED:
        raise NotImplementedError(f"a live figure unrolls scans of at most {MOST_UNROLLED} steps, got {p['length']}")
    first, last = p["num_consts"], p["num_consts"] + p["num_carry"]
    fixed, carry, rows = arguments[:first], arguments[first:last], arguments[last:]

    def row(x, t):
        strides = row_major(x.shape)
        return graph.take(x, x.shape[1:], strides[1:], t * strides[0])

    steps = range(p["length"])
    outputs = []
    for t in reversed(steps) if p["reverse"] else steps:
        results = trace(graph, body.jaxpr, body.consts, [*fixed, *carry, *(row(x, t) for x in rows)])
        carry = results[: p["num_carry"]]
        outputs.append(results[p["num_carry"] :])
    columns = zip(*(reversed(outputs) if p["reverse"] else outputs))
    variables = equation.outvars[p["num_carry"] :]
    return carry + [
        graph.emit("concatenate", column, v.aval.shape, v.aval.dtype, outer=1) for column, v in zip(columns, variables)
    ]


def _stored(x: np.ndarray, weights: str) -> tuple[str, bytes]:
    """Type and bytes of a constant: weights as asked for, masks in bytes, the rest in single precision.

    In "int8" each row of a weight is a scale s = max|w| / 127, in single precision, and whole numbers round(w / s).
    The scales of all rows come first.
    """
    if x.dtype == bool:
        return "uint8", x.astype(np.uint8).tobytes()
    is_weight = np.issubdtype(x.dtype, np.floating) and x.ndim >= 2 and x.size > 64
    if is_weight and np.abs(x).max() < 6e4:  # half precision ends at 65,504; such numbers are masks, not weights
        if weights == "int8":
            rows = x.reshape(len(x), -1)
            scales = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-30).astype(np.float32) / 127
            return weights, scales.tobytes() + np.round(rows / scales).astype(np.int8).tobytes()
        return weights, x.astype(weights).tobytes()
    return "float32", x.astype(np.float32).tobytes()


def export(fn: Callable, *example, weights: str = "float16") -> dict:
    """``fn`` as a graph: a dictionary of plain numbers and strings, ready for JSON.

    fn        function of arrays that returns an array or several; it is traced at the shapes of ``example``
    weights   "int8", "float16" or "float32": how constants of two or more axes are stored

    Raises ``NotImplementedError`` naming what has no counterpart in the browser, such as a primitive or a random key.
    """
    _check.function("fn", fn)
    _check.choice("weights", weights, tuple(TOLERANCE))
    example = [_check.array(f"example[{i}]", x) for i, x in enumerate(example)]
    closed = jax.make_jaxpr(fn)(*example)
    graph = Graph()
    inputs = [graph.value(v.aval.shape, v.aval.dtype) for v in closed.jaxpr.invars]
    outputs = [graph.id_of(x) for x in trace(graph, closed.jaxpr, closed.consts, inputs)]

    needed, operations = set(outputs), []
    for operation in reversed(graph.operations):  # what no output needs is left out
        if operation["out"] in needed:
            operations.append(operation)
            needed |= set(operation["in"])
    data, constants = bytearray(), []
    for i, x in graph.constants.items():
        if i in needed:
            stored_as, content = _stored(x, weights)
            constants.append({"id": i, "type": stored_as, "offset": len(data), "size": x.size})
            data += content + bytes(-len(content) % 4)
    return {
        "version": VERSION,
        "shapes": graph.shapes,
        "inputs": [v.id for v in inputs],
        "outputs": outputs,
        "operations": operations[::-1],
        "constants": constants,
        "data": base64.b64encode(data).decode(),
    }
