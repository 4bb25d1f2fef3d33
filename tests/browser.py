"""Open a page in a real browser, headless: Chromium as Qt carries it. A program, for Qt wants a process of its own.

    python tests/browser.py PAGE WIDTH light|dark

Prints what happened as JSON: whether the page was loaded, what the console said, which addresses were asked for, and
what `_LOOK` measured of the page as it was laid out.
"""

import json
import os
import sys
from pathlib import Path
from typing import NoReturn

from PySide6.QtCore import QEventLoop, QTimer, QUrl
from PySide6.QtWebEngineCore import QWebEnginePage, QWebEngineProfile, QWebEngineUrlRequestInfo
from PySide6.QtWebEngineCore import QWebEngineUrlRequestInterceptor as Interceptor
from PySide6.QtWebEngineWidgets import QWebEngineView
from PySide6.QtWidgets import QApplication

_LOOK = """
JSON.stringify({
  title: document.title,
  background: getComputedStyle(document.body).backgroundColor,
  width: document.documentElement.clientWidth,
  content_width: document.documentElement.scrollWidth,
  num_scripts: document.scripts.length,
  headings: [...document.querySelectorAll("h2")].map(e => e.textContent),
  charts: [...document.querySelectorAll("svg")].map(svg => ({
    label: svg.getAttribute("aria-label"),
    size: [svg.getBoundingClientRect().width, svg.getBoundingClientRect().height],
    curves: [...svg.querySelectorAll("path.curve")].map(path => path.getTotalLength()),
    colours: [...svg.querySelectorAll("path.curve")].map(path => getComputedStyle(path).stroke)
  })),
  pictures: [...document.images].map(image => [image.naturalWidth, image.width]),
  text: document.body.innerText
})
"""
_MOST_MILLISECONDS = 60_000
# No GPU, and no sandbox, which Chromium refuses to give to root.
_FLAGS = "--no-sandbox --disable-gpu --disable-dev-shm-usage --blink-settings=preferredColorScheme="


class _Ear(Interceptor):
    def __init__(self) -> None:
        super().__init__()
        self.asked_for: list[str] = []

    def interceptRequest(self, info: QWebEngineUrlRequestInfo) -> None:
        self.asked_for.append(info.requestUrl().toString())


class _Page(QWebEnginePage):
    said: list[str]

    def javaScriptConsoleMessage(
        self, level: QWebEnginePage.JavaScriptConsoleMessageLevel, message: str, line: int, source: str
    ) -> None:
        self.said.append(f"{level.name}: {message} ({source}:{line})")


def look(path: Path, width: int) -> NoReturn:
    """Print what is seen, and end: what Qt still holds then is no matter of ours."""
    profile, ear, view = QWebEngineProfile(), _Ear(), QWebEngineView()
    profile.setUrlRequestInterceptor(ear)
    page = _Page(profile, view)
    page.said = []
    view.setPage(page)
    view.resize(width, 800)
    view.show()
    loop, seen = QEventLoop(), dict[str, object]()

    def measured(answer: object) -> None:
        seen["page"] = json.loads(str(answer))
        loop.quit()

    def loaded(done: bool) -> None:
        seen["loaded"] = done
        page.runJavaScript(_LOOK, 0, measured)

    page.loadFinished.connect(loaded)
    QTimer.singleShot(_MOST_MILLISECONDS, loop.quit)
    page.load(QUrl.fromLocalFile(str(path.resolve())))
    loop.exec()
    print(json.dumps({**seen, "console": page.said, "asked_for": ear.asked_for}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    os.environ["QTWEBENGINE_CHROMIUM_FLAGS"] = _FLAGS + {"dark": "0", "light": "1"}[sys.argv[3]]
    app = QApplication(sys.argv[:1])
    look(Path(sys.argv[1]), int(sys.argv[2]))
