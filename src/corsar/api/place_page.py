"""A page on one question for the next place: a map that needs no tiles, and the person's week.

The map is a plot of longitudes and latitudes with one scale for both, so that nothing is loaded from anywhere.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from corsar.api.check_ins import people_at
from corsar.api.engine import place_batch, stored_people
from corsar.api.places import next_place
from corsar.api.questions import rows_of
from corsar.artifact import Artifact, open_artifact
from corsar.errors import ConfigError
from corsar.evaluate.html import esc, figure, frame, table
from corsar.evaluate.page import plotly_library
from corsar.evaluate.report import write_text
from corsar.geo import distance_km, unit_vectors
from corsar.models.automtn import AutoMTNNet
from corsar.places import PlaceBatch

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
GRID = 60  # points of the map in each direction at which the distance term is shown
HISTORY, CANDIDATE, NEWEST = "#0083C9", "#D55E00", "#009E73"
Figure = dict[str, Any]


def write_place_page(
    run: Path | str | Artifact, out: Path | str, *, user: str | int | None = None, at: str | int | None = None, k: int = 10
) -> Path:
    """The page on `next_place(run, user=…, at=…, k=…)`: where it is.

    Raises:
        ConfigError: plotly is missing, or the model knows no next place.
        OutputError: the page cannot be written.
    """
    artifact = run if isinstance(run, Artifact) else open_artifact(Path(run))
    out = Path(out)
    if out.is_dir():
        raise ConfigError(f"{out} is a directory; name a file in it, as in --page {out / 'place.html'}")
    told = next_place(artifact, user=user, at=at, k=k)
    row = 0 if user is None else int(rows_of(artifact.users, [user], "a user")[0])
    people = people_at(artifact, stored_people(artifact, torch.tensor([row])), at)
    assert people.places is not None  # else there was no answer
    batch, lat_lon_deg = place_batch(artifact, people), people.places.lat_lon_deg
    title = f"Where {user or 'somebody unknown'} goes next" + (f" after {at}" if at else "")
    rows = [
        [one["rank"], one["item_id"], one["text"], one["km"], one["visits"], f"{one['score']:.3f}"] for one in told["items"]
    ]
    pieces = [f"<p>{esc(note)}</p>" for note in told["notes"]]
    pieces += [
        f"<p>{esc(_told(artifact, batch))}</p>",
        figure("map", "History, candidates by rank, and where the distance term points; longitude and latitude in degrees"),
        table("The likeliest places", ["rank", "place", "what it is", "km from the last", "visits", "score"], rows),
        figure("week", "Check-ins of the history by local hour and day"),
    ]
    plots = {"map": _map(artifact, batch, lat_lon_deg, told["items"]), "week": _week(batch)}
    write_text(out, frame(title, "\n".join(pieces), plots, plotly_library()))
    return out


def _told(artifact: Artifact, batch: PlaceBatch) -> str:
    past = set(batch.feed_items_BF[batch.feed_is_real_BF].tolist())
    num = int(batch.feed_is_real_BF.sum())
    told = f"{artifact.config.model['name']}; {num} check-ins at {len(past)} places before it."
    has_shade = _pull(artifact, batch, batch.points_I3[:1]) is not None
    return f"{told} The shade shows where the model's distance term points." if has_shade else told


def _pull(artifact: Artifact, batch: PlaceBatch, points_G3: Tensor) -> Tensor | None:
    """How much the distance term favours each point, from 0 to 1: its mean over the window's check-ins; None without one."""
    model = getattr(artifact.model, "discovery", artifact.model)  # or what stands behind a return head
    if not isinstance(model, AutoMTNNet) or not batch.feed_is_real_BF.any():
        return None
    with torch.inference_mode():
        window = model.encode(batch)
        near_LG = model.nearness(window, distance_km(window.points_BL3[:, :, None], points_G3))[0]
        near_LG = near_LG.exp() if model.decay is not None else near_LG
        weight_L1 = window.weight_BL[0].abs()[:, None]
        pull_G: Tensor = (near_LG * weight_L1).sum(0) / weight_L1.sum().clamp(min=1e-9)
    return pull_G


def _map(artifact: Artifact, batch: PlaceBatch, lat_lon_deg: Tensor, items: list[dict[str, Any]]) -> Figure:
    past_F = batch.feed_items_BF[0][batch.feed_is_real_BF[0]]
    visited, times = torch.unique(past_F[past_F > 0], return_counts=True)
    asked = torch.from_numpy(rows_of(artifact.items, [one["item_id"] for one in items], "items"))
    newest, sizes = past_F[-1:], [7 + 5 * math.log2(n) for n in times.tolist()]
    ranks = [f"rank {one['rank']}" for one in items]
    traces = [
        _points(artifact, lat_lon_deg, visited, "history", HISTORY, [f"{n} visits" for n in times.tolist()], sizes),
        _points(artifact, lat_lon_deg, newest, "newest check-in", NEWEST, ["newest"] * len(newest), [14.0] * len(newest)),
        _points(artifact, lat_lon_deg, asked, "candidates", CANDIDATE, ranks, [11.0] * len(items)),
    ]
    traces[1]["marker"]["symbol"], traces[2]["marker"]["symbol"] = "star", "diamond"
    traces[2] |= {"mode": "markers+text", "textposition": "top center", "text": [str(one["rank"]) for one in items]}
    shown = lat_lon_deg[torch.cat([visited, asked])]
    shown = shown[shown.isfinite().all(1)]
    layout: Figure = {
        "height": 620,
        "margin": {"l": 60, "r": 20, "t": 20, "b": 50},
        "xaxis": {"title": {"text": "longitude"}, "zeroline": False},
        "yaxis": {"title": {"text": "latitude"}, "zeroline": False, "scaleanchor": "x"},
        "legend": {"orientation": "h", "y": 1.06},
    }
    if len(shown):
        layout["yaxis"]["scaleratio"] = 1 / max(0.05, math.cos(math.radians(float(shown[:, 0].mean()))))
        low, high = shown.min(0).values, shown.max(0).values
        edge = ((high - low) * 0.08).clamp(min=0.005)
        lat, lon = (torch.linspace(float(low[a] - edge[a]), float(high[a] + edge[a]), GRID) for a in (0, 1))
        grid = torch.stack(torch.meshgrid(lat, lon, indexing="ij"), -1).reshape(-1, 2)
        pull_G = _pull(artifact, batch, unit_vectors(grid))
        if pull_G is not None:
            shade = [[round(one, 4) for one in line] for line in pull_G.view(GRID, GRID).tolist()]
            traces.insert(0, {
                "type": "heatmap", "x": lon.tolist(), "y": lat.tolist(), "z": shade, "colorscale": "Greys", "opacity": 0.45,
                "zmin": 0, "colorbar": {"title": {"text": "distance term"}}, "hovertemplate": "%{z:.3f}<extra></extra>",
            })  # fmt: skip
    return {"data": traces, "layout": layout}


def _points(
    artifact: Artifact, lat_lon_deg: Tensor, rows: Tensor, name: str, colour: str, told: list[str], sizes: list[float]
) -> Figure:
    where = lat_lon_deg[rows]
    known = where.isfinite().all(1).tolist()
    names = zip(artifact.items.ids(rows.tolist()).to_list(), artifact.item_text(rows.tolist()), told, strict=True)
    hover = [f"{esc(item)}<br>{esc(text)}<br>{one}" for item, text, one in names]
    lines = [line for line, is_known in zip(zip(where.tolist(), hover, sizes, strict=True), known, strict=True) if is_known]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [point[1] for point, _, _ in lines],
        "y": [point[0] for point, _, _ in lines],
        "hovertext": [text for _, text, _ in lines],
        "hoverinfo": "text",
        "marker": {"color": colour, "size": [size for _, _, size in lines], "opacity": 0.85},
    }


def _week(batch: PlaceBatch) -> Figure:
    hours = batch.hours_BF[batch.feed_is_real_BF]
    counts = torch.bincount(hours[hours > 0] - 1, minlength=7 * 24).view(7, 24)
    trace = {
        "type": "heatmap", "x": list(range(24)), "y": list(DAYS), "z": counts.tolist(), "colorscale": "Blues",
        "hovertemplate": "%{y}, %{x}:00: %{z} check-ins<extra></extra>", "colorbar": {"title": {"text": "check-ins"}},
    }  # fmt: skip
    return {
        "data": [trace],
        "layout": {
            "height": 320,
            "margin": {"l": 90, "r": 20, "t": 20, "b": 50},
            "xaxis": {"title": {"text": "local hour"}, "dtick": 3},
            "yaxis": {"autorange": "reversed"},
        },
    }
