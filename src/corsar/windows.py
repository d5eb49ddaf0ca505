"""Batches cut from the flat tables. Training and serving both build theirs here, so that the two cannot differ.

Shape suffixes: B cases, F feed slots, S search slots, K clicks of a search, C candidates, L slots of either kind,
N negatives of the alignment.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from corsar.batch import Catalogue, OnDevice, Ragged, SearchRecommendBatch, Task
from corsar.places import PlaceBatch, Places, hour_of_week


@dataclass(frozen=True)
class History(OnDevice):
    """All past events, once, per user and kind, in time order.

    User row u owns feed entries `feed_offsets[u]:feed_offsets[u + 1]`, and searches likewise. `*_others` counts, for each
    entry, the entries of the other kind of the same user that come before it in the merged order (time, then file order).
    """

    feed_items: Tensor  # [feed entries] item rows
    feed_times: Tensor  # [feed entries] ms, or ordinal
    feed_others: Tensor  # [feed entries] searches of that user before this entry
    feed_offsets: Tensor  # [users + 2]
    search_queries: Tensor  # [searches] rows of `queries`
    search_clicks: Ragged  # [searches] item rows clicked in each search
    search_times: Tensor  # [searches]
    search_others: Tensor  # [searches] feed entries of that user before this search
    search_offsets: Tensor  # [users + 2]
    queries: Ragged  # word rows of each distinct query; row 0 is the empty query


def window(starts_B: Tensor, ends_B: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """The last `length` entries before each end: positions [B, length] and which of them are real (bool)."""
    at_BL = torch.maximum(ends_B - length, starts_B)[:, None] + torch.arange(length, device=ends_B.device)
    return at_BL, at_BL < ends_B[:, None]


def _trim(starts_B: Tensor, ends_B: Tensor, length: int) -> int:
    """The window that the longest row needs: at least 1, at most `length`."""
    return max(1, min(length, int((ends_B - starts_B).max()))) if len(ends_B) else 1


def _take(flat: Tensor, at: Tensor, is_real: Tensor) -> Tensor:
    if len(flat) == 0:
        return torch.zeros_like(at)
    return torch.where(is_real, flat[at.clamp(max=len(flat) - 1)], 0)


def make_batch(
    task: Task,
    history: History,
    catalogue: Catalogue,
    user_B: Tensor,
    feed_end_B: Tensor,
    search_end_B: Tensor,
    candidates_BC: Tensor,
    query_B: Tensor | None = None,
    *,
    feed_len: int,
    search_len: int,
    queries: Ragged | None = None,
    align_items_N: Tensor | None = None,
    align_queries_N: Tensor | None = None,
) -> SearchRecommendBatch:
    """One batch from flat tables: windows of the last entries strictly before the given ends.

    Args:
        feed_end_B: position in `history.feed_items` of the first feed entry that is not history; `search_end_B` likewise.
        query_B: the query of each search case: rows of `queries` where that is given, else of `history.queries`.
        queries: queries that the history does not hold (serving).
        align_queries_N: rows of `history.queries`.
    """
    feed_start_B, search_start_B = history.feed_offsets[user_B], history.search_offsets[user_B]
    feed_len = _trim(feed_start_B, feed_end_B, feed_len)
    search_len = _trim(search_start_B, search_end_B, search_len)
    feed_at_BF, feed_is_real_BF = window(feed_start_B, feed_end_B, feed_len)
    search_at_BS, search_is_real_BS = window(search_start_B, search_end_B, search_len)

    # merged slot = own slot + entries of the other kind that come before it and lie inside the other window
    skipped_searches_B1 = (search_at_BS[:, :1] - search_start_B[:, None]).clamp(min=0)
    skipped_feeds_B1 = (feed_at_BF[:, :1] - feed_start_B[:, None]).clamp(min=0)
    num_searches_B1, num_feeds_B1 = search_is_real_BS.sum(1, keepdim=True), feed_is_real_BF.sum(1, keepdim=True)
    feed_others_BF = (_take(history.feed_others, feed_at_BF, feed_is_real_BF) - skipped_searches_B1).clamp(min=0)
    search_others_BS = (_take(history.search_others, search_at_BS, search_is_real_BS) - skipped_feeds_B1).clamp(min=0)
    feed_slots_BF = torch.arange(feed_len, device=user_B.device) + torch.minimum(feed_others_BF, num_searches_B1)
    search_slots_BS = torch.arange(search_len, device=user_B.device) + torch.minimum(search_others_BS, num_feeds_B1)

    clicks = history.search_clicks
    safe_BS = torch.where(search_is_real_BS, search_at_BS, 0)
    if len(clicks):
        widths_BS = torch.where(search_is_real_BS, clicks.lengths[safe_BS], 0)
        clicks_BSK = clicks.padded(safe_BS, max(1, int(widths_BS.max())))
        clicks_BSK = torch.where(search_is_real_BS[..., None], clicks_BSK, 0)
    else:
        clicks_BSK = torch.zeros(*search_at_BS.shape, 1, dtype=torch.int64, device=user_B.device)

    # the distinct queries of this batch; the empty query keeps row 0
    past_BS = _take(history.search_queries, search_at_BS, search_is_real_BS)
    zero = torch.zeros(1, dtype=torch.int64, device=user_B.device)
    parts = [zero, past_BS.reshape(-1)]
    if query_B is not None and queries is None:
        parts.append(query_B)
    if align_queries_N is not None:
        parts.append(align_queries_N)
    distinct, local = torch.unique(torch.cat(parts), return_inverse=True)
    pieces = list(local.split([len(part) for part in parts]))
    local_queries = history.queries.select(distinct)
    query_rows_B = torch.zeros_like(user_B)
    if query_B is not None and queries is None:
        query_rows_B = pieces[2]
    elif query_B is not None and queries is not None:
        query_rows_B = query_B + len(local_queries)
        values = torch.cat([local_queries.values, queries.values])
        offsets = torch.cat([local_queries.offsets, queries.offsets[1:] + local_queries.offsets[-1]])
        local_queries = Ragged(values, offsets)
    return SearchRecommendBatch(
        task=task,
        user_B=user_B,
        feed_items_BF=_take(history.feed_items, feed_at_BF, feed_is_real_BF),
        feed_is_real_BF=feed_is_real_BF,
        feed_slots_BF=torch.where(feed_is_real_BF, feed_slots_BF, 0),
        search_queries_BS=pieces[1].reshape(past_BS.shape),
        search_clicks_BSK=clicks_BSK,
        search_is_real_BS=search_is_real_BS,
        search_slots_BS=torch.where(search_is_real_BS, search_slots_BS, 0),
        query_B=query_rows_B,
        candidates_BC=candidates_BC,
        queries=local_queries,
        catalogue=catalogue,
        align_items_N=align_items_N,
        align_queries_N=pieces[-1] if align_queries_N is not None else None,
    )


def make_place_batch(
    history: History,
    places: Places,
    catalogue: Catalogue,
    user_B: Tensor,
    end_B: Tensor,
    candidates_BC: Tensor,
    hour_B: Tensor | None = None,
    *,
    length: int,
    drawn_N: Tensor | None = None,
) -> PlaceBatch:
    """One batch of check-ins from flat tables: the last `length` before each end, with their times and local hours.

    Args:
        end_B: position in the history of the first check-in that is not history.
        hour_B: local hour of the week of each target, where the model may know it.
    """
    start_B = history.feed_offsets[user_B]
    base = make_batch(
        "next_place", history, catalogue, user_B, end_B, history.search_offsets[user_B], candidates_BC,
        feed_len=length, search_len=1,
    )  # fmt: skip
    at_BF, is_real_BF = window(start_B, end_B, base.feed_items_BF.shape[1])
    times_BF = _take(history.feed_times, at_BF, is_real_BF)
    hours_BF = hour_of_week(times_BF, _take(places.offsets_min, at_BF, is_real_BF))
    return PlaceBatch(
        **{field.name: getattr(base, field.name) for field in dataclasses.fields(base)},
        times_BF=times_BF,
        hours_BF=torch.where(is_real_BF, hours_BF, 0),
        hour_B=torch.zeros_like(user_B) if hour_B is None else hour_B,
        points_I3=places.points_I3,
        drawn_N=drawn_N,
    )
