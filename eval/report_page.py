"""The report's HTML: markup that cannot be forged by data, tables, and the page around them.

A string is text and is escaped wherever it is put; only `Html` is markup, and only `tag` and `raw` make it. The page
asks for nothing from anywhere: a policy in it forbids scripts, requests, forms and frames, and allows its own style and
pictures that are inlined.
"""

import base64
import html
from collections.abc import Iterable, Sequence

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
NUM_COLOURS = 4
_VOID = {"img", "meta"}


class Html(str):
    """Markup."""

    __slots__ = ()


def raw(text: str) -> Html:
    """A string of ours as markup; never one with data in it."""
    return Html(text)


def tag(name: str, /, *inside: str, **attributes: str | float) -> Html:
    """An element. Strings in it are escaped; `class_` and `stroke_width` stand for class and stroke-width."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"' for key, value in attributes.items()
    )
    opened = f"<{name}{said}>"
    return Html(opened if name in _VOID else f"{opened}{join(inside)}</{name}>")


def join(parts: Iterable[str]) -> Html:
    """Parts one after another, strings escaped."""
    return Html("".join(part if isinstance(part, Html) else html.escape(part) for part in parts))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """Rows under headings; the first column is the name of its row, the others are numbers or short words."""
    head = tag("tr", *(tag("th", heading, scope="col") for heading in headings))
    body = [tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="wide")


def facts(pairs: Iterable[tuple[str, str]]) -> Html:
    """Names and what stands against them."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs))


def missing(what: str, *commands: str) -> Html:
    """What is not there, and the commands that bring it."""
    return tag("div", tag("p", what), *(tag("pre", command) for command in commands), class_="missing")


def folded(summary: str, *inside: str) -> Html:
    """Something to open."""
    return tag("details", tag("summary", summary), *inside)


def picture(data: bytes, text: str) -> Html:
    """A PNG, inlined; text: what it shows."""
    return tag("img", src=f"data:image/png;base64,{base64.b64encode(data).decode()}", alt=text)


def section(name: str, title: str, *inside: str) -> Html:
    """A part of the page that the list at its top leads to."""
    return tag("section", tag("h2", title), *inside, id=name)


def page(title: str, subtitle: str, sections: dict[str, tuple[str, Sequence[str]]]) -> str:
    """The whole file. sections: by id, in order, a title and what is in it."""
    links = [tag("a", heading, href=f"#{name}") for name, (heading, _) in sections.items()]
    body = [section(name, heading, *inside) for name, (heading, inside) in sections.items()]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", raw(STYLE)),
    )
    top = tag("header", tag("h1", title), tag("p", subtitle), tag("nav", *links))
    return "<!DOCTYPE html>\n" + tag("html", head, tag("body", top, tag("main", *body)), lang="en") + "\n"


STYLE = """
:root { --ink: #1f2933; --grey: #5f6c7b; --faint: #dde2e8; --paper: #ffffff; --card: #f6f7f9; --link: #2f6690;
  --bad: #b3402b; --c0: #2f6690; --c1: #c2691c; --c2: #6b4e9b; --c3: #2f7d57; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --grey: #9aa5b1; --faint: #3a434d; --paper: #15191e; --card: #1e242b; --link: #82b4dd;
    --bad: #ef8f7c; --c0: #6fb1e4; --c1: #eda25b; --c2: #b59be6; --c3: #6cc49a; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { margin: 0.5rem 0 0; font-size: 1.7rem; line-height: 1.2; }
h2 { margin: 2.5rem 0 0.75rem; padding-bottom: 0.25rem; border-bottom: 1px solid var(--faint); font-size: 1.25rem; }
h3 { margin: 1.5rem 0 0.5rem; font-size: 1rem; }
p { margin: 0.5rem 0; }
header p, .note, figcaption, caption { color: var(--grey); }
nav { display: flex; flex-wrap: wrap; gap: 0.25rem 1rem; margin-top: 0.75rem; }
a { color: var(--link); }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: 0.75rem 1.5rem; margin: 0; }
dt { color: var(--grey); font-size: 0.85rem; }
dd { margin: 0; }
.wide { overflow-x: auto; overflow-wrap: normal; margin: 0.75rem 0; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.9rem 0.3rem 0; border-bottom: 1px solid var(--faint); text-align: right;
  vertical-align: top; }
th:first-child { text-align: left; font-weight: normal; }
thead th { color: var(--grey); font-weight: normal; }
td { min-width: 4rem; }
pre { overflow-x: auto; margin: 0.5rem 0; padding: 0.6rem 0.8rem; border-radius: 4px; background: var(--card);
  font-size: 0.85rem; }
.missing { padding-left: 0.9rem; border-left: 3px solid var(--c1); }
.event { margin: 0.75rem 0; padding-left: 0.9rem; border-left: 3px solid var(--bad); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); gap: 1.25rem; }
.large { grid-template-columns: repeat(auto-fill, minmax(min(27rem, 100%), 1fr)); }
figure { margin: 0; min-width: 0; }
figure h3 { margin: 0; }
figcaption { font-size: 0.85rem; }
figcaption > span { margin-right: 1rem; white-space: nowrap; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--grey); font: 12px system-ui, sans-serif; }
.grid { stroke: var(--faint); stroke-width: 1; }
.boundary { stroke: var(--grey); stroke-width: 1; stroke-dasharray: 5 4; }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
.thin { stroke-width: 1; opacity: 0.4; }
.spread { stroke-width: 1.5; opacity: 0.7; }
.dashed { stroke-dasharray: 2 4; }
.s0 { stroke: var(--c0); } .s1 { stroke: var(--c1); } .s2 { stroke: var(--c2); } .s3 { stroke: var(--c3); }
.k0 { color: var(--c0); } .k1 { color: var(--c1); } .k2 { color: var(--c2); } .k3 { color: var(--c3); }
circle { stroke: none; }
.f0 { fill: var(--c0); } .f1 { fill: var(--c1); } .f2 { fill: var(--c2); } .f3 { fill: var(--c3); }
img { display: block; max-width: 100%; height: auto; margin: 0.75rem 0; border-radius: 4px; background: white; }
details { margin: 0.75rem 0; }
summary { cursor: pointer; color: var(--link); }
"""
