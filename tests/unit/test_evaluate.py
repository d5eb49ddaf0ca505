"""The protocol: what is scored against what, the fingerprint, and the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from corsar.batch import SearchRecommendBatch
from corsar.config import Config, DataSection, EvaluateSection, TrainSection
from corsar.data.build import build_dataset
from corsar.data.store import Dataset, open_dataset
from corsar.errors import ConfigError, DataError
from corsar.evaluate.candidates import choose
from corsar.evaluate.protocol import evaluate, told_candidates, validation_score
from corsar.evaluate.ranking import rank_targets
from corsar.evaluate.report import read_report, sentences, table_rows, write_report
from corsar.evaluate.segments import SEGMENTS, segment_masks
from corsar.models.base import Model
from corsar.schema import make_tables

NUM_ITEMS, NUM_USERS = 40, 30


class Fixed(Model):
    """Scores an item by a number of its own, many of them equal; asked for `rule`, by something else."""

    trained = False

    def __init__(self, dataset: Dataset, rule: str = "item") -> None:
        super().__init__(Model.Config(), dataset.sizes(5, 5))
        self.rule, self.num_calls = rule, 0

    def score(self, batch: SearchRecommendBatch) -> Tensor:
        """By the rule."""
        self.num_calls += 1
        candidates = batch.candidates_BC
        if self.rule == "perfect":
            return (torch.arange(candidates.shape[1]) == 0).double().expand(candidates.shape)
        if self.rule == "constant":
            return torch.zeros(candidates.shape)
        if self.rule == "nan":
            return torch.full(candidates.shape, torch.nan)
        return (candidates % 5).double() * 20


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A small log whose held-out entries hold feed events, and searches with one and with three clicks."""
    rng = np.random.default_rng(3)
    rows = []
    for user in range(1, NUM_USERS + 1):
        length = 2 if user <= 4 else 8
        for time in range(length):
            split = "test" if time == length - 1 else "valid" if time == length - 2 and length > 2 else "train"
            searching = (time + user) % 2 == 0
            for _ in range(3 if searching and user % 3 == 0 else 1):
                item = int(rng.integers(1, NUM_ITEMS + 1))
                kind, query = ("search", f"w{user % 3}") if searching else ("feed", None)
                rows.append((user, item, kind, time, query, f"{user}-{time}" if searching else None, split))
    names = ["user_id", "item_id", "kind", "time_ms", "query", "session_id", "split"]
    events = pl.DataFrame(rows, schema=names, orient="row").unique(["user_id", "item_id", "time_ms"], maintain_order=True)
    items = pl.DataFrame({"item_id": range(1, NUM_ITEMS + 1), "text": [f"w{i % 3}" for i in range(1, NUM_ITEMS + 1)]})
    tables = make_tables(events, items, source="test", clock="ordinal", derived="Made up.")
    return open_dataset(build_dataset(tables, tmp_path_factory.mktemp("data") / "dataset", split="given"))


def config(train: TrainSection | None = None, **rules: object) -> Config:
    told = {"bootstrap": 20, **rules}
    return Config(data=DataSection(feed_len=5, search_len=5), train=train or TrainSection(), evaluate=EvaluateSection(**told))


def test_full_candidates_equal_a_slow_definition(dataset: Dataset) -> None:
    for task in ("recommend", "search"):
        for exclude_seen in (False, True):
            cases = choose(dataset, task, EvaluateSection(candidates="full")).cases
            better, tied, _ = rank_targets(
                Fixed(dataset), dataset, cases, None, DataSection(), exclude_seen=exclude_seen, block=(2, 7)
            )
            history, mates, dropped = dataset.history, cases.mates, 0
            for n, target in enumerate(cases.item_N.tolist()):
                out = set(mates.values[mates.offsets[n] : mates.offsets[n + 1]].tolist())
                if exclude_seen and task == "recommend":
                    user = cases.user_N[n]
                    feed = history.feed_items[history.feed_offsets[user] : cases.feed_end_N[n]].tolist()
                    searches = torch.arange(int(history.search_offsets[user]), int(cases.search_end_N[n]))
                    out |= set(feed) | set(history.search_clicks.select(searches).values.tolist())
                others = [item % 5 for item in range(1, NUM_ITEMS + 1) if item != target and item not in out]
                dropped += len(out - {target})
                assert better[n] == sum(value > target % 5 for value in others)
                assert tied[n] == 1 + sum(value == target % 5 for value in others)
            assert dropped > 0 or (task, exclude_seen) == ("recommend", False)


def test_places_do_not_depend_on_the_chunks(dataset: Dataset) -> None:
    cases = choose(dataset, "search", EvaluateSection(candidates="full")).cases
    few, many = (Fixed(dataset), Fixed(dataset))
    one = rank_targets(many, dataset, cases, None, DataSection(), block=(3, 2), top=6)
    two = rank_targets(few, dataset, cases, None, DataSection(), top=6)
    assert all((of_one == of_two).all() for of_one, of_two in zip(one, two, strict=True))
    assert many.num_calls > few.num_calls == 1


def test_constant_scores_are_chance_and_perfect_ones_are_1(dataset: Dataset) -> None:
    chance = evaluate(Fixed(dataset, "constant"), dataset, config(candidates="sampled:19", ks=(1, 10)))
    perfect = evaluate(Fixed(dataset, "perfect"), dataset, config(candidates="full"))
    for task in ("recommend", "search"):
        assert chance.metrics[task]["HR@10"]["value"] == pytest.approx(0.5)
        assert chance.metrics[task]["HR@1"]["value"] == pytest.approx(0.05)
        assert all(figure["value"] == 1 for figure in perfect.metrics[task].values())


def test_scores_that_are_not_finite_are_an_error(dataset: Dataset) -> None:
    with pytest.raises(DataError, match="not finite"):
        evaluate(Fixed(dataset, "nan"), dataset, config(candidates="full"))


def test_sigmoid_and_target_first_change_the_places(dataset: Dataset) -> None:
    model = Fixed(dataset)
    plain, logistic, first = (
        evaluate(model, dataset, config(candidates="full", **more)).metrics["search"]["HR@10"]["value"]
        for more in ({}, {"score": "sigmoid"}, {"ties": "target_first"})
    )
    assert logistic != plain  # 20, 40, 60 and 80 are all 1 as float32 logistic
    assert first > plain


def test_sampled_candidates_are_free_distinct_and_stored(dataset: Dataset) -> None:
    rules = EvaluateSection(candidates="sampled:12")
    chosen = choose(dataset, "search", rules)
    assert chosen.negatives_NC is not None
    events, mates = dataset.train_events(), chosen.cases.mates
    for n, row in enumerate(chosen.negatives_NC.tolist()):
        had = events.item_E[events.user_E == chosen.cases.user_N[n]].tolist()
        near = mates.values[mates.offsets[n] : mates.offsets[n + 1]].tolist()
        assert len(set(row)) == 12
        assert not set(row) & {0, int(chosen.cases.item_N[n]), *had, *near}
    file = dataset.path / "candidates" / "test_search_sampled_12.npy"
    file.unlink()
    assert choose(dataset, "search", rules).told == chosen.told  # drawn again, the same
    np.save(file, np.zeros((2, 2)))
    with pytest.raises(DataError, match="delete it"):
        choose(dataset, "search", rules)
    file.unlink()


def test_sampled_candidates_pad_where_too_few_items_are_free(dataset: Dataset) -> None:
    chosen = choose(dataset, "search", EvaluateSection(candidates=f"sampled:{NUM_ITEMS}"))
    assert chosen.negatives_NC is not None
    pads = (chosen.negatives_NC == 0).sum(1)
    assert (pads >= 1).all()
    _, tied, _ = rank_targets(Fixed(dataset, "constant"), dataset, chosen.cases, chosen.negatives_NC, DataSection())
    assert (tied == 1 + NUM_ITEMS - pads.numpy()).all()


def test_rules_that_do_not_fit_are_an_error(dataset: Dataset) -> None:
    with pytest.raises(DataError, match="no given candidates"):
        choose(dataset, "search", EvaluateSection(candidates="given"))
    with pytest.raises(ConfigError, match="exclude_seen"):
        choose(dataset, "recommend", EvaluateSection(candidates="sampled:5", exclude_seen=True))


def test_fingerprint_changes_with_each_rule_and_with_no_model(dataset: Dataset) -> None:
    rules = [
        {"candidates": "full"}, {"candidates": "sampled:9"}, {"candidates": "sampled:8"}, {"split": "valid"},
        {"ties": "target_first"}, {"subset": "both_histories"}, {"max_cases": 5}, {"exclude_seen": True},
    ]  # fmt: skip
    prints = [evaluate(Fixed(dataset), dataset, config(**one)).fingerprint for one in rules]
    assert len(set(prints)) == len(rules)
    search_only = Fixed(dataset, "constant")
    search_only.tasks = ("search",)  # type: ignore[misc]
    alone = evaluate(search_only, dataset, config(candidates="full"))
    assert alone.fingerprint == prints[0]
    assert list(alone.metrics) == ["search"]


def test_max_cases_draws_the_same_cases_each_time(dataset: Dataset) -> None:
    rules = EvaluateSection(max_cases=5, subset="both_histories")
    one, two = choose(dataset, "search", rules), choose(dataset, "search", rules)
    assert len(one.cases) == 5
    assert torch.equal(one.cases.user_N, two.cases.user_N)
    assert one.cases.both_histories(dataset.history).all()


def test_segments_of_what_is_known_part_the_cases(dataset: Dataset) -> None:
    cases = dataset.cases("test", "recommend")
    masks = segment_masks(cases, dataset.history, dataset.train_events())
    assert list(masks) == list(SEGMENTS)
    kinds = [masks[name] for name in ("both_histories", "no_search_history", "no_feed_history", "neither")]
    assert (np.stack(kinds).sum(0) == 1).all()
    assert masks["no_feed_history"].any()
    assert not masks["long_history"].any()
    known = set(dataset.train_events().item_E.tolist())
    assert masks["new_items"].tolist() == [item not in known for item in cases.item_N.tolist()]


def test_validation_score_is_capped_and_leaves_the_model_in_its_mode(dataset: Dataset) -> None:
    model = Fixed(dataset, "constant").train()
    told = config(TrainSection(valid_cases=3, valid_negatives=9))
    gains = 1 / np.log2(np.arange(2, 7))
    assert validation_score(model, dataset, told) == pytest.approx(gains.sum() / 10)
    assert model.training


def test_candidates_of_the_validation_are_told(dataset: Dataset) -> None:
    model, train = Fixed(dataset), TrainSection(valid_negatives=9)
    assert told_candidates(model, dataset, config(train)) == "among 10 sampled candidates"


def test_seen_items_are_named_in_the_sentence_where_they_are_left_out(dataset: Dataset) -> None:
    for seen in (False, True):
        told = sentences(evaluate(Fixed(dataset), dataset, config(candidates="full", exclude_seen=seen)).told())[0]
        assert ("candidates: full, without items of the user's history in recommend; ties" in told) is seen


def test_report_is_read_as_written(dataset: Dataset, tmp_path: Path) -> None:
    result = evaluate(Fixed(dataset), dataset, config(candidates="full"))
    report = write_report(result, tmp_path / "fixed")
    assert read_report(tmp_path / "fixed") == json.loads(json.dumps(report))
    assert sorted(file.name for file in (tmp_path / "fixed").iterdir()) == ["report.json", "reports"]
    assert report["derived"] == "Made up."
    assert {"cpu", "cores", "torch"} <= set(report["machine"])
    figure = report["metrics"]["search"]["NDCG@10"]
    assert figure["low"] <= figure["value"] <= figure["high"]
    with pytest.raises(DataError, match="corsar evaluate"):
        read_report(tmp_path / "other")


def test_table_puts_tasks_together_and_refuses_unlike_protocols(dataset: Dataset, tmp_path: Path) -> None:
    reports = [
        write_report(evaluate(Fixed(dataset, rule), dataset, config(candidates="full")), tmp_path / rule)
        for rule in ("item", "perfect")
    ]
    rows = table_rows(reports)
    assert [(row["task"], row["model"]) for row in rows] == [
        ("recommend", "item"), ("recommend", "perfect"), ("search", "item"), ("search", "perfect"),
    ]  # fmt: skip
    assert list(rows[0]) == ["task", "model", "HR@1", "HR@10", "NDCG@10", "MRR"]
    assert rows[3]["MRR"] == "1.0000 ±0.0000"
    other = evaluate(Fixed(dataset), dataset, config(candidates="sampled:9"))
    with pytest.raises(DataError, match=r"differ in tasks.recommend.candidates \(full against sampled:9\)"):
        table_rows([*reports, other])
