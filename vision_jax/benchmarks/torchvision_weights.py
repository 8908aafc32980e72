"""torchvision's variables under our names, so that both sides compute the same.

Takes its modules, not their files: a ResNet, and Faster or Mask R-CNN on a ResNet with a feature pyramid.
Arrays are copies. Torch itself is not imported.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from vision_jax.pretrained.names import to_ours, variables_of
from vision_jax.pretrained.torchvision import resnet_layers
from vision_jax.training.state import Variables


def backbone_variables(body: Any) -> Variables:
    """A ResNet's parameters, and its running statistics where it has any.

    Args:
        body: torchvision's `ResNet`, with batch, frozen batch or group normalization.

    Returns:
        Variables of `vision_jax.backbones.ResNet`.
    """
    stages = [len(getattr(body, f"layer{s}")) for s in range(1, 5)]
    tensors = {name: _array(tensor) for name, tensor in body.state_dict().items()}
    return variables_of(resnet_layers(stages, hasattr(body.layer1[0], "conv3")), tensors)


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
            "fc6": {"kernel": to_ours(_array(fc6.weight), (7, 7)), "bias": _array(fc6.bias)},
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
    """The mask head's; its first channel is the background's, which ours does not have."""
    last = _conv(predictor.mask_fcn_logits)
    return {
        **{f"conv{i + 1}": _conv(block[0]) for i, block in enumerate(head)},
        "up": {
            "kernel": _array(predictor.conv5_mask.weight).transpose(0, 2, 3, 1),
            "bias": _array(predictor.conv5_mask.bias),
        },
        "masks": {"kernel": last["kernel"][..., 1:], "bias": last["bias"][1:]},
    }


def _conv(module: Any) -> Variables:
    """A convolution's kernel [h w i o], and its bias where it has one."""
    found = {"kernel": to_ours(_array(module.weight))}
    return found if module.bias is None else {**found, "bias": _array(module.bias)}


def _dense(weight: Float[np.ndarray, "o i"], bias: Float[np.ndarray, " o"]) -> Variables:
    """A dense layer's kernel [i o] and bias."""
    return {"kernel": weight.T, "bias": bias}


def _array(tensor: Any) -> Shaped[np.ndarray, "..."]:
    """A copy of a tensor."""
    return np.array(tensor.detach())
