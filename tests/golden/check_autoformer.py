"""Parity of the Autoformer with the published one (thuml/Autoformer 51c7d41)."""

from __future__ import annotations

import numpy as np
import torch
from compare import Errors, relative
from torch import Tensor

from corsar.models.autoformer import AutoformerNet
from corsar.models.reference_autoformer import autoformer_weights

PUBLISHED = {"lags": "paper_code", "direction": "paper", "normalise": False}


def autoformer_model(arrays: dict[str, np.ndarray], sizes: dict) -> AutoformerNet:
    """The model with the published weights."""
    config = AutoformerNet.Config(
        horizon=sizes["pred_len"],
        input_len=sizes["seq_len"],
        label_len=sizes["label_len"],
        dim=sizes["d_model"],
        heads=sizes["n_heads"],
        encoder_layers=sizes["e_layers"],
        decoder_layers=sizes["d_layers"],
        ff_dim=sizes["d_ff"],
        dropout=sizes["dropout"],
        kernel=sizes["moving_avg"],
        factor=sizes["factor"],
        **PUBLISHED,
    )
    model = AutoformerNet(config, sizes["enc_in"])
    model.load_state_dict(autoformer_weights({k[2:]: torch.from_numpy(v) for k, v in arrays.items() if k.startswith("w.")}))
    return model


def autoformer_outputs(arrays: dict[str, np.ndarray], sizes: dict) -> dict[str, Tensor]:
    """The forecasts of both modes; lags hang on the mode in the published form."""
    model = autoformer_model(arrays, sizes)
    given = [torch.from_numpy(arrays[name]) for name in ("x_enc", "mark_enc", "mark_dec")]
    return {mode: model.train(mode == "train").forecast(*given) for mode in ("train", "eval")}


def check_autoformer(arrays: dict[str, np.ndarray], sizes: dict) -> Errors:
    """The forecasts of both modes."""
    return {
        f"{mode}.out": (relative(out, arrays[f"{mode}.out"]), 1e-6) for mode, out in autoformer_outputs(arrays, sizes).items()
    }
