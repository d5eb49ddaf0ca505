"""The pictures of docs/kuaisar.md: `python benchmarks/pictures_kuaisar.py [FOLDER]`."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "docs" / "img"
BLUE, ORANGE, PALE, INK = "#cfe3f5", "#f9dfc4", "#eeeeee", "#222222"


def box(x: float, y: float, width: float, text: str, fill: str, height: float = 28) -> str:
    middle = f'<text x="{x + width / 2}" y="{y + height / 2 + 4}" text-anchor="middle">{text}</text>'
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="3" fill="{fill}" stroke="{INK}"/>{middle}'


def label(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>'


def line(x: float, y: float, to_x: float, to_y: float, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    return f'<line x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}" stroke="{INK}"{dash}/>'


def arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    """A line to the right or down, with a head at its end."""
    across, down = (8, 4) if to_y == y else (4, 8)
    corners = [(to_x, to_y), (to_x - across, to_y - down), (to_x - across, to_y + down)]
    if to_x == x:
        corners[2] = (to_x + across, to_y - down)
    return line(x, y, to_x, to_y) + f'<polygon points="{" ".join(f"{a},{b}" for a, b in corners)}"/>'


def page(width: int, height: int, title: str, parts: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    font = 'font-family="sans-serif" font-size="12"'
    background = f'<rect width="{width}" height="{height}" fill="white"/>'
    return "\n".join([f'{head} {font} fill="{INK}"><title>{title}</title>{background}', *parts, "</svg>", ""])


def histories() -> str:
    """One user's day in the words of the release."""
    events = [("feed", "A"), ("search", "q1"), ("feed", "B"), ("feed", "C"), ("search", "q2"), ("feed", "D")]
    left, step, width = 150, 92, 78
    at = [left + step * place for place in range(len(events))]
    rows = {
        "feed": 40,
        "search": 90,
        "all_his": 160,
        "all_his_query": 200,
        "rec_his": 250,
        "src_session_his": 290,
        "src_his": 330,
    }
    parts = [label(10, y + 19, name) for name, y in rows.items()]
    queries = {"q1": "[20, 34]", "q2": "[5]"}
    for x, (kind, name) in zip(at, events, strict=True):
        is_feed = kind == "feed"
        fill = BLUE if is_feed else ORANGE
        parts.append(box(x, rows[kind], width, name if is_feed else f"{name} {queries[name]}", fill))
        parts.append(box(x, rows["all_his"], width, name if is_feed else "0", fill))
        parts.append(box(x, rows["all_his_query"], width, "0" if is_feed else queries[name], fill))
    parts += [box(left + step * place, rows["rec_his"], width, name, BLUE) for place, name in enumerate("ABCD")]
    parts += [
        box(left + step * place, rows["src_session_his"], width, f"row {name}", ORANGE) for place, name in enumerate((1, 2))
    ]
    parts += [box(left + step * place, rows["src_his"], width, name, ORANGE) for place, name in enumerate(("E", "F", "B"))]
    parts.append(label(left + 3 * step, rows["src_his"] + 19, "q1 got the clicks E and F, q2 the click B"))
    target = at[3] - 7
    parts += [
        line(target, 22, target, 232, dashed=True),
        label(target + 4, 18, "a sample: item C, rec_his = 2, src_session_his = 1"),
    ]
    parts += [arrow(left, 139, at[-1] + width, 139), label(10, 143, "time")]
    return page(740, 372, "A user's events, and what the fields of the release hold of them", parts)


def predictor() -> str:
    """AutoMTN's matrix of positions and candidates, and which way it is summed."""
    left, top, cell, high = 190, 60, 64, 30
    parts = [label(left, 22, "candidates c = 1 … |L| (places)"), label(10, top + 19, "positions l = 1 … N")]
    for place in range(4):
        name = f"h{place + 1}"
        parts.append(label(left - 40, top + high * place + 20, name))
        parts += [
            box(left + cell * at, top + high * place, cell - 4, f"a(c{at + 1}, {name})", BLUE, high - 4) for at in range(5)
        ]
    for at in range(5):
        x = left + cell * at + cell / 2 - 2
        parts.append(label(x, top - 10, f"c{at + 1}", "middle"))
        parts += [
            arrow(x, top + 4 * high, x, top + 4 * high + 25),
            box(left + cell * at, top + 4 * high + 26, cell - 4, f"y(c{at + 1})", ORANGE),
        ]
    parts.append(label(10, top + 4 * high + 20, "sum over positions,"))
    parts.append(label(10, top + 4 * high + 36, "down each column"))
    parts.append(label(left, top + 4 * high + 76, "one score a candidate: N values go in, one comes out; candidates never mix"))
    return page(680, 270, "AutoMTN's predictor sums over positions", parts)


def main(folder: Path = FOLDER) -> None:
    """Write both pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kuaisar_histories.svg").write_text(histories(), encoding="utf-8")
    (folder / "kuaisar_predictor.svg").write_text(predictor(), encoding="utf-8")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
