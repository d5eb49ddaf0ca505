"""The page in a browser: choose a user, search, click, see both lists move, switch a channel off, open the map."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from page_kit import chromium, page_at, serving
from serve_kit import make_runs

from corsar.serve import pages

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def address(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(runs, tmp_path_factory.mktemp("state") / "events.sqlite") as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def _ids(page: Page, name: str = "feed") -> list[str]:
    page.wait_for_selector(f"#{name}-list:not([aria-busy]) li")
    return page.locator(f"#{name}-list li").evaluate_all("rows => rows.map((row) => row.dataset.id)")


def _choose(page: Page, user: str) -> None:
    page.get_by_label("User", exact=True).fill(user)
    page.get_by_label("User", exact=True).press("Enter")
    expect(page.locator("#who")).to_contain_text(user)
    _ids(page)


def test_page_goes_from_a_user_to_searches_clicks_channels_and_the_map(browser: Browser, address: str) -> None:
    with page_at(browser, address) as page:
        expect(page.locator("#served")).to_contain_text("unisar answers recommend and search (12 items, 30 users)")
        user = page.get_by_label("User", exact=True)
        user.fill("u1")
        page.get_by_role("option", name="u12").click()
        expect(page.locator("#who")).to_have_text("u12: the model holds 4 feed events, 2 searches, 18 check-ins of the logs.")
        assert page.url.endswith("#user=u12")
        before = _ids(page)
        assert len(before) == 10

        page.get_by_label("Query").press_sequentially("re")  # results come while somebody types
        expect(page.get_by_role("option", name="red")).to_be_visible()
        expect(page.locator("#search-list li")).to_have_count(10)
        page.get_by_role("option", name="red").click()
        newest = page.locator("#past-list li").first
        expect(newest).to_contain_text("search“red” no clickjust now")
        found = _ids(page, "search")
        page.locator("#search-list .item").first.click()
        expect(newest).to_contain_text("search“red” → ")  # a click in that search, not another search
        expect(page.locator("#past-list li.live")).to_have_count(1)
        expect(page.locator("#feed-say")).to_contain_text("Since the last event:")

        page.locator("#feed-list .item").nth(7).click()
        expect(page.locator("#past-list li.live")).to_have_count(2)
        expect(newest).to_contain_text("feed")
        assert _ids(page) != before
        assert _ids(page, "search") != found
        assert page.locator("#feed-list .move").count()

        page.locator("#feed-list .why").first.click()
        reasons = page.locator("#feed-list .reasons").first
        expect(reasons.locator("li").first).to_contain_text("%")
        expect(reasons).to_contain_text("Attention is no proof of cause.")
        expect(reasons).to_contain_text("Its rank would be ")

        page.get_by_role("checkbox", name="search").uncheck()
        expect(page.locator("#feed-say")).to_contain_text("Without searches:")
        expect(page.locator("#search-say")).to_contain_text("Without searches:")
        expect(page.locator("#past-list li.off").first).to_contain_text("search, not read")
        without = _ids(page)
        page.get_by_role("checkbox", name="search").check()
        expect(page.locator("#feed-say")).to_have_text("")
        assert _ids(page) != without

        page.get_by_role("tab", name="Map").click()
        expect(page.locator("#map-chart .scatterlayer .trace")).to_have_count(3)
        expect(page.locator("#map-say")).to_contain_text("places of the history")
        page.locator("#places-list .item").nth(1).click()
        expect(newest).to_contain_text("check-in")
        expect(page.locator("#places-say")).to_contain_text("Since the last event:")


def test_page_works_by_keyboard(browser: Browser, address: str) -> None:
    with page_at(browser, address) as page:
        _ids(page)
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the lists")).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.get_by_role("combobox", name="User")).to_be_focused()
        page.keyboard.type("u1")
        expect(page.get_by_role("option", name="u10")).to_be_visible()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        marked = page.get_by_role("option", selected=True)
        expect(marked).to_contain_text("u10")
        assert page.get_by_role("combobox", name="User").get_attribute("aria-activedescendant") == marked.get_attribute("id")
        page.keyboard.press("Enter")
        expect(page.locator("#who")).to_contain_text("u10:")
        expect(page.get_by_role("option")).to_have_count(0)
        for name in ("New user", "feed", "search", "leave out what the user has had", "Feed and search"):
            page.keyboard.press("Tab")
            assert (
                page.evaluate("document.activeElement.labels?.[0]?.textContent ?? document.activeElement.textContent").strip()
                == name
            )
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("tab", name="Rhythm", selected=True)).to_be_focused()
        expect(page.locator("#week-say")).to_contain_text("Most often on ")
        expect(page.locator("#lags-chart .barlayer")).to_have_count(1)
        page.keyboard.press("ArrowLeft")
        item = page.locator("#feed-list .item").nth(4)
        item.focus()
        told = page.evaluate("document.activeElement.closest('li').dataset.id")
        page.keyboard.press("Enter")
        expect(page.locator("#past-list li.live")).to_have_count(1)
        expect(page.locator("#feed-say")).to_contain_text("Since the last event:")
        if told in _ids(page):  # the focus goes where the item goes
            assert page.evaluate("document.activeElement.closest('li')?.dataset.id") == told
        page.get_by_label("Query").focus()
        page.keyboard.type("blue lamp")
        page.keyboard.press("Enter")
        expect(page.locator("#past-list li").first).to_contain_text("“blue lamp”")


def test_page_tells_a_screen_reader_what_it_shows(browser: Browser, address: str) -> None:
    with page_at(browser, address, color_scheme="dark") as page:
        _choose(page, "nobody")
        expect(page.locator("#who")).to_have_text("nobody is new: nothing is known of them yet.")
        told = page.locator("body").aria_snapshot()
        for part in (
            'combobox "User"', 'checkbox "feed" [checked]', 'checkbox "search" [checked]', 'tab "Feed and search" [selected]',
            'region "Feed"', 'region "Search"', 'region "Timeline"', 'combobox "Query"', 'slider "Order by the model"',
        ):  # fmt: skip
            assert part in told, (part, told)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"
        page.get_by_role("button", name="New user").click()
        expect(page.locator("#who")).to_contain_text("is new")
        assert page.get_by_label("User", exact=True).input_value().startswith("new-")
        expect(page.locator("#past-list")).to_contain_text("Nothing yet")


def test_page_asks_for_the_key_and_keeps_it(browser: Browser, runs: list[Path], tmp_path: Path) -> None:
    with (
        serving(runs[:1], tmp_path / "events.sqlite", key="s3cret") as address,
        page_at(browser, address, allowed=("401",)) as page,
    ):
        page.get_by_label("Key", exact=True).fill("guess")
        page.keyboard.press("Enter")
        expect(page.locator("#key-hint")).to_contain_text("not right")
        page.get_by_label("Key", exact=True).fill("s3cret")
        page.keyboard.press("Enter")
        assert len(_ids(page)) == 10
        page.reload()
        assert len(_ids(page)) == 10
        assert page.evaluate("sessionStorage.length") == 1
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.get_by_role("tab", name="Map")).to_be_hidden()


def test_page_without_plotly_tells_the_charts_in_words(
    browser: Browser, runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "plotly_file", lambda: None)
    with serving(runs[1:], tmp_path / "events.sqlite") as address, page_at(browser, address) as page:
        expect(page.get_by_role("tab", name="Map", selected=True)).to_be_visible()  # nothing else is answered
        assert len(_ids(page, "places")) == 10
        expect(page.locator("#map-chart")).to_be_hidden()
        page.get_by_role("tab", name="Rhythm").click()
        expect(page.locator("#lags-say")).to_contain_text("18 events in bins of 1 hour. The first high peak is at ")
        page.get_by_text("The week as a table").click()
        expect(page.get_by_role("rowheader", name="Tuesday")).to_be_visible()
        expect(page.locator("#lags-chart")).to_be_hidden()
