"""Large tables updated by the rows of a step: as SparseAdam, as dense Adam where a step has all rows, and exact on resume."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from corsar.api import train_run
from corsar.config import Config, TrainSection
from corsar.data.store import open_dataset
from corsar.models.base import Model
from corsar.nn.embeddings import WordsEncoder, id_embedding
from corsar.train.loop import fresh_model, train
from corsar.train.optim import build_optimizer, clip_gradients
from corsar.train.processes import Processes

sys.path.insert(0, str(Path(__file__).parent))
import tiny_run

ROWS, DIM = 40, 5
BY_ROWS, DENSE = TrainSection(sparse_rows=0, weight_decay=0.1), TrainSection(weight_decay=0.1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run.make_dataset(tmp_path_factory.mktemp("data") / "tiny")


def unisar(data: Path, **more: str) -> Config:
    sizes = {"model__dim": "16", "model__embedding_std": "0.5"}
    return tiny_run.settings(data, model__name="unisar", **sizes, **more)


def pair() -> tuple[nn.Embedding, nn.Embedding]:
    torch.manual_seed(0)
    table = nn.Embedding(ROWS, DIM, padding_idx=0)
    return table, copy.deepcopy(table)


def both_steps(
    tables: tuple[nn.Embedding, nn.Embedding], optimizers: tuple[torch.optim.Optimizer, ...], rows: torch.Tensor
) -> None:
    """The same step of two tables; like two tasks, it adds to the gradient twice, and some rows stand in it twice."""
    targets = torch.randn(2, len(rows), DIM)
    for table, optimizer in zip(tables, optimizers, strict=True):
        optimizer.zero_grad()
        for part, target in zip((rows, rows[: len(rows) // 2]), targets, strict=True):
            (table(part) - target[: len(part)]).square().sum().backward()
        optimizer.step()


def test_rows_move_as_with_torchs_sparse_adam() -> None:
    ours, theirs = pair()
    mine = build_optimizer(ours, TrainSection(sparse_rows=0, weight_decay=0, learning_rate=0.01))
    theirs.sparse = True
    yours = torch.optim.SparseAdam(theirs.parameters(), lr=0.01)
    for _ in range(20):
        both_steps((ours, theirs), (mine, yours), torch.randint(0, ROWS, (7,)))
        assert ours.weight.grad is not None
        assert ours.weight.grad.is_sparse
    torch.testing.assert_close(ours.weight, theirs.weight)


def test_rows_move_as_with_dense_adam_where_a_step_has_them_all() -> None:
    tables = pair()
    optimizers = tuple(build_optimizer(table, how) for table, how in zip(tables, (BY_ROWS, DENSE), strict=True))
    for _ in range(20):
        both_steps(tables, optimizers, torch.randperm(ROWS - 1) + 1)
    assert [table.weight.grad is not None and table.weight.grad.is_sparse for table in tables] == [True, False]
    torch.testing.assert_close(tables[0].weight, tables[1].weight)


def test_other_rows_and_their_moments_stay_as_they_are() -> None:
    table, before = pair()
    optimizer = build_optimizer(table, BY_ROWS)
    both_steps((table, before), (optimizer, torch.optim.SGD(before.parameters(), 0.0)), torch.tensor([3, 5, 0, 5]))
    moved = (table.weight != before.weight).any(1)
    assert moved.nonzero().squeeze(1).tolist() == [3, 5]
    assert torch.equal(optimizer.state[table.weight]["exp_avg_sq"].any(1), moved)


def test_only_tables_of_more_rows_than_told_are_updated_by_rows() -> None:
    tables = nn.ModuleList([nn.Embedding(9, 2), nn.Embedding(10, 2), nn.Linear(50, 2)])
    build_optimizer(tables, TrainSection(sparse_rows=9))
    assert [getattr(table, "sparse", False) for table in tables] == [False, True, False]


def test_words_give_the_same_gradient_by_rows() -> None:
    torch.manual_seed(1)
    dense = WordsEncoder(30, 4, 6)
    by_rows = copy.deepcopy(dense)
    by_rows.embedding.sparse = True
    values, offsets = torch.tensor([4, 0, 4, 9, 30, 0, 0]), torch.tensor([0, 3, 3, 5, 7])
    for encoder in (dense, by_rows):
        encoder(values, offsets).square().sum().backward()
    expected, told = dense.embedding.weight.grad, by_rows.embedding.weight.grad
    assert expected is not None
    assert told is not None
    assert told.coalesce().indices()[0].tolist() == [4, 9, 30]
    torch.testing.assert_close(told.to_dense(), expected)


@pytest.mark.parametrize("longest", [0.5, 1000.0])
def test_clipping_sees_a_gradient_of_rows_as_what_it_stands_for(longest: float) -> None:
    grads = []
    for sparse in (True, False):
        torch.manual_seed(2)
        model = nn.ModuleList([nn.Embedding(ROWS, DIM, sparse=sparse), nn.Linear(DIM, 1)])
        model[1](model[0](torch.tensor([1, 7, 7, 2]))).sum().backward()
        clip_gradients(model.parameters(), longest)
        grads.append([weight.grad.to_dense() for weight in model.parameters() if weight.grad is not None])
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs)


def gradients(config: Config, data: Path) -> tuple[Model, dict[str, torch.Tensor]]:
    from corsar.data.loader import TrainLoader

    dataset = open_dataset(data)
    model, config = fresh_model(config, dataset)
    build_optimizer(model, config.train)
    for batch in TrainLoader(dataset, config.data, config.train, 0).step(0, 0).values():
        torch.stack(list(model.loss(batch).values())).sum().backward()
    return model, {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def test_unisar_gives_the_same_gradients_by_rows(data: Path) -> None:
    more = {"model__dropout": "0"}
    _, dense = gradients(unisar(data, **more), data)
    model, by_rows = gradients(unisar(data, **more, train__sparse_rows="0"), data)
    tables = {f"{name}.weight" for name, part in model.named_modules() if isinstance(part, nn.Embedding)}
    assert {name for name, grad in by_rows.items() if grad.is_sparse} == tables
    assert not any(grad.is_sparse for grad in dense.values())
    assert by_rows.keys() == dense.keys()
    for name, grad in dense.items():
        torch.testing.assert_close(by_rows[name].to_dense(), grad)


def test_resumed_run_by_rows_is_exact(data: Path, tmp_path: Path) -> None:
    """Cut after 2 of 4 steps, and gone on with."""
    more = {"train__sparse_rows": "0", "train__clip_norm": "0.5", "train__batch_size": "40", "train__valid_cases": "2"}
    more["train__max_steps"] = "4"
    train(unisar(data, **more), tmp_path / "whole")
    train(unisar(data, **more | {"train__max_steps": "2"}), tmp_path / "cut")
    train(unisar(data, **more), tmp_path / "cut", resume=True)
    for file in ("weights", "optimizer"):
        ours, theirs = (load_file(next((tmp_path / run).glob(f"checkpoint/*/{file}.safetensors"))) for run in ("cut", "whole"))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert theirs["step/item_id.weight"] == 4


def test_dry_run_counts_gradients_by_rows(data: Path, tmp_path: Path) -> None:
    dense, by_rows = (
        train_run(unisar(data, train__sparse_rows=rows), tmp_path / "run", dry=True)["memory"] for rows in ("1000", "0")
    )
    assert by_rows["optimiser"] == dense["optimiser"]
    assert 0 < by_rows["gradients"] != dense["gradients"]


def test_mean_over_processes_takes_the_rows_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a second process: what it would send is put in by hand."""
    table = id_embedding(9, 2)
    table.sparse = True
    table(torch.tensor([2, 5])).sum().backward()
    others = {1: torch.tensor([5, 7]), 2: torch.full((2, 2), 3.0)}
    monkeypatch.setattr(Processes, "gather", lambda self, rows: torch.cat([rows, others[rows.dim()]]))
    total = Processes(size=2)._all_rows(table.weight).to_dense()
    assert total[:, 0].tolist() == [0, 0, 1, 0, 0, 4, 0, 3, 0, 0]
    table.weight.grad = None
    assert Processes(size=2)._all_rows(table.weight).to_dense()[:, 0].tolist() == [0, 0, 0, 0, 0, 3, 0, 3, 0, 0]
