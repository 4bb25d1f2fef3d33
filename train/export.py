"""Write a trained model as a folder that another library loads with its ordinary call, and prove that it does.

    python -m train.export RUN --to open_clip --out folder/

    open_clip    both towers, tokenizer, preprocessing:  open_clip.create_model_from_pretrained("local-dir:folder")
    timm         the vision tower of any model:          timm.create_model("local-dir:folder", pretrained=True)
    hf           models with a norm before the blocks and a pooled class token (v1's S and B):
                                                         transformers.CLIPModel.from_pretrained("folder")

The library loads what was written before the folder gets its name. certificate.json in it holds the largest difference
of image features, text features and logits on a fixed batch, through the exported preprocessing and tokenizer; above
1e-4 there is no folder. What a library cannot express is refused, with what to use instead.
"""

import argparse
from pathlib import Path
from typing import Any

from prep.errors import UserError, run_main
from prep.files import folder_written_aside, write_json
from prep.manifest import parse_manifest
from prep.tokenizer import load_tokenizer
from train import export_hf, export_open_clip, export_timm
from train.certificate import certify
from train.checkpoint import LoadedModel, load_model

LIBRARIES = {"open_clip": export_open_clip, "timm": export_timm, "hf": export_hf}
CERTIFICATE = "certificate.json"


def export(run: Path, library: str, out: Path, checkpoint: str = "latest") -> dict[str, Any]:
    """Write `out` and return its certificate. library: one of `LIBRARIES`. checkpoint: "latest", or samples seen.

    Raises `UserError` when the run or the checkpoint is not there, the library is missing or has no such model, `out`
    is not empty, or the loaded model is another one.
    """
    room = LIBRARIES[library]
    ours = load_model(run, checkpoint)
    room.check(ours)
    if library != "timm":
        _check_vocabulary(run, ours)
    with folder_written_aside(out) as aside:
        room.write(ours, aside)
        certificate = certify(ours, room.load(aside))
        write_json(aside / CERTIFICATE, certificate)
    return certificate


def _check_vocabulary(run: Path, ours: LoadedModel) -> None:
    """The exported tokenizer is this project's own; a run may have been trained on another vocabulary."""
    tokenizer = load_tokenizer(ours.recipe.model.text.tokenizer)
    for path in sorted(run.glob("manifest*.json")):
        for column in parse_manifest(path).of_kind("tokens"):
            trained = column.settings["tokenizer"]
            if trained["name"] == tokenizer.name and trained["fingerprint"] != tokenizer.fingerprint:
                problem = f"trained on the vocabulary {trained['fingerprint']}, ours is {tokenizer.fingerprint}"
                raise UserError(str(path), problem, "Use --to timm, which needs none.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="run folder that train.run or train.import_weights wrote")
    add("--to", required=True, choices=tuple(LIBRARIES), help="the library that is to load it")
    add("--out", type=Path, required=True, metavar="FOLDER", help="the folder to make")
    add("--checkpoint", default="latest", help="samples seen of a checkpoint (default: latest)")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the program; see the module's docstring."""
    args = _parser().parse_args(argv)
    certificate = export(args.run, args.to, args.out, args.checkpoint)
    worst = ", ".join(f"{name.replace('_', ' ')} {value:.1e}" for name, value in certificate["max_difference"].items())
    print(f"Exported to {args.out}; it loads with {certificate['call']}.\nLargest differences: {worst}.")
    if num := certificate.get("num_longer_texts_with_other_ids"):
        print(f"{num} of {certificate['num_longer_texts']} texts that are too long are cut otherwise there.")
    if num := certificate.get("num_odd_texts_with_other_ids"):
        print(f"{num} of {certificate['num_odd_texts']} odd texts have other token ids there.")


if __name__ == "__main__":
    run_main(main)
