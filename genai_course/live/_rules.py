"""How each JAX primitive is written in the operations of ``runtime.js``.

A rule gets the graph, the equation and its inputs, and returns the result or a list of them. All numbers are single
precision in the browser, integers and truth values too; so what needs the bits of an integer has no rule.
"""

import math

import numpy as np
from jax.lax import RoundingMethod

from genai_course.live._graph import row_major

RULES = {}
UNARY = (
    "abs ceil cos erf erfc exp exp2 expm1 floor is_finite log log1p logistic neg rsqrt sign sin sqrt square tan tanh"
)
BINARY = "add atan2 eq ge gt le lt max min mul ne pow sub"


def rule(*names):
    """Register what follows as the rule of these primitives."""

    def register(function):
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def out_of(equation):
    """Shape and type of an equation's result."""
    return {"shape": equation.outvars[0].aval.shape, "dtype": equation.outvars[0].aval.dtype}


@rule(*UNARY.split())
def _unary(graph, equation, inputs):
    return graph.emit("unary", inputs, **out_of(equation), name=equation.primitive.name)


@rule(*BINARY.split(), "add_any", "div", "rem")
def binary(graph, equation, inputs, name=None):
    """An operation on two arrays of the same shape, one of which may have a single element instead."""
    out = out_of(equation)
    name = name or {"add_any": "add"}.get(equation.primitive.name, equation.primitive.name)
    if name == "div" and np.issubdtype(out["dtype"], np.integer):
        name = "quotient"
    return graph.emit("binary", [graph.broadcast(x, out["shape"]) for x in inputs], **out, name=name)


@rule("and", "or", "xor", "not")
def _logical(graph, equation, inputs):
    name = equation.primitive.name
    if equation.outvars[0].aval.dtype != bool:
        raise NotImplementedError(f"a live figure cannot compute {name!r} on the bits of integers")
    return (_unary if name == "not" else binary)(graph, equation, inputs)


@rule("round")
def _round(graph, equation, inputs):
    name = "round" if equation.params["rounding_method"] == RoundingMethod.AWAY_FROM_ZERO else "round_even"
    return graph.emit("unary", inputs, **out_of(equation), name=name)


@rule("integer_pow")
def _integer_pow(graph, equation, inputs):
    if equation.params["y"] == 2:
        return binary(graph, equation, [inputs[0], inputs[0]], name="mul")
    return binary(graph, equation, [inputs[0], np.float32(equation.params["y"])], name="pow")


@rule("clamp")
def _clamp(graph, equation, inputs):
    low, x, high = inputs
    return binary(graph, equation, [binary(graph, equation, [low, x], name="max"), high], name="min")


@rule("select_n")
def _select(graph, equation, inputs):
    if len(inputs) != 3:
        raise NotImplementedError(f"a live figure selects between two arrays, got {len(inputs) - 1}")
    out = out_of(equation)
    return graph.emit("select", [graph.broadcast(x, out["shape"]) for x in inputs], **out)


@rule("reshape", "squeeze", "expand_dims", "stop_gradient", "copy", "copy_p", "optimization_barrier")
def _reshape(graph, equation, inputs):
    return [graph.reshape(x, v.aval.shape) for x, v in zip(inputs, equation.outvars)]


@rule("convert_element_type")
def _convert(graph, equation, inputs):
    (x,), new = inputs, equation.outvars[0].aval.dtype
    if np.issubdtype(new, np.integer) and np.issubdtype(x.dtype, np.floating):
        return graph.emit("unary", inputs, **out_of(equation), name="trunc")
    if np.issubdtype(new, np.bool_) and not np.issubdtype(x.dtype, np.bool_):
        return graph.emit("binary", [x, np.float32(0)], **out_of(equation), name="ne")
    return graph.reshape(x, x.shape)


@rule("iota")
def _iota(graph, equation, inputs):
    shape, d = equation.params["shape"], equation.params["dimension"]
    return graph.take(np.arange(shape[d], dtype=np.float32), shape, [int(i == d) for i in range(len(shape))])


# Reading with other strides


@rule("transpose")
def _transpose(graph, equation, inputs):
    return graph.permute(inputs[0], equation.params["permutation"])


@rule("broadcast_in_dim")
def _broadcast_in_dim(graph, equation, inputs):
    x, shape = inputs[0], equation.outvars[0].aval.shape
    strides = [0] * len(shape)
    for n, s, d in zip(x.shape, row_major(x.shape), equation.params["broadcast_dimensions"]):
        strides[d] = s if n > 1 else 0
    return graph.take(x, shape, strides)


@rule("slice")
def _slice(graph, equation, inputs):
    (x,), p = inputs, equation.params
    strides = row_major(x.shape)
    offset = sum(i * s for i, s in zip(p["start_indices"], strides))
    return graph.take(
        x, out_of(equation)["shape"], [a * b for a, b in zip(strides, p["strides"] or [1] * len(strides))], offset
    )


@rule("rev")
def _reverse(graph, equation, inputs):
    (x,), turned = inputs, equation.params["dimensions"]
    strides = row_major(x.shape)
    offset = sum(strides[d] * (x.shape[d] - 1) for d in turned)
    return graph.take(x, x.shape, [-s if d in turned else s for d, s in enumerate(strides)], offset)


@rule("split")
def _split(graph, equation, inputs):
    (x,), axis, start, parts = inputs, equation.params["axis"], 0, []
    strides = row_major(x.shape)
    for v, size in zip(equation.outvars, equation.params["sizes"]):
        parts.append(graph.take(x, v.aval.shape, strides, start * strides[axis]))
        start += size
    return parts


@rule("concatenate")
def _concatenate(graph, equation, inputs):
    out = out_of(equation)
    return graph.emit("concatenate", inputs, **out, outer=math.prod(out["shape"][: equation.params["dimension"]]))


@rule("stack")
def _stack(graph, equation, inputs):
    out, axis = out_of(equation), equation.params["axis"]
    return graph.emit("concatenate", inputs, **out, outer=math.prod(out["shape"][:axis]))


@rule("pad")
def _pad(graph, equation, inputs):
    (x, fill), out, config = inputs, out_of(equation), equation.params["padding_config"]
    if any(low < 0 or high < 0 for low, high, _ in config):
        raise NotImplementedError(f"a live figure cannot pad by a negative number, got {config}")
    strides = row_major(out["shape"])
    offset = sum(low * s for (low, _, _), s in zip(config, strides))
    steps = [s * (between + 1) for (_, _, between), s in zip(config, strides)]
    return graph.emit("place", [x, fill], **out, shape_in=list(x.shape), strides=steps, offset=offset)
