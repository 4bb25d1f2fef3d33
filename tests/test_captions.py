"""Captions: cleaning against open_clip's, and what becomes of bad and huge ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer, _clean_lower, _clean_whitespace

from prep import captions
from prep.captions import MAX_BYTES, MAX_CHARACTERS, Caption, CaptionError, clean, decode
from prep.pairs import Reason
from prep.tokenizer import load_tokenizer

FRAGMENTS = [
    *(
        "&amp;",
        "&amp;amp;",
        "&amp;lt;",
        "&lt",
        "&",
        "& ",
        "&#39;",
        "&#x41",
        "&#0;",
        "&#x80;",
        "&#xD800;",
        "&nbsp;",
        "<b>",
    ),
    *(
        "Ã©",
        "â€™",
        "Â£",
        "Ã",
        "“",
        "”",
        "ﬁ",
        "ＡＢ",
        "e\u0301",
        "\u0130",
        "ß",
        "Σ",
        "漢字",
        "\u1112\u1161\u11ab",
        "😀",
        "👩‍👩‍👧",
    ),
    *(
        "\x00",
        "\x0b",
        "\x0c",
        "\x1b[31m",
        "\x1c",
        "\x1f",
        "\x7f",
        "\x85",
        "\xa0",
        "\xad",
        "\u200b",
        "\u2028",
        "\ufeff",
        "\ufffd",
    ),
    *("\r\n", "\n", "\t", "  ", " ", "a", "Dog", "'s", "1", "."),
]
odd_texts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=4), max_size=12).map("".join)


PLAIN = [*(chr(code) for code in range(0x20, 0x7F) if chr(code) != "&"), "& ", "\t", "\n", "\f", "\r", "amp; ", "\r\n"]


@given(st.lists(st.sampled_from(PLAIN), max_size=40).map("".join))
def test_the_shortcut_changes_nothing(text: str) -> None:
    assert captions._PLAIN.fullmatch(text)
    assert clean(text) == _clean_whitespace(text)


@given(odd_texts)
def test_cleaning_is_open_clips_without_its_lower_casing(text: str) -> None:
    assert clean(text) == _clean_whitespace(text)
    assert clean(text).lower() == _clean_lower(text)


def test_every_character_of_the_first_planes_alphabets_is_cleaned_as_open_clip_does() -> None:
    texts = [f"{end}a{chr(code)}b{end}" for code in range(0x2070) for end in ("", chr(code))]
    assert [clean(text) for text in texts] == [_clean_whitespace(text) for text in texts]


def test_a_number_too_long_for_python_is_one_unknown_character() -> None:
    text = "a &#" + "9" * 5000 + "; b"
    with pytest.raises(ValueError, match="4300"):
        _clean_whitespace(text)
    assert clean(text) == "a \ufffd b"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"a dog\n", "a dog"),
        (b"\xef\xbb\xbfA Dog", "A Dog"),
        ("Zoë’s café".encode(), "Zoë's café"),
        (b"fish &amp;amp; chips", "fish & chips"),
        (b"bell\x07 and\x00 null", "bell and null"),
    ],
)
def test_a_caption_is_read(raw: bytes, text: str) -> None:
    assert decode(raw) == Caption(text, cut=False)


@pytest.mark.parametrize(
    ("raw", "reason", "detail"),
    [
        (b"", Reason.CAPTION_EMPTY, "0 bytes"),
        (b" \n\t ", Reason.CAPTION_EMPTY, "4 bytes"),
        (b"\xef\xbb\xbf", Reason.CAPTION_EMPTY, "3 bytes"),
        (b"\x00\x01", Reason.CAPTION_EMPTY, "2 bytes"),
        (b" " * 20_000, Reason.CAPTION_EMPTY, "20,000 bytes"),
        (b"caf\xe9", Reason.CAPTION_NOT_UTF8, "byte 0xe9 at 3"),
        ("a dog".encode("utf-16"), Reason.CAPTION_NOT_UTF8, "byte 0xff at 0"),
        (b"\xed\xa0\x80", Reason.CAPTION_NOT_UTF8, "byte 0xed at 0"),
        (b"a" * (MAX_BYTES + 1), Reason.CAPTION_TOO_LONG, "1,048,577 bytes, more than 1,048,576"),
    ],
)
def test_what_is_no_caption_has_a_reason(raw: bytes, reason: Reason, detail: str) -> None:
    with pytest.raises(CaptionError) as caught:
        decode(raw)
    assert caught.value.reason is reason
    assert detail in caught.value.detail


def test_ten_thousand_words_are_cut_between_words_and_say_so() -> None:
    whole = " ".join(f"word{i}" for i in range(10_000))
    caption = decode(whole.encode())
    assert caption.cut
    assert MAX_CHARACTERS - 128 <= len(caption.text) <= MAX_CHARACTERS
    assert whole.startswith(caption.text + " ")


def test_the_limit_itself_is_not_cut() -> None:
    text = "ab " * (MAX_CHARACTERS // 3) + "ab"
    assert len(text) == MAX_CHARACTERS
    assert decode(text.encode()) == Caption(text, cut=False)
    assert decode((text + "c").encode()) == Caption(text[:-3], cut=True)


def test_padding_is_no_text_to_cut() -> None:
    assert decode(b" " * 20_000 + b"a dog" + b"\n" * 20_000) == Caption("a dog", cut=False)


def test_the_longest_words_of_the_vocabulary_fill_the_context_of_a_cut_caption() -> None:
    oracle = SimpleTokenizer()
    words = {bytes(map(oracle.byte_decoder.__getitem__, symbol.removesuffix("</w>"))) for symbol in oracle.encoder}
    readable = {word.decode() for word in words if word == word.decode(errors="ignore").encode()}
    longest = max(readable - {"<start_of_text>", "<end_of_text>"}, key=len)
    assert len(longest) == 24
    caption = decode(" ".join([longest] * 200).encode())
    assert caption.cut
    assert len(load_tokenizer().encode(caption.text)) >= 75


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit",
    ["a\u0301\u0316", "\u0301\u0316", "\n", "Ã©\n", "Ã", "&amp;amp;", "&#", "\x1b[", "\ufb03", "\x85", "漢", "1"],
)
def test_a_megabyte_of_anything_takes_bounded_work(unit: str) -> None:
    raw = (unit * MAX_BYTES).encode()[: MAX_BYTES - MAX_BYTES % len(unit.encode())]
    try:
        assert 0 < len(decode(raw).text) <= MAX_CHARACTERS
    except CaptionError as error:
        assert error.reason is Reason.CAPTION_EMPTY  # noqa: PT017
