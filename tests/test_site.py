"""The book as it is built: links and anchors hold, nothing comes from a network, it can be read on a desk and on a phone.

`sphinx-build -q -W -j 2 docs site && CNNLAB_SITE=site python -m pytest tests/test_site.py`; .ci/run does the same. Playwright
looks at the pages in the Chromium of this machine, whatever its version, so that no other browser is downloaded.
"""

import functools
import html.parser
import itertools
import os
import pathlib
import re
import shutil
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
from test_book import CLICKS

SITE = pathlib.Path(os.environ.get("CNNLAB_SITE", "site-that-was-not-built")).resolve()
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BUILT = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html") if "_static" not in path.parts)
GENERATED = re.compile(r"(experiments|api|claims)/(?!index)|(genindex|search)\.html")
"""Pages by the hundred that one template makes; one of each is looked at."""
LOOKED_AT = [page for page in BUILT if not GENERATED.match(page)]
LOOKED_AT += ["experiments/lenet5_digits.html", "api/models.lenet.html", "claims/README.html", "claims/c07.html"]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not BUILT, reason="no built book: see the top of tests/test_site.py")]


class Page(html.parser.HTMLParser):
    """What a page has.

    Attributes:
        ids: the anchors.
        links: (address, visible text) of every link.
        fetched: addresses of what a browser loads for the page.
        headings: (level, text, anchor of its section).
        nameless: addresses of pictures without an alternative text.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[tuple[str, str]] = []
        self.fetched: list[str] = []
        self.headings: list[tuple[int, str, str]] = []
        self.nameless: list[str] = []
        self._open: list[tuple[str, str, list[str]]] = []
        self._section = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes what an element has."""
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given["id"]} if "id" in given else set()
        if tag == "section":
            self._section = given.get("id", "")
        if tag == "img":
            self.nameless += [given.get("src", "")] * (not given.get("alt", "").strip())
        self.fetched += [given["src"]] if "src" in given else []
        self.fetched += [part.split()[0] for part in given.get("srcset", "").split(",") if part.strip()]
        if tag == "link" and given.get("rel") not in ("canonical", "author", "next", "prev", "index", "search"):
            self.fetched.append(given.get("href", ""))
        if (tag == "a" and "href" in given) or re.fullmatch(r"h[1-6]", tag):
            self._open.append((tag, given.get("href", self._section), []))

    def handle_data(self, data: str) -> None:
        """Adds text to the links and headings in which it stands."""
        for _, _, words in self._open:
            words.append(data)

    def handle_endtag(self, tag: str) -> None:
        """Closes a link or a heading."""
        if self._open and self._open[-1][0] == tag:
            _, address, words = self._open.pop()
            text = " ".join("".join(words).removesuffix("¶").split())
            if tag == "a":
                self.links.append((address, text))
            else:
                self.headings.append((int(tag[1]), text, address))


@functools.cache
def page_of(name: str) -> Page:
    """The page of a file of the site."""
    return Page((SITE / name).read_text(encoding="utf-8"))


def target(name: str, address: str) -> tuple[str, str]:
    """(file of the site, anchor) to which a link on a page leads."""
    path, _, anchor = urllib.parse.unquote(address).partition("#")
    file = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
    return file, anchor


def test_links_and_anchors_hold():
    broken = []
    for name in BUILT:
        for address, text in page_of(name).links:
            if re.match(r"(https?|mailto):", address):
                continue
            file, anchor = target(name, address)
            if not (SITE / file).exists() or (anchor and file.endswith(".html") and anchor not in page_of(file).ids):
                broken.append(f"{name}: {text!r} leads to {address}")
    assert not broken, "\n".join(broken)


def test_no_page_and_no_style_asks_for_anything_from_elsewhere():
    elsewhere = [
        f"{name}: {address}" for name in BUILT for address in page_of(name).fetched if re.match(r"(https?:)?//", address)
    ]
    missing = [
        f"{name}: {address}"
        for name in BUILT
        for address in page_of(name).fetched
        if not re.match(r"data:|(https?:)?//", address) and not (SITE / target(name, address.partition("?")[0])[0]).exists()
    ]
    for style in SITE.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        elsewhere += [
            f"{style.name}: {found}" for found in re.findall(r"(?:url\(|@import\s*)[\"']?(?:https?:)?//[^)\"']+", text)
        ]
    assert not elsewhere + missing, "\n".join(elsewhere + missing)


def test_headings_are_in_order():
    wrong = []
    for name in set(BUILT) - {"search.html"}:  # its heading comes with what is found
        levels = [level for level, _, _ in page_of(name).headings]
        skipped = any(after > before + 1 for before, after in itertools.pairwise(levels))
        wrong += [f"{name}: {levels}"] * (levels.count(1) != 1 or levels[0] != 1 or skipped)
    assert not wrong, "\n".join(wrong)


def test_every_picture_has_an_alternative_text():
    assert not [f"{name}: {picture}" for name in BUILT for picture in page_of(name).nameless]


@pytest.mark.parametrize("question", CLICKS)
def test_a_new_reader_finds_it_from_the_first_page(question: str):
    clicks, heading = CLICKS[question]
    name, anchor = "index.html", ""
    for click in clicks:
        found = [address for address, text in page_of(name).links if re.fullmatch(click, text)]
        assert found, f"{name} has no link {click!r}"
        name, anchor = target(name, found[0])
    headings = [text for level, text, section in page_of(name).headings if section == anchor or (not anchor and level == 1)]
    assert len(clicks) <= 3 and any(re.fullmatch(heading, text) for text in headings), f"{name}#{anchor}: {headings}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed: pip install -r docs/requirements.txt"
    )
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--allow-file-access-from-files"])
        yield opened
        opened.close()


SIZES = {"desk": (1280, 900), "phone": (390, 844)}

WIDER = """() => ['html', '.content'].map(name => document.querySelector(name)).filter(one => one)
  .map(one => [one.scrollWidth, one.clientWidth]).find(([whole, seen]) => whole > seen)"""
"""Widths of the page, or of its column that scrolls by itself, and of what is seen of it; nothing where it fits."""

PALE = """() => {
  const parts = text => { const found = text.match(/[\\d.]+/g).map(Number); return found.length < 4 ? [...found, 1] : found };
  const over = (top, below) => [0, 1, 2].map(i => top[3] * top[i] + (1 - top[3]) * below[i]).concat(1);
  const ground = element => {
    let layers = [];
    for (let one = element; one; one = one.parentElement) layers.push(parts(getComputedStyle(one).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const light = colour => {
    const [r, g, b] = colour.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = new Map();
  for (const element of document.querySelectorAll('article *, .sidebar-tree a, .toc-tree a')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    const style = getComputedStyle(element);
    if (!own || !element.checkVisibility() || element.closest('.headerlink, button') || style.visibility === 'hidden') continue;
    const below = ground(element), front = over(parts(style.color), below);
    const [most, least] = [light(front), light(below)].sort((a, b) => b - a);
    const ratio = (most + 0.05) / (least + 0.05), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) {
      const kind = `${element.tagName}.${element.className} ${style.color} on ${below.slice(0, 3).map(Math.round)}`;
      if (!found.has(kind)) found.set(kind, `${kind}: ${ratio.toFixed(2)} (${element.textContent.trim().slice(0, 30)})`);
    }
  }
  return [...found.values()];
}"""
"""Texts whose contrast is below that of WCAG 2.1, 1.4.3: 4.5, or 3 where letters are large."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_can_be_read_on_a_desk_and_on_a_phone(scheme: str, browser: Any):
    context = browser.new_context(color_scheme=scheme)
    tab = context.new_page()
    wrong: list[str] = []
    tab.on(
        "console", lambda said: wrong.append(f"{tab.url}: console: {said.text}") if said.type in ("error", "warning") else None
    )
    tab.on("pageerror", lambda error: wrong.append(f"{tab.url}: {error}"))
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("requestfailed", lambda request: wrong.append(f"{tab.url}: {request.url} was not loaded"))
    for name in LOOKED_AT:
        for size, (width, height) in SIZES.items():
            tab.set_viewport_size({"width": width, "height": height})
            if size == "desk":
                tab.goto((SITE / name).as_uri())
            if wide := tab.evaluate(WIDER):
                wrong.append(f"{name}: on a {size} {wide[0]} pixels wide, where {wide[1]} are seen")
        wrong += [f"{name}, {scheme}: {pale}" for pale in tab.evaluate(PALE)]
    wrong += [f"asks for {url}" for url in asked if not url.startswith(("file://", "data:"))]
    context.close()
    assert not wrong, "\n".join(wrong)
