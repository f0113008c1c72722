"""The same training for thousands of networks at once.

One small network keeps a processor waiting: a step of the article's network is
a microsecond of arithmetic inside a hundred microseconds of calls. Here every
tensor gets one more dimension, the *lane*, and one call serves all networks.
Lane *s* ends where :func:`wsp.lab.training.train` ends for network *s* alone
(within rounding; tested).

Gradients are written by hand, for softmax and cross-entropy on top of tanh or
ReLU layers, and three habits keep the processor busy (measured in
``benchmarks/``):

- a layer's bias is the last column of its weights, met by a row of ones;
- every buffer is made once, and small enough to stay in the cache;
- fewer than four classes are filled up with classes that never happen, since
  PyTorch multiplies matrices below 400 products the slow way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from wsp.lab.employees import Table
from wsp.lab.network import MLP

FORWARD: dict[str, Callable[..., Tensor]] = {
    "tanh": torch.tanh,
    "relu": partial(torch.clamp, min=0),
}
LEAST_CLASSES = 4
NEVER = -1e9  # the bias of a class that never happens: its probability is exactly 0


def multiply_by_slope(delta: Tensor, output: Tensor, activation: str) -> None:
    """``delta *= f'(z)`` in place, from the activation's output f(z)."""
    if activation == "tanh":  # 1 - f²
        torch.ops.aten.tanh_backward.grad_input(delta, output, grad_input=delta)
    else:  # 1 where f > 0
        torch.ops.aten.threshold_backward.grad_input(delta, output, 0, grad_input=delta)


class Ensemble:
    """Networks of one shape, a lane each, trained side by side.

    Parameters
    ----------
    networks : sequence of MLP
        All of one layout and activation. Copied, never changed.
    device : str or torch.device
        Where to train. Default ``"cpu"``.

    Attributes
    ----------
    temperature : float
        The loss is that of the logits divided by this. Default 1. May be set between epochs.

    Raises
    ------
    ValueError
        If there is no network, or if they differ in layout, activation or dtype.

    Examples
    --------
    >>> networks = [MLP(generator=torch.Generator().manual_seed(s)) for s in range(5)]
    >>> lanes = Ensemble(networks)
    >>> lanes.logits(torch.zeros(2, 6, dtype=torch.float64)).shape  # lanes, classes, rows
    torch.Size([5, 3, 2])

    See chapter 6.
    """

    def __init__(self, networks: Sequence[MLP], device: str | torch.device = "cpu") -> None:
        if not networks:
            raise ValueError("an ensemble needs at least one network")
        first = networks[0]
        kinds = {(n.sizes, n.activation, n.linears[0].weight.dtype) for n in networks}
        if len(kinds) > 1:
            found = "; ".join(sorted(map(str, kinds)))
            raise ValueError(f"the networks of an ensemble must be alike, not {found}")
        self.sizes, self.activation, self.lanes = first.sizes, first.activation, len(networks)
        self.classes = first.sizes[-1]
        self.temperature = 1.0
        self.weights = [
            torch.stack([torch.column_stack([layer.weight, layer.bias]) for layer in layers])
            .detach()
            .to(device)
            for layers in zip(*(network.linears for network in networks))
        ]
        missing = LEAST_CLASSES - self.classes
        if missing > 0:
            never = self.weights[-1].new_zeros(self.lanes, missing, self.weights[-1].shape[2])
            never[:, :, -1] = NEVER
            self.weights[-1] = torch.cat([self.weights[-1], never], dim=1)
        self._buffers: dict[int, Buffers] = {}

    def train_epoch(self, table: Table, order: Tensor, *, learning_rate: float, batch_size: int) -> None:
        """One epoch for every lane, each in its own order.

        Parameters
        ----------
        table : Table
            Rows for all lanes, on the ensemble's device. Where lanes train on
            different tables, these are stacked and `order` points into the stack.
        order : Tensor
            (lanes, rows) int64: row numbers in the order they are met.
        learning_rate : float
        batch_size : int
            Rows a step. The last batch may be shorter.

        Source: backpropagation; derived in chapter 6.
        """
        ones = table.inputs.new_ones(len(table.inputs), 1)
        table = Table(torch.cat([table.inputs, ones], dim=1), table.labels)
        for batch in torch.split(order, batch_size, dim=1):
            self._step(table, batch.reshape(-1), learning_rate)

    def _step(self, table: Table, rows: Tensor, learning_rate: float) -> None:
        """One step on `rows` (lane by lane) of a table whose last input column is 1."""
        size = len(rows) // self.lanes
        if size not in self._buffers:
            self._buffers[size] = Buffers(self.weights, size)
        b, last = self._buffers[size], len(self.weights) - 1
        torch.index_select(table.inputs, 0, rows, out=b.inputs)
        torch.index_select(table.labels, 0, rows, out=b.labels)

        # Forward: each layer writes its units below the row of ones.
        for k in range(last):
            torch.bmm(self.weights[k], b.layer[k], out=b.delta[k])
            FORWARD[self.activation](b.delta[k], out=b.units[k])
        torch.bmm(self.weights[last], b.layer[last], out=b.delta[last])

        # The gradient of the loss by the logits: softmax minus one at the label; over the temperature,
        # by which the rate is divided instead.
        rate = learning_rate / self.temperature
        if self.temperature != 1:
            b.delta[last].div_(self.temperature)
        torch.softmax(b.delta[last], dim=1, out=b.delta[last])
        b.delta[last].scatter_add_(1, b.label_rows, b.minus_one)

        # Backward: from the top layer down, pass the gradient on, then step.
        for k in range(last, -1, -1):
            if k > 0:
                torch.bmm(self.weights[k][:, :, :-1].mT, b.delta[k], out=b.delta[k - 1])
                multiply_by_slope(b.delta[k - 1], b.units[k - 1], self.activation)
            self.weights[k].baddbmm_(b.delta[k], b.layer[k].mT, alpha=-rate / size)

    def logits(self, inputs: Tensor) -> Tensor:
        """Logits of every lane.

        Parameters
        ----------
        inputs : Tensor
            (rows, features), the same for all lanes, or (lanes, rows, features).

        Returns
        -------
        Tensor
            (lanes, classes, rows).
        """
        layer = inputs.mT.expand(self.lanes, -1, -1)
        for k, weight in enumerate(self.weights):
            if k > 0:
                layer = FORWARD[self.activation](layer)
            layer = torch.baddbmm(weight[:, :, -1:], weight[:, :, :-1], layer)
        return layer[:, : self.classes]

    def measure(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Correct rows (lanes,) int64 and mean cross-entropy (lanes,) in nats, at the temperature.

        `inputs` as for :meth:`logits`; `labels` (rows,) or (lanes, rows).
        """
        logits = self.logits(inputs)
        labels = labels.expand(self.lanes, -1)
        soft = logits if self.temperature == 1 else logits / self.temperature
        loss = torch.nn.functional.cross_entropy(soft, labels, reduction="none").mean(dim=1)
        return (logits.argmax(dim=1) == labels).sum(dim=1), loss

    def networks(self) -> list[MLP]:
        """The lanes as networks of their own, on the CPU."""
        networks = []
        for lane in range(self.lanes):
            unused = torch.Generator()  # leaves the global one alone
            network = MLP(self.sizes, self.activation, generator=unused, dtype=self.weights[0].dtype)
            with torch.no_grad():
                for k, weight in enumerate(self.weights):
                    linear = network.linears[k]
                    linear.weight.copy_(weight[lane, : linear.out_features, :-1])
                    linear.bias.copy_(weight[lane, : linear.out_features, -1])
            networks.append(network)
        return networks


class Buffers:
    """Everything a step writes to, for one batch size; made once.

    ``layer[k]`` is what weights *k* multiply: the inputs or the units of the
    layer below, over a row of ones that meets the bias. ``delta[k]`` holds the
    sums of layer *k* on the way up and the loss's gradient by them on the way down.
    """

    def __init__(self, weights: Sequence[Tensor], size: int) -> None:
        lanes, _, columns = weights[0].shape
        new = weights[0].new_ones
        self.inputs = new(lanes * size, columns)
        self.labels = new(lanes * size, dtype=torch.int64)
        self.label_rows = self.labels.view(lanes, 1, size)
        self.minus_one = (-new(1)).expand(lanes, 1, size)
        self.layer = [self.inputs.view(lanes, size, columns).mT]
        self.layer += [new(lanes, weight.shape[2], size) for weight in weights[1:]]
        self.units = [layer[:, :-1] for layer in self.layer[1:]]
        self.delta = [new(lanes, weight.shape[1], size) for weight in weights]
