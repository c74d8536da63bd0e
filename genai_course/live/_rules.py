"""How each JAX primitive is written in the operations of ``runtime.js``.

A rule gets the graph, the equation and its inputs, and returns the result or a list of them. All numbers are single
precision in the browser, integers and truth values too; so what needs the bits of an integer has no rule.
"""

import math

import numpy as np
from jax.lax import GatherScatterMode, RoundingMethod

from genai_course.live._graph import row_major

RULES = {}
UNARY = (
    "abs ceil cos erf erfc exp exp2 expm1 floor is_finite log log1p logistic neg rsqrt sign sin sqrt square tan tanh"
)
BINARY = "add atan2 eq ge gt le lt max min mul ne pow sub"


def _rule(*names):
    def register(rule):
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def _out(equation):
    return {"shape": equation.outvars[0].aval.shape, "dtype": equation.outvars[0].aval.dtype}


@_rule(*UNARY.split())
def _unary(graph, equation, inputs):
    return graph.emit("unary", inputs, **_out(equation), name=equation.primitive.name)


@_rule(*BINARY.split(), "add_any", "div", "rem")
def _binary(graph, equation, inputs, name=None):
    out = _out(equation)
    name = name or {"add_any": "add"}.get(equation.primitive.name, equation.primitive.name)
    if name == "div" and np.issubdtype(out["dtype"], np.integer):
        name = "quotient"
    return graph.emit("binary", [graph.broadcast(x, out["shape"]) for x in inputs], **out, name=name)


@_rule("and", "or", "xor", "not")
def _logical(graph, equation, inputs):
    name = equation.primitive.name
    if equation.outvars[0].aval.dtype != bool:
        raise NotImplementedError(f"a live figure cannot compute {name!r} on the bits of integers")
    rule = _unary if name == "not" else _binary
    return rule(graph, equation, inputs)


@_rule("round")
def _round(graph, equation, inputs):
    name = "round" if equation.params["rounding_method"] == RoundingMethod.AWAY_FROM_ZERO else "round_even"
    return graph.emit("unary", inputs, **_out(equation), name=name)


@_rule("integer_pow")
def _integer_pow(graph, equation, inputs):
    if equation.params["y"] == 2:
        return _binary(graph, equation, [inputs[0], inputs[0]], name="mul")
    return _binary(graph, equation, [inputs[0], np.float32(equation.params["y"])], name="pow")


@_rule("clamp")
def _clamp(graph, equation, inputs):
    low, x, high = inputs
    return _binary(graph, equation, [_binary(graph, equation, [low, x], name="max"), high], name="min")


@_rule("select_n")
def _select(graph, equation, inputs):
    if len(inputs) != 3:
        raise NotImplementedError(f"a live figure selects between two arrays, got {len(inputs) - 1}")
    out = _out(equation)
    return graph.emit("select", [graph.broadcast(x, out["shape"]) for x in inputs], **out)


@_rule("reshape", "squeeze", "expand_dims", "stop_gradient", "copy", "copy_p", "optimization_barrier")
def _reshape(graph, equation, inputs):
    return [graph.reshape(x, v.aval.shape) for x, v in zip(inputs, equation.outvars)]


@_rule("convert_element_type")
def _convert(graph, equation, inputs):
    (x,), new = inputs, equation.outvars[0].aval.dtype
    if np.issubdtype(new, np.integer) and np.issubdtype(x.dtype, np.floating):
        return graph.emit("unary", inputs, **_out(equation), name="trunc")
    if np.issubdtype(new, np.bool_) and not np.issubdtype(x.dtype, np.bool_):
        return graph.emit("binary", [x, np.float32(0)], **_out(equation), name="ne")
    return graph.reshape(x, x.shape)


@_rule("iota")
def _iota(graph, equation, inputs):
    shape, d = equation.params["shape"], equation.params["dimension"]
    return graph.take(np.arange(shape[d], dtype=np.float32), shape, [int(i == d) for i in range(len(shape))])


# Reading with other strides


@_rule("transpose")
def _transpose(graph, equation, inputs):
    return graph.permute(inputs[0], equation.params["permutation"])


@_rule("broadcast_in_dim")
def _broadcast_in_dim(graph, equation, inputs):
    x, shape = inputs[0], equation.outvars[0].aval.shape
    strides = [0] * len(shape)
    for n, s, d in zip(x.shape, row_major(x.shape), equation.params["broadcast_dimensions"]):
        strides[d] = s if n > 1 else 0
    return graph.take(x, shape, strides)


@_rule("slice")
def _slice(graph, equation, inputs):
    (x,), p = inputs, equation.params
    strides = row_major(x.shape)
    offset = sum(i * s for i, s in zip(p["start_indices"], strides))
    return graph.take(
        x, _out(equation)["shape"], [a * b for a, b in zip(strides, p["strides"] or [1] * len(strides))], offset
    )


@_rule("rev")
def _reverse(graph, equation, inputs):
    (x,), turned = inputs, equation.params["dimensions"]
    strides = row_major(x.shape)
    offset = sum(strides[d] * (x.shape[d] - 1) for d in turned)
    return graph.take(x, x.shape, [-s if d in turned else s for d, s in enumerate(strides)], offset)


@_rule("split")
def _split(graph, equation, inputs):
    (x,), axis, start, parts = inputs, equation.params["axis"], 0, []
    strides = row_major(x.shape)
    for v, size in zip(equation.outvars, equation.params["sizes"]):
        parts.append(graph.take(x, v.aval.shape, strides, start * strides[axis]))
        start += size
    return parts


@_rule("concatenate")
def _concatenate(graph, equation, inputs):
    out = _out(equation)
    return graph.emit("concatenate", inputs, **out, outer=math.prod(out["shape"][: equation.params["dimension"]]))


@_rule("stack")
def _stack(graph, equation, inputs):
    out, axis = _out(equation), equation.params["axis"]
    return graph.emit("concatenate", inputs, **out, outer=math.prod(out["shape"][:axis]))


@_rule("pad")
def _pad(graph, equation, inputs):
    (x, fill), out, config = inputs, _out(equation), equation.params["padding_config"]
    if any(low < 0 or high < 0 for low, high, _ in config):
        raise NotImplementedError(f"a live figure cannot pad by a negative number, got {config}")
    strides = row_major(out["shape"])
    offset = sum(low * s for (low, _, _), s in zip(config, strides))
    steps = [s * (between + 1) for (_, _, between), s in zip(config, strides)]
    return graph.emit("place", [x, fill], **out, shape_in=list(x.shape), strides=steps, offset=offset)


# Sums and the like


def _last(graph, x, axes):
    """``x`` with these axes moved to the end, and how many elements they hold."""
    kept = [i for i in range(len(x.shape)) if i not in axes]
    return graph.permute(x, [*kept, *axes]), math.prod(x.shape[i] for i in axes)


@_rule("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "argmax", "argmin")
def _reduce(graph, equation, inputs):
    x, count = _last(graph, inputs[0], list(equation.params["axes"]))
    name = {"and": "min", "or": "max"}.get(short := equation.primitive.name.removeprefix("reduce_"), short)
    return graph.emit("reduce", [x], **_out(equation), name=name, count=count)


@_rule("reduce_window_max", "reduce_window_min", "reduce_window_sum")
def _reduce_window(graph, equation, inputs):
    (x,), p, name = inputs, equation.params, equation.primitive.name.removeprefix("reduce_window_")
    if any(n != 1 for n in p["base_dilation"]):
        raise NotImplementedError("a live figure cannot pool over a dilated array")
    if any(low or high for low, high in p["padding"]):
        shape = [low + n + high for n, (low, high) in zip(x.shape, p["padding"])]
        fill = {"max": -np.inf, "min": np.inf, "sum": 0.0}[name]
        steps = row_major(shape)
        offset = sum(low * s for (low, _), s in zip(p["padding"], steps))
        x = graph.emit(
            "place", [x, np.float32(fill)], shape, x.dtype, shape_in=list(x.shape), strides=steps, offset=offset
        )
    strides, out = row_major(x.shape), _out(equation)
    steps = [s * n for s, n in zip(strides, p["window_strides"])]
    inside = [s * n for s, n in zip(strides, p["window_dilation"])]
    windows = graph.take(x, [*out["shape"], *p["window_dimensions"]], [*steps, *inside])
    return graph.emit("reduce", [windows], **out, name=name, count=math.prod(p["window_dimensions"]))


@_rule("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def _cumulative(graph, equation, inputs):
    if equation.primitive.name == "cumlogsumexp":
        raise NotImplementedError("a live figure cannot compute 'cumlogsumexp'")
    (x,), axis = inputs, equation.params["axis"]
    order = [i for i in range(len(x.shape)) if i != axis] + [axis]
    turned = graph.permute(x, order)
    name = {"cumsum": "add", "cumprod": "mul", "cummax": "max", "cummin": "min"}[equation.primitive.name]
    backwards = bool(equation.params["reverse"])
    y = graph.emit("accumulate", [turned], turned.shape, x.dtype, name=name, count=x.shape[axis], backwards=backwards)
    return graph.permute(y, np.argsort(order))


@_rule("sort")
def _sort(graph, equation, inputs):
    axis, keys = equation.params["dimension"], equation.params["num_keys"]
    if keys != 1:
        raise NotImplementedError(f"a live figure sorts by one key, got {keys}")
    order = [i for i in range(len(inputs[0].shape)) if i != axis] + [axis]
    turned = [graph.permute(x, order) for x in inputs]
    count = inputs[0].shape[axis]
    ranks = graph.emit("order", [turned[0]], turned[0].shape, np.int32, count=count)
    sorted_ = [graph.emit("reorder", [x, ranks], x.shape, x.dtype, count=count) for x in turned]
    return [graph.permute(x, np.argsort(order)) for x in sorted_]


# Products


@_rule("dot_general")
def _dot(graph, equation, inputs):
    """As a batch of products A Bᵀ with A [batch, rows, inner] and B [batch, columns, inner]."""
    (a, b), ((sum_a, sum_b), (batch_a, batch_b)) = inputs, equation.params["dimension_numbers"]

    def size(x, axes):
        return math.prod(x.shape[i] for i in axes)

    free_a = [i for i in range(len(a.shape)) if i not in sum_a and i not in batch_a]
    free_b = [i for i in range(len(b.shape)) if i not in sum_b and i not in batch_b]
    operands = [graph.permute(a, [*batch_a, *free_a, *sum_a]), graph.permute(b, [*batch_b, *free_b, *sum_b])]
    sizes = {"batch": size(a, batch_a), "rows": size(a, free_a), "columns": size(b, free_b), "inner": size(a, sum_a)}
    return graph.emit("product", operands, **_out(equation), **sizes)


@_rule("conv_general_dilated")
def _conv(graph, equation, inputs):
    """Two-dimensional; a one-dimensional convolution gets a second axis of size one."""
    p, out = equation.params, equation.outvars[0].aval
    layout = p["dimension_numbers"]
    x, w = graph.permute(inputs[0], layout.lhs_spec), graph.permute(inputs[1], layout.rhs_spec)
    if len(x.shape) not in (3, 4) or p["batch_group_count"] != 1:
        raise NotImplementedError(f"a live figure convolves along one axis or two, got shape {x.shape}")
    shape, flat = [out.shape[i] for i in layout.out_spec], len(x.shape) == 3

    def two(values, one):
        return ([one] if flat else []) + [list(v) if isinstance(v, tuple) else int(v) for v in values]

    def image(shape):
        return [shape[0], shape[1], 1, shape[2]] if flat else list(shape)

    y = graph.emit(
        "convolve",
        [x, w],
        shape,
        out.dtype,
        image=image(x.shape),
        kernel=image(w.shape),
        result=image(shape),
        strides=two(p["window_strides"], 1),
        padding=two(p["padding"], [0, 0]),
        image_dilation=two(p["lhs_dilation"], 1),
        kernel_dilation=two(p["rhs_dilation"], 1),
        groups=int(p["feature_group_count"]),
    )
    return graph.permute(y, np.argsort(layout.out_spec))


# Places that depend on values


def _outside(params, dtype):
    """What a read outside of the array gives: None for the nearest element inside."""
    if params["mode"] != GatherScatterMode.FILL_OR_DROP:
        return None
    fill = params["fill_value"]
    if fill is None:
        fill = np.nan if np.issubdtype(dtype, np.floating) else 0.0
    return "NaN" if np.isnan(fill) else float(fill)


@_rule("gather")
def _gather(graph, equation, inputs):
    (x, index), p, out = inputs, equation.params, _out(equation)
    d, strides, index_strides = p["dimension_numbers"], row_major(x.shape), row_major(index.shape)
    window = [i for i in range(len(x.shape)) if i not in d.collapsed_slice_dims and i not in d.operand_batching_dims]
    steps, index_steps, batch = [], [], 0
    for i in range(len(out["shape"])):
        if i in d.offset_dims:
            steps.append(strides[window[d.offset_dims.index(i)]])
            index_steps.append(0)
        else:
            batching = batch in d.start_indices_batching_dims
            steps.append(
                strides[d.operand_batching_dims[d.start_indices_batching_dims.index(batch)]] if batching else 0
            )
            index_steps.append(index_strides[batch])
            batch += 1
    return graph.emit(
        "gather",
        inputs,
        **out,
        steps=steps,
        index_steps=index_steps,
        strides=[strides[i] for i in d.start_index_map],
        limits=[x.shape[i] - p["slice_sizes"][i] for i in d.start_index_map],
        outside=_outside(p, x.dtype),
    )


@_rule("scatter", "scatter-add", "scatter-mul", "scatter-min", "scatter-max", "scatter_add", "scatter_mul")
def _scatter(graph, equation, inputs):
    (x, index, updates), p = inputs, equation.params
    d, strides, index_strides = p["dimension_numbers"], row_major(x.shape), row_major(index.shape)
    if d.operand_batching_dims:
        raise NotImplementedError("a live figure cannot scatter along batch axes")
    window = [i for i in range(len(x.shape)) if i not in d.inserted_window_dims]
    steps, index_steps, sizes, batch = [], [], dict.fromkeys(range(len(x.shape)), 1), 0
    for i, n in enumerate(updates.shape):
        if i in d.update_window_dims:
            axis = window[d.update_window_dims.index(i)]
            sizes[axis] = n
            steps.append(strides[axis])
            index_steps.append(0)
        else:
            steps.append(0)
            index_steps.append(index_strides[batch])
            batch += 1
    name = equation.primitive.name.removeprefix("scatter").strip("-_")
    return graph.emit(
        "scatter",
        inputs,
        **_out(equation),
        name=name or "set",
        steps=steps,
        index_steps=index_steps,
        strides=[strides[i] for i in d.scatter_dims_to_operand_dims],
        limits=[x.shape[i] - sizes[i] for i in d.scatter_dims_to_operand_dims],
        clip=p["mode"] == GatherScatterMode.CLIP,
    )


@_rule("dynamic_slice")
def _dynamic_slice(graph, equation, inputs):
    x, sizes = inputs[0], equation.params["slice_sizes"]
    limits = [n - size for n, size in zip(x.shape, sizes)]
    return graph.emit("dynamic_slice", inputs, **_out(equation), strides=row_major(x.shape), limits=limits)


@_rule("dynamic_update_slice")
def _dynamic_update_slice(graph, equation, inputs):
    x, update = inputs[:2]
    limits = [n - size for n, size in zip(x.shape, update.shape)]
    return graph.emit(
        "dynamic_update", inputs, **_out(equation), strides=row_major(x.shape), limits=limits, sizes=list(update.shape)
    )
