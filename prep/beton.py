"""FFCV's `.beton` file, written by ourselves: bytes are copied unchanged, in little memory, and no ffcv is needed.

Version 2, little-endian, in this order:

    header        24 bytes: version, fields, page size, samples, address of the allocation table; written last
    fields        1,041 bytes each: type, name, arguments (an array's shape and dtype)
    metadata      40 bytes a sample: the image's mode, width, height, address; addresses of tokens and priorities; index
    data          from the next multiple of the page size: whole pages, zeros where the next sample would not fit
    allocations   24 bytes each, by address: sample, address, size

FFCV reads whole pages, so what it reads may not reach over a page's end; as in its own writer, a sample lies in one
page. Its reader keeps metadata, allocations and Python dictionaries of all samples in memory: about 1.5 KB a sample.

    ffcv.loader.Loader("112.beton", batch_size=256, pipelines={"image": [RandomResizedCropRGBImageDecoder((112, 112))]})

gives image (uint8), tokens (uint16 [77]), priorities (uint8 [77]) and index (int64 [1], the row in the store).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from prep.errors import UserError
from prep.schemas import CONTEXT_LENGTH

PAGE_SIZE = 8 << 20
"""Bytes of a page: FFCV's own default. It takes any power of two from 2 MiB to 2 GiB."""

MODES = {"jpeg": 0, "raw": 1}
"""How FFCV decodes an image, by the encoding of the view."""

_VERSION = 2
_INT, _IMAGE, _ARRAY = 1, 2, 4
_HEADER = np.dtype(
    [("version", "<u2"), ("num_fields", "<u2"), ("page_size", "<u4"), ("num_samples", "<u8"), ("allocations", "<u8")]
)
_FIELD = np.dtype([("type", "u1"), ("name", "S16"), ("arguments", "u1", 1024)])
_ARRAY_ARGUMENTS = np.dtype([("shape", "<u8", 32), ("dtype_length", "<u8")])
_IMAGE_METADATA = np.dtype([("mode", "u1"), ("width", "<u2"), ("height", "<u2"), ("address", "<u8")])
_METADATA = np.dtype(
    [("image", _IMAGE_METADATA), ("tokens", "<u8"), ("priorities", "<u8"), ("index", "<i8")], align=True
)
_ALLOCATION = np.dtype([("sample", "<u8"), ("address", "<u8"), ("size", "<u8")])

_TOKENS, _PRIORITIES = np.dtype("<u2"), np.dtype("u1")
_TOKENS_SIZE, _PRIORITIES_SIZE = CONTEXT_LENGTH * _TOKENS.itemsize, CONTEXT_LENGTH * _PRIORITIES.itemsize
_ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True)
class BetonRows:
    """Consecutive samples. images: JPEG files, or raw uint8 [height, width, 3]. widths, heights: uint16 [N].
    tokens: uint16 [N, 77]. priorities: uint8 [N, 77].
    """

    images: Sequence[bytes | memoryview]
    widths: NDArray[np.uint16]
    heights: NDArray[np.uint16]
    tokens: NDArray[np.uint16]
    priorities: NDArray[np.uint8]


def write_beton(
    file: BinaryIO, batches: Iterable[BetonRows], num_samples: int, encoding: str, page_size: int = PAGE_SIZE
) -> None:
    """Write all samples into a new, seekable file on the disk that can be opened again by its name.

    encoding: one of MODES. Raises `UserError` for a sample larger than a page.
    """
    fields = _fields()
    start = _HEADER.itemsize + fields.nbytes
    file.write(bytes(_HEADER.itemsize) + fields.tobytes())
    address = _next_page(start + num_samples * _METADATA.itemsize, page_size)
    done = 0
    for rows in batches:
        metadata = np.zeros(len(rows.images), _METADATA)
        metadata["index"] = np.arange(done, done + len(metadata))
        _place(metadata, rows, address, encoding, page_size)
        file.seek(start + done * _METADATA.itemsize)
        file.write(metadata.tobytes())
        address = _write_data(file, metadata, rows, address)
        done += len(metadata)
    assert done == num_samples, f"{done} samples of {num_samples}"
    address = _next_page(address, page_size)
    file.truncate(address)
    file.flush()
    with open(file.name, "rb") as again:  # the sizes follow from the addresses: no need to keep them for all samples
        again.seek(start)
        file.seek(address)
        for first in range(0, num_samples, _ROWS_AT_ONCE):
            count = min(_ROWS_AT_ONCE, num_samples - first)
            file.write(_allocations(np.frombuffer(again.read(count * _METADATA.itemsize), _METADATA)).tobytes())
    file.flush()
    file.seek(0)
    file.write(np.array([(_VERSION, len(fields), page_size, num_samples, address)], _HEADER).tobytes())


def _next_page(address: int, page_size: int) -> int:
    return -(-address // page_size) * page_size


def _fields() -> NDArray[np.void]:
    fields = np.zeros(4, _FIELD)
    fields["name"] = ["image", "tokens", "priorities", "index"]
    fields["type"] = [_IMAGE, _ARRAY, _ARRAY, _INT]
    for field, dtype in ((1, _TOKENS), (2, _PRIORITIES)):
        description = json.dumps(dtype.descr).encode()
        arguments = np.zeros(1, _ARRAY_ARGUMENTS)
        arguments["shape"][0, 0] = CONTEXT_LENGTH
        arguments["dtype_length"] = len(description)
        encoded = np.frombuffer(arguments.tobytes() + description, np.uint8)
        fields["arguments"][field, : len(encoded)] = encoded
    return fields


def _place(metadata: NDArray[np.void], rows: BetonRows, address: int, encoding: str, page_size: int) -> None:
    """Fill in where each sample goes: its image, then its tokens, then its priorities, all in one page."""
    images = np.empty(len(metadata), np.uint64)
    sizes = [len(image) for image in rows.images]
    for i, size in enumerate(sizes):
        whole = size + _TOKENS_SIZE + _PRIORITIES_SIZE
        if whole > page_size:
            raise UserError(
                f"row {metadata['index'][i]}",
                f"wanted samples that fit into a page of {page_size:,} bytes, but this one has {whole:,}",
                "Export a view of smaller images, or a JPEG view instead of a raw one.",
            )
        if address % page_size + whole > page_size:
            address = _next_page(address, page_size)
        images[i] = address
        address += whole
    metadata["image"]["mode"] = MODES[encoding]
    metadata["image"]["width"], metadata["image"]["height"] = rows.widths, rows.heights
    metadata["image"]["address"] = images
    metadata["tokens"] = images + np.array(sizes, np.uint64)
    metadata["priorities"] = metadata["tokens"] + np.uint64(_TOKENS_SIZE)


def _write_data(file: BinaryIO, metadata: NDArray[np.void], rows: BetonRows, address: int) -> int:
    """Write the samples where they were placed; gives the address after the last."""
    file.seek(address)
    tokens = np.ascontiguousarray(rows.tokens, _TOKENS)
    priorities = np.ascontiguousarray(rows.priorities, _PRIORITIES)
    for i, (start, image) in enumerate(zip(metadata["image"]["address"].tolist(), rows.images, strict=True)):
        file.write(bytes(start - address))
        file.write(image)
        file.write(tokens[i].tobytes() + priorities[i].tobytes())
        address = start + len(image) + _TOKENS_SIZE + _PRIORITIES_SIZE
    return address


def _allocations(metadata: NDArray[np.void]) -> NDArray[np.void]:
    """Three regions a sample, in the order of their addresses."""
    found = np.zeros((len(metadata), 3), _ALLOCATION)
    found["sample"] = metadata["index"][:, None]
    addresses = (metadata["image"]["address"], metadata["tokens"], metadata["priorities"])
    found["address"] = np.stack(addresses, axis=1)
    found["size"][:, 0] = metadata["tokens"] - metadata["image"]["address"]
    found["size"][:, 1:] = (_TOKENS_SIZE, _PRIORITIES_SIZE)
    return found.reshape(-1)
