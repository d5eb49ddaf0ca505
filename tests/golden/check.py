"""Relative error of each quantity against the published implementations: `python tests/golden/check.py FILE.npz`.

The kind of file is known by its array names; sizes come from the .json beside it. Exit code 1 where one is over tolerance.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from check_autocorrelation import check_autocorrelation
from check_autoformer import check_autoformer
from check_automtn import check_automtn
from compare import Errors, relative
from torch import Tensor

from corsar.batch import Catalogue, Ragged, SearchRecommendBatch, Sizes
from corsar.models.reference import unisar_weights
from corsar.models.unisar import UniSARNet


def ragged(table: np.ndarray) -> Ragged:
    """Rows of a zero-padded table without their zeros."""
    return Ragged.of([[int(v) for v in row if v] for row in table])


def unisar_model(arrays: dict[str, np.ndarray], sizes: dict) -> UniSARNet:
    """The model with the published weights."""
    dims = {"dim": sizes["final_emb_size"], "id_dim": sizes["item_id_dim"], "word_dim": sizes["word_id_dim"]}
    config = UniSARNet.Config(
        **dims,
        heads=sizes["num_heads"],
        dropout=sizes["dropout"],
        own_experts=sizes["ple"]["specific"],
        shared_experts=sizes["ple"]["shared"],
        expert_dim=sizes["ple"]["bottom"][0],
        tower=tuple(sizes["ple"]["tower"]),
        head=tuple(sizes["pred_hid_units"][:-1]),
        item_query_weight=sizes["q_i_cl_weight"],
        transition_weight=sizes["his_cl_weight"],
        query_in_attention=False,
        empty_history="nan",
    )
    names = ("onehot_feat1", "onehot_feat2", "search_active_level", "rec_active_level")
    model = UniSARNet(config, Sizes(
        num_users=sizes["user_id_num"], num_items=sizes["item_id_num"] - 1, num_words=sizes["word_id_num"] - 1,
        category_sizes=(sizes["first_level_category_id_num"] - 1, sizes["second_level_category_id_num"] - 1),
        attribute_sizes=tuple(sizes[f"{n}_num"] for n in names),
        feed_len=sizes["max_rec_his_len"], search_len=sizes["max_src_session_his_len"],
    ))  # fmt: skip
    published = {k[2:]: torch.from_numpy(v) for k, v in arrays.items() if k.startswith("w.")}
    model.load_weights(unisar_weights(published))
    return model.eval()


def unisar_batch(arrays: dict[str, np.ndarray], side: str) -> SearchRecommendBatch:
    """The stored batch of one task; published users start at 0, here at 1."""
    names = ("onehot_feat1", "onehot_feat2", "search_active_level", "rec_active_level")
    attributes = np.stack([np.pad(arrays[f"table.user.{n}"] + 1, (1, 0)) for n in names], 1)
    categories = [arrays[f"table.item.{n}_level_category_id"] for n in ("first", "second")]
    catalogue = Catalogue(
        ragged(arrays["table.item.caption"]),
        torch.from_numpy(np.stack(categories, 1)),
        torch.from_numpy(attributes),
    )
    value = {k: torch.from_numpy(arrays[f"{side}.in.{k}"]) for k in ("user", "item", "neg_items", "all_his")}
    kind = torch.from_numpy(arrays[f"{side}.in.all_his_type"])
    slots = torch.arange(kind.shape[1]).expand_as(kind)
    rows = len(kind)
    feed, feed_slots = value["all_his"][kind == 1].view(rows, -1), slots[kind == 1].view(rows, -1)
    search, search_slots = value["all_his"][kind == 2].view(rows, -1), slots[kind == 2].view(rows, -1)
    words = [np.zeros((1, arrays["table.session.keyword"].shape[1]), np.int64), arrays["table.session.keyword"]]
    words.append(arrays[f"{side}.in.align_neg_query"])
    if side == "src":
        words.append(arrays["src.in.query"])
    counts = np.cumsum([len(w) for w in words])
    return SearchRecommendBatch(
        task="recommend" if side == "rec" else "search",
        user_B=value["user"] + 1,
        feed_items_BF=feed,
        feed_is_real_BF=feed != 0,
        feed_slots_BF=feed_slots,
        search_queries_BS=torch.where(search != 0, search + 1, 0),
        search_clicks_BSK=torch.from_numpy(arrays["table.session.pos_items"])[search],
        search_is_real_BS=search != 0,
        search_slots_BS=search_slots,
        query_B=torch.arange(counts[2], counts[-1]) if side == "src" else torch.zeros(rows, dtype=torch.int64),
        candidates_BC=torch.cat([value["item"][:, None], value["neg_items"]], 1),
        queries=ragged(np.concatenate(words)),
        catalogue=catalogue,
        align_items_N=torch.from_numpy(arrays[f"{side}.in.align_neg_item"]),
        align_queries_N=torch.arange(counts[1], counts[2]),
    )


def check_unisar(arrays: dict[str, np.ndarray], sizes: dict) -> Errors:
    """Embeddings, encodings at real positions, scores, loss terms and gradients of both tasks."""
    errors: Errors = {}
    model = unisar_model(arrays, sizes)
    for side in ("rec", "src"):
        batch = unisar_batch(arrays, side)
        model.zero_grad()
        encoded = model.encode(batch)
        terms = model.loss(batch)
        weights = model.term_weights()
        total = sum(weights.get(name, 1.0) * term for name, term in terms.items())
        total.backward()  # type: ignore[union-attr]

        def put(name: str, ours: Tensor, theirs: np.ndarray, tolerance: float = 1e-5, side: str = side) -> None:
            errors[f"{side}.{name}"] = (relative(ours, theirs), tolerance)

        def at(name: str, side: str = side) -> np.ndarray:
            return arrays[f"{side}.{name}"]

        real_feed, real_search = batch.feed_is_real_BF.numpy(), batch.search_is_real_BS.numpy()
        items = encoded.items_RD[encoded.item_place[batch.candidates_BC]]
        put("item_emb", items, at("item_emb"))
        put("user_emb", encoded.user_BD, at("user_emb"))
        if side == "src":
            put("query_emb", encoded.queries_QD[batch.query_B], at("query_emb"))
        # merged: published rows stand in one list by time, ours by kind with their slots
        for name, feed, search in (
            ("history_emb", encoded.feed_event_TD, encoded.search_event_UD),
            ("cross_encoded", encoded.search_to_feed_TD, encoded.feed_to_search_UD),
        ):
            merged, rows = at(name), np.arange(len(real_feed))[:, None]
            put(f"{name}.feed", feed, merged[rows, batch.feed_slots_BF.numpy()][real_feed])
            put(f"{name}.search", search, merged[rows, batch.search_slots_BS.numpy()][real_search])
        put("rec2rec", encoded.feed_to_feed_TD, at("rec2rec")[real_feed])
        put("src2rec", encoded.search_to_feed_TD, at("src2rec")[real_feed])
        put("src2src", encoded.search_to_search_UD, at("src2src")[real_search])
        put("rec2src", encoded.feed_to_search_UD, at("rec2src")[real_search])
        interests = model.interests(batch, encoded, items)
        put("rec_interest", interests[0].flatten(0, 1), at("rec_interest"))
        put("src_interest", interests[1].flatten(0, 1), at("src_interest"))
        put("score", model.score(batch).sigmoid(), at("score"))
        published = {"click": "click_loss", "item_query": "q_i_cl_loss", "transition": "his_cl_loss"}
        for ours, theirs in published.items():
            put(f"loss.{theirs}", terms[ours], at(f"loss.{theirs}"))
        put("loss.total_loss", total, at("loss.total_loss"))  # type: ignore[arg-type]
        put("grad.item_emb", model.item_id.weight.grad, at("grad.item_emb"), 1e-4)  # type: ignore[arg-type]
        put("grad.word_emb", model.words.embedding.weight.grad, at("grad.word_emb"), 1e-4)  # type: ignore[arg-type]
    return errors


CHECKS = {  # an array of this kind alone -> its check
    "w.rec_query": check_unisar,
    "w.poi_emb.weight": check_automtn,
    "layer.w.query_projection.weight": check_autocorrelation,
    "x_enc": check_autoformer,
}


def errors_of(path: Path) -> Errors:
    """All quantities of a golden file; a file that no check knows is an error."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    for name, check in CHECKS.items():
        if name in arrays:
            return check(arrays, json.loads(path.with_suffix(".json").read_text()))
    raise SystemExit(f"{path}: no check knows these arrays; known files hold one of {', '.join(CHECKS)}.")


def main() -> int:
    """Print the table; 1 where an error is over its tolerance."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        raise SystemExit("usage: python tests/golden/check.py FILE.npz")
    errors = errors_of(Path(sys.argv[1]))
    for name, (error, tolerance) in errors.items():
        verdict = "ok" if error <= tolerance else "OVER"
        sys.stdout.write(f"{name:28} {error:10.2e}  <= {tolerance:.0e}  {verdict}\n")
    return int(any(not error <= tolerance for error, tolerance in errors.values()))


if __name__ == "__main__":
    raise SystemExit(main())
