"""A step of a contrastive loss whose batch is encoded in parts: exact gradients, the memory of one part.

A contrastive loss is not a sum over parts of the batch, so gradients of parts do not add up to that of the batch. They
do once the loss's gradient by the features is known (Gao et al. 2021, GradCache, arXiv 2101.06983): encode the parts
without a graph; take the loss of all features, and its gradient by each; encode each part again, with a graph, and hand
its features their gradients. The last part is encoded once: its graph is kept over the loss and goes first.

    micros = slices(len(images), micro_batch_size)  # of train.logit_grid
    loss = accumulated_backward(lambda rows: model(images[rows], tokens[rows], places[rows]), micros, loss_of)

Encoding is to give the same features both times: no dropout, masks that are drawn from places in the run. (Kernels that
choose by whether there is a graph may differ in their last bits; the gradient then differs by as little.) Hidden costs:
all parts but one are encoded twice, which are FLOPs of the machine, not of the model.

**Ranks.** Every rank has as many parts. `no_sync` is DDP's method (for FSDP2, a context that calls
`set_requires_gradient_sync`): entered for all parts but the last to be done, so that gradients are averaged once. Go
through the wrapped model in `encode`, and let it return the loss's scalars too: they get their gradient once, in the
part that is synchronised, where DDP waits for it.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch

Micro = TypeVar("Micro")
Encoded = tuple[torch.Tensor, ...]
"""Image features, text features, and what else the loss takes: its scale, its bias."""


def accumulated_backward(
    encode: Callable[[Micro], Encoded],
    micros: Iterable[Micro],
    loss_of: Callable[..., torch.Tensor],
    no_sync: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> torch.Tensor:
    """Add to every parameter's `grad` what `loss_of(*encode(the whole batch)).backward()` would; returns the loss.

    encode: of a part of the batch, image features [b, D], text features [b, D] and the loss's scalars, which are the
    same for every part. micros: the parts, at least one. loss_of: of the features of the whole batch, in the order of
    micros, and the scalars; on many ranks, one that hands them gradients as `train.tiled_loss` does. Autocast belongs
    into `encode`, or around the call. The loss is detached.
    """
    *others, last = micros
    with no_sync() if others else nullcontext():
        with torch.no_grad():
            cached = [encode(micro)[:2] for micro in others]
        kept = encode(last)
        leaves = _leaves(cached, kept)
        sizes = [len(image) for image, _ in cached] + [len(kept[0])]
        with torch.enable_grad():
            loss = loss_of(*leaves)
            loss.backward()
        by_image, by_text = (_parts(leaf.grad, sizes) for leaf in leaves[:2])
        by_scalars = [leaf.grad for leaf in leaves[2:]]
        _hand_down(kept, [by_image[-1], by_text[-1], *([] if others else by_scalars)])
        for number, micro in enumerate(others[:-1]):
            _hand_down(encode(micro), [by_image[number], by_text[number]])
    if others:
        _hand_down(encode(others[-1]), [by_image[-2], by_text[-2], *by_scalars])
    return loss.detach()


def _leaves(cached: Sequence[Encoded], kept: Encoded) -> list[torch.Tensor]:
    """What the loss takes: the features of all parts and the scalars, apart from the graph that made them."""
    whole = [torch.cat([*(part[side] for part in cached), kept[side]]) for side in (0, 1)]
    return [
        leaf.detach().requires_grad_(made.requires_grad) for leaf, made in zip([*whole, *kept[2:]], kept, strict=True)
    ]


def _parts(gradient: torch.Tensor | None, sizes: Sequence[int]) -> Sequence[torch.Tensor | None]:
    return [None] * len(sizes) if gradient is None else gradient.split(list(sizes))


def _hand_down(encoded: Encoded, gradients: Sequence[torch.Tensor | None]) -> None:
    """Go backward from the first of `encoded`, each with its gradient; None: nothing comes this way."""
    pairs = [(made, by) for made, by in zip(encoded, gradients, strict=False) if by is not None]
    torch.autograd.backward([made for made, _ in pairs], [by for _, by in pairs])
