"""torchvision's variables under our names, so that both sides compute the same.

Takes its modules, not their files: a ResNet, and Faster or Mask R-CNN on a ResNet with a feature pyramid.
Arrays are copies. Torch itself is not imported.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Variables = dict[str, Any]


def backbone_variables(body: Any) -> Variables:
    """A ResNet's parameters, and its running statistics where it has any.

    Args:
        body: torchvision's `ResNet`, with batch, frozen batch or group normalisation.

    Returns:
        Variables of `vision_jax.backbones.ResNet`.
    """
    params, stats = {"stem_conv": _conv(body.conv1)}, {}
    _add_norm(body.bn1, "stem_norm", params, stats)
    for s in range(1, 5):
        for b, block in enumerate(getattr(body, f"layer{s}")):
            name = f"stage{s}_block{b + 1}"
            ours, own_stats = {}, {}
            for i in (1, 2, 3):
                if hasattr(block, f"conv{i}"):
                    ours[f"conv{i}"] = _conv(getattr(block, f"conv{i}"))
                    _add_norm(getattr(block, f"bn{i}"), f"norm{i}", ours, own_stats)
            if block.downsample is not None:
                ours["conv_shortcut"] = _conv(block.downsample[0])
                _add_norm(block.downsample[1], "norm_shortcut", ours, own_stats)
            params[name] = ours
            if own_stats:
                stats[name] = own_stats
    return {"params": params, "batch_stats": stats} if stats else {"params": params}


def detector_variables(model: Any) -> Variables:
    """A detector's parameters and statistics; its background class is the first, ours the last.

    Args:
        model: torchvision's `FasterRCNN` or `MaskRCNN`, with a pyramid of four maps and one more.

    Returns:
        Variables of our model of the same name.
    """
    inner, outer = model.backbone.fpn.inner_blocks, model.backbone.fpn.layer_blocks
    neck = {f"lateral{i + 2}": _conv(inner[i][0]) for i in range(4)}
    neck |= {f"output{i + 2}": _conv(outer[i][0]) for i in range(4)}
    head, heads = model.rpn.head, model.roi_heads
    fc6, fc7 = heads.box_head.fc6, heads.box_head.fc7
    # Theirs flattens a region channel by channel, ours place by place.
    by_channel = _array(fc6.weight).reshape(len(fc6.weight), -1, 7, 7)
    by_place = by_channel.transpose(0, 2, 3, 1).reshape(len(fc6.weight), -1)
    scores, moves = heads.box_predictor.cls_score, heads.box_predictor.bbox_pred
    backbone = backbone_variables(model.backbone.body)
    params = {
        "backbone": backbone["params"],
        "neck": neck,
        "rpn": {
            "hidden": _conv(head.conv[0][0]),
            "objectness": _conv(head.cls_logits),
            "deltas": _conv(head.bbox_pred),
        },
        "head": {
            "fc6": _dense(by_place, _array(fc6.bias)),
            "fc7": _dense(_array(fc7.weight), _array(fc7.bias)),
        },
        "predictor": {
            "classes": _dense(np.roll(_array(scores.weight), -1, 0), np.roll(_array(scores.bias), -1, 0)),
            "boxes": _dense(_array(moves.weight)[4:], _array(moves.bias)[4:]),
        },
    }
    if heads.mask_head is not None:
        params["mask_head"] = _mask_variables(heads.mask_head, heads.mask_predictor)
    stats = {"batch_stats": {"backbone": backbone["batch_stats"]}} if "batch_stats" in backbone else {}
    return {"params": params, **stats}


def _mask_variables(head: Any, predictor: Any) -> Variables:
    """The mask head's; its first channel is the background's, which ours has not."""
    last = _conv(predictor.mask_fcn_logits)
    return {
        **{f"conv{i + 1}": _conv(block[0]) for i, block in enumerate(head)},
        "up": {
            "kernel": _array(predictor.conv5_mask.weight).transpose(0, 2, 3, 1),
            "bias": _array(predictor.conv5_mask.bias),
        },
        "masks": {"kernel": last["kernel"][..., 1:], "bias": last["bias"][1:]},
    }


def _add_norm(module: Any, name: str, params: Variables, stats: Variables) -> None:
    params[name] = {"scale": _array(module.weight), "bias": _array(module.bias)}
    if hasattr(module, "running_mean"):
        stats[name] = {"mean": _array(module.running_mean), "variance": _array(module.running_var)}


def _conv(module: Any) -> Variables:
    found = {"kernel": _array(module.weight).transpose(2, 3, 1, 0)}
    return found if module.bias is None else {**found, "bias": _array(module.bias)}


def _dense(weight: np.ndarray, bias: np.ndarray) -> Variables:
    return {"kernel": weight.T, "bias": bias}


def _array(tensor: Any) -> np.ndarray:
    return np.array(tensor.detach())
