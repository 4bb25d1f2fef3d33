"""Accumulation against one pass: the same gradients, whatever the parts; and how often the parts are encoded."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import normalize

from pipelines.contract import TokenBudget
from train.accumulation import accumulated_backward
from train.logit_grid import slices
from train.loss import contrastive, sigmoid
from train.model import CLIP
from train.model_config import ModelConfig, TextConfig, VisionConfig
from train.tiled_loss import tiled_contrastive, tiled_sigmoid

Loss = Callable[..., torch.Tensor]
BOTH = pytest.mark.parametrize(("plain", "tiled"), [(contrastive, tiled_contrastive), (sigmoid, tiled_sigmoid)])


class Towers(nn.Module):
    """Two small encoders and the loss's scalars; notes what it was asked to encode."""

    def __init__(self, num_scalars: int, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.image = nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 4))
            self.text = nn.Sequential(nn.Linear(6, 7), nn.GELU(), nn.Linear(7, 4))
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.bias = nn.Parameter(torch.tensor(-3.0))
        self.num_scalars = num_scalars
        self.calls: list[tuple[int, bool]] = []
        self.to(dtype)

    def forward(self, images: torch.Tensor, texts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.calls.append((len(images), torch.is_grad_enabled()))
        features = normalize(self.image(images), dim=-1), normalize(self.text(texts), dim=-1)
        return (*features, *[self.scale.exp(), self.bias][: self.num_scalars])


def batch(num: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(num)
    return torch.randn(num, 5, generator=generator, dtype=dtype), torch.randn(num, 6, generator=generator, dtype=dtype)


def towers(plain: Loss, dtype: torch.dtype = torch.float64) -> Towers:
    return Towers(2 if plain is sigmoid else 1, dtype)


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def one_pass(model: nn.Module, data: tuple[torch.Tensor, ...], loss_of: Loss) -> torch.Tensor:
    loss = loss_of(*model(*data))
    loss.backward()
    return loss.detach()


def in_parts(model: nn.Module, data: tuple[torch.Tensor, ...], loss_of: Loss, length: int, **more: Any) -> torch.Tensor:
    def encode(rows: slice) -> tuple[torch.Tensor, ...]:
        encoded: tuple[torch.Tensor, ...] = model(*(tensor[rows] for tensor in data))
        return encoded

    return accumulated_backward(encode, slices(len(data[0]), length), loss_of, **more)


@BOTH
@settings(max_examples=30)
@given(num=st.integers(2, 30), length=st.integers(1, 31))
def test_parts_give_the_gradient_of_the_whole(plain: Loss, tiled: Loss, num: int, length: int) -> None:
    whole, parts = towers(plain), towers(plain)
    expected = one_pass(whole, batch(num), plain)
    found = in_parts(parts, batch(num), lambda *given: tiled(*given, tile=8), length)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert set(gradients(whole)) == {name for name, _ in whole.named_parameters()} - (
        {"bias"} if plain is contrastive else set()
    )
    torch.testing.assert_close(gradients(parts), gradients(whole), rtol=1e-9, atol=1e-9)


def test_gradients_are_added_to_those_that_are_there() -> None:
    whole, parts = towers(sigmoid), towers(sigmoid)
    for num in (7, 9):
        one_pass(whole, batch(num), sigmoid)
        in_parts(parts, batch(num), sigmoid, 3)
    torch.testing.assert_close(gradients(parts), gradients(whole), rtol=1e-9, atol=1e-9)


def test_all_parts_but_the_last_are_encoded_twice() -> None:
    model = towers(contrastive)
    in_parts(model, batch(11), contrastive, 4)
    assert model.calls == [(4, False), (4, False), (3, True), (4, True), (4, True)]
    model.calls.clear()
    in_parts(model, batch(11), contrastive, 11)
    assert model.calls == [(11, True)]


def test_one_graph_is_alive_at_a_time() -> None:
    alive, most = [0], [0]

    class Counted(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, image: torch.Tensor) -> torch.Tensor:
            alive[0] += 1
            most[0] = max(most[0], alive[0])
            return image.clone()

        @staticmethod
        def backward(ctx: Any, outer: torch.Tensor) -> torch.Tensor:
            alive[0] -= 1
            return outer

    model, data = towers(contrastive), batch(12)

    def encode(rows: slice) -> tuple[torch.Tensor, ...]:
        image, *others = model(*(tensor[rows] for tensor in data))
        counted: torch.Tensor = Counted.apply(image) if torch.is_grad_enabled() else image
        return (counted, *others)

    accumulated_backward(encode, slices(12, 3), contrastive)
    assert (most, alive) == ([1], [0])


@pytest.mark.parametrize("length", [3, 12])
def test_only_the_last_part_to_be_done_is_synchronised(length: int) -> None:
    inside, seen = [False], []

    @contextmanager
    def no_sync() -> Iterator[None]:
        inside[0] = True
        yield
        inside[0] = False

    model, data = towers(sigmoid), batch(12)
    model.register_forward_pre_hook(lambda *_: seen.append(("forward", inside[0])))
    for weight in (model.scale, model.bias, model.image[0].weight):
        assert isinstance(weight, nn.Parameter)
        weight.register_post_accumulate_grad_hook(lambda *_: seen.append(("backward", inside[0])))
    in_parts(model, data, sigmoid, length, no_sync=no_sync)
    # Outside stand one forward, and one gradient of each of the three; the scalars have no other.
    assert [kind for kind, quiet in seen if not quiet] == ["forward", "backward", "backward", "backward"]
    assert [kind for kind, quiet in seen if quiet].count("backward") == (3 if length == 3 else 0)


@BOTH
@pytest.mark.parametrize("frozen", ["image", "text", "scale"])
def test_a_part_of_the_model_may_be_frozen(plain: Loss, tiled: Loss, frozen: str) -> None:
    whole, parts = towers(plain), towers(plain)
    for model in (whole, parts):
        getattr(model, frozen).requires_grad_(False)
    one_pass(whole, batch(10), plain)
    in_parts(parts, batch(10), tiled, 4)
    assert not any(name.startswith(frozen) for name in gradients(parts))
    torch.testing.assert_close(gradients(parts), gradients(whole), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("outside", [False, True])
def test_under_autocast(outside: bool) -> None:
    whole, parts = towers(contrastive, torch.float32), towers(contrastive, torch.float32)
    data = batch(12, torch.float32)
    autocast = torch.autocast("cpu", torch.bfloat16)
    with autocast:
        encoded = whole(*data)
    tiled_contrastive(*encoded).backward()

    def encode(rows: slice) -> tuple[torch.Tensor, ...]:
        with torch.autocast("cpu", torch.bfloat16):
            made: tuple[torch.Tensor, ...] = parts(*(tensor[rows] for tensor in data))
        return made

    with torch.autocast("cpu", torch.bfloat16, enabled=outside):
        accumulated_backward(encode, slices(12, 5), tiled_contrastive)
    assert set(gradients(parts)) == set(gradients(whole))
    for name, gradient in gradients(parts).items():
        torch.testing.assert_close(gradient, gradients(whole)[name], rtol=0.02, atol=0.02 * gradient.abs().max().item())


def test_the_model_with_masked_images() -> None:
    budget = TokenBudget(32, 8, image_mask="random", image_mask_ratio=0.5)
    config = ModelConfig(24, VisionConfig(8, 32, 1, 2), TextConfig(width=16, depth=1, num_heads=2))
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (10, 3, 32, 32), dtype=torch.uint8, generator=generator)
    tokens = torch.randint(1, 400, (10, 8), generator=generator)
    found = []
    for length in (10, 4):
        torch.manual_seed(0)
        model = CLIP(config, budget)
        loss = in_parts(model, (images, tokens, torch.arange(10) + 30), tiled_contrastive, length)
        found.append((loss, gradients(model)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)
    assert found[0][1]["logit_scale"] != 0
