"""More rules, as in ``_rules.py``: sums, sorting, products, and places that depend on values."""

import math

import numpy as np
from jax.lax import GatherScatterMode

from genai_course.live._graph import row_major
from genai_course.live._rules import out_of, rule

# Sums and the like


def _last(graph, x, axes):
    """``x`` with these axes moved to the end, and how many elements they hold."""
    kept = [i for i in range(len(x.shape)) if i not in axes]
    return graph.permute(x, [*kept, *axes]), math.prod(x.shape[i] for i in axes)


@rule("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "argmax", "argmin")
def _reduce(graph, equation, inputs):
    x, count = _last(graph, inputs[0], list(equation.params["axes"]))
    name = {"and": "min", "or": "max"}.get(short := equation.primitive.name.removeprefix("reduce_"), short)
    return graph.emit("reduce", [x], **out_of(equation), name=name, count=count)


@rule("reduce_window_max", "reduce_window_min", "reduce_window_sum")
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
    strides, out = row_major(x.shape), out_of(equation)
    steps = [s * n for s, n in zip(strides, p["window_strides"])]
    inside = [s * n for s, n in zip(strides, p["window_dilation"])]
    windows = graph.take(x, [*out["shape"], *p["window_dimensions"]], [*steps, *inside])
    return graph.emit("reduce", [windows], **out, name=name, count=math.prod(p["window_dimensions"]))


@rule("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
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


@rule("sort")
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


@rule("dot_general")
def _dot(graph, equation, inputs):
    """As a batch of products A Bᵀ with A [batch, rows, inner] and B [batch, columns, inner]."""
    (a, b), ((sum_a, sum_b), (batch_a, batch_b)) = inputs, equation.params["dimension_numbers"]

    def size(x, axes):
        return math.prod(x.shape[i] for i in axes)

    free_a = [i for i in range(len(a.shape)) if i not in sum_a and i not in batch_a]
    free_b = [i for i in range(len(b.shape)) if i not in sum_b and i not in batch_b]
    operands = [graph.permute(a, [*batch_a, *free_a, *sum_a]), graph.permute(b, [*batch_b, *free_b, *sum_b])]
    sizes = {"batch": size(a, batch_a), "rows": size(a, free_a), "columns": size(b, free_b), "inner": size(a, sum_a)}
    return graph.emit("product", operands, **out_of(equation), **sizes)


@rule("conv_general_dilated")
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


@rule("gather")
def _gather(graph, equation, inputs):
    (x, index), p, out = inputs, equation.params, out_of(equation)
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


@rule("scatter", "scatter-add", "scatter-mul", "scatter-min", "scatter-max", "scatter_add", "scatter_mul")
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
        **out_of(equation),
        name=name or "set",
        steps=steps,
        index_steps=index_steps,
        strides=[strides[i] for i in d.scatter_dims_to_operand_dims],
        limits=[x.shape[i] - sizes[i] for i in d.scatter_dims_to_operand_dims],
        clip=p["mode"] == GatherScatterMode.CLIP,
    )


@rule("dynamic_slice")
def _dynamic_slice(graph, equation, inputs):
    x, sizes = inputs[0], equation.params["slice_sizes"]
    limits = [n - size for n, size in zip(x.shape, sizes)]
    return graph.emit("dynamic_slice", inputs, **out_of(equation), strides=row_major(x.shape), limits=limits)


@rule("dynamic_update_slice")
def _dynamic_update_slice(graph, equation, inputs):
    x, update = inputs[:2]
    limits = [n - size for n, size in zip(x.shape, update.shape)]
    return graph.emit(
        "dynamic_update",
        inputs,
        **out_of(equation),
        strides=row_major(x.shape),
        limits=limits,
        sizes=list(update.shape),
    )
