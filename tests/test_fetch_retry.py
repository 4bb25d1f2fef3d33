"""What the next run of prep.fetch tries again: told from the shards that are there, however the last one ended."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prep.fetch import _finished, _outcomes, _retry_pass
from prep.fetch_list import Columns, Plan


def write_shard(out: Path, shard: int, rows: dict[int, str | None]) -> None:
    """As img2dataset leaves it. rows: {row: None if it was fetched, else the message}."""
    messages = list(rows.values())
    columns = {
        "row": pa.array(rows, pa.int64()),
        "caption": [f"caption {row}" for row in rows],
        "url": [f"http://a.example/{row}" for row in rows],
        "status": ["failed_to_download" if message else "success" for message in messages],
        "error_message": pa.array(messages, pa.string()),
    }
    pq.write_table(pa.table(columns), out / f"{shard:05d}.parquet")
    for end in ("_stats.json", ".tar"):
        (out / f"{shard:05d}{end}").touch()


def test_the_last_attempt_counts_and_each_line_is_tried_once(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, {2: None, 0: "too_slow: a", 1: "http_404: gone"})
    write_shard(tmp_path, 1, {3: "too_slow: b: with\na second line", 4: "truncated: c", 5: "http_503: d"})
    write_shard(tmp_path, 3, {0: "too_slow: again", 3: None, 5: "http_410: now it is gone"})  # 2 was interrupted
    (tmp_path / "00004.tar").touch()  # somebody's: it has no account
    finished = _finished(tmp_path)
    assert finished == [0, 1, 3]
    codes, names = _outcomes(tmp_path, finished, 6)
    assert [names[code] for code in codes] == ["too_slow", "http_404", "fetched", "fetched", "truncated", "http_410"]

    plan, chosen = Plan((), Columns("URL", "TEXT"), 2, None), np.isin(codes, [names.index("too_slow")])
    jobs = list(_retry_pass(plan, tmp_path, tmp_path, finished, chosen | (codes == names.index("truncated"))))
    assert [(job.shard, job.num_rows) for job in jobs] == [(4, 2)]
    with pa.ipc.open_file(jobs[0].list) as file:
        table = file.read_all()
    assert table.column_names == ["row", "caption", "url"]
    assert table["row"].to_pylist() == [0, 4]
    assert table["url"].to_pylist() == ["http://a.example/0", "http://a.example/4"]
