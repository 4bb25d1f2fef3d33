"""What a search keeps: features that are made once and checked, and the index above many vectors."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from eval.search import find_pictures, text_query
from eval.search_index import open_search_index
from prep.files import hash_file, working_in
from prep.store import Store, open_store
from train.checkpoint import LoadedModel, load_model

from .searched import counting, encoded, loaded, own, run


def test_features_are_made_once_and_a_build_goes_on(own: Path, loaded: LoadedModel, store: Store) -> None:
    cut, _ = counting(own, loaded, store, last=60)
    with pytest.raises(KeyboardInterrupt):
        cut.images()
    assert len(list(cut.folder.glob("images-*.npy"))) == 1
    index, model = counting(own, loaded, store)
    features = np.concatenate(index.images())
    assert model.num == store.manifest.num_samples - 40
    index.images()
    assert model.num == store.manifest.num_samples - 40
    assert np.allclose(features, encoded(loaded, store)[0].numpy(), atol=1e-5)
    assert not list(index.folder.glob(".*"))


def test_damaged_features_are_told_and_made_anew(
    own: Path, loaded: LoadedModel, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    index, model = counting(own, loaded, store)
    before = np.concatenate(index.images())
    second = sorted(index.folder.glob("images-*.npy"))[1]
    data = bytearray(second.read_bytes())
    data[-3] ^= 1
    second.write_bytes(data)
    model.num = 0
    assert np.array_equal(np.concatenate(index.images()), before)
    assert model.num == 40
    assert f"{second}: is not what was written" in capsys.readouterr().err


def test_two_programs_may_meet_one_damaged_file(
    own: Path, loaded: LoadedModel, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other has mended it, or is mending it, at whatever moment this one looks."""
    index, model = counting(own, loaded, store)
    before = np.concatenate(index.images())
    file = sorted(index.folder.glob("images-*.npy"))[1]
    whole, plain = file.read_bytes(), hash_file
    for moment in ("before it is read", "after it is read", "while it is held"):
        file.write_bytes(whole[:-1] + b"\x01")
        calls: list[Path] = []

        def other(path: Path, moment: str = moment, calls: list[Path] = calls) -> str:
            calls.append(path)
            if path == file and calls.count(file) == 1 + (moment == "while it is held"):
                if moment == "before it is read":
                    file.unlink()
                found = "gone" if moment != "before it is read" else plain(path)
                file.unlink()
                return found
            return plain(path)

        monkeypatch.setattr("eval.search_index.hash_file", other)
        model.num = 0
        assert np.array_equal(np.concatenate(index.images()), before)
        assert model.num == 40
    file.write_bytes(whole[:-1] + b"\x01")
    monkeypatch.setattr("eval.search_index.hash_file", plain)
    held = working_in

    @contextmanager
    def mended_meanwhile(folder: Path) -> Iterator[None]:
        file.write_bytes(whole)
        with held(folder):
            yield

    monkeypatch.setattr("eval.search_index.working_in", mended_meanwhile)
    model.num = 0
    assert np.array_equal(np.concatenate(index.images()), before)
    assert model.num == 0


def test_another_checkpoint_or_store_has_its_own_folder(
    own: Path, loaded: LoadedModel, store: Store, tmp_path: Path
) -> None:
    shutil.copytree(store.path, tmp_path / "other")
    manifest = json.loads((tmp_path / "other" / "manifest.json").read_text())
    manifest["columns"]["32"]["files"][0]["xxh3"] = "0" * 16
    (tmp_path / "other" / "manifest.json").write_text(json.dumps(manifest))
    folders = {
        open_search_index(own, loaded, store).folder,
        open_search_index(own, load_model(own, "32"), store).folder,
        open_search_index(own, loaded, open_store(tmp_path / "other")).folder,
    }
    assert len(folders) == 3


def test_many_are_asked_of_an_index_that_is_only_read_when_it_is_ours(
    own: Path, loaded: LoadedModel, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    faiss = pytest.importorskip("faiss")
    exactly, many = open_search_index(own, loaded, store), open_search_index(own, loaded, store, many=1)
    query, _ = text_query(many, own, "two dogs")
    wanted = find_pictures(exactly, query, 6)
    assert not list(many.folder.glob("*.faiss"))
    found = find_pictures(many, query, 6)
    # So few vectors are in two cells, and both are visited.
    assert [hit.row for hit in found] == [hit.row for hit in wanted]
    assert [hit.row for hit in find_pictures(many, query, 1000)] == [
        hit.row for hit in find_pictures(exactly, query, 96)
    ]
    read: list[str] = []
    whole = faiss.read_index

    def noted(path: str) -> object:
        read.append(path)
        return whole(path)

    monkeypatch.setattr(faiss, "read_index", noted)
    assert [hit.row for hit in find_pictures(many, query, 6)] == [hit.row for hit in wanted]
    assert len(read) == 1
    path = many.folder / "images.faiss"
    for spoil in (
        lambda: path.write_bytes(path.read_bytes()[:-1] + b"\x07"),
        lambda: path.with_name("images.faiss.json").unlink(),
        lambda: path.with_name("images.faiss.json").write_bytes(b"{\xff"),
        lambda: path.with_name("images.faiss.json").write_text("[]"),
        lambda: path.write_bytes(b"IwFl" + bytes(100)),
    ):
        spoil()
        assert [hit.row for hit in find_pictures(many, query, 6)] == [hit.row for hit in wanted]
    assert len(read) == 1
