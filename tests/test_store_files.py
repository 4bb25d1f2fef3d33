"""Files of a store that Arrow opens and the loader must not: record batches that are compressed, columns renamed."""

import shutil
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.contract import Draws, TokenBudget
from pipelines.torch_loader import TorchLoader
from prep.errors import UserError
from prep.manifest import FileRecord
from prep.store import Store, open_store

from .damage import NUM_ROWS, small_store

FIRST_VERSION = Path(__file__).parent / "golden" / "store-v1"


def read(store: Store, crops: str = "online") -> None:
    size = store.manifest.num_samples
    next(islice(TorchLoader(Draws((store,), TokenBudget(16, 8), size, 0, crops=crops), 0), 1))


def write_anew(store: Path, name: str, table: pa.Table, compression: str | None = None) -> Store:
    """Put a table in the place of a file; the store is opened as if its size had been recorded."""
    opened, path = open_store(store), store / name
    with pa.ipc.new_file(str(path), table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=1024)
    for column in opened.manifest.columns.values():
        files = [FileRecord(f.path, path.stat().st_size, f.xxh3) if f.path == name else f for f in column.files]
        object.__setattr__(column, "files", tuple(files))
    return opened


def table_of(path: Path) -> pa.Table:
    return pa.ipc.open_file(path.read_bytes()).read_all()


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
@pytest.mark.parametrize("folder", ["16", "16-raw-crop0", "tokens/original/clip"])
def test_compressed_record_batches_are_refused(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, folder: str, compression: str
) -> None:
    path = Path(shutil.copytree(small_store(tmp_path_factory), tmp_path / "store"))
    name = f"{folder}/00001.arrow"
    table, crops = table_of(path / name), "bank" if "crop" in folder else "online"
    read(write_anew(path, name, table), crops)
    store = write_anew(path, name, table, compression)
    assert store.manifest.num_samples == sum(NUM_ROWS)
    wanted = rf"^{path / name}, batch 0: wanted uncompressed Arrow IPC.*compressed\n.*without compression"
    with pytest.raises(UserError, match=wanted):
        read(store, crops)


@pytest.mark.parametrize("column", ["image", "width", "tokens", "priorities", "num_tokens"])
@pytest.mark.parametrize("shards", [(0,), (1,), (0, 1)])
def test_a_renamed_column_of_the_first_version_is_refused(tmp_path: Path, column: str, shards: tuple[int, ...]) -> None:
    """Its rows have no hashes, which would tell: addresses of another column's bytes would be taken for this one's."""
    path = Path(shutil.copytree(FIRST_VERSION, tmp_path / "store"))
    store = open_store(path)
    for shard in shards:
        name = f"16/{shard:05d}.arrow"
        table = table_of(path / name)
        names = [f"{column}_" if own == column else own for own in table.schema.names]
        store = write_anew(path, name, table.rename_columns(names))
    with pytest.raises(UserError, match=rf"^{path}/16/0000[01]\.arrow, batch 0: .*its schema is another one"):
        read(store)
