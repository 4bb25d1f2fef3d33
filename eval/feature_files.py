"""Features in a safetensors file that holds a hash of its content: whole or not there, and told when it is damaged.

It is written from the tensors' own memory: the library would copy them all first, and they may be gigabytes.
"""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from eval.labelled_set import Unreadable
from prep.files import written_aside

T = TypeVar("T")

DAMAGE = (SafetensorError, OSError, KeyError, ValueError, TypeError)
_NAMES = {torch.float32: "F32", torch.int64: "I64"}


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], told: Mapping[str, str]) -> None:
    """Write float32 and int64 tensors of the CPU, and some texts beside them."""
    # Wide numbers first, so that each lies at a multiple of its size.
    ordered = sorted(tensors, key=lambda name: -tensors[name].element_size())
    data = {name: _bytes(tensor) for name, tensor in tensors.items()}
    header: dict[str, object] = {"__metadata__": {**told, "hash": _content_hash(data.values(), told.values())}}
    start = 0
    for name in ordered:
        stop = start + data[name].size
        header[name] = {
            "dtype": _NAMES[tensors[name].dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [start, stop],
        }
        start = stop
    words = json.dumps(header).encode()
    words += b" " * (-len(words) % 8)
    with written_aside(path) as file:
        file.write(len(words).to_bytes(8, "little") + words)
        for name in ordered:
            file.write(data[name].data)


def read_tensors(
    path: Path, names: Sequence[str], told_names: Sequence[str]
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """What `write_tensors` wrote, with names in its order. Raises one of DAMAGE when something else lies there."""
    tensors: dict[str, torch.Tensor] = {}
    for name in names:
        # A copy, and the file opened for each: what is mapped can change, and would count beside the copies.
        with safe_open(path, "pt") as file:
            found, tensors[name] = file.metadata() or {}, file.get_tensor(name).clone()
    told = {name: found[name] for name in told_names}
    if found["hash"] != _content_hash(map(_bytes, tensors.values()), told.values()):
        raise ValueError("its content is not what was written")
    return tensors, told


def kept(path: Path, read: Callable[[Path], T]) -> T | None:
    """What `read` finds in a file; None where there is none, or where it is damaged, which is said on stderr."""
    if not path.exists():
        return None
    try:
        return read(path)
    except DAMAGE as error:
        print(f"{path}: the cached features are damaged ({error}); reading the images again", file=sys.stderr)
        return None


def kept_or_made(path: Path, read: Callable[[Path], T], make: Callable[[], T], write: Callable[[Path, T], None]) -> T:
    """What a file holds; where there is none, or a damaged one, what is made is written there first."""
    found = kept(path, read)
    if found is None:
        found = make()
        write(path, found)
    return found


def _bytes(tensor: torch.Tensor) -> NDArray[np.uint8]:
    numbers: NDArray[np.uint8] = tensor.contiguous().numpy().reshape(-1).view(np.uint8)
    return numbers


def _content_hash(data: Iterable[NDArray[np.uint8]], told: Iterable[str]) -> str:
    """As `eval.labelled_set.digest` has it, without a copy."""
    found = xxhash.xxh3_128()
    for part in (*(numbers.data for numbers in data), *(memoryview(text.encode()) for text in told)):
        found.update(part.nbytes.to_bytes(8, "little"))
        found.update(part)
    return found.hexdigest()


def unreadable_as_text(unreadable: Iterable[Unreadable]) -> str:
    """What could not be read, as one text."""
    return json.dumps([[isinstance(bad.path, Path), str(bad.path), bad.problem] for bad in unreadable])


def unreadable_of_text(text: str) -> tuple[Unreadable, ...]:
    """What `unreadable_as_text` was given. Raises one of DAMAGE."""
    return tuple(Unreadable(Path(at) if is_path else at, why) for is_path, at, why in json.loads(text))
