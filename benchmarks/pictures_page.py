"""The pictures of the page in docs/img: `python benchmarks/pictures_page.py [FOLDER]`. Three minutes; needs chromium.

The shop and the city are simulated: people have departments that they like, search for what their feed showed them, and go
from home to work and, in the evening, somewhere else.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
from page_kit import chromium, page_at, serving  # noqa: E402
from playwright.sync_api import Page, expect  # noqa: E402

import corsar  # noqa: E402

FOLDER = ROOT / "docs" / "img"
HOUR_MS, START_MS, DAYS = 3_600_000, 1_790_553_600_000, 40  # from Monday, 28 September 2026
MOST_BYTES = 200_000
THINGS = {
    "kitchen": ["kettle", "pan", "teapot", "knife", "bowl"],
    "garden": ["spade", "hose", "lantern", "bench", "planter"],
    "cycling": ["helmet", "saddle", "bell", "pump", "pannier"],
    "camping": ["tent", "stove", "hammock", "backpack", "torch"],
    "music": ["guitar", "drum", "flute", "amplifier", "metronome"],
    "office": ["lamp", "chair", "notebook", "pen", "clock"],
    "kids": ["puzzle", "kite", "robot", "train", "blocks"],
    "winter": ["scarf", "sledge", "gloves", "skis", "blanket"],
}
LOOKS = ["red", "blue", "green", "black", "oak", "steel", "small", "folding"]
PLACES = ["cafe", "gym", "park", "cinema", "market", "library", "museum", "pool", "bakery", "theatre", "harbour", "school"]


def shop(rng: np.random.Generator, users: int = 400) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events and items of a simulated shop."""
    items = [(look, thing, department) for department, things in THINGS.items() for thing in things for look in LOOKS]
    of = {department: [n for n, item in enumerate(items) if item[2] == department] for department in THINGS}
    rows = []
    for user in range(users):
        liked = rng.choice(list(THINGS), 2, replace=False)
        looks, hour = set(rng.choice(LOOKS, 2, replace=False)), int(rng.normal(20, 1.5)) % 24
        for day in np.flatnonzero(rng.random(DAYS) < 0.7):
            department = str(rng.choice(liked if rng.random() < 0.9 else list(THINGS)))
            own = [n for n in of[department] if items[n][0] in looks] if rng.random() < 0.7 else of[department]
            now = START_MS + int(day) * 24 * HOUR_MS + int(np.clip(hour + rng.normal(0, 0.7), 0, 23.5) * HOUR_MS)
            taken = int(rng.choice(own))
            rows.append((f"u{user}", taken + 1, "feed", now, None))
            if rng.random() < 0.5:
                look, thing, _ = items[int(rng.choice([n for n in own if items[n][1] == items[taken][1]] or own))]
                query = f"{look} {thing}" if rng.random() < 0.5 else thing
                found = [n for n in own if items[n][1] == thing] or own
                rows.append((f"u{user}", int(rng.choice(found)) + 1, "search", now + 300_000, query))
    events = pl.DataFrame(rows, ["user_id", "item_id", "kind", "time_ms", "query"], orient="row")
    texts = [f"{look} {thing}" for look, thing, _ in items]
    kinds = [department for _, _, department in items]
    return events, pl.DataFrame({"item_id": range(1, len(items) + 1), "text": texts, "category": kinds})


def city(rng: np.random.Generator, users: int = 200) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Check-ins and places of a simulated city, whose people are those of the shop."""
    names = ["home"] * 60 + ["office"] * 12 + PLACES * 4
    where = rng.normal(0, 1, (len(names), 2)) * np.where(np.array(names) == "office", 0.012, 0.035)[:, None] + [51.05, -114.07]
    fun = np.flatnonzero([name in PLACES for name in names])
    rows = []
    for user in range(users):
        home, office, haunts = int(rng.integers(60)), 60 + int(rng.integers(12)), rng.choice(fun, 5, replace=False)
        for day in range(DAYS - 18, DAYS):
            works, goes_out = day % 7 < 5, rng.random() < 0.7
            seen = (
                [(8, home)]
                + ([(9, office)] if works else [])
                + ([(17, int(rng.choice(haunts)))] if goes_out else [])
                + [(19, home)]
            )
            for hour, place in seen:
                now = START_MS + day * 24 * HOUR_MS + int((hour + 7 + rng.normal(0, 0.3)) * HOUR_MS)
                rows.append((f"u{user}", place + 1, "checkin", now, -420))
    check_ins = pl.DataFrame(rows, ["user_id", "item_id", "kind", "time_ms", "utc_offset_min"], orient="row")
    columns = {"text": names, "category": names, "lat_deg": where[:, 0].tolist(), "lon_deg": where[:, 1].tolist()}
    return check_ins, pl.DataFrame({"item_id": range(1, len(names) + 1), **columns})


def train(folder: Path) -> list[Path]:
    """Runs of UniSAR on the shop and of visits and a Markov chain in the city."""
    rng = np.random.default_rng(0)
    events, items = shop(rng)
    check_ins, places = city(rng)
    size = {"dim": 32, "id_dim": 32, "word_dim": 32, "embedding_std": 0.3, "dropout": 0, "batch_size": 128, "epochs": 8}
    more = {"learning_rate": 4e-3, "num_negatives": 2, "align_negatives": 64, "feed_len": 30, "search_len": 20, "seed": 0}
    corsar.UniSAR(**size, **more).fit(corsar.Dataset.from_frames(events, items=items), run_dir=folder / "unisar")
    corsar.api.VisitsMarkov(feed_len=60).fit(
        corsar.Dataset.from_frames(check_ins, items=places), run_dir=folder / "visits_markov"
    )
    return [folder / "unisar", folder / "visits_markov"]


def small(picture: bytes) -> bytes:
    """The picture in 256 colours, which it does not show."""
    made = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(made, "PNG", optimize=True)
    return made.getvalue()


def settled(page: Page) -> None:
    """Wait until nothing moves any more."""
    page.wait_for_load_state("networkidle")
    page.locator("[aria-busy]").first.wait_for(state="detached")
    page.wait_for_timeout(700)


def choose(page: Page, user: str, query: str) -> None:
    """A user who has searched for the query."""
    page.locator("#who:not(:empty)").wait_for()
    page.get_by_label("User", exact=True).fill(user)
    page.keyboard.press("Enter")
    expect(page.locator("#who")).to_contain_text(user)
    page.get_by_label("Query").fill(query)
    page.keyboard.press("Enter")
    expect(page.locator("#past-list li.live")).not_to_have_count(0)
    settled(page)


def light(page: Page) -> None:
    """What a click does, and why an item is there."""
    choose(page, "u7", "tent")
    page.locator("#search-list .item").nth(1).click()
    settled(page)
    page.locator("#feed-list .why").nth(1).click()
    page.locator("#feed-list .reasons li").first.wait_for()
    page.mouse.move(1, 1)
    settled(page)


def dark(page: Page) -> None:
    """What searches are worth."""
    choose(page, "u7", "kettle")
    page.get_by_role("checkbox", name="search").uncheck()
    settled(page)


def on_the_map(page: Page) -> None:
    """Where somebody goes next."""
    choose(page, "u12", "lamp")
    page.get_by_role("tab", name="Map").click()
    expect(page.locator("#map-chart .scatterlayer .trace")).to_have_count(3)
    settled(page)


def main(folder: Path = FOLDER) -> None:
    with tempfile.TemporaryDirectory() as made:
        runs = train(Path(made))
        for name, scheme, steps in (("light", "light", light), ("dark", "dark", dark), ("map", "light", on_the_map)):
            with (
                serving(runs, Path(made) / f"{name}.sqlite") as address,
                chromium() as browser,
                page_at(browser, address, color_scheme=scheme) as page,
            ):
                steps(page)
                picture = small(page.screenshot())
            assert len(picture) < MOST_BYTES, f"{name}: {len(picture)} bytes"
            (folder / f"page-{name}.png").write_bytes(picture)
            print(f"{folder / f'page-{name}.png'}: {len(picture):,} bytes")


if __name__ == "__main__":
    main(*(Path(one) for one in sys.argv[1:]))
