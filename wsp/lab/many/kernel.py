"""The ensemble compiled: what :mod:`wsp.lab.many.ensemble` trains, several times as fast.

The formulae are those of the plain version in PyTorch, which stays as the reference, for graphics
processors, and for recipes that change the step. For layers k = 1 to L with weights W, biases b,
activation f, inputs h_0, a label and a temperature T:

    up      h_k = f(W_k h_(k-1) + b_k),   the last without f
    top     d_L = (softmax(h_L / T) - 1[label]) / T
    down    d_(k-1) = W_kᵀ d_k · f',      f' = 1 - h² for tanh, 1[h > 0] for ReLU
    step    W_k -= rate · mean of d_k h_(k-1)ᵀ,   b_k -= rate · mean of d_k

**Lanes lie side by side.** A `VECTOR` is one number of each of `LANES` networks, in a register of the
processor. Written as if for one network, the loops below train a group of networks at once. What a
group touches stays in the cache, and it goes through many epochs before the next has its turn.

**Sums stay in registers.** :func:`multiply` works on two units and five rows at a time, so that a
number once loaded serves several sums. For that the units of a layer are filled up to an even number
(such a unit is 0 and learns nothing), a batch to fives with rows that pull at nothing.

Serial, and no lock is held: a chunk of lanes a thread. All in one file, as Numba's cache on disk asks.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

try:
    import llvmlite.binding as llvm
    import llvmlite.ir as ir
    from numba import njit, types
    from numba.extending import intrinsic, models, overload, register_model
except ImportError as missing:
    raise ImportError(
        "wsp.lab.many.kernel needs Numba (pip install numba): with it many small networks train "
        "six times as fast; without it wsp.lab.many.ensemble trains the same"
    ) from missing

JIT: dict[str, Any] = {"error_model": "numpy", "nogil": True}
LANES = 8 if llvm.get_host_cpu_features().get("avx512f") else 4  # float64 in a register
ROUND = 1.5 * 2.0**52  # added to a number and taken away again, it rounds to a whole one
ROWS = 5  # of a batch that `multiply` works on at a time
SCORED = 10  # rows counted at a time
WORDS = 624  # of the state of a Mersenne Twister

# ---------------------------------------------------------------- vectors: a type for the compiler
DOUBLES, LONGS = (ir.VectorType(kind, LANES) for kind in (ir.DoubleType(), ir.IntType(64)))
ZERO = ir.Constant(DOUBLES, None)
VECTOR = type("Vector", (types.Type,), {})(name="Vector")
register_model(type(VECTOR))(lambda manager, kind: models.PrimitiveModel(manager, kind, DOUBLES))


def _spread(builder, number):
    """A vector of one number for all lanes."""
    one = builder.insert_element(ir.Constant(DOUBLES, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), LANES), None))


def _operation(write, operation=None):
    """A function of vectors and numbers from ``write(builder, *vectors)``, maybe in place of an operator."""

    def typed(kinds):
        numbers = [not isinstance(kind, type(VECTOR)) for kind in kinds]

        def generate(context, builder, signature, values):
            wide = [_spread(builder, v) if number else v for v, number in zip(values, numbers)]
            return write(builder, *wide)

        return VECTOR(*(types.float64 if number else VECTOR for number in numbers)), generate

    unary, binary = intrinsic(lambda context, a: typed([a])), intrinsic(lambda context, a, b: typed([a, b]))
    if operation is None:
        return unary

    @overload(operation)
    def chosen(a, b):
        if VECTOR in (a, b):
            return lambda a, b: binary(a, b)

    return binary


def _power_of_two(builder, value):
    """2 to the whole number that `value` - ROUND holds: it goes from the low bits to the exponent."""
    shift, bias = (ir.Constant(LONGS, [number] * LANES) for number in (52, 1023 << 52))
    exponent = builder.add(builder.shl(builder.bitcast(value, LONGS), shift), bias)
    return builder.bitcast(exponent, DOUBLES)


FUSED = {"flags": ("contract",)}  # a product and a sum may be rounded once, and no more liberty
_operation(lambda builder, a, b: builder.fadd(a, b, **FUSED), operator.add)
_operation(lambda builder, a, b: builder.fsub(a, b, **FUSED), operator.sub)
_operation(lambda builder, a, b: builder.fmul(a, b, **FUSED), operator.mul)
_operation(lambda builder, a, b: builder.fdiv(a, b), operator.truediv)
_operation(lambda builder, a, b: builder.select(builder.fcmp_ordered("<", a, b), b, a), max)  # NaN stays
_operation(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), b, a), min)
vector = _operation(lambda builder, a: a)
power_of_two = _operation(_power_of_two)
positive = _operation(lambda builder, a: builder.uitofp(builder.fcmp_ordered(">", a, ZERO), DOUBLES))


def _pointer(context, builder, array, values):
    data = context.make_array(array)(context, builder, values[0]).data
    start = builder.gep(data, [builder.mul(values[1], ir.Constant(ir.IntType(64), LANES))])
    return builder.bitcast(start, ir.VectorType(data.type.pointee, LANES).as_pointer())


@intrinsic
def load(context, array, row):
    """``array[row]``, of an array (rows, LANES) of float64 or float32."""

    def generate(context, builder, signature, values):
        found = builder.load(_pointer(context, builder, array, values), align=array.dtype.bitwidth // 8)
        return found if array.dtype == types.float64 else builder.fpext(found, DOUBLES)

    return VECTOR(array, types.int64), generate


@intrinsic
def store(context, array, row, value):
    """``array[row] = value``."""

    def generate(context, builder, signature, values):
        pointer, value = _pointer(context, builder, array, values), values[2]
        if array.dtype == types.float32:
            value = builder.fptrunc(value, pointer.type.pointee)
        builder.store(value, pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, VECTOR), generate


# ---------------------------------------------------------------- a batch, for a group of lanes
@njit(**JIT)
def exp(x):
    """Within 2 units of the last place for |x| < 700: x = k log 2 + r, a polynomial in r, times 2^k."""
    whole = x * 1.4426950408889634 + ROUND
    k = whole - ROUND
    r = x - k * 0.6931471803691238 - k * 1.9082149292705877e-10
    p = (r * (1.0 / 39916800) + 1.0 / 3628800) * r + 1.0 / 362880
    p = ((p * r + 1.0 / 40320) * r + 1.0 / 5040) * r + 1.0 / 720
    p = ((p * r + 1.0 / 120) * r + 1.0 / 24) * r + 1.0 / 6
    p = ((p * r + 0.5) * r + 1.0) * r + 1.0
    return p * power_of_two(whole)


@njit(**JIT)
def five(x, k):
    return load(x, k), load(x, k + 1), load(x, k + 2), load(x, k + 3), load(x, k + 4)


@njit(**JIT)
def keep(y, k, a, b, c, d, e):
    store(y, k, a), store(y, k + 1, b), store(y, k + 2, c), store(y, k + 3, d), store(y, k + 4, e)


@njit(**JIT)
def multiply(w, first, across, along, outputs, inputs, x, below, y, above, size):
    """``y = W x`` for `size` rows: W[j, i] is ``w[first + j * across + i * along]``."""
    for j in range(0, outputs, 2):
        p, q = first + j * across, first + (j + 1) * across
        for s in range(0, size, ROWS):
            a0 = a1 = a2 = a3 = a4 = b0 = b1 = b2 = b3 = b4 = vector(0.0)
            for i in range(inputs):
                u, v, k = load(w, p + i * along), load(w, q + i * along), (below + i) * size + s
                x0, x1, x2, x3, x4 = five(x, k)
                a0, a1, a2, a3, a4 = a0 + u * x0, a1 + u * x1, a2 + u * x2, a3 + u * x3, a4 + u * x4
                b0, b1, b2, b3, b4 = b0 + v * x0, b1 + v * x1, b2 + v * x2, b3 + v * x3, b4 + v * x4
            keep(y, (above + j) * size + s, a0, a1, a2, a3, a4)
            keep(y, (above + j + 1) * size + s, b0, b1, b2, b3, b4)


@njit(**JIT)
def forward(w, n, at, up, h, size, tanh):
    """From the inputs up to the logits; unit j of layer k lies in ``h`` from ``(up[k] + j) * size`` on."""
    for k in range(len(n) - 1):
        multiply(w, at[k], n[k] + 1, 1, n[k + 1], n[k], h, up[k], h, up[k + 1], size)
        for j in range(n[k + 1]):
            bias = load(w, at[k] + (j + 1) * (n[k] + 1) - 1)
            for s in range((up[k + 1] + j) * size, (up[k + 1] + j + 1) * size):
                z = load(h, s) + bias
                if k == len(n) - 2:
                    store(h, s, z)
                elif tanh:
                    store(h, s, 1.0 - 2.0 / (1.0 + exp(2.0 * min(max(z, -20.0), 20.0))))
                else:
                    store(h, s, max(z, 0.0))


@njit(**JIT)
def softmax(h, top, classes, size, s, soft):
    """Turn the logits of row `s` into exponentials; return their sum and the largest logit times `soft`."""
    highest, total = load(h, top * size + s) * soft, vector(0.0)
    for j in range(1, classes):
        highest = max(highest, load(h, (top + j) * size + s) * soft)
    for j in range(classes):
        e = exp(max(load(h, (top + j) * size + s) * soft - highest, -700.0))
        store(h, (top + j) * size + s, e)
        total = total + e
    return total, highest


@njit(**JIT)
def backward(w, n, at, up, h, d, size, rate, tanh):
    """From the gradients by the logits down: pass them on, then step. `d` lies as `h` does."""
    for k in range(len(n) - 2, -1, -1):
        wide = n[k] + 1
        if k > 0:
            multiply(w, at[k], 1, wide, n[k], n[k + 1], d, up[k + 1], d, up[k], size)
            for s in range(up[k] * size, up[k + 1] * size):
                f = load(h, s)
                store(d, s, load(d, s) * ((1.0 - f * f) if tanh else positive(f)))
        for j in range(0, n[k + 1], 2):
            p, q = at[k] + j * wide, at[k] + (j + 1) * wide
            y, z = (up[k + 1] + j) * size, (up[k + 1] + j + 1) * size
            a = b = vector(0.0)
            for s in range(size):
                a, b = a + load(d, y + s), b + load(d, z + s)
            store(w, p + n[k], load(w, p + n[k]) - rate * a)
            store(w, q + n[k], load(w, q + n[k]) - rate * b)
            for i in range(0, n[k], 2):
                x = (up[k] + i) * size
                a = b = c = e = vector(0.0)
                for start in range(0, size, ROWS):
                    for s in range(start, start + ROWS):
                        t, u, v, f = load(d, y + s), load(d, z + s), load(h, x + s), load(h, x + size + s)
                        a, b, c, e = a + t * v, b + t * f, c + u * v, e + u * f
                store(w, p + i, load(w, p + i) - rate * a)
                store(w, p + i + 1, load(w, p + i + 1) - rate * b)
                store(w, q + i, load(w, q + i) - rate * c)
                store(w, q + i + 1, load(w, q + i + 1) - rate * e)


# ---------------------------------------------------------------- epochs, for many groups of lanes
@njit(**JIT)
def permute(words, place, order):
    """``order[:] = torch.randperm(len(order))``, from the `words` of its Mersenne Twister; the next place."""
    one, rows = np.uint32(1), len(order)
    for i in range(rows):
        order[i] = i
    for i in range(rows - 1):
        if place == WORDS:  # all words are used up: make the next ones
            for k in range(WORDS):
                y = (words[k] & np.uint32(0x80000000)) | (words[(k + 1) % WORDS] & np.uint32(0x7FFFFFFF))
                odd = np.uint32(0x9908B0DF) if y & one else np.uint32(0)
                words[k] = words[(k + 397) % WORDS] ^ (y >> one) ^ odd
            place = 0
        y = words[place]
        y ^= y >> np.uint32(11)
        y ^= (y << np.uint32(7)) & np.uint32(0x9D2C5680)
        y ^= (y << np.uint32(15)) & np.uint32(0xEFC60000)
        y ^= y >> np.uint32(18)
        place += 1
        other = i + np.int64(np.uint64(y) % np.uint64(rows - i))
        order[i], order[other] = order[other], order[i]
    return place


@njit(cache=True, **JIT)
def shuffle(words, places, orders):
    """``torch.randperm`` for every lane: words (lanes, 624), places (lanes,), orders (lanes, rows)."""
    for lane in range(len(places)):
        places[lane] = permute(words[lane], places[lane], orders[lane])


@njit(**JIT)
def offsets(n):
    """Where the weights and the units of each layer begin."""
    at, up = np.zeros(len(n), np.int64), np.zeros(len(n) + 1, np.int64)
    for k in range(len(n)):
        up[k + 1] = up[k] + n[k]
        if k + 1 < len(n):
            at[k + 1] = at[k] + n[k + 1] * (n[k] + 1)
    return at, up


@njit(**JIT)
def gather(h, rows, inputs, size):
    """The inputs of `rows` (size, LANES), as the lowest layer of `h`."""
    for s in range(size):
        for m in range(LANES):
            for i in range(inputs.shape[1]):
                h[i * size + s, m] = inputs[rows[s, m], i]


@njit(**JIT)
def count(w, n, classes, tanh, inputs, labels, mine, soft, h, size, correct, losses):
    """Correct rows and sums of losses of one group, on rows `mine` (lanes, rows) of the table."""
    at, up = offsets(n)
    rows, top = np.zeros((size, LANES), np.int64), up[len(n) - 1]
    correct[:], losses[:] = 0, 0.0
    right, total, highest = np.empty(LANES), np.empty((1, LANES)), np.empty((1, LANES))
    for start in range(0, mine.shape[1], size):
        real = min(size, mine.shape[1] - start)
        for s in range(real):
            for m in range(LANES):
                rows[s, m] = mine[m % len(mine), start + s]
        gather(h, rows, inputs, size)
        forward(w, n, at, up, h, size, tanh)
        for s in range(real):
            for m in range(LANES):
                label, chosen = labels[rows[s, m]], 0
                for j in range(1, classes):
                    if h[(top + j) * size + s, m] > h[(top + chosen) * size + s, m]:
                        chosen = j
                correct[m] += chosen == label
                right[m] = h[(top + label) * size + s, m] * soft[0, m]
            a, b = softmax(h, top, classes, size, s, load(soft, 0))
            store(total, 0, a), store(highest, 0, b)
            for m in range(LANES):
                losses[m] += math.log(total[0, m]) + highest[0, m] - right[m]


@njit(cache=True, **JIT)
def score(weights, n, classes, tanh, inputs, labels, held, temperatures, correct, losses):
    """Count for all groups; see :func:`train`. held (lanes or 1, rows), correct and losses (lanes,)."""
    h, soft = np.zeros((offsets(n)[1][len(n)] * SCORED, LANES)), np.empty((1, LANES))
    for g in range(len(weights)):
        mine = slice(g * LANES, (g + 1) * LANES)
        own = held[mine] if len(held) > 1 else held
        for m in range(LANES):
            soft[0, m] = 1.0 / temperatures[g * LANES + m]
        count(weights[g], n, classes, tanh, inputs, labels, own, soft, h, SCORED, correct[mine], losses[mine])


@njit(cache=True, **JIT)
def train(
    weights, n, classes, tanh, inputs, labels, rows, lengths, words, places, rates, temperatures, batch,
    epochs, first, held, rules, patience, freeze, looking, scores, best, spent, kept,
):  # fmt: skip
    """Train all groups for so many epochs, each lane until it has stopped.

    weights (groups, parameters, LANES); n (layers + 1,) units, even. inputs (rows, n[0]) and labels: the
    table; rows (lanes, ...) which of its rows a lane trains on, lengths (lanes,) how many; in orders
    drawn from words (lanes, 624) and places (lanes,), or, if these are empty, as they stand. rates
    (lanes,); temperatures (epochs or 1, lanes); `first` is the number of the first epoch.

    Each of the rules (0: lowest loss, 1: most right, on rows held (lanes, rows) after every epoch; 2: the
    epoch that `best` names) has its patience, and of each lane (rules, lanes): whether it is looking, the
    best score, the epoch of it, epochs spent; and the weights of that epoch, kept (rules, groups,
    parameters, LANES). With `freeze` a lane rests when none of its rules is looking.
    """
    (at, up), size = offsets(n), ROWS * -(-batch // ROWS)
    h, d = np.zeros((up[len(n)] * max(size, SCORED), LANES)), np.zeros((up[len(n)] * size, LANES))
    order, met = np.empty((LANES, rows.shape[1]), np.int64), np.zeros((size, LANES), np.int64)
    share, soft, rate = np.empty((size, LANES)), np.empty((1, LANES)), np.empty((1, LANES))
    correct, losses, left = np.zeros(LANES, np.int64), np.zeros(LANES), np.zeros(LANES, np.int64)
    top, warm = up[len(n) - 1], len(temperatures) - 1
    for g in range(len(weights)):
        w, own = weights[g], held[g * LANES : (g + 1) * LANES]
        for epoch in range(epochs):
            most = 0
            for m in range(LANES):
                lane, awake = g * LANES + m, not freeze
                rate[0, m], soft[0, m] = rates[lane], 1.0 / temperatures[min(epoch, warm), lane]
                for k in range(len(rules)):
                    awake = awake or looking[k, lane]
                left[m] = lengths[lane] if awake else 0
                most = max(most, left[m])
                if len(words) > 0 and left[m] > 0:
                    places[lane] = permute(words[lane], places[lane], order[m, : left[m]])
            if most == 0:
                break
            for start in range(0, most, batch):
                for m in range(LANES):
                    real = min(batch, left[m] - start)
                    weight = soft[0, m] / max(real, 1)
                    for s in range(size):
                        share[s, m] = weight if s < real else 0.0
                        if s < real:
                            place = order[m, start + s] if len(words) > 0 else start + s
                            met[s, m] = rows[g * LANES + m, place]
                gather(h, met, inputs, size)
                forward(w, n, at, up, h, size, tanh)
                for s in range(size):
                    total, _ = softmax(h, top, classes, size, s, load(soft, 0))
                    pull = load(share, s) / total
                    for j in range(classes):
                        store(d, (top + j) * size + s, load(h, (top + j) * size + s) * pull)
                for s in range(size):
                    for m in range(LANES):
                        d[(top + labels[met[s, m]]) * size + s, m] -= share[s, m]
                backward(w, n, at, up, h, d, size, load(rate, 0), tanh)
            if held.shape[1] > 0:
                count(w, n, classes, tanh, inputs, labels, own, soft, h, SCORED, correct, losses)
            for k in range(len(rules)):
                for m in range(LANES):
                    lane, now = g * LANES + m, first + epoch
                    if not looking[k, lane]:
                        continue
                    spent[k, lane] = now
                    value = losses[m] / held.shape[1] if rules[k] == 0 else -float(correct[m])
                    if best[k, lane] == now if rules[k] == 2 else value < scores[k, lane]:
                        scores[k, lane], best[k, lane] = value, now
                        for i in range(len(w)):
                            kept[k, g, i, m] = w[i, m]
                    looking[k, lane] = now - best[k, lane] < patience[k]
