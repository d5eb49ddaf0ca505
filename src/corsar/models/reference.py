"""Key maps from the weights of the published implementations to the modules here.

Published user tables have no padding row: user 0 and attribute value 0 are real there, so that both move up by one here.
"""

from __future__ import annotations

import torch
from torch import Tensor

_ATTRIBUTES = ("onehot_feat1", "onehot_feat2", "search_active_level", "rec_active_level")
_CATEGORIES = ("first_level_category_id", "second_level_category_id")
_TASKS = ("recommend", "search")

_PLAIN = {
    "no_query": "rec_query",
    "words.embedding.weight": "query_embedding.query_encoder.word_embedding.weight",
    "words.linear.weight": "query_embedding.query_trans.weight",
    "words.linear.bias": "query_embedding.query_trans.bias",
    "item_id.weight": "session_embedding.item_feat.item_id_emb.weight",
    "item_linear.weight": "session_embedding.item_feat.item_trans.weight",
    "item_linear.bias": "session_embedding.item_feat.item_trans.bias",
    "user_linear.weight": "session_embedding.user_feat.user_trans.weight",
    "user_linear.bias": "session_embedding.user_feat.user_trans.bias",
    "feed_position.weight": "rec_pos.pe.weight",
    "search_position.weight": "src_pos.pe.weight",
    "merged_position.weight": "global_pos_emb.pe.weight",
    "item_query.weight": "feature_alignment.infoNCE_loss.weight_matrix",
    "item_query.temperature": "feature_alignment.infoNCE_loss.temp",
    "feed_transition.weight": "rec_his_cl.weight_matrix",
    "feed_transition.temperature": "rec_his_cl.infoNCE_temp",
    "search_transition.weight": "src_his_cl.weight_matrix",
    "search_transition.temperature": "src_his_cl.infoNCE_temp",
}
_LAYERS = {
    "feed_encoder": "rec_transformer.transformer_encoder.layers.0",
    "search_encoder": "src_transformer.transformer_encoder.layers.0",
    "cross_encoder": "global_transformer.transformer_encoder.layers.0",
    "feed_decoder": "rec_cross_fusion.layers.0",
    "search_decoder": "src_cross_fusion.layers.0",
}


def _layer(name: str, published: str) -> dict[str, str]:
    attentions = {"attention": "self_attn"}
    norms = ["norm1", "norm2"]
    if name.endswith("decoder"):
        attentions = {"self_attention": "self_attn", "cross_attention": "multihead_attn"}
        norms.append("norm3")
    found = {}
    for kind in ("weight", "bias"):
        for ours, theirs in attentions.items():
            found[f"{name}.{ours}.in_proj.{kind}"] = f"{published}.{theirs}.in_proj_{kind}"
            found[f"{name}.{ours}.out_proj.{kind}"] = f"{published}.{theirs}.out_proj.{kind}"
        for linear in ("linear1", "linear2"):
            found[f"{name}.feed_forward.{linear}.{kind}"] = f"{published}.{linear}.{kind}"
        for norm in norms:
            found[f"{name}.{norm}.{kind}"] = f"{published}.{norm}.{kind}"
    return found


def unisar_weights(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a `UniSARNet` from the parameters of the published UniSAR (TengShi-RUC/UniSAR 1a14a24)."""
    names = dict(_PLAIN)
    for name, theirs in _LAYERS.items():
        names |= _layer(name, theirs)
    for column, name in enumerate(_CATEGORIES):
        names[f"categories.{column}.weight"] = f"session_embedding.item_feat.{name}_emb.weight"
    for task, (head, index) in zip(_TASKS, (("rec_fc_layer", 0), ("src_fc_layer", 1)), strict=True):
        for kind in ("weight", "bias"):
            names[f"experts.gates.{task}.{kind}"] = f"ple_layer.task_gates.0.{index}.0.{kind}"
            for layer in (0, 3):
                names[f"towers.{task}.{layer}.{kind}"] = f"ple_layer.tower.{index}.mlp.{layer}.{kind}"
            for layer in (0, 3, 6):
                names[f"heads.{task}.{layer}.{kind}"] = f"{head}.fc.{layer}.{kind}"
    ours = {name: published[theirs] for name, theirs in names.items()}
    ours["feed_interest.weight"] = published["rec_his_attn_pooling.W"][0]
    ours["search_interest.weight"] = published["src_his_attn_pooling.W"][0]
    for kind in ("weight", "bias"):
        for task, prefix in (("recommend", "task_experts.0.0"), ("search", "task_experts.0.1"), ("", "share_experts.0")):
            parts = [v for k, v in sorted(published.items()) if k.startswith(f"ple_layer.{prefix}.") and k.endswith(kind)]
            ours[f"experts.own.{task}.{kind}" if task else f"experts.shared.{kind}"] = torch.cat(parts)
    users = {"user_id": "user_id"} | {f"attributes.{a}": name for a, name in enumerate(_ATTRIBUTES)}
    for name, theirs in users.items():
        table = published[f"session_embedding.user_feat.{theirs}_emb.weight"]
        ours[f"{name}.weight"] = torch.cat([table.new_zeros(1, table.shape[1]), table])
    return ours
