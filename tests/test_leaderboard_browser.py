"""The site in a browser, from files and from the local server: sorted, filtered, by keyboard and without script."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import shared
from boards import ATTACKS

from unlearnbench.leaderboard.site.serve import server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUM = os.environ.get("UNLEARNBENCH_CHROMIUM") or shutil.which("chromium") or ""
BOARD = "boards/quick-v1.html"
ENTRY = "entries/quick-v1-salun-authors-salun.html"
EVERY = (
    "index.html", BOARD, ENTRY, "unlearners.html", "unlearners/salun.html", "measures.html", "suites.html",
    "changes.html",
)  # fmt: skip

CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const found = parse(getComputedStyle(each).backgroundColor);
      if (found.length === 3 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const worst = [];
  for (const element of document.querySelectorAll("body *")) {
    const said = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!said || !element.checkVisibility() || element.closest("svg, option")) continue;
    const style = getComputedStyle(element);
    const [one, two] = [light(parse(style.color)), light(ground(element))].sort((a, b) => b - a);
    worst.push([(one + 0.05) / (two + 0.05), element.className, element.textContent.trim().slice(0, 40)]);
  }
  return worst.sort((a, b) => a[0] - b[0])[0];
}"""
"""The text of a page that is hardest to read: its contrast as WCAG 2 counts it, and what it is."""


@dataclass
class Watched:
    """A page with everything that went wrong or left it."""

    page: Page
    problems: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def go(self, address: str) -> None:
        self.page.goto(address)
        self.page.wait_for_load_state("load")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM:
        pytest.skip("there is no chromium on the path")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def site() -> Path:
    return shared.small_site()


@pytest.fixture(scope="module")
def hostile() -> Path:
    return shared.hostile_site()


def watch(context: BrowserContext, allowed: str) -> Watched:
    """A page that may load nothing but what begins with an address."""
    found = Watched(context.new_page())

    def asked(route: Any) -> None:
        if route.request.url.startswith(allowed):
            route.continue_()
        else:
            found.left.append(route.request.url)
            route.abort()

    def failed(request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # the browser's own doing: it left the page before the icon came
            found.problems.append(f"failed: {request.url}")

    def dialog(opened: Any) -> None:
        found.problems.append(f"dialog: {opened.message}")
        opened.dismiss()

    context.route("**/*", asked)
    found.page.on("console", lambda said: found.problems.append(f"{said.type}: {said.text}"))
    found.page.on("pageerror", lambda raised: found.problems.append(f"raised: {raised}"))
    found.page.on("requestfailed", failed)
    found.page.on("dialog", dialog)
    return found


@pytest.fixture
def watched(browser: Browser, site: Path) -> Iterator[Watched]:
    """A page of the small site; at its end nothing was wrong and nothing was asked of anybody else."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    found = watch(context, site.as_uri())
    yield found
    context.close()
    assert found.problems == []
    assert found.left == []


def address(site: Path, name: str, state: str = "") -> str:
    return f"{(site / name).as_uri()}{state}"


def entries(page: Page, place: int = 0) -> list[str]:
    """Names in a table of the board that are shown, in their order."""
    found: list[str] = page.evaluate(
        """(place) => [...document.querySelectorAll("table.board")[place].tBodies[0].rows]
           .filter((row) => row.checkVisibility()).map((row) => row.querySelector("th a").textContent)""",
        place,
    )
    return found


def head(page: Page, column: str) -> Any:
    return page.locator(f'table.board >> nth=0 >> th[data-column="{column}"]')


def test_no_page_has_an_error_or_asks_for_anything_elsewhere(watched: Watched, site: Path) -> None:
    for name in EVERY:
        watched.go(address(site, name))
        assert watched.page.evaluate("getComputedStyle(document.querySelector('.top')).borderBottomWidth") == "1px"
        assert watched.page.locator("h1").count() == 1


def test_the_served_site_works_as_the_files_do(browser: Browser, site: Path) -> None:
    running = server(site, "127.0.0.1", 0)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    context = browser.new_context()
    here = f"http://127.0.0.1:{running.server_address[1]}/"
    try:
        found = watch(context, here)
        found.go(f"{here}{BOARD}")
        head(found.page, "entry").locator("button").click()
        assert entries(found.page) == ["finetune", "saliency+finetune", "salun", "scrub"]
        found.page.get_by_role("link", name="Changes").click()
        assert found.page.locator("h1").text_content() == "Changes"
        assert found.problems == found.left == []
    finally:
        context.close()
        running.shutdown()
        running.server_close()
        thread.join()


def test_a_click_on_a_header_sorts_and_another_turns_the_order(watched: Watched, site: Path) -> None:
    page = watched.page
    watched.go(address(site, BOARD))
    assert entries(page) == ["salun", "scrub", "finetune", "saliency+finetune"]
    cost = head(page, "digits-cnn-class3-v1.cost")
    cost.locator("button").click()
    assert entries(page) == ["salun", "saliency+finetune", "scrub", "finetune"]
    assert cost.get_attribute("aria-sort") == "ascending"
    assert head(page, "place").get_attribute("aria-sort") is None
    cost.locator("button").click()
    assert entries(page) == ["finetune", "scrub", "saliency+finetune", "salun"]
    assert cost.get_attribute("aria-sort") == "descending"


def test_what_has_no_value_comes_last_in_both_orders(watched: Watched, site: Path) -> None:
    page = watched.page
    watched.go(address(site, BOARD))
    head(page, "rank").locator("button").click()
    assert entries(page)[-1] == "saliency+finetune"
    head(page, "rank").locator("button").click()
    assert entries(page) == ["finetune", "scrub", "salun", "saliency+finetune"]


def test_the_keyboard_reaches_headers_and_enter_sorts(watched: Watched, site: Path) -> None:
    page = watched.page
    watched.go(address(site, BOARD))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["y"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    wanted = 'document.activeElement.closest("th")?.dataset.column === "digits-cnn-class3-v1.utility"'
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(wanted):
            break
    assert page.evaluate(wanted)
    assert float(page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)")) >= 2
    page.keyboard.press("Enter")
    assert head(page, "digits-cnn-class3-v1.utility").get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Space")
    assert entries(page)[0] == "finetune"
    assert page.evaluate(wanted)


def test_the_filter_takes_text_level_and_unlearner(watched: Watched, site: Path) -> None:
    page = watched.page
    watched.go(address(site, BOARD))
    page.get_by_label("Find").fill("author too")
    assert entries(page) == ["salun"]
    assert page.locator("#filter-said").text_content() == "1 of 6 rows"
    page.get_by_role("button", name="Clear").click()
    assert len(entries(page)) == 4
    page.get_by_label("Checked at least").select_option("2")
    assert entries(page) == ["salun", "saliency+finetune"]
    page.locator("#filter-unlearner").select_option("salun")
    assert entries(page) == ["salun"]
    assert entries(page, 1) == []


def test_the_address_keeps_what_is_shown(watched: Watched, site: Path) -> None:
    page = watched.page
    watched.go(address(site, BOARD))
    page.get_by_label("Find").fill("scrub")
    head(page, "entry").locator("button").click()
    head(page, "entry").locator("button").click()
    kept = page.evaluate("location.hash")
    assert kept == "#q=scrub&sort=-entry"
    other = page.context.new_page()
    other.goto(address(site, BOARD, kept))
    assert entries(other) == ["scrub"]
    assert head(other, "entry").get_attribute("aria-sort") == "descending"
    other.evaluate("location.hash = '#level=3'")
    other.wait_for_function("document.getElementById('filter-said').textContent === '1 of 6 rows'")
    assert entries(other) == ["salun"]


@pytest.mark.parametrize("state", ["#sort=__proto__", "#level=99&unlearner=<b>", "#q=%E0%A4%A", "#main", "#=&&="])
def test_an_address_that_means_nothing_shows_everything(watched: Watched, site: Path, state: str) -> None:
    watched.go(address(site, BOARD, state))
    shown = entries(watched.page)
    assert shown == ([] if "q=" in state else ["salun", "scrub", "finetune", "saliency+finetune"])


def test_without_script_all_rows_are_there_and_what_needs_it_is_not(browser: Browser, site: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address(site, BOARD))
    assert page.locator("table.board tbody tr:visible").count() == 6
    assert page.locator("table.board tbody th a").first.text_content() == "salun"
    assert not page.locator(".filter").is_visible()
    assert page.locator("figure svg").first.is_visible()
    page.locator("table.board tbody th a").first.click()
    assert page.locator("h1").text_content() == "salun"
    details = page.locator("details").first
    details.locator("summary").click()
    assert details.locator("table").is_visible()
    context.close()


def test_hostile_text_is_text_on_every_page(browser: Browser, hostile: Path) -> None:
    context = browser.new_context()
    found = watch(context, hostile.as_uri())
    pages = sorted(path.relative_to(hostile).as_posix() for path in hostile.rglob("*.html"))
    assert len(pages) > 20
    for name in pages:
        found.go(address(hostile, name))
        found.page.mouse.move(300, 300)
        assert found.page.locator("img, iframe, object, svg[onload], [onmouseover]").count() == 0, name
        assert found.page.evaluate("document.scripts.length") == (1 if name == BOARD else 0), name
    found.go(address(hostile, BOARD))
    said = found.page.locator("main").inner_text()
    assert ATTACKS["script"] in said
    assert "49" not in [each.strip() for each in said.splitlines()]
    assert "\u202e" not in said
    found.page.get_by_label("Find").fill("<script>")
    assert ATTACKS["script"] in entries(found.page)
    for column in ("entry", "flags"):
        head(found.page, column).locator("button").click()
    assert found.problems == []
    assert found.left == []
    context.close()


@pytest.mark.parametrize("name", EVERY)
def test_a_phone_scrolls_tables_and_never_the_page(browser: Browser, site: Path, name: str) -> None:
    context = browser.new_context(viewport={"width": 320, "height": 640})
    page = context.new_page()
    page.goto(address(site, name))
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    wide = page.evaluate(
        "[...document.querySelectorAll('main *')].filter((each) => !each.closest('.scroll, svg, pre, .unseen') && "
        "each.getBoundingClientRect().right > 321).map((each) => each.outerHTML.slice(0, 80))"
    )
    assert wide == []
    context.close()


def test_hostile_text_does_not_widen_a_phones_page(browser: Browser, hostile: Path) -> None:
    context = browser.new_context(viewport={"width": 320, "height": 640})
    page = context.new_page()
    for name in (BOARD, "index.html", "unlearners.html", "changes.html"):
        page.goto(address(hostile, name))
        assert page.evaluate("document.documentElement.scrollWidth") == 320, name
    context.close()


def test_the_name_of_an_entry_stays_when_its_table_scrolls(browser: Browser, site: Path) -> None:
    context = browser.new_context(viewport={"width": 320, "height": 640})
    page = context.new_page()
    page.goto(address(site, BOARD))
    name = page.locator("table.board tbody th").first
    page.evaluate("document.querySelector('.scroll').scrollLeft = 400")
    box = name.bounding_box()
    assert box is not None
    assert 0 <= box["x"] < 30
    assert box["width"] < 160
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_its_ground(browser: Browser, site: Path, scheme: Any) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    for name in EVERY:
        page.goto(address(site, name))
        ratio, *which = page.evaluate(CONTRAST)
        assert ratio >= 4.5, f"{name}: {which}"
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(20, 23, 27)" if scheme == "dark" else "rgb(255, 255, 255)")
    context.close()


def test_figures_take_the_colours_of_the_page(browser: Browser, site: Path) -> None:
    found = {}
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(address(site, BOARD))
        found[scheme] = page.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill")
        context.close()
    assert found == {"light": "rgb(27, 31, 36)", "dark": "rgb(232, 235, 238)"}


def test_on_paper_there_is_no_filter_and_no_menu(browser: Browser, site: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.emulate_media(media="print", reduced_motion="reduce")
    page.goto(address(site, BOARD))
    assert not page.locator(".filter").is_visible()
    assert not page.locator(".top nav").is_visible()
    assert page.locator("table.board").first.is_visible()
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    context.close()
