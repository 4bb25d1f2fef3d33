"""A real S3 server on this machine: tars, tables and images in, a store's folder out, and what can go wrong there.

It needs the packages s3fs and moto[server], and no network.
"""

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prep.build import main as build
from prep.errors import UserError
from prep.pairs import Pair, Reject
from prep.places import Folder, expand
from prep.sources import Part, SourceOptions, list_parts, read_part
from prep.store import open_store
from prep.verify import verify
from tests.tar_files import PAIRS, held, outline, tar_of
from tests.test_build import jpeg, write_tar

s3fs = pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")

FAILED = {
    "key": pa.array(["0", "7"], pa.string()),
    "status": pa.array(["success", "failed_to_download"], pa.string()),
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    started = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    with contextlib.redirect_stdout(io.StringIO()):
        started.start()
    host, port = started.get_host_and_port()
    yield f"http://{host}:{port}"
    started.stop()


@pytest.fixture(scope="module")
def s3(address: str) -> Iterator[Any]:
    """The filesystem, with all that leads s3fs and what lies below it to the server, the way a user would lead them."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            **{"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"},
            **{"AWS_DEFAULT_REGION": "us-east-1", "AWS_CONFIG_FILE": "/dev/null", "AWS_MAX_ATTEMPTS": "1"},
            **{"AWS_SHARED_CREDENTIALS_FILE": "/dev/null"},
        }.items():
            environment.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield s3fs.S3FileSystem()
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def bucket(s3: Any, request: pytest.FixtureRequest) -> str:
    """The URL of a new bucket."""
    name = request.node.name.replace("_", "-")
    s3.mkdir(name)
    return f"s3://{name}"


def put(url: str, data: bytes) -> None:
    folder, _, name = url.rpartition("/")
    with Folder.of(folder).written(name) as file:
        file.write(data)


def parquet_of(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def read(*inputs: str, options: SourceOptions | None = None) -> list[Pair | Reject]:
    options = options or SourceOptions()
    parts = list_parts(inputs, options)
    return [item for part in parts for item in held(read_part(part, options), part.name)]


def test_tars_in_with_what_failed_to_download(bucket: str) -> None:
    for name in ("2.tar", "10.tar", "pairs.txt"):
        put(f"{bucket}/pairs/{name}", tar_of(PAIRS))
    put(f"{bucket}/pairs/2.parquet", parquet_of(pa.table(FAILED)))
    pair, failed = [("0", "pair"), ("1", "pair")], [("7", "image_missing")]
    for inputs in (f"{bucket}/pairs/*.tar", f"{bucket}/p*/2.*", f"{bucket}/pairs/2.tar"):
        results = read(inputs)
        assert outline(results) == pair + failed + (pair if inputs.endswith("/*.tar") else [])
    assert results[0].source == "2.tar"
    assert outline(read(f"{bucket}/pairs")) == pair + failed + pair


def test_a_large_tar_is_fetched_in_blocks_and_a_cut_is_a_cut(bucket: str) -> None:
    members = [(f"{i}.{extension}", b"%d" % i * (2 << 20)) for i in range(4) for extension in ("jpg", "cls")]
    members += [(f"{i}.txt", b"x") for i in range(4)]
    data = tar_of(sorted(members))
    put(f"{bucket}/x.tar", data)
    results = read(f"{bucket}/x.tar")
    assert [result.image for result in results if isinstance(result, Pair)] == [b"%d" % i * (2 << 20) for i in range(4)]
    put(f"{bucket}/x.tar", data[: 13 << 20])
    assert [what for _, what in outline(read(f"{bucket}/x.tar"))] == ["pair", "pair", "pair", "source_cut"]


def test_tables_in(bucket: str) -> None:
    put(f"{bucket}/in/images/a.jpg", b"a")
    rows = ["images/a.jpg", f"{bucket}/in/images/a.jpg", "../x", f"{bucket}/x", "images", "gone.jpg", "http://x/a.jpg"]
    put(f"{bucket}/in/x.csv", b"path,text\n" + b"".join(b"%s,x\n" % row.encode() for row in rows))
    found = ["pair", "pair", "unsafe_name", "unsafe_name", "not_a_file", "image_missing", "image_missing"]
    for size in (1000, 2):
        results = read(f"{bucket}/in/x.csv", options=SourceOptions(rows_per_shard=size))
        assert [what for _, what in outline(results)] == found
    put(f"{bucket}/y.jsonl", b'{"file_name": "a.jpg", "text": "x"}')
    assert outline(read(f"{bucket}/y.jsonl", options=SourceOptions(image_root=f"{bucket}/in/images"))) == [
        ("y-000000000", "pair")
    ]
    images = pa.table({"image": pa.array([b"1", b"2"]), "text": pa.array(["x", "y"], pa.string())})
    put(f"{bucket}/hub/data/train-00000-of-00001.parquet", parquet_of(images))
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, images.schema) as writer:
        writer.write_table(images)
    put(f"{bucket}/z.arrow", sink.getvalue())
    for inputs in (f"{bucket}/hub", f"{bucket}/z.arrow"):
        assert [what for _, what in outline(read(inputs))] == ["pair", "pair"]


def test_a_folder_of_images_in(bucket: str, s3: Any) -> None:
    for name in ("a.jpg", "a.txt", "b/c.png", "b/c.txt", "b/d.txt", "f::file.jpg"):
        s3.pipe_file(f"{bucket}/cats/{name}".removeprefix("s3://"), name.encode())
    for size in (1000, 2):
        results = read(f"{bucket}/cats", options=SourceOptions(rows_per_shard=size))
        assert outline(results)[0] == ("a", "pair")
        assert outline(results)[-2:] == [("b/c", "pair"), ("b/d", "image_missing")]
        assert ("f::file", "caption_missing") in outline(results)


def test_a_folder_out(bucket: str) -> None:
    folder = Folder.of(f"{bucket}/store/")
    with folder.working():
        folder.write_json("plan.json", {"x": 1})
        with folder.written("112/00000.arrow") as file:
            file.write(bytes(33 << 20))
            assert folder.names() == ["plan.json"]
        with pytest.raises(TypeError), folder.written("112/00001.arrow") as file:
            file.writelines([b"half", "no bytes"])  # type: ignore[list-item]
        with pytest.raises(UserError, match="another program"), folder.working():
            pass
        folder.remove_half_written()
    assert (folder.sizes(), folder.sizes("112")) == ({"112": None, "plan.json": 12}, {"00000.arrow": 33 << 20})
    assert Folder.of(folder.url).read_json("plan.json") == {"x": 1}
    with folder.open("112/00000.arrow") as file:
        file.seek(-5, io.SEEK_END)
        assert file.read() == bytes(5)


def refused(said: str, *calls: Callable[[], object]) -> None:
    for call in calls:
        with pytest.raises(UserError, match=said) as caught:
            call()
        assert caught.value.remedy


def test_what_is_not_there(bucket: str) -> None:
    none = Folder.of("s3://no-such-bucket/store")
    refused("bucket", lambda: none.write_json("x", {}), lambda: none.read_json("x"))
    refused("nothing matches|bucket", lambda: expand([f"{none.url}/*.tar"]), lambda: expand([f"{none.url}/x.tar"]))
    refused("no such file", lambda: read(f"{bucket}/gone.tar"))


def test_a_server_that_cannot_be_reached(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    refused("connect", lambda: Folder.of(f"{bucket}/store").size("x"), lambda: expand([f"{bucket}/x.tar"]))
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_file_that_goes_away_is_not_the_end_of_a_tar(bucket: str, s3: Any) -> None:
    put(f"{bucket}/x.tar", tar_of([(f"{i}.cls", bytes(6 << 20)) for i in range(4)]))
    results = read_part(Part("tar", f"{bucket}/x.tar", "x.tar", 0), SourceOptions())
    assert outline([next(results)]) == [("0", "image_missing")]
    s3.rm(f"{bucket}/x.tar".removeprefix("s3://"))
    refused(r"no such file|404", lambda: list(results))


def test_a_store_built_there_is_the_store_built_here(bucket: str, tmp_path: Path) -> None:
    members = [(f"{i}.{end}", data) for i in range(3) for end, data in (("jpg", jpeg()), ("txt", b"a picture"))]
    put(f"{bucket}/pairs/0.tar", tar_of(members))
    local = write_tar(tmp_path / "0.tar", members)
    common = ["--res", "16", "--tagger", "textblob", "--workers", "0"]
    build(["--input", f"{bucket}/pairs/*.tar", "--out", f"{bucket}/store", *common])
    build(["--out", f"{bucket}/store", "--tagger", "spacy", "--workers", "0"])
    build(["--input", str(local), "--out", str(tmp_path / "store"), *common])
    build(["--out", str(tmp_path / "store"), "--tagger", "spacy", "--workers", "0"])
    there, here = open_store(f"{bucket}/store"), open_store(tmp_path / "store")
    assert there.manifest == here.manifest
    for column in here.manifest.columns:
        assert there.open_shard(column, 0).read_all() == here.open_shard(column, 0).read_all()
    assert verify(there.folder).problems == ()
    with pytest.raises(UserError, match="wanted a store on the local disk"):
        _ = there.path
