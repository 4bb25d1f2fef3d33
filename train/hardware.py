"""Devices by their data sheets, and a file in which `train.plan --probe` keeps what it measured of one."""

import math
from dataclasses import dataclass, fields
from pathlib import Path

from prep.errors import UserError
from prep.files import read_json


@dataclass(frozen=True, slots=True)
class Hardware:
    """One device. Rates are dense; prices are of one device for one hour.

    peak_flops: FLOP/s of matrix products. bandwidth: bytes/s of its memory, read and written together. memory: bytes.
    efficiency: the share of that which a training step reaches, see `train.step_time`. price: US dollars. autocast:
    whether products are in bfloat16 (weights and residuals in float32); else all is float32.
    """

    name: str
    peak_flops: float
    bandwidth: float
    memory: float
    efficiency: float
    price: float
    autocast: bool = True


PUBLISHED_EFFICIENCY = 0.455
"""The one calibrated constant: fitted by `train.published` to what CLIPA's models took on A100."""

HARDWARE = {
    # NVIDIA's data sheets: A100 80 GB SXM and H100 SXM, bfloat16 without sparsity. $1.575: the price with which
    # CLIPA-v2 (arXiv 2306.15658, table 4) turns its hours into dollars. $3.00: an assumption, for want of a source.
    "a100": Hardware("a100", 312e12, 2.039e12, 80 * 2**30, PUBLISHED_EFFICIENCY, 1.575),
    "h100": Hardware("h100", 989e12, 3.35e12, 80 * 2**30, PUBLISHED_EFFICIENCY, 3.00),
}
"""Nobody has published hours of CLIPA on H100: that it reaches the A100's efficiency is an assumption."""


def find_hardware(name_or_file: str) -> Hardware:
    """A device of HARDWARE, or the one in a file that `train.plan --probe --json FILE` wrote. Raises `UserError`."""
    if name_or_file in HARDWARE:
        return HARDWARE[name_or_file]
    path = Path(name_or_file)
    remedy = f"Known: {', '.join(HARDWARE)}; or the file of train.plan --probe --json FILE."
    if not path.is_file():
        raise UserError(f"--gpu {name_or_file}", "neither a known device nor a file", remedy)
    device = read_json(path).get("device")
    if not isinstance(device, dict) or set(device) != {field.name for field in fields(Hardware)}:
        raise UserError(str(path), "holds no measured device", remedy)
    for field in fields(Hardware):
        value = device[field.name]
        least = 0 if field.name == "price" else 1e-9
        if type(value) is not field.type or (field.type is float and not least <= value < math.inf):
            raise UserError(f"{path}, device.{field.name}", f"found {value!r}", "Measure again: train.plan --probe.")
    return Hardware(**device)
