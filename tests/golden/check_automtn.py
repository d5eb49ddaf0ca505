"""AutoMTN against its published numbers, for tests/golden/check.py. Published ids start at 0, here at 1."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from corsar.batch import Catalogue, Ragged, Sizes
from corsar.geo import unit_vectors
from corsar.models.automtn import AutoMTNNet
from corsar.places import PlaceBatch

Errors = dict[str, tuple[float, float]]
STREAMS = {
    "places": {"user": "user_emb", "value": "poi_emb", "hour": "tod_emb", "weekday": "dow_emb"},
    "categories": {"user": "user_embc", "value": "cat_emb", "hour": "tod_embc", "weekday": "dow_embc"},
}
LAYERS = {
    "place_self": "poi_attention",
    "category_self": "cat_attention",
    "place_cross": "cross_poi_attention",
    "category_cross": "cross_cat_attention",
}
MAPS = {
    "query_map": "query_projection",
    "key_map": "key_projection",
    "value_map": "value_projection",
    "out_map": "out_projection",
}
LAGS = {"paper_code": "paper_short", "exact": "paper_code"}  # what the file calls a form, and what `model.lags` does


def automtn_weights(published: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """State of the net by the published weights; each table gets its row 0."""
    found = {"mix.weight": published["value.weight"], "mix.bias": published["value.bias"]}
    for stream, tables in STREAMS.items():
        found |= {
            f"{stream}.{ours}.weight": F.pad(published[f"{theirs}.weight"], (0, 0, 1, 0)) for ours, theirs in tables.items()
        }
    for number in range(layers):
        for ours, theirs in LAYERS.items():
            for one, name in MAPS.items():
                for kind in ("weight", "bias"):
                    found[f"blocks.{number}.{ours}.{one}.{kind}"] = published[f"{theirs}.{number}.{name}.{kind}"]
    return found


def automtn_model(arrays: dict[str, np.ndarray], sizes: dict, **changed: object) -> AutoMTNNet:
    """The net with the published weights, in the published form unless told otherwise."""
    paper = {"lags": "paper_short", "lengths": "fixed", "distance": "batch_range", "residual": False}
    told = {"dim": sizes["features"], "heads": sizes["heads"], "layers": sizes["layers"], "history_len": sizes["length"]}
    config = AutoMTNNet.Config(**{**paper, **told, "dropout": 0.0, "category_weight": sizes["eta"], **changed})
    model = AutoMTNNet(config, Sizes(sizes["users"], sizes["pois"], 0, (sizes["categories"],)))
    weights = {name[2:]: torch.from_numpy(value) for name, value in arrays.items() if name.startswith("w.")}
    model.load_state_dict(automtn_weights(weights, sizes["layers"]), strict=config.lags != "exact")
    return model.eval()


def automtn_batch(arrays: dict[str, np.ndarray]) -> PlaceBatch:
    """The stored batch; its user stands once for all check-ins."""
    value = {name: torch.from_numpy(arrays[name]) for name in ("user", "poi", "tod", "dow", "next_poi", "category_of")}
    rows, length = value["poi"].shape
    assert (value["user"] == value["user"][:, :1]).all()
    nothing = torch.zeros(rows, 1, dtype=torch.int64)
    real = torch.ones(rows, length, dtype=torch.bool)
    category = F.pad(value["category_of"] + 1, (1, 0))[:, None]
    lat_lon = torch.stack([torch.from_numpy(arrays[name]) for name in ("lat", "lon")], 1)
    return PlaceBatch(
        task="next_place",
        user_B=value["user"][:, 0] + 1,
        feed_items_BF=value["poi"] + 1,
        feed_is_real_BF=real,
        feed_slots_BF=torch.arange(length).expand(rows, -1),
        search_queries_BS=nothing,
        search_clicks_BSK=nothing[..., None],
        search_is_real_BS=nothing > 0,
        search_slots_BS=nothing,
        query_B=nothing[:, 0],
        candidates_BC=value["next_poi"][:, None] + 1,
        queries=Ragged.of([[]]),
        catalogue=Catalogue(Ragged.of([[]] * len(category)), category, torch.zeros(10, 0, dtype=torch.int64)),
        times_BF=torch.from_numpy(arrays["unixtime"]) * 1000,
        hours_BF=value["dow"] * 24 + value["tod"] + 1,
        hour_B=nothing[:, 0],
        points_I3=F.pad(unit_vectors(lat_lon), (0, 0, 1, 0)),
    )


def check_automtn(arrays: dict[str, np.ndarray], sizes: dict) -> Errors:
    """Scores of all places and categories and the loss, of both forms, in training (dropout is 0) and in use."""
    errors: Errors = {}
    batch = automtn_batch(arrays)
    places = torch.arange(1, sizes["pois"] + 1).expand(len(batch), -1)
    for form, lags in LAGS.items():
        model = automtn_model(arrays, sizes, lags=lags)
        for mode in ("train", "eval"):
            model.train(mode == "train")
            window, terms = model.encode(batch), model.loss(batch)
            items = F.embedding(places, model.places.value.weight)
            ours = {
                "poi_score": model.place_logits(window, items, F.embedding(places, batch.points_I3)),
                "cat_score": model.category_logits(window)[:, 1:],
                "loss_eta_0.5": terms["place"] + model.term_weights()["category"] * terms["category"],
            }
            for name, value in ours.items():
                theirs = torch.from_numpy(np.asarray(arrays[f"{form}.{mode}.{name}"]))
                assert value.shape == theirs.shape, f"shape {tuple(value.shape)}, published {tuple(theirs.shape)}"
                errors[f"{form}.{mode}.{name}"] = (float((value.detach() - theirs).norm() / theirs.norm()), 1e-5)
    return errors
