"""What eval.run says of odd data and prompts: for each budget, with a remedy that is one, and fit for a terminal."""

from pathlib import Path
from typing import Any

import pytest

from eval.run_summary import cut_warning, print_report, retrieval_warnings, warnings_of

BAD = "a\x1b]0;owned\x07\udcff.jpg"


def result(**more: Any) -> dict[str, Any]:
    return {
        **{"folder": f"/sets/{BAD}", "templates": "imagenet", "num_classes": 9, "num_images": 20, "confusions": []},
        **{"res": 32, "text_tokens": 12, "num_prompts_cut": 0, "num_names_cut": 0, "names_cut": []},
        **{"top1": 0.5, "top1_interval": (0.4, 0.6), "chance_top1": 0.1, "top5": None},
        **{"unreadable": [], "at_budgets": []},
        **more,
    }


def score(res: int, text_tokens: int, num: int, num_names: int) -> dict[str, Any]:
    cut = {"num_prompts_cut": num, "num_names_cut": num_names}
    return {"res": res, "text_tokens": text_tokens, "top1": 0.5, "top1_interval": (0.4, 0.6), **cut}


def test_each_budget_says_what_it_cuts() -> None:
    scores = [score(16, 6, 9, 6), score(24, 6, 9, 6), score(24, 8, 3, 0), score(32, 12, 0, 0)]
    told = list(warnings_of(result(at_budgets=scores)))
    assert [sentence.partition(": ")[2] for sentence in told] == [
        "at 16 px: 9 prompts are longer than 6 text tokens and lost their end, "
        "6 of them the class's name or a part of it.",
        "at 24 px: 3 prompts are longer than 8 text tokens and lost their end.",
    ]
    assert list(warnings_of(result(at_budgets=[score(32, 12, 0, 0)]))) == []


@pytest.mark.parametrize(("templates", "advised"), [("simple", False), ("imagenet", True)])
def test_simple_prompts_are_no_remedy_for_themselves(templates: str, advised: bool) -> None:
    told = cut_warning(result(templates=templates, num_prompts_cut=2, num_names_cut=2, names_cut=["a", "b"]))
    assert ("--templates simple" in told, "more text tokens" in told) == (advised, True)


def test_names_cannot_speak_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    bad = [{"path": f"/sets/{BAD}", "problem": f"image_format: {BAD}"}]
    found = {
        **{"store": f"/sets/{BAD}", "num_images": 5, "num_captions": 9, "num_captions_lost": 1, "unreadable": bad},
        **{"num_captions_cut": 3, "text_mask": "truncate", "num_captions_empty": 2},
        **{"preprocess": "centre", "preprocess_asked": "square", "text_to_image": {}, "image_to_text": {}},
    }
    zeroshot = result(
        unreadable=bad,
        num_without_class=1,
        unmatched={BAD: 1},
        confusions=[{"names": (BAD, "dog"), "num": 3}],
        **{"num_prompts_cut": 2, "num_names_cut": 2, "names_cut": [BAD]},
    )
    told = [*warnings_of(zeroshot), *retrieval_warnings(found)]
    report = {
        **{"run": f"/{BAD}", "samples_seen": 5, "budget": {"res": 32, "text_tokens": 12}},
        **{"zeroshot": [zeroshot], "retrieval": found, "tables": [], "figures": []},
    }
    print_report(report, Path(f"/{BAD}"))
    told.append(capsys.readouterr().out)
    assert len(told) == 8
    for text in told:
        assert not set(text) & {"\x1b", "\x07", "\udcff"}, text
    assert "owned" in told[-1]
    assert "are not seen square: a store's are cut at the centre" in told[-1]


def test_an_evaluation_of_before_says_nothing_of_its_preprocessing() -> None:
    assert list(retrieval_warnings({"store": "s"})) == []
