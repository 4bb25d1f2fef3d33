"""The features of a store's images or captions, kept for searching:

    RUN/search/<fingerprint>/
      about.json                      of what, for people
      images-00000-<hash>.npy         float32 [rows, D], CHUNK_ROWS rows of the store a file
      captions-00000-<hash>.npy       float32 [captions, D], of the same rows
      owners-00000-<hash>.npy         int64 [captions], the row that each caption is of
      images.faiss, images.faiss.json an index over them: eval.neighbours

The fingerprint is of the checkpoint, the store and how the model sees it. A file bears its content's hash in its name,
is whole or not there, and is checked when it is opened: a damaged one is made anew, and a build that was cut short goes
on after its last file. Nothing is pickled; files are mapped, not read.
"""

import io
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray

from eval.captioned_store import CaptionedStore
from eval.features import model_key
from eval.labelled_set import digest
from eval.neighbours import Places, Vectors, exact, open_cells
from eval.retrieval import check_finite
from pipelines.evaluation import PlainImages, PlainTexts, row_batches
from prep.files import hash_file, working_in, write_json, written_aside
from prep.progress import bar
from prep.store import Store
from train.checkpoint import LoadedModel

Arrays = tuple[NDArray[Any], ...]

CHUNK_ROWS = 1 << 16
MANY = 1_000_000
"""From so many vectors on an index is made and asked; below it everything is looked at."""

# Part of every fingerprint: raise it when the same weights and rows would give other values.
_VERSION = "1"


@dataclass(frozen=True, slots=True)
class SearchIndex:
    """Where a store's features lie, as a model sees it; they are made when they are first asked for.

    chunk_rows: rows of the store a file. many: see MANY.
    """

    folder: Path
    loaded: LoadedModel
    store: Store
    batch_size: int = 128
    device: str = "cpu"
    chunk_rows: int = CHUNK_ROWS
    many: int = MANY

    def nearest(
        self, what: str, chunks: Sequence[Vectors], query: torch.Tensor, count: int
    ) -> tuple[list[int], list[float]]:
        """The most similar of `images` or `captions` to a unit vector float [D], best first: places, similarities.

        what: their name, "images" or "captions".
        """
        wanted: Vectors = query.float().cpu().numpy()[None]
        if sum(map(len, chunks)) < self.many:
            scores, places = exact(wanted, chunks, count)
        else:
            scores, places = open_cells(self.folder, what, chunks).find(wanted, count)
        return places[0].tolist(), scores[0].tolist()

    @property
    def _texts(self) -> PlainTexts:
        text = self.loaded.recipe.model.text
        return PlainTexts(self.store, self.loaded.budget, text.end_token, text.tokenizer)

    @property
    def vocabulary(self) -> dict[str, str]:
        """The identity of the tokenizer whose ids `captions` reads."""
        return dict(self._texts.view.vocabulary)

    def images(self) -> list[Vectors]:
        """The features of every row's image, float32 [rows, D] a chunk. Raises as `pipelines.evaluation` does."""
        images = PlainImages(self.store, self.loaded.budget.res)

        def encode(rows: NDArray[np.int64]) -> Arrays:
            return (self._numbers(self.loaded.model.encode_image(images.take(rows).to(self.device)), "images"),)

        return [chunk for (chunk,) in self._chunks(("images",), encode)]

    def captions(self) -> tuple[list[Vectors], Places]:
        """The features of every caption, float32 [captions, D] a chunk; and the row of each, int64 [all captions]."""
        texts = self._texts

        def encode(rows: NDArray[np.int64]) -> Arrays:
            found = texts.every(rows)
            parts = [
                self.loaded.model.encode_text(part.to(self.device)) for part in found.tokens.split(self.batch_size)
            ]
            return self._numbers(torch.cat(parts), "captions"), rows[found.owners.numpy()]

        chunks = self._chunks(("captions", "owners"), encode)
        return [vectors for vectors, _ in chunks], np.concatenate([owners for _, owners in chunks])

    def _numbers(self, features: torch.Tensor, what: str) -> Vectors:
        numbers: Vectors = check_finite(features.float(), what).cpu().numpy()
        return numbers

    def _chunks(self, names: tuple[str, ...], encode: Callable[[NDArray[np.int64]], Arrays]) -> list[Arrays]:
        """The arrays of each chunk, mapped; those that are not there are made by `encode`, a batch of rows a call."""
        num = self.store.manifest.num_samples
        starts = range(0, num, self.chunk_rows)
        kept = [[self._kept(f"{name}-{number:05d}") for name in names] for number in range(len(starts))]
        if any(None in paths for paths in kept):
            with working_in(self.folder), torch.inference_mode(), bar(num, f"{names[0]} to search", "rows") as progress:
                for number, start in enumerate(starts):
                    stop = min(start + self.chunk_rows, num)
                    if None in kept[number]:
                        # Looked for again, now that no other program makes them.
                        kept[number] = [self._kept(f"{name}-{number:05d}", mend=True) for name in names]
                    if None in kept[number]:
                        parts = [encode(rows) for rows in row_batches(start, stop, self.batch_size)]
                        whole = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
                        stems = [f"{name}-{number:05d}" for name in names]
                        kept[number] = list(map(self._write, stems, whole))
                    progress.advance(stop - start)
        return [tuple(np.load(path, mmap_mode="r", allow_pickle=False) for path in paths if path) for paths in kept]

    def _kept(self, stem: str, *, mend: bool = False) -> Path | None:
        """The file of that name, where its hash is right. mend: damaged ones are told of and removed."""
        for path in sorted(self.folder.glob(f"{stem}-*.npy")):
            # Another program may be mending.
            with suppress(FileNotFoundError):
                if path.stem.rpartition("-")[2] == hash_file(path):
                    return path
            if mend:
                print(f"{path}: is not what was written; made anew", file=sys.stderr)
                path.unlink(missing_ok=True)
        return None

    def _write(self, stem: str, array: NDArray[Any]) -> Path:
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        data = buffer.getbuffer()
        path = self.folder / f"{stem}-{xxhash.xxh3_64_hexdigest(data)}.npy"
        with written_aside(path) as file:
            file.write(data)
        return path


def open_search_index(
    run: Path,
    loaded: LoadedModel,
    store: Store,
    *,
    ema: bool = False,
    batch_size: int = 128,
    device: str = "cpu",
    many: int = MANY,
    chunk_rows: int = CHUNK_ROWS,
) -> SearchIndex:
    """The index of a store for a checkpoint of a run; the folder is made, the features are not yet."""
    about = {
        "checkpoint": str(loaded.path),
        "ema": ema,
        "store": str(store.path),
        "rows": store.manifest.num_samples,
        "budget": asdict(loaded.budget),
        "chunk_rows": chunk_rows,
    }
    seen = json.dumps([about["budget"], chunk_rows], sort_keys=True)
    fingerprint = digest([_VERSION, model_key(loaded, ema=ema), CaptionedStore(store).content, seen])
    folder = run / "search" / fingerprint
    write_json(folder / "about.json", about)
    return SearchIndex(folder, loaded, store, batch_size, device, chunk_rows, many)
