"""What an input is: a tar, a table, or a folder of either, of a Hugging Face dataset, or of images."""

import re
from collections.abc import Iterator, Sequence

from prep.errors import UserError
from prep.places import Folder, expand, natural
from prep.sources.folders import list_folder
from prep.sources.names import IMAGE_EXTENSIONS, readable
from prep.sources.parts import Part, SourceOptions
from prep.sources.tables import TABLE_SUFFIXES, list_table
from prep.sources.tars import TAR_SUFFIXES

_SHARD_OF_SPLIT = re.compile(r"(.+?)-[0-9]{5}-of-[0-9]{5}\..*")
# Deep enough for the hub's layouts: data/train-00000-of-00001.parquet, config/split/0000.parquet.
_MAX_DEPTH = 2

_Sizes = dict[str, int | None]


def list_parts(inputs: Sequence[str], options: SourceOptions) -> list[Part]:
    """The parts of the inputs, in natural order; each becomes one shard.

    inputs: paths, patterns and URLs of tars, tables and folders. A folder is taken by what lies in it: tars; a dataset
    that `datasets` saved; tables without images beside them, or with `metadata` for a name; or images. What img2dataset
    put beside a tar is no table. Raises `UserError` for what is none of these, and for columns that are not there.
    """
    found = expand(inputs)
    stems = {_stem(url) for url, _ in found if url.lower().endswith(TAR_SUFFIXES)}
    parts: list[Part] = []
    for url, num_bytes in found:
        if num_bytes is None:
            parts += _parts_of_folder(url, options)
        elif not (url.endswith(".parquet") and _stem(url) in stems):
            parts += _parts_of_file(url, num_bytes, options)
    if not parts:
        raise UserError(found[0][0], "wanted pairs, but there are none in it", "Give other inputs.")
    return parts


def _stem(url: str) -> str:
    for suffix in (*TAR_SUFFIXES, ".parquet"):
        if url.lower().endswith(suffix):
            return url[: -len(suffix)]
    return url


def _parts_of_file(url: str, num_bytes: int, options: SourceOptions) -> Iterator[Part]:
    if url.lower().endswith(TAR_SUFFIXES):
        yield Part("tar", url, url.rpartition("/")[2], num_bytes)
    elif url.lower().endswith(TABLE_SUFFIXES):
        yield from list_table(url, num_bytes, options)
    else:
        wanted = f"wanted a tar ({', '.join(TAR_SUFFIXES)}), a table ({', '.join(TABLE_SUFFIXES)}) or a folder"
        raise UserError(url, f"{wanted}, found a file that is none", "Name the inputs, such as 'pairs/*.tar'.")


def _parts_of_folder(url: str, options: SourceOptions) -> Iterator[Part]:
    found = files_of_folder(url)
    if not found:
        yield from list_folder(url, options)
    for file, size in found:
        yield from _parts_of_file(file, size, options)


def files_of_folder(url: str) -> list[tuple[str, int]]:
    """The tars or tables that a folder is made of, and their sizes in bytes, in natural order; none for one of images.

    Raises `UserError` for a dataset of several splits, and for one whose files are missing or not well listed.
    """
    folder = Folder.of(url)
    sizes = folder.sizes()
    files = {name: size for name, size in sizes.items() if size is not None}
    tars = [name for name in files if name.lower().endswith(TAR_SUFFIXES)]
    if "dataset_dict.json" in files:
        splits = ", ".join(readable(name) for name, size in sizes.items() if size is None)
        raise UserError(url, f"this dataset has splits: {splits}", f"Name one, such as {url}/train")
    if any(name.endswith(".arrow") for name in files):
        chosen = _saved_dataset(folder, files)
    elif tars:
        chosen = tars
    else:
        chosen = [name for name in files if re.fullmatch(r"metadata\.(csv|jsonl|parquet)", name)][:1]
        chosen = chosen or _tables(folder, sizes)
    _check_splits(folder, chosen)
    found = []
    for name in sorted(chosen, key=lambda name: (natural(name), name)):
        size = folder.size(name)
        if size is None:
            raise UserError(folder.at(name), "the dataset names this file, but it is missing", "Restore it.")
        found.append((folder.at(name), size))
    return found


def _saved_dataset(folder: Folder, files: dict[str, int]) -> list[str]:
    """The files of a dataset that `save_to_disk` wrote; what `map` cached beside them is not of it."""
    if "state.json" not in files:
        return [name for name in files if name.endswith(".arrow") and not name.startswith("cache-")]
    state = folder.read_json("state.json")
    listed = state.get("_data_files")
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise UserError(folder.url, "this dataset's rows are picked by indices", "Save dataset.flatten_indices().")
    if not isinstance(listed, list) or not all(isinstance(file, dict) and "filename" in file for file in listed):
        raise UserError(folder.at("state.json"), "wanted a list of _data_files", "Save the dataset again.")
    names = [str(file["filename"]) for file in listed]
    if any("/" in name or not name.endswith(".arrow") for name in names):
        raise UserError(folder.at("state.json"), f"wanted names of .arrow files, found {names[:3]}", "Save it again.")
    return names


def _tables(folder: Folder, sizes: _Sizes) -> list[str]:
    """The tables of a folder in which no images lie before they do: its own, or those of its folders."""
    waiting, found = [""], list[str]()
    while waiting:
        prefix = waiting.pop(0)
        sizes = folder.sizes(prefix.rstrip("/")) if prefix else sizes
        if not found and any(size is not None and _is_image(name) for name, size in sizes.items()):
            return []
        found += [f"{prefix}{name}" for name, size in sizes.items() if size is not None and _is_table(name)]
        if found and not prefix:
            return found
        if prefix.count("/") < _MAX_DEPTH:
            inner = [name for name, size in sizes.items() if size is None and not name.startswith(".")]
            waiting += [f"{prefix}{name}/" for name in inner]
    return found


def _is_table(name: str) -> bool:
    return name.lower().endswith(TABLE_SUFFIXES) and not name.startswith(".")


def _is_image(name: str) -> bool:
    return name.rpartition(".")[2].lower() in IMAGE_EXTENSIONS


def _check_splits(folder: Folder, names: Sequence[str]) -> None:
    """Raise `UserError` when files are of several splits: training on the test split must not happen in silence."""
    splits = set()
    for name in names:
        place, _, file = name.rpartition("/")
        sharded = _SHARD_OF_SPLIT.fullmatch(file)
        splits.add((place, sharded[1] if sharded else ""))
    if len(splits) > 1:
        shown = ", ".join(readable(f"{place}/{split}".strip("/")) for place, split in sorted(splits))
        raise UserError(folder.url, f"it holds several splits: {shown}", f"Name one, such as '{folder.url}/train-*'.")
