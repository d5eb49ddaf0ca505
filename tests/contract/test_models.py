"""One contract for all models: what any of them must hold, trained or not."""

import dataclasses
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from corsar.batch import SearchRecommendBatch, Task
from corsar.models import MODELS, model_class
from corsar.models.base import Model

sys.path.insert(0, str(Path(__file__).parent))
from world import FEED_LEN, NUM_ITEMS, SIZES, batch_of, world

SMALL = {
    "unisar": {"dim": 16, "id_dim": 8, "word_dim": 8, "expert_dim": 8},
    "sasrec": {"dim": 16},
    # the targets here are no events of the world, so there is nothing to leave out; drawn negatives differ from share to share
    "corsar": {"dim": 16, "id_dim": 8, "word_dim": 8, "head": (16,), "leave_out": False, "hard_share": 0.0},
    "automtn": {"dim": 16, "layers": 1},
}
MIXED = [f"{name}+{mixer}" for name in ("unisar", "sasrec", "corsar") for mixer in ("autocorrelation", "fourier")]


def kind(name: str) -> type[Model]:
    """The class of a model, whose mixer may stand behind a plus."""
    return model_class(name.split("+")[0])


CASES = [(name, task) for name in (*MODELS, *MIXED) for task in kind(name).tasks]
TRAINED = [(name, task) for name, task in CASES if kind(name).trained]
# published, and the same for all candidates: the softmax of the bare model does not see it, that of habits in front of it does
UNSEEN = {"automtn": {"mix.bias"}}
EVERYONE = [1, 2, 3, 4, 5, 6, 7, 0]  # the last one is an unknown user


def build(name: str, seed: int = 0, **options: object) -> Model:
    """A small model, initialised or counted."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        cls, (base, *mixer) = kind(name), name.split("+")
        if mixer:
            options |= {"mixer": mixer[0], "lag_factor": 3.0}  # with one lag alone there is no weight to learn
        model = cls(cls.Config(**{**SMALL.get(base, {}), **options}), SIZES)  # type: ignore[arg-type]
    _, catalogue, events = world()
    model.count(events, catalogue)
    return model.eval()


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_scores_are_finite_for_any_history(name: str, task: Task) -> None:
    scores = build(name).score(batch_of(task, EVERYONE))
    assert scores.shape == (len(EVERYONE), 6)
    assert torch.isfinite(scores).all()


@pytest.mark.parametrize(("name", "task"), CASES)
def test_unknown_items_and_empty_queries_score_finite(name: str, task: Task) -> None:
    batch = batch_of(task, EVERYONE)
    batch = dataclasses.replace(batch, candidates_BC=batch.candidates_BC * (torch.arange(6) % 2), query_B=batch.query_B * 0)
    assert torch.isfinite(build(name).score(batch)).all()


@pytest.mark.parametrize(("name", "task"), CASES)
def test_score_does_not_depend_on_batch_mates(name: str, task: Task) -> None:
    model = build(name)
    together = model.score(batch_of(task, EVERYONE))
    for row, user in enumerate(EVERYONE):
        close(model.score(batch_of(task, [user]))[0], together[row])
    close(model.score(batch_of(task, EVERYONE[::-1])), together.flip(0))


@pytest.mark.parametrize(("name", "task"), CASES)
def test_padding_changes_nothing(name: str, task: Task) -> None:
    model, batch = build(name), batch_of(task, [1, 3, 4, 6])

    def pad(x: Tensor, width: int) -> Tensor:
        return F.pad(x, (0,) * (2 * (x.dim() - 2)) + (0, width - x.shape[1]))

    longer = {
        f.name: pad(getattr(batch, f.name), FEED_LEN if "_BF" in f.name else 4)
        for f in dataclasses.fields(batch)
        if f.name.endswith(("_BF", "_BS", "_BSK"))
    }
    longer["search_clicks_BSK"] = F.pad(longer["search_clicks_BSK"], (0, 3))
    close(model.score(dataclasses.replace(batch, **longer)), model.score(batch))


@pytest.mark.parametrize(("name", "task"), CASES)
def test_permuting_candidates_permutes_scores(name: str, task: Task) -> None:
    model, batch = build(name), batch_of(task, EVERYONE)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    moved = dataclasses.replace(batch, candidates_BC=batch.candidates_BC[:, order])
    close(model.score(moved), model.score(batch)[:, order])


@pytest.mark.parametrize(("name", "task"), CASES)
def test_scorer_gives_the_scores_of_any_candidates(name: str, task: Task) -> None:
    model, batch = build(name), batch_of(task, EVERYONE)
    everything_I = torch.arange(1, NUM_ITEMS + 1)
    scorer = model.scorer(batch, everything_I)
    for some_C in everything_I.split(4):
        candidates_BC = some_C.expand(len(batch), -1)
        close(scorer(candidates_BC), model.score(dataclasses.replace(batch, candidates_BC=candidates_BC)))


@pytest.mark.parametrize(("name", "task"), CASES)
def test_stored_weights_give_the_same_scores(name: str, task: Task) -> None:
    model, batch = build(name), batch_of(task, EVERYONE)
    cls = kind(name)
    again = cls(model.config, SIZES).eval()
    again.load_weights({k: v.clone() for k, v in model.state_dict().items()})
    assert torch.equal(again.score(batch), model.score(batch))


@pytest.mark.parametrize("name", sorted({name for name, _ in TRAINED}))
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model = build(name).train()
    weights = model.term_weights()
    for task in model.tasks:
        terms = model.loss(batch_of(task, EVERYONE))
        assert all(torch.isfinite(term) for term in terms.values())
        sum(weights.get(key, 1.0) * term for key, term in terms.items()).backward()
    missing = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert missing <= UNSEEN.get(name, set())


@pytest.mark.parametrize(("name", "task"), TRAINED)
def test_padding_rows_get_no_gradient(name: str, task: Task) -> None:
    model = build(name).train()
    sum(model.loss(batch_of(task, EVERYONE)).values()).backward()
    tables = {n: t for n, t in model.named_modules() if isinstance(t, torch.nn.Embedding) and t.padding_idx == 0}
    moved = [n for n, t in tables.items() if t.weight.grad is not None and t.weight.grad.to_dense()[0].abs().sum() > 0]
    assert moved == []


@pytest.mark.parametrize(("name", "task"), TRAINED)
def test_learns_a_known_answer(name: str, task: Task) -> None:
    model = build(name).train()
    batch = batch_of(task, [1, 3, 4, 5, 6, 7])
    optim = torch.optim.Adam(model.parameters(), 1e-2)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        losses = []
        for _ in range(80):
            optim.zero_grad()
            loss = sum(model.loss(batch).values())
            losses.append(loss.item())
            loss.backward()
            optim.step()
    assert losses[-1] < losses[0]
    if name == "habits":  # a few weights of habits shared by all people: no memory for six drawn answers
        return
    assert (model.eval().score(batch).argmax(1) == 0).all()


@pytest.mark.parametrize(("name", "task"), TRAINED)
def test_scores_react_to_the_history(name: str, task: Task) -> None:
    model, batch = build(name), batch_of(task, [1, 5, 7])
    empty = dataclasses.replace(
        batch,
        feed_is_real_BF=torch.zeros_like(batch.feed_is_real_BF),
        search_is_real_BS=torch.zeros_like(batch.search_is_real_BS),
    )
    assert (model.score(batch) - model.score(empty)).abs().min() > 0


def test_item_rows_reach_the_last_item() -> None:
    batch: SearchRecommendBatch = batch_of("recommend", [1, 2])
    whole = dataclasses.replace(batch, candidates_BC=torch.arange(1, NUM_ITEMS + 1).expand(2, -1))
    for name in MODELS:
        if "recommend" in model_class(name).tasks:
            assert build(name).score(whole).shape == (2, NUM_ITEMS)


@pytest.mark.parametrize("name", MODELS)
def test_items_are_compared_with_all_items(name: str) -> None:
    model, batch = build(name), batch_of("recommend", [1])
    rows = torch.tensor([3, NUM_ITEMS, 3])
    if not model.trained:
        found = model.similar(rows, batch.catalogue)
        assert found.shape == (3, NUM_ITEMS + 1)
        assert torch.equal(found[0], found[2])
    else:
        found = model.item_vectors(batch, rows)
        assert torch.equal(found[0], found[2])
        assert len(model.item_vectors(batch, torch.arange(NUM_ITEMS + 1))) == NUM_ITEMS + 1
        close(model.item_vectors(batch, torch.arange(NUM_ITEMS + 1))[rows], found)
    assert torch.isfinite(found).all()
