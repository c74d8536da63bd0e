// Computes a graph that genai_course/live/_export.py has written. No dependencies, no network, no eval.
//
//     const run = Live.load(graph);            // graph: the object that `export` returned
//     const [y] = run(Float32Array.of(1, 2));  // one typed array for each input, row by row
//
// Every value is a Float32Array, integers and truth values too. An operation becomes a function without arguments that
// reads and writes arrays which are allocated once, when the graph is loaded.
(function (root) {
  "use strict";

  const VERSION = 1;

  // Error function: Abramowitz and Stegun (1964), 7.1.26, absolute error below 1.5e-7.
  function erf(x) {
    const t = 1 / (1 + 0.3275911 * Math.abs(x));
    const poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return Math.sign(x) * (1 - poly * Math.exp(-x * x));
  }

  // Math.tanh is slow; this agrees with it to single precision.
  function tanh(x) {
    if (Math.abs(x) < 0.02) return x * (1 - (x * x) / 3);
    return x > 10 ? 1 : x < -10 ? -1 : 1 - 2 / (Math.exp(2 * x) + 1);
  }

  // To the nearest integer, with halves away from zero or to the even one.
  const round = (x) => Math.sign(x) * Math.round(Math.abs(x));
  const roundEven = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

  const UNARY = {
    abs: Math.abs,
    ceil: Math.ceil,
    cos: Math.cos,
    erf,
    erfc: (x) => 1 - erf(x),
    exp: Math.exp,
    exp2: (x) => 2 ** x,
    expm1: Math.expm1,
    floor: Math.floor,
    is_finite: (x) => Number(Number.isFinite(x)),
    log: Math.log,
    log1p: Math.log1p,
    logistic: (x) => 1 / (1 + Math.exp(-x)),
    neg: (x) => -x,
    not: (x) => Number(!x),
    round,
    round_even: roundEven,
    rsqrt: (x) => 1 / Math.sqrt(x),
    sign: Math.sign,
    sin: Math.sin,
    sqrt: Math.sqrt,
    square: (x) => x * x,
    tan: Math.tan,
    tanh,
    trunc: Math.trunc,
  };

  const BINARY = {
    add: (a, b) => a + b,
    and: (a, b) => Number(a && b),
    atan2: Math.atan2,
    div: (a, b) => a / b,
    eq: (a, b) => Number(a === b),
    ge: (a, b) => Number(a >= b),
    gt: (a, b) => Number(a > b),
    le: (a, b) => Number(a <= b),
    lt: (a, b) => Number(a < b),
    max: Math.max,
    min: Math.min,
    mul: (a, b) => a * b,
    ne: (a, b) => Number(a !== b),
    or: (a, b) => Number(a || b),
    pow: Math.pow,
    quotient: (a, b) => Math.trunc(a / b),
    rem: (a, b) => a % b,
    set: (a, b) => b,
    sub: (a, b) => a - b,
    xor: (a, b) => Number(!a !== !b),
  };

  // What a reduction starts from, and how it goes on.
  const REDUCE = {
    max: [-Infinity, BINARY.max],
    min: [Infinity, BINARY.min],
    prod: [1, BINARY.mul],
    sum: [0, BINARY.add],
  };

  const sizeOf = (shape) => shape.reduce((product, n) => product * n, 1);
  const clamp = (x, limit) => Math.min(Math.max(x, 0), limit);

  // The address of every element of an array with this shape and these strides, row by row.
  function addresses(shape, strides, offset) {
    const all = new Int32Array(sizeOf(shape));
    const index = new Int32Array(shape.length);
    let address = offset;
    for (let i = 0; i < all.length; i++) {
      all[i] = address;
      for (let d = shape.length - 1; d >= 0; d--) {
        address += strides[d];
        if (++index[d] < shape[d]) break;
        address -= strides[d] * shape[d];
        index[d] = 0;
      }
    }
    return all;
  }

  // For a gather or a scatter: which address element i means, and whether it lies inside the array as the indices
  // stand; if it does not, the address is that of the nearest place inside.
  function placer({ steps, index_steps, strides, limits }, index, shape) {
    const inside = addresses(shape, steps, 0);
    const where = addresses(shape, index_steps, 0);
    const found = { address: 0, lies: true };
    return (i) => {
      found.address = inside[i];
      found.lies = true;
      for (let j = 0; j < strides.length; j++) {
        const place = index[where[i] + j];
        if (place < 0 || place > limits[j]) found.lies = false;
        found.address += clamp(place, limits[j]) * strides[j];
      }
      return found;
    };
  }

  // One maker for each operation. It gets the operation, its input arrays, its output array and the shape of that, and
  // returns what is to be done at each run.
  const MAKE = {
    unary({ name }, [a], out) {
      const f = UNARY[name];
      return () => {
        for (let i = 0; i < out.length; i++) out[i] = f(a[i]);
      };
    },

    binary({ name }, [a, b], out) {
      const f = BINARY[name];
      const stepA = a.length === 1 ? 0 : 1;
      const stepB = b.length === 1 ? 0 : 1;
      if (stepA && stepB && name === "add") {
        return () => {
          for (let i = 0; i < out.length; i++) out[i] = a[i] + b[i];
        };
      }
      if (stepA && stepB && name === "mul") {
        return () => {
          for (let i = 0; i < out.length; i++) out[i] = a[i] * b[i];
        };
      }
      return () => {
        for (let i = 0; i < out.length; i++) out[i] = f(a[i * stepA], b[i * stepB]);
      };
    },

    select(_, [which, no, yes], out) {
      const [stepWhich, stepNo, stepYes] = [which, no, yes].map((x) => (x.length === 1 ? 0 : 1));
      return () => {
        for (let i = 0; i < out.length; i++) out[i] = which[i * stepWhich] ? yes[i * stepYes] : no[i * stepNo];
      };
    },

    take({ strides, offset }, [a], out, shape) {
      const from = addresses(shape, strides, offset);
      return () => {
        for (let i = 0; i < out.length; i++) out[i] = a[from[i]];
      };
    },

    place({ shape_in, strides, offset }, [a, fill], out) {
      const to = addresses(shape_in, strides, offset);
      return () => {
        out.fill(fill[0]);
        for (let i = 0; i < to.length; i++) out[to[i]] = a[i];
      };
    },

    concatenate({ outer }, inputs, out) {
      return () => {
        let start = 0;
        for (let i = 0; i < outer; i++) {
          for (const a of inputs) {
            const n = a.length / outer;
            out.set(a.subarray(i * n, (i + 1) * n), start);
            start += n;
          }
        }
      };
    },

    reduce({ name, count }, [a], out) {
      if (name === "argmax" || name === "argmin") {
        const better = name === "argmax" ? BINARY.gt : BINARY.lt;
        return () => {
          for (let i = 0; i < out.length; i++) {
            let best = 0;
            for (let j = 1; j < count; j++) if (better(a[i * count + j], a[i * count + best])) best = j;
            out[i] = best;
          }
        };
      }
      const [start, f] = REDUCE[name];
      return () => {
        for (let i = 0; i < out.length; i++) {
          let value = start;
          for (let j = i * count; j < (i + 1) * count; j++) value = f(value, a[j]);
          out[i] = value;
        }
      };
    },

    accumulate({ name, count, backwards }, [a], out) {
      const f = BINARY[name];
      return () => {
        for (let row = 0; row < a.length; row += count) {
          let value;
          for (let k = 0; k < count; k++) {
            const i = row + (backwards ? count - 1 - k : k);
            value = k === 0 ? a[i] : f(value, a[i]);
            out[i] = value;
          }
        }
      };
    },

    order({ count }, [a], out) {
      return () => {
        for (let row = 0; row < a.length; row += count) {
          const ranks = Array.from({ length: count }, (_, k) => k);
          ranks.sort((i, j) => a[row + i] - a[row + j] || i - j);
          out.set(ranks, row);
        }
      };
    },

    reorder({ count }, [a, ranks], out) {
      return () => {
        for (let i = 0; i < out.length; i++) out[i] = a[i - (i % count) + ranks[i]];
      };
    },

    // A Bᵀ for each of a batch of matrices; four sums side by side keep the processor busy.
    product({ batch, rows, columns, inner }, [a, b], out) {
      return () => {
        let next = 0;
        for (let g = 0; g < batch; g++) {
          for (let r = 0; r < rows; r++) {
            const rowA = (g * rows + r) * inner;
            for (let c = 0; c < columns; c++) {
              const rowB = (g * columns + c) * inner;
              let s0 = 0;
              let s1 = 0;
              let s2 = 0;
              let s3 = 0;
              let k = 0;
              for (; k < inner - 3; k += 4) {
                s0 += a[rowA + k] * b[rowB + k];
                s1 += a[rowA + k + 1] * b[rowB + k + 1];
                s2 += a[rowA + k + 2] * b[rowB + k + 2];
                s3 += a[rowA + k + 3] * b[rowB + k + 3];
              }
              for (; k < inner; k++) s0 += a[rowA + k] * b[rowB + k];
              out[next++] = s0 + s1 + s2 + s3;
            }
          }
        }
      };
    },

    convolve({ image, kernel, result, strides, padding, image_dilation, kernel_dilation, groups }, [a, w], out) {
      const [, channels, height, width] = image;
      const [outputs, inputs, kernelHeight, kernelWidth] = kernel;
      const [batch, , resultHeight, resultWidth] = result;

      // For place k of the kernel along one axis: pairs of a place in the result and the place in the image it reads.
      function pairs(k, axis, length, size) {
        const found = [];
        for (let i = 0; i < length; i++) {
          const place = i * strides[axis] + k * kernel_dilation[axis] - padding[axis][0];
          const inside = place >= 0 && place % image_dilation[axis] === 0 && place / image_dilation[axis] < size;
          if (inside) found.push(i, place / image_dilation[axis]);
        }
        return Int32Array.from(found);
      }
      const down = Array.from({ length: kernelHeight }, (_, k) => pairs(k, 0, resultHeight, height));
      const across = Array.from({ length: kernelWidth }, (_, k) => pairs(k, 1, resultWidth, width));

      return () => {
        out.fill(0);
        for (let n = 0; n < batch; n++) {
          for (let o = 0; o < outputs; o++) {
            const firstChannel = Math.floor(o / (outputs / groups)) * inputs;
            for (let c = 0; c < inputs; c++) {
              const plane = (n * channels + firstChannel + c) * height * width;
              for (let ky = 0; ky < kernelHeight; ky++) {
                for (let kx = 0; kx < kernelWidth; kx++) {
                  const weight = w[((o * inputs + c) * kernelHeight + ky) * kernelWidth + kx];
                  const ys = down[ky];
                  const xs = across[kx];
                  for (let y = 0; y < ys.length; y += 2) {
                    const to = ((n * outputs + o) * resultHeight + ys[y]) * resultWidth;
                    const from = plane + ys[y + 1] * width;
                    for (let x = 0; x < xs.length; x += 2) out[to + xs[x]] += weight * a[from + xs[x + 1]];
                  }
                }
              }
            }
          }
        }
      };
    },

    gather(operation, [a, index], out, shape) {
      const place = placer(operation, index, shape);
      const fill = operation.outside === null ? null : Number(operation.outside);
      return () => {
        for (let i = 0; i < out.length; i++) {
          const { address, lies } = place(i);
          out[i] = lies || fill === null ? a[address] : fill;
        }
      };
    },

    scatter(operation, [a, index, updates], out, _, shapes) {
      const f = BINARY[operation.name];
      const place = placer(operation, index, shapes[2]);
      return () => {
        out.set(a);
        for (let i = 0; i < updates.length; i++) {
          const { address, lies } = place(i);
          if (lies || operation.clip) out[address] = f(out[address], updates[i]);
        }
      };
    },

    dynamic_slice({ strides, limits }, [a, ...start], out, shape) {
      const inside = addresses(shape, strides, 0);
      return () => {
        const first = limits.reduce((sum, limit, d) => sum + clamp(start[d][0], limit) * strides[d], 0);
        for (let i = 0; i < out.length; i++) out[i] = a[first + inside[i]];
      };
    },

    dynamic_update({ strides, limits, sizes }, [a, update, ...start], out) {
      const inside = addresses(sizes, strides, 0);
      return () => {
        const first = limits.reduce((sum, limit, d) => sum + clamp(start[d][0], limit) * strides[d], 0);
        out.set(a);
        for (let i = 0; i < update.length; i++) out[first + inside[i]] = update[i];
      };
    },
  };

  // Half precision: sign, five bits of exponent, ten of fraction.
  function fromHalf(bits) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }

  const READ = {
    float16: (buffer, offset, size) => Float32Array.from(new Uint16Array(buffer, offset, size), fromHalf),
    float32: (buffer, offset, size) => new Float32Array(buffer, offset, size),
    uint8: (buffer, offset, size) => Float32Array.from(new Uint8Array(buffer, offset, size)),
    int8: (buffer, offset, size, rows) => {
      const scales = new Float32Array(buffer, offset, rows);
      const whole = new Int8Array(buffer, offset + 4 * rows, size);
      return Float32Array.from(whole, (w, i) => w * scales[Math.floor((i * rows) / size)]);
    },
  };

  function load(graph) {
    if (graph.version !== VERSION) throw new Error(`graph of version ${graph.version}, expected ${VERSION}`);
    const buffer = Uint8Array.from(atob(graph.data), (c) => c.charCodeAt(0)).buffer;
    const values = [];
    for (const { id, type, offset, size } of graph.constants)
      values[id] = READ[type](buffer, offset, size, graph.shapes[id][0]);
    for (const id of graph.inputs) values[id] = new Float32Array(sizeOf(graph.shapes[id]));
    const steps = [];
    for (const operation of graph.operations) {
      const inputs = operation.in.map((id) => values[id]);
      const shape = graph.shapes[operation.out];
      if (operation.op === "same") {
        values[operation.out] = inputs[0];
        continue;
      }
      const out = new Float32Array(sizeOf(shape));
      const shapes = operation.in.map((id) => graph.shapes[id]);
      steps.push(MAKE[operation.op](operation, inputs, out, shape, shapes));
      values[operation.out] = out;
    }
    return (...inputs) => {
      graph.inputs.forEach((id, i) => values[id].set(inputs[i]));
      for (const step of steps) step();
      return graph.outputs.map((id) => values[id]);
    };
  }

  root.Live = { load };
  if (typeof module !== "undefined") module.exports = root.Live;
})(typeof self === "undefined" ? globalThis : self);
