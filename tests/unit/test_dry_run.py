"""--dry-run: what it tells is what a training does, and it writes nothing."""

import json
import re
from pathlib import Path

import pytest
import torch

from corsar.api import train_run
from corsar.cli import main
from corsar.cli.show import duration
from corsar.config import load_config
from corsar.data.store import open_dataset
from corsar.train.loop import fresh_model

TINY = {"train.batch_size": "16", "train.align_negatives": "4", "model.dim": "8", "run.threads": "1", "train.epochs": "2"}


def test_dry_run_tells_what_a_training_does(tiny_dataset: Path, tmp_path: Path) -> None:
    out, state = tmp_path / "run", torch.get_rng_state()
    config = load_config(None, TINY | {"data.path": str(tiny_dataset)})
    told = train_run(config, out, dry=True)
    assert list(tmp_path.iterdir()) == []
    assert torch.equal(torch.get_rng_state(), state)
    model, _ = fresh_model(config, open_dataset(tiny_dataset))
    total = sum(weight.numel() for weight in model.parameters())
    assert told["parameters"]["all"] == total == sum(num for name, num in told["parameters"].items() if name != "all")
    memory = told["memory"]
    assert memory["parameters"] == memory["gradients"] == 4 * total
    assert 8 * total <= memory["optimiser"] < 8 * total + 8 * 200  # two moments, and a count a parameter
    assert memory["activations"] > 0
    assert memory["all"] == sum(size for name, size in memory.items() if name not in ("all", "process")) < memory["process"]
    train_run(config, out)
    assert (out / "config.toml").read_text() == told["settings"]
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == told["steps"]["all"] == 2 * told["steps"]["epoch"]
    assert told["notes"] == []
    assert all(took > 0 for took in told["seconds"].values())


def test_activations_grow_with_the_batch_and_not_with_the_weights(tiny_dataset: Path, tmp_path: Path) -> None:
    def kept(**more: str) -> int:
        flags = TINY | {"data.path": str(tiny_dataset), "model.name": "sasrec"} | more
        size: int = train_run(load_config(None, flags), tmp_path / "run", dry=True)["memory"]["activations"]
        return size

    assert 1.5 * kept() < kept(**{"train.batch_size": "32"}) < 2.5 * kept()


@pytest.mark.parametrize(("argv", "note"), [([], "--data DIR"), (["--data", "DATA", "--model", "bm25"], "there are no steps")])
def test_dry_run_says_what_it_cannot_tell(
    argv: list[str], note: str, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [str(tiny_dataset) if word == "DATA" else word for word in argv]
    main(["train", *argv, "--dry-run", "--json", "--out", str(tmp_path / "run")])
    told = json.loads(capsys.readouterr().out)
    assert note in " ".join(told["notes"])
    assert "parameters" not in told
    assert list(tmp_path.iterdir()) == []


def test_duration_is_told_in_the_unit_that_fits() -> None:
    told = {0.01234: "0.012 s", 2.34: "2.3 s", 61.2: "61 s", 953.08: "16 min", 9000: "2.5 h", 200_000: "56 h"}
    assert [duration(seconds) for seconds in told] == [*told.values()]


def test_dry_run_is_printed_as_tables(tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").touch()
    settings = [word for name, value in TINY.items() for word in (f"--{name}", value)]
    main(["train", "--data", str(tiny_dataset), *settings, "--dry-run", "--out", str(tmp_path / "run")])
    told = capsys.readouterr().out
    assert all(word in told for word in ("batch_size = 16", "item_id", "activations", "validation", "is there already"))
    assert told.index("is there already") < told.index("this training takes about") < told.index("batch_size = 16")
    assert re.search(
        r"takes about [\d.]+ (s|min), or less where it stops early: \d+ steps of [\d.]+ s, \d+ an epoch, then", told
    )
    assert re.search(r"activations +\d+ *\n", told)
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["notes.txt"]
