"""The tiled losses against the plain ones: values, gradients, precision and memory; and their benchmark."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from prep.errors import UserError
from train.logit_grid import Grid
from train.loss import contrastive, sigmoid
from train.loss_bench import FORMS, LOSSES, Asked, measure
from train.loss_bench import main as bench_main
from train.tiled_loss import tiled_contrastive, tiled_sigmoid

Loss = Callable[..., torch.Tensor]
BOTH = pytest.mark.parametrize(("plain", "tiled"), [(contrastive, tiled_contrastive), (sigmoid, tiled_sigmoid)])


def inputs(
    plain: Loss, num: int, width: int = 6, dtype: torch.dtype = torch.float64, scale: float = 14.3, seed: int = 0
) -> list[torch.Tensor]:
    """Image, text, scale and, for the sigmoid loss, bias."""
    generator = torch.Generator().manual_seed(seed)
    features = [normalize(torch.randn(num, width, generator=generator, dtype=torch.float64)) for _ in range(2)]
    wide = torch.promote_types(dtype, torch.float32)
    scalars = [torch.tensor(scale, dtype=wide), torch.tensor(-3.0, dtype=wide)][: 2 if plain is sigmoid else 1]
    return [tensor.requires_grad_() for tensor in (*(feature.to(dtype) for feature in features), *scalars)]


def value_and_gradients(loss: Loss, tensors: list[torch.Tensor], **options: Any) -> list[torch.Tensor]:
    value = loss(*tensors, **options)
    wanted = [tensor for tensor in tensors if tensor.requires_grad]
    return [value.detach(), *torch.autograd.grad(3 * value, wanted)]  # 3: the outer gradient counts


@BOTH
@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 45), st.floats(0, 200), st.integers(0, 99))
def test_tiled_is_plain(plain: Loss, tiled: Loss, num: int, width: int, tile: int, scale: float, seed: int) -> None:
    tensors = inputs(plain, num, width, scale=scale, seed=seed)
    found = value_and_gradients(tiled, tensors, tile=tile)
    for a, b in zip(found, value_and_gradients(plain, tensors), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@BOTH
def test_gradients_are_those_of_the_value(plain: Loss, tiled: Loss) -> None:
    tensors = inputs(plain, 5, 3, scale=2.0)
    assert torch.autograd.gradcheck(lambda *given: tiled(*given, tile=2), tensors)


def test_sigmoid_is_the_sum_over_all_pairings() -> None:
    tensors = inputs(sigmoid, 4)
    image, text, scale, bias = (tensor.detach() for tensor in tensors)
    total = 0.0
    for i in range(4):
        for j in range(4):
            sign = 1 if i == j else -1
            total += math.log1p(math.exp(-sign * (scale * image[i].dot(text[j]) + bias).item()))
    assert sigmoid(*tensors).item() == pytest.approx(total / 4, rel=1e-12)


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_features_lose_nothing_on_the_way(plain: Loss, tiled: Loss, dtype: torch.dtype) -> None:
    tensors = inputs(plain, 50, 16, dtype, scale=100.0)
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    found = value_and_gradients(tiled, tensors, tile=16)
    assert [tensor.dtype for tensor in found] == [torch.float32, *(tensor.dtype for tensor in tensors)]
    for a, b in zip(found, value_and_gradients(plain, exact), strict=True):
        rounding = torch.finfo(a.dtype).eps
        torch.testing.assert_close(
            a.double(), b, rtol=2 * rounding + 2e-5, atol=(rounding + 2e-5) * b.abs().max().item()
        )


@BOTH
def test_autocast_changes_no_bit(plain: Loss, tiled: Loss) -> None:
    tensors = inputs(plain, 20, dtype=torch.float32)
    before = value_and_gradients(tiled, tensors, tile=8)
    with torch.autocast("cpu", torch.bfloat16):
        for a, b in zip(before, value_and_gradients(tiled, tensors, tile=8), strict=True):
            assert torch.equal(a, b)
        assert not torch.equal(before[0], plain(*tensors).float())


@BOTH
@pytest.mark.parametrize("frozen", [(0,), (1,), (0, 1), (2,), (0, 2), (1, 2)])
def test_what_is_frozen_gets_no_gradient(plain: Loss, tiled: Loss, frozen: tuple[int, ...]) -> None:
    tensors = inputs(plain, 9)
    for number in frozen:
        tensors[number].requires_grad_(False)
    tiled(*tensors, tile=4).backward()
    wanted = torch.autograd.grad(plain(*tensors), [tensor for tensor in tensors if tensor.requires_grad])
    found = [tensor.grad for tensor in tensors]
    assert [number for number, gradient in enumerate(found) if gradient is None] == list(frozen)
    for a, b in zip([gradient for gradient in found if gradient is not None], wanted, strict=True):
        torch.testing.assert_close(a, b)


@BOTH
def test_mixed_dtypes_and_a_scale_with_a_dimension(plain: Loss, tiled: Loss) -> None:
    image, text, scale, *bias = inputs(plain, 9, dtype=torch.float32)
    narrow = image.detach().bfloat16().requires_grad_()
    row = scale.detach().reshape(1).requires_grad_()
    value, by_image, by_text, by_row, *_ = value_and_gradients(tiled, [narrow, text, row, *bias], tile=4)
    expected = value_and_gradients(plain, [narrow.detach().float(), text, scale, *bias])
    assert (value.shape, by_row.shape, by_image.dtype) == ((), (1,), torch.bfloat16)
    torch.testing.assert_close([value, by_text, by_row[0]], expected[:3])


@BOTH
@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_huge_logits_do_not_overflow(plain: Loss, tiled: Loss, scale: float) -> None:
    tensors = inputs(plain, 20, dtype=torch.float32, scale=scale)
    for a, b in zip(value_and_gradients(tiled, tensors, tile=7), value_and_gradients(plain, tensors), strict=True):
        assert b.isfinite().all()
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * b.abs().max().item())


@BOTH
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_what_is_not_finite_is_not_hidden(plain: Loss, tiled: Loss, wrong: float) -> None:
    tensors = inputs(plain, 20)
    with torch.no_grad():
        tensors[1][13, 2] = wrong
    assert not tiled(*tensors, tile=7).isfinite()


class Watch(TorchDispatchMode):
    """Notes the most numbers that any tensor had, and the dtypes of matrix products: left, right, result."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest = 0
        self.products: list[tuple[torch.dtype, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if torch.is_tensor(made):
            self.largest = max(self.largest, made.numel())
        if "mm" in func.__name__:
            left, right = [given for given in args if torch.is_tensor(given)][-2:]
            self.products.append((left.dtype, right.dtype, made.dtype))
        return made


@BOTH
def test_no_tensor_is_larger_than_the_features_or_a_tile(plain: Loss, tiled: Loss) -> None:
    tensors = inputs(plain, 200, 8)
    with Watch() as watch:
        tiled(*tensors, tile=30).backward()
    assert watch.largest == 200 * 8
    with Watch() as watch:
        tiled(*tensors, tile=50).backward()
    assert watch.largest == 50 * 50
    with Watch() as watch:
        plain(*tensors).backward()
    assert watch.largest == 200 * 200


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_on_a_gpu_narrow_features_are_multiplied_as_they_are(plain: Loss, tiled: Loss, dtype: torch.dtype) -> None:
    # Tensors without numbers: there need be no GPU. Autograd's engine wants one, so the way back is called by hand.
    with FakeTensorMode() as mode, Watch() as watch:
        tensors = [mode.from_tensor(tensor.detach()).to("cuda") for tensor in inputs(plain, 6, dtype=dtype)]
        value = tiled(*tensors, tile=4)
        grid = Grid(tensors[0], tensors[1], tensors[2], bias=None, tile=4, group=None)
        found = [value, *grid.gradients(lambda *_: None, value, (True, True))[:3]]
    assert [tensor.device.type for tensor in found if tensor is not None] == ["cuda"] * 4
    assert [tensor.dtype for tensor in found if tensor is not None] == [torch.float32, dtype, dtype, torch.float32]
    assert watch.products == [(dtype, dtype, torch.float32)] * 16  # 4 tiles, each 1 + 3 times


@pytest.mark.parametrize("loss", LOSSES)
def test_all_forms_compute_the_same_loss_open_clips_among_them(loss: str) -> None:
    points = [measure(loss, form, 100, Asked(width=16, device="cpu", seconds=0.0)) for form in FORMS]
    assert [point.value for point in points] == pytest.approx([points[0].value] * len(FORMS), rel=1e-5)
    assert min(point.seconds for point in points) > 0


def test_the_benchmark_leaves_out_what_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "loss.json"
    options = ["--width", "16", "--seconds", "0.001", "--limit", "0.2", "--json", str(path)]
    bench_main(["--batch-sizes", "4096", "1024", "--losses", "sigmoid", "--forms", "tiled", "plain", *options])
    found = json.loads(path.read_text())["points"]
    tried = [(point["form"], point["batch_size"]) for point in found]
    assert tried == [("tiled", 1024), ("tiled", 4096), ("plain", 1024)]
    assert found[0]["value"] == pytest.approx(found[2]["value"], rel=1e-5)
    assert found[1]["mib"] < 60 < 4096**2 * 4 / 2**20  # one matrix of logits
    assert "over 0.2 GiB" in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--width", "0"], ["--limit", "-1"], ["--batch-sizes", "0", "4"]])
def test_the_benchmark_refuses_what_it_cannot_measure(options: list[str]) -> None:
    with pytest.raises(UserError, match="wanted"):
        bench_main(options)
