"""torchvision's Faster and Mask R-CNN of the same make, for comparison: seconds per step, AP at equal time.

    python experiments/peers/torchvision_rcnn.py speed               # steps of both, same batch
    python experiments/peers/torchvision_rcnn.py train --minutes 8   # same scenes, same evaluator
    python experiments/peers/torchvision_rcnn.py train --minutes 8 --settings.masks    # Mask R-CNN

Needs torch and torchvision beside vision_jax. Both sides get the same images, boxes, backbone,
normalization, anchors, numbers of proposals and samples; torchvision keeps its own code for all else. Run
it on a machine that does nothing else: both sides take turns, and the ratio of medians is the figure.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import optax
import torch
import torchvision
import tyro
from torchvision.models.detection import FasterRCNN as TorchFasterRCNN
from torchvision.models.detection import MaskRCNN as TorchMaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from vision_jax.backbones import resnet
from vision_jax.layers import FPN
from vision_jax.models.detection.two_stage import RPN, FasterRCNN, MLPHead
from vision_jax.models.instance import FCNMaskHead, MaskRCNN
from vision_jax.tasks import DetectionTask, InstanceTask
from vision_jax.tasks.images import SplitData
from vision_jax.types import DetectionBatch, Detections, Instances

SIZES = (16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Settings:
    """What both sides share.

    Attributes:
        backbone: resnet18, resnet34 or resnet50.
        proposals_train, proposals_test: before and after NMS.
        rois_per_image: regions an image in the second stage's loss.
        fpn_features, head_features: width of the pyramid and of the box head; torchvision's are the default.
        fpn_norm: whether the pyramid's convolutions are normalized too; not so in torchvision's default.
        masks: Mask R-CNN, fed full bitmaps on both sides.
        mask_features: channels of the mask head.
    """

    backbone: str = "resnet18"
    proposals_train: tuple[int, int] = (1000, 1000)
    proposals_test: tuple[int, int] = (1000, 300)
    rois_per_image: int = 128
    fpn_features: int = 256
    head_features: int = 1024
    fpn_norm: bool = False
    masks: bool = False
    mask_features: int = 256


def torch_model(settings: Settings, classes: int, canvas: tuple[int, int]) -> TorchFasterRCNN:
    """torchvision's detector, from scratch, with group normalization in the backbone."""
    norm = partial(torch.nn.GroupNorm, 32)
    body = getattr(torchvision.models, settings.backbone)(weights=None, norm_layer=norm)
    backbone = BackboneWithFPN(
        body,
        {f"layer{i + 1}": str(i) for i in range(4)},
        [body.inplanes // 8 * 2**i for i in range(4)],
        settings.fpn_features,
        norm_layer=norm if settings.fpn_norm else None,
    )
    anchors = AnchorGenerator(tuple((s,) for s in SIZES), ((0.5, 1.0, 2.0),) * len(SIZES))
    make, heads = TorchFasterRCNN, {}
    if settings.masks:
        layers = (settings.mask_features,) * 4
        make = TorchMaskRCNN
        heads = {
            "mask_head": MaskRCNNHeads(settings.fpn_features, layers, dilation=1),
            "mask_predictor": MaskRCNNPredictor(settings.mask_features, settings.mask_features, classes + 1),
        }
    model = make(
        backbone,
        None,
        min_size=min(canvas),
        max_size=max(canvas),
        rpn_anchor_generator=anchors,
        box_head=TwoMLPHead(settings.fpn_features * 49, settings.head_features),
        box_predictor=FastRCNNPredictor(settings.head_features, classes + 1),
        rpn_pre_nms_top_n_train=settings.proposals_train[0],
        rpn_post_nms_top_n_train=settings.proposals_train[1],
        rpn_pre_nms_top_n_test=settings.proposals_test[0],
        rpn_post_nms_top_n_test=settings.proposals_test[1],
        box_batch_size_per_image=settings.rois_per_image,
        **heads,  # pyright: ignore[reportArgumentType]
    )
    # Images arrive resized: torchvision's own resizing would only add to its time.
    model.transform.resize = lambda image, target: (image, target)  # pyright: ignore[reportArgumentType]
    # And masks stay relative to their boxes, as ours do: pasting them is the evaluator's work.
    model.transform.postprocess = lambda result, *_: result  # pyright: ignore
    return model


def jax_model(settings: Settings, classes: int) -> FasterRCNN:
    """Ours, of the same make."""
    mask_head = {"mask_head": FCNMaskHead(4, settings.mask_features)} if settings.masks else {}
    return (MaskRCNN if settings.masks else FasterRCNN)(
        resnet(settings.backbone, "group"),  # pyright: ignore[reportArgumentType]
        classes,
        rpn=RPN(sizes=SIZES),
        neck=FPN(settings.fpn_features, "group" if settings.fpn_norm else None),
        head=MLPHead(settings.head_features),
        train_proposals=settings.proposals_train,
        test_proposals=settings.proposals_test,
        rois_per_image=settings.rois_per_image,
        **mask_head,  # pyright: ignore[reportArgumentType]
    )


def open_data(data: str, canvas: tuple[int, int], settings: Settings) -> SplitData:
    """The data with boxes, and with masks where they are learned."""
    task = InstanceTask(data, canvas, masks="full") if settings.masks else DetectionTask(data, canvas)
    return task.open(None)


def torch_batch(batch: DetectionBatch) -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    """The same images, boxes and masks as torchvision takes them; class 0 is its background."""
    images, targets = [], []
    for b in np.flatnonzero(batch.example_valid):
        height, width = np.asarray(batch.size[b])
        pixels = np.ascontiguousarray(np.asarray(batch.image[b])[:height, :width].transpose(2, 0, 1))
        images.append(torch.from_numpy(pixels).float() / 255)
        valid = np.asarray(batch.valid[b])
        targets.append(
            {
                "boxes": torch.from_numpy(np.asarray(batch.boxes[b])[valid].reshape(-1, 4)),
                "labels": torch.from_numpy(np.asarray(batch.labels[b])[valid].astype(np.int64) + 1),
            }
        )
        masks = getattr(batch, "masks", None)
        if masks is not None:
            bitmaps = np.asarray(masks[b])[valid][:, :height, :width] > 127
            targets[-1]["masks"] = torch.from_numpy(bitmaps.astype(np.uint8))
    return images, targets


def torch_step(model: TorchFasterRCNN, optimizer: torch.optim.Optimizer, batch: DetectionBatch) -> float:
    """One step of gradient descent, clipped as ours is."""
    images, targets = torch_batch(batch)
    losses = torch.stack(list(model(images, targets).values())).sum()
    optimizer.zero_grad()
    losses.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
    optimizer.step()
    return float(losses.detach())


def torch_predict(model: TorchFasterRCNN, batch: DetectionBatch, limit: int = 100) -> Detections:
    """torchvision's detections as our struct, so that one evaluator serves both."""
    with torch.no_grad():
        found = model(torch_batch(batch)[0])
    size, masks = len(batch.id), hasattr(batch, "masks")
    boxes = np.zeros((size, limit, 4), np.float32)
    scores, labels = np.zeros((size, limit), np.float32), np.full((size, limit), -1, np.int32)
    pasted = np.zeros((size, limit, 28, 28), np.float32)
    for b, image in zip(np.flatnonzero(batch.example_valid), found, strict=True):
        n = min(len(image["scores"]), limit)
        boxes[b, :n], scores[b, :n] = image["boxes"][:n].numpy(), image["scores"][:n].numpy()
        labels[b, :n] = image["labels"][:n].numpy() - 1
        if masks:
            pasted[b, :n] = image["masks"][:n, 0].numpy()
    parts: dict[str, Any] = {"boxes": boxes, "scores": scores, "labels": labels, "valid": labels >= 0}
    return Instances(**parts, masks=pasted) if masks else Detections(**parts)  # pyright: ignore


def schedule(step: int, steps: float, warmup: int) -> float:
    """Warm-up and cosine, as a factor of the peak rate."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + np.cos(np.pi * min((step - warmup) / max(steps - warmup, 1), 1)))


def speed(
    data: str = "synthetic",
    canvas: tuple[int, int] = (256, 256),
    batch_size: int = 4,
    rounds: int = 5,
    settings: Settings = Settings(),
) -> None:
    """Seconds per training step, ours and torchvision's in turn on one batch; prints medians and ratio.

    Args:
        data: synthetic, voc:FOLDER or coco:FOLDER.
        canvas: long and short side in pixels.
        batch_size: images a step.
        rounds: timed steps of each.
        settings: of both detectors.
    """
    opened = open_data(data, canvas, settings)
    batch = next(iter(opened.train(batch_size, 0, 0)))
    model = jax_model(settings, len(opened.spec.classes))
    keys = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    variables = jax.jit(lambda: model.init(keys, batch, method="loss"))()
    optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.sgd(0.02, 0.9))

    @partial(jax.jit, donate_argnums=0)
    def jax_step(state, batch, key):
        parameters, momentum = state

        def loss(parameters):
            terms = model.apply({"params": parameters}, batch, method="loss", rngs={"sample": key})
            return sum(term.value() for term in terms.values())  # pyright: ignore

        value, gradient = jax.value_and_grad(loss)(parameters)
        updates, momentum = optimizer.update(gradient, momentum)
        return (optax.apply_updates(parameters, updates), momentum), value

    state = (variables["params"], optimizer.init(variables["params"]))
    peer = torch_model(settings, len(opened.spec.classes), canvas)
    peer_optimizer = torch.optim.SGD(peer.parameters(), lr=0.02, momentum=0.9)
    times: dict[str, list[float]] = {"vision_jax": [], "torchvision": []}
    for i in range(rounds + 2):
        start = time.perf_counter()
        state, value = jax_step(state, batch, jax.random.key(i))
        value = float(value)
        middle = time.perf_counter()
        peer_value = torch_step(peer, peer_optimizer, batch)
        end = time.perf_counter()
        if i >= 2:
            times["vision_jax"].append(middle - start)
            times["torchvision"].append(end - middle)
        print(
            f"{i}: loss {value:.3f} {peer_value:.3f}  s {middle - start:.2f} {end - middle:.2f}", flush=True
        )
    medians = {name: float(np.median(values)) for name, values in times.items()}
    print(json.dumps({**medians, "ratio": medians["torchvision"] / medians["vision_jax"]}))


def train(
    data: str = "synthetic",
    canvas: tuple[int, int] = (256, 256),
    minutes: float = 8.0,
    began: float | None = None,
    batch_size: int = 4,
    optimizer: Literal["adamw", "sgd"] = "adamw",
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-2,
    warmup: int = 50,
    seed: int = 0,
    out: Path = Path("runs/torchvision"),
    settings: Settings = Settings(),
) -> None:
    """Trains torchvision's detector for a given time on our loader's batches; evaluates with our evaluator.

    The rate falls along a cosine of the time spent, so that the schedule fits however fast the machine is.

    Args:
        data: synthetic, voc:FOLDER or coco:FOLDER.
        canvas: long and short side in pixels.
        minutes: of training, evaluation aside.
        began: when they began to count, in seconds since 1970; with the first step if None.
        batch_size: images a step.
        optimizer: as in our experiment, or SGD with momentum.
        learning_rate: the peak.
        weight_decay: of everything but biases and norms.
        warmup: steps of linear rise.
        seed: of parameters and data order.
        out: folder for the report.
        settings: of the detector.
    """
    torch.manual_seed(seed)
    opened = open_data(data, canvas, settings)
    model = torch_model(settings, len(opened.spec.classes), canvas)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    if optimizer == "adamw":
        rule = torch.optim.AdamW(groups, lr=learning_rate)
    else:
        rule = torch.optim.SGD(groups, lr=learning_rate, momentum=0.9)
    start, step = time.time(), 0
    left = minutes * 60 - (0.0 if began is None else start - began)
    batches = iter(opened.train(batch_size, seed, 0))
    while (spent := time.time() - start) < left:
        steps = max(step * left / max(spent, 1e-9), step + 1) if step > 5 else 1e9
        for group in rule.param_groups:
            group["lr"] = learning_rate * schedule(step, steps, warmup)
        loss = torch_step(model, rule, next(batches))
        step += 1
        if step % 10 == 0:
            print(f"step {step}  {spent:.0f} s  loss {loss:.3f}", flush=True)
    model.eval()
    evaluators = opened.evaluators()
    for batch in opened.once("val", batch_size):
        predictions = torch_predict(model, batch)
        for evaluator in evaluators:
            evaluator.add(batch, predictions)
    metrics: dict[str, float] = {"steps": step, "minutes": minutes}
    for evaluator in evaluators:
        report = evaluator.report()
        report.write(out)
        metrics.update(report.metrics)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1))
    print(json.dumps(metrics, indent=1))


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"speed": speed, "train": train})
