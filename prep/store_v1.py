"""Stores of format version 1, where each resolution's files held the text columns too: read as if they were of today's.

A version 1 file has one caption an image, so its token columns are no lists of captions, and no hashes of rows; whoever
reads a column looks at the file's own schema for that.
"""

from typing import Any


def upgrade(manifest: dict[str, Any]) -> dict[str, Any]:
    """A version 1 manifest as one of version 2: the same files, under the columns that they hold.

    Raises KeyError or TypeError when it is not one.
    """
    shards = manifest["shards"]
    folders = [str(res) for res in manifest["resolutions"]]
    quality = int(manifest["encoding"].split(" ")[1].removeprefix("q"))
    tagger, tokenizer = manifest["tagger"], manifest["tokenizer"]
    tokens, priorities = "tokens/original/clip", f"priorities/original/clip/{tagger['name']}"
    truncated = {"num_truncated": manifest["num_captions_truncated"]}
    view = {"encoding": "jpeg", "quality": quality, "subsampling": "444", "margin": manifest["margin"]}
    columns = {
        folder: (folder, "view", {"res": int(folder), **view}, {"num_small": manifest["num_small"].get(folder, 0)})
        for folder in folders
    }
    columns["rows"] = ("text", "rows", {}, {})
    columns["captions/original"] = ("text", "captions", {"source": "original"}, {})
    columns[tokens] = (folders[0], "tokens", {"tokenizer": tokenizer}, truncated)
    columns[priorities] = (folders[0], "priorities", {"tagger": tagger}, {})
    return {
        **{key: manifest[key] for key in ("format_version", "fingerprint", "context_length")},
        **{key: manifest[key] for key in ("num_read", "num_samples", "rejects")},
        "shards": [{key: s[key] for key in ("shard", "source", "num_read", "num_samples")} for s in shards],
        "reject_files": [f for s in shards for f in s["files"] if f["path"].startswith("rejects/")],
        "columns": {
            name: {
                "folder": name,
                "kind": kind,
                "settings": settings,
                "libraries": {},
                "counts": counts,
                "files": [f for s in shards for f in s["files"] if f["path"].startswith(f"{folder}/")],
            }
            for name, (folder, kind, settings, counts) in columns.items()
        },
    }
