"""torchvision's variables under our names."""

import jax.numpy as jnp
import pytest

torch = pytest.importorskip("torch")


def array(tensor):
    return jnp.asarray(tensor.detach().numpy())


def conv(module):
    found = {"kernel": array(module.weight.permute(2, 3, 1, 0))}
    return found if module.bias is None else {**found, "bias": array(module.bias)}


def dense(weight, bias):
    return {"kernel": array(weight.T), "bias": array(bias)}


def norm(module):
    return {"scale": array(module.weight), "bias": array(module.bias)}


def backbone_variables(body):
    """torchvision's ResNet as ours: parameters and running statistics."""
    params, stats = {"stem_conv": conv(body.conv1), "stem_norm": norm(body.bn1)}, {}
    modules = {"stem_norm": body.bn1}
    for s in range(1, 5):
        for b, block in enumerate(getattr(body, f"layer{s}")):
            name = f"stage{s}_block{b + 1}"
            ours = {}
            for i in (1, 2, 3):
                if hasattr(block, f"conv{i}"):
                    ours[f"conv{i}"] = conv(getattr(block, f"conv{i}"))
                    ours[f"norm{i}"] = norm(getattr(block, f"bn{i}"))
                    modules[name, f"norm{i}"] = getattr(block, f"bn{i}")
            if block.downsample is not None:
                ours["conv_shortcut"], ours["norm_shortcut"] = (
                    conv(block.downsample[0]),
                    norm(block.downsample[1]),
                )
                modules[name, "norm_shortcut"] = block.downsample[1]
            params[name] = ours
    for key, module in modules.items():
        if hasattr(module, "running_mean"):
            value = {"mean": array(module.running_mean), "variance": array(module.running_var)}
            if isinstance(key, tuple):
                stats.setdefault(key[0], {})[key[1]] = value
            else:
                stats[key] = value
    return {"params": params, "batch_stats": stats} if stats else {"params": params}


def detector_variables(model):
    """torchvision's detector as ours: its background class is the first, ours the last."""
    inner, outer = model.backbone.fpn.inner_blocks, model.backbone.fpn.layer_blocks
    fpn = {f"lateral{i + 2}": conv(inner[i][0]) for i in range(4)}
    fpn |= {f"output{i + 2}": conv(outer[i][0]) for i in range(4)}
    head, heads = model.rpn.head, model.roi_heads
    rpn = {
        "hidden": conv(head.conv[0][0]),
        "objectness": conv(head.cls_logits),
        "deltas": conv(head.bbox_pred),
    }
    fc6 = heads.box_head.fc6
    features = fc6.weight.shape[1] // 49
    by_place = fc6.weight.reshape(-1, features, 7, 7).permute(0, 2, 3, 1).reshape(len(fc6.weight), -1)
    predictor = heads.box_predictor
    scores = predictor.cls_score
    box_head = {
        "fc6": dense(by_place, fc6.bias),
        "fc7": dense(heads.box_head.fc7.weight, heads.box_head.fc7.bias),
    }
    boxes = {
        "classes": dense(torch.roll(scores.weight, -1, 0), torch.roll(scores.bias, -1, 0)),
        "boxes": dense(predictor.bbox_pred.weight[4:], predictor.bbox_pred.bias[4:]),
    }
    backbone = backbone_variables(model.backbone.body)
    parameters = {"neck": fpn, "rpn": rpn, "head": box_head, "predictor": boxes}
    if heads.mask_head is not None:
        parameters["mask_head"] = mask_variables(heads.mask_head, heads.mask_predictor)
    return {"params": {"backbone": backbone["params"], **parameters}}


def mask_variables(head, predictor):
    """torchvision's mask head as ours; its first channel is the background's, which we have not."""
    last = conv(predictor.mask_fcn_logits)
    return {
        **{f"conv{i + 1}": conv(block[0]) for i, block in enumerate(head)},
        "up": {
            "kernel": array(predictor.conv5_mask.weight.permute(0, 2, 3, 1)),
            "bias": array(predictor.conv5_mask.bias),
        },
        "masks": {"kernel": last["kernel"][..., 1:], "bias": last["bias"][1:]},
    }
