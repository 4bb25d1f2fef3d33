"""The network of spaCy's small pipelines, computed for many texts at once, and for each as if it were alone.

spaCy's own path takes its matrix products from BLIS, which gives a row the same bits wherever it stands in a batch. The
product of numpy or torch is three to four times as fast and promises no such thing: it may sum a row in another order
when the number of rows, or the place among them, is another. Here every product has one shape, BLOCK rows, the last
block filled up; and whether the place in a block matters on this very machine is tried out when a network is made.

The network (spaCy's `HashEmbedCNN` or any `MultiHashEmbed` with `MaxoutWindowEncoder`, and a linear layer to the
labels) is a residual convolution over words: each of `depth` layers sees `reach` words to either side. What is saved:

- a word's embedding has no context: it is looked up;
- so are its products with the first layer's weights, one for each place that it can have in a window: the first layer
  adds up rows of a table;
- spaCy sets zero rows between texts and runs every layer over them. A row further from every word than the layers so
  far have reached is a constant; one too far for the layers to come to reach back is not needed. Neither is computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from thinc.api import Model

BLOCK = 256
"""Rows of every matrix product. More are no faster, and a single text pays for all of them."""

_EPSILON = 1e-8  # of thinc's LayerNorm
_ENCODER_LAYER = ["expand_window", "maxout", "layernorm", "dropout"]


@dataclass(frozen=True, slots=True)
class Layer:
    """A window of words to one word: maximum over `pieces` of linear maps, layer norm; added to the word itself.

    weight: float32 [window * width, pieces * width], columns by piece, then by channel; bias: [pieces * width];
    gain, shift: [width].
    """

    weight: Tensor
    bias: Tensor
    gain: Tensor
    shift: Tensor

    def finish(self, mapped: Tensor, words: Tensor) -> Tensor:
        """What follows the linear maps: [N, pieces * width] of them and [N, width] words to [N, width]."""
        pieces = mapped.view(len(mapped), -1, len(self.gain)).amax(1)
        return torch.layer_norm(pieces, self.gain.shape, self.gain, self.shift, _EPSILON).add_(words)


class Network:
    """Layers over a growing table of words, and a linear layer to the labels. One thread's own.

    layers: at least one. label_weight: [width, num_labels]; label_bias: [num_labels].
    """

    def __init__(self, layers: Sequence[Layer], label_weight: Tensor, label_bias: Tensor) -> None:
        self.layers, self._label_weight, self._label_bias = tuple(layers), label_weight, label_bias
        self.width = len(layers[0].gain)
        self.window = len(layers[0].weight) // self.width
        self._reach = self.window // 2
        # [width, window * pieces * width]: a word's products for each place in a window, side by side.
        places = layers[0].weight.view(self.window, self.width, -1)
        self._first_weight = places.permute(1, 0, 2).reshape(self.width, -1).contiguous()
        self._constants = self._between_texts()
        self.forget()

    @torch.inference_mode()
    def forget(self) -> None:
        """Empty the table but for its first row, the zero word that stands between texts."""
        self.num_words = 0
        self._embedded = torch.zeros(0, self.width)
        self._first = torch.zeros(0, self._first_weight.shape[1])
        self.add_words(np.zeros((1, self.width), np.float32))

    @torch.inference_mode()
    def add_words(self, embedded: NDArray[np.float32]) -> None:
        """Append the embeddings [N, width] of words: they get the next N numbers."""
        first, end = self.num_words, self.num_words + len(embedded)
        if end > len(self._embedded):
            room = max(1024, 2 * len(self._embedded), end)
            self._embedded, old = torch.zeros(room, self.width), self._embedded
            self._embedded[: len(old)] = old
            self._first, old = torch.zeros(room, self._first_weight.shape[1]), self._first
            self._first[: len(old)] = old
        words = torch.from_numpy(np.ascontiguousarray(embedded, np.float32))
        self._embedded[first:end] = words
        products = self._first[first:end]
        self._multiply(words, self._first_weight, torch.zeros(self._first_weight.shape[1]), products)
        middle = products.view(len(words), self.window, -1)[:, self._reach]
        middle += self.layers[0].bias
        self.num_words = end

    @torch.inference_mode()
    def scores(self, words: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        """Numbers of the words of all texts [W], and words a text [B] (sum: W), to scores [W, num_labels]."""
        if not len(words):
            return np.zeros((0, len(self._label_bias)), np.float32)
        rows, distance = self._lay_out(lengths[lengths > 0])
        numbers = np.zeros(len(distance), np.int64)
        numbers[rows] = words
        now = self._run_first(torch.from_numpy(numbers), distance)
        depth = len(self.layers)
        for number in range(2, depth + 1):
            needed = np.flatnonzero(distance <= self._reach * min(number, depth - number))
            now = self._run(number - 1, now, torch.from_numpy(needed))
        scores = torch.empty(len(rows), len(self._label_bias))
        self._multiply(now[torch.from_numpy(rows)], self._label_weight, self._label_bias, scores)
        found: NDArray[np.float32] = scores.numpy()
        return found

    def _lay_out(self, lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The row of each word with a gap before, between and behind texts, and each row's distance to a word."""
        gap = self._reach * len(self.layers)
        text = np.repeat(np.arange(len(lengths)), lengths)
        rows = np.arange(len(text)) + gap * (text + 1)
        ends = np.cumsum(lengths + gap)
        distance = np.full(ends[-1] + gap, gap, np.int64)
        distance[rows] = 0
        for away in range(gap - 1, 0, -1):  # the nearest last
            distance[ends - lengths - away] = np.minimum(distance[ends - lengths - away], away)
            distance[ends - 1 + away] = np.minimum(distance[ends - 1 + away], away)
        return rows, distance

    def _run_first(self, numbers: Tensor, distance: NDArray[np.int64]) -> Tensor:
        """The first layer, by addition of rows of the table: numbers [N] to [N, width]."""
        near = np.flatnonzero(distance <= self._reach * min(1, len(self.layers) - 1))
        after = self._constants[0].repeat(len(numbers), 1)
        table = self._first.view(len(self._first) * self.window, -1)
        places = torch.arange(self.window)
        for rows in torch.from_numpy(near).split(BLOCK):
            seen = numbers[rows[:, None] + places - self._reach] * self.window + places
            mapped = torch.nn.functional.embedding_bag(seen, table, mode="sum")
            after.index_copy_(0, rows, self.layers[0].finish(mapped, self._embedded[numbers[rows]]))
        return after

    def _run(self, layer: int, before: Tensor, needed: Tensor) -> Tensor:
        """A later layer at the `needed` rows; the others hold the layer's constant."""
        after = self._constants[layer].repeat(len(before), 1)
        places = torch.arange(self.window) - self._reach
        middle = slice(self._reach * self.width, (self._reach + 1) * self.width)
        seen = torch.zeros(BLOCK * self.window, self.width)
        mapped = torch.empty(BLOCK, self.layers[layer].weight.shape[1])
        for rows in needed.split(BLOCK):
            torch.index_select(before, 0, (rows[:, None] + places).view(-1), out=seen[: len(rows) * self.window])
            windows = seen.view(BLOCK, -1)
            torch.addmm(self.layers[layer].bias, windows, self.layers[layer].weight, out=mapped)
            after.index_copy_(0, rows, self.layers[layer].finish(mapped, windows[:, middle])[: len(rows)])
        return after

    @torch.inference_mode()
    def _between_texts(self) -> list[Tensor]:
        """What each layer makes of rows that no word has reached: float32 [1, width] a layer."""
        constants, before = [], torch.zeros(1, self.width)
        for layer in self.layers:
            mapped = torch.empty(1, layer.weight.shape[1])
            self._multiply(before.repeat(1, self.window), layer.weight, layer.bias, mapped)
            before = layer.finish(mapped, before)
            constants.append(before)
        return constants

    @staticmethod
    def _multiply(left: Tensor, right: Tensor, bias: Tensor, out: Tensor) -> None:
        """out [N, M] = left [N, K] @ right [K, M] + bias [M], BLOCK rows at a time."""
        for start in range(0, len(left), BLOCK):
            block = left[start : start + BLOCK]
            whole = torch.zeros(BLOCK, left.shape[1])
            whole[: len(block)] = block
            out[start : start + BLOCK] = torch.addmm(bias, whole, right)[: len(block)]

    @torch.inference_mode()
    def ignores_place(self) -> bool:
        """Whether a row of a product has the same bits at each place of a block, whatever stands around it."""
        draw = torch.Generator().manual_seed(0)
        weights = [self._first_weight, self._label_weight, *(layer.weight for layer in self.layers)]
        for weight in weights:
            bias = torch.randn(weight.shape[1], generator=draw)
            rows = torch.randn(BLOCK, weight.shape[0], generator=draw)
            product = torch.addmm(bias, rows, weight)
            for shift in (1, 2, 3, 5, 8, 13, 64, 101):
                if not torch.equal(torch.addmm(bias, rows.roll(shift, 0), weight), product.roll(shift, 0)):
                    return False
            for row in (0, BLOCK // 2, BLOCK - 1):
                same = torch.addmm(bias, rows[row].repeat(BLOCK, 1), weight)
                if not torch.equal(same, product[row].repeat(BLOCK, 1)):
                    return False
        return True


def network_of(encoder: "Model[Any, Any]", labels: "Model[Any, Any]") -> Network | None:
    """The network of spaCy's models: a `MaxoutWindowEncoder` and a `softmax` layer; None for anything else.

    That these compute what the models compute is for the caller to try: names of layers are no proof.
    """
    nodes = [node for node in encoder.walk(order="dfs_pre") if not node.layers]
    depth = len(nodes) // len(_ENCODER_LAYER)
    if not depth or [node.name for node in nodes] != _ENCODER_LAYER * depth or labels.name != "softmax":
        return None
    reaches = {node.attrs["window_size"] for node in nodes[::4]}
    if len(reaches) > 1 or encoder.attrs.get("pad") != depth * nodes[0].attrs["window_size"]:
        return None
    layers = []
    for maxout, norm in zip(nodes[1::4], nodes[2::4], strict=True):
        weight = np.asarray(maxout.get_param("W"))  # [width, pieces, window * width]
        rows = weight.transpose(1, 0, 2).reshape(-1, weight.shape[2])
        bias = np.asarray(maxout.get_param("b")).T.reshape(-1)
        layers.append(Layer(*map(_tensor, (rows.T, bias, norm.get_param("G"), norm.get_param("b")))))
    return Network(layers, _tensor(np.asarray(labels.get_param("W")).T), _tensor(labels.get_param("b")))


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(np.array(values, np.float32, order="C"))
