"""bfloat16 by torch's autocast, on the CPU: the loss stays close, and everything that is kept stays in float32."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from corsar.config import load_config
from corsar.train.loop import train

SMALL = {
    "train.epochs": "3", "train.batch_size": "24", "train.align_negatives": "16", "train.valid_negatives": "9",
    "run.threads": "1", "model.dropout": "0",
}  # fmt: skip


def run(data: Path, out: Path, model: str, amp: str) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    """Its lines of losses, and all that the checkpoint keeps."""
    more = {"model.embedding_std": "0.5"} if model == "unisar" else {}
    flags = {"data.path": str(data), "model.name": model, "run.amp": amp} | SMALL | more
    train(load_config(None, flags), out)
    kept: dict[str, torch.Tensor] = {}
    for file in (out / "checkpoint").glob("*/*.safetensors"):
        kept |= load_file(file)
    told = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in told if line["kind"] == "steps"], kept


@pytest.mark.parametrize("model", ["unisar", "sasrec"])
def test_amp_trains_close_to_float32(model: str, tiny_dataset: Path, tmp_path: Path) -> None:
    plain, _ = run(tiny_dataset, tmp_path / "plain", model, "false")
    amp, kept = run(tiny_dataset, tmp_path / "amp", model, "true")
    assert {tensor.dtype for name, tensor in kept.items() if not name.startswith("step/")} == {torch.float32}
    assert all(torch.isfinite(tensor).all() for tensor in kept.values())
    assert amp[-1]["loss"] < amp[0]["loss"]
    terms = [name for name in plain[0] if name == "loss" or "/" in name]
    for ours, theirs in zip(amp, plain, strict=True):
        assert {name: ours[name] for name in terms} == pytest.approx({name: theirs[name] for name in terms}, rel=0.05)
    assert any(ours[name] != theirs[name] for ours, theirs in zip(amp, plain, strict=True) for name in terms)
