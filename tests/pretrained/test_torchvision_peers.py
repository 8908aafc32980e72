"""Torchvision's weights give torchvision's numbers: logits, feature maps, gradients, statistics."""

from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from vision_jax.pretrained.names import variables_of
from vision_jax.pretrained.torchvision import ARCHITECTURES, from_torchvision
from vision_jax.types import UserError

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
pytestmark = pytest.mark.peers


def peer(name, classes=1000):
    """Random weights; statistics are those of some images, changed at random, so that no signal dies out."""
    torch.manual_seed(3)
    network = getattr(torchvision.models, name)(num_classes=classes)
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    kept = [module.momentum for module in norms]
    for module in norms:
        module.momentum = 1.0
        with torch.no_grad():
            module.weight.uniform_(0.5, 1.5)
            module.bias.uniform_(-0.3, 0.3)
    if norms:
        with torch.no_grad():
            network.train()(torch.randn(4, 3, *(2 * [299 if name == "inception_v3" else 128])))
    for module, momentum in zip(norms, kept, strict=True):
        module.momentum = momentum
        deviation = module.running_var.sqrt()
        module.running_mean += deviation * torch.empty_like(deviation).uniform_(-0.3, 0.3)
        module.running_var *= torch.empty_like(deviation).uniform_(0.5, 1.5)
    return network.eval()


def arrays(network):
    return {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}


def strides(block):
    return max(layer.stride[0] for layer in block.modules() if isinstance(layer, torch.nn.Conv2d))


def their_maps(network, name, x):
    """What their modules put out where our maps are."""
    kept = {}

    def keep(key):
        return lambda module, inputs, output: kept.__setitem__(key, output.detach())

    if name.startswith("resnet"):
        modules = {f"c{i + 1}": getattr(network, f"layer{i}") for i in range(1, 5)}
    elif name.startswith("mobilenet"):
        steps = [i for i, block in enumerate(network.features) if i and strides(block) == 2]
        modules = {f"c{n + 1}": network.features[i - 1] for n, i in enumerate(steps)}
        modules["c5"] = network.features[-1]
    elif name == "googlenet":
        modules = {"c1": network.conv1, "c2": network.conv3, "c3": network.inception3b}
        modules |= {"4a": network.inception4a, "4d": network.inception4d}
        modules |= {"c4": network.inception4e, "c5": network.inception5b}
    elif name == "inception_v3":
        modules = {"c1": network.Conv2d_2b_3x3, "c2": network.Conv2d_4a_3x3, "c3": network.Mixed_5d}
        modules |= {"c4": network.Mixed_6e, "c5": network.Mixed_7c}
    elif name == "alexnet":
        modules = {"c2": network.features[1], "c3": network.features[4], "c4": network.features[11]}
        modules["c5"] = network.features[12]
    else:
        pools = [i for i, layer in enumerate(network.features) if isinstance(layer, torch.nn.MaxPool2d)]
        modules = {f"c{s}": network.features[i - 1] for s, i in enumerate(pools)}
        modules["c5"] = network.features[pools[-1]]
    hooks = [module.register_forward_hook(keep(key)) for key, module in modules.items()]
    with torch.no_grad():
        kept["logits"] = network(x)
    for hook in hooks:
        hook.remove()
    return {key: value.permute(0, 2, 3, 1) if value.ndim == 4 else value for key, value in kept.items()}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_and_maps_equal_torchvision(name):
    network = peer(name)
    ours = from_torchvision(name, arrays(network))
    count = sum(leaf.size for leaf in jax.tree.leaves(ours.variables["params"]))
    assert count == sum(parameter.numel() for parameter in network.parameters())
    for size in ((224, 224), (97, 131)):
        x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
        expected = their_maps(network, name, torch.from_numpy(x).permute(0, 3, 1, 2))
        found = ours.maps(x)
        assert set(found) == set(expected)
        for key, theirs in expected.items():
            theirs = theirs.numpy()
            assert np.isfinite(theirs).all()
            assert found[key].shape == theirs.shape
            assert np.abs(np.asarray(found[key]) - theirs).max() <= 1e-4 * np.abs(theirs).max(), key
        logits = expected["logits"].numpy()
        assert np.abs(logits[0] - logits[1]).max() > 1e-3 * np.abs(logits).max()


def in_double_precision(tree):
    """Of what torch and we hold; both sides' sums then agree to 1e-6 however deep the network is."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tree)


def without_dropout(network):
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()
    return network


@pytest.mark.parametrize(("name", "size"), [("googlenet", 96), ("inception_v3", 299)])
def test_auxiliary_classifiers_equal_torchvision(name, size):
    """While training, by the statistics of two images: in single precision that costs torch digits too."""
    network = without_dropout(peer(name, classes=10).train())
    ours = from_torchvision(name, arrays(network))
    x = np.random.default_rng(0).normal(size=(2, size, size, 3))
    with torch.no_grad():
        expected = network.double()(torch.from_numpy(x).permute(0, 3, 1, 2))
    with jax.enable_x64(True):
        score = partial(ours.model.apply, train=True, method="scores", mutable=["batch_stats"])
        found, _ = jax.jit(score)(in_double_precision(ours.variables), x)
    theirs = {"logits": expected.logits}
    if name == "googlenet":  # whose second output is the first classifier's, by the name of the second
        theirs |= {"auxiliary/1": expected.aux_logits1, "auxiliary/2": expected.aux_logits2}
    else:
        theirs["auxiliary/1"] = expected.aux_logits
    for key, value in theirs.items():
        np.testing.assert_allclose(found[key], value.numpy(), atol=1e-6 * float(value.abs().max()))
    without = {key: value for key, value in arrays(network).items() if not key.lower().startswith("aux")}
    assert from_torchvision(name, without).model.auxiliary == ()


def test_photographs_are_prepared_alike():
    random = np.random.default_rng(1)
    ours = from_torchvision("resnet18", arrays(peer("resnet18")))
    theirs = torchvision.transforms._presets.ImageClassification(crop_size=224)
    for size in ((300, 400), (517, 261), (224, 224), (90, 131)):
        small = random.integers(0, 256, (7, 9, 3), np.uint8)
        image = np.asarray(Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC))
        expected = theirs(Image.fromarray(image)).permute(1, 2, 0).numpy()
        np.testing.assert_allclose(ours.prepare(image), expected, atol=1e-5)


def test_the_five_most_probable_classes():
    network = peer("resnet18")
    ours = from_torchvision("resnet18", arrays(network))
    image = np.random.default_rng(2).integers(0, 256, (300, 400, 3), np.uint8)
    theirs = torchvision.transforms._presets.ImageClassification(crop_size=224)
    with torch.no_grad():
        expected = network(theirs(Image.fromarray(image))[None])[0].softmax(0).topk(5)
    found = ours.predict(image)
    assert [k for k, _ in found] == expected.indices.tolist()
    np.testing.assert_allclose([p for _, p in found], expected.values.numpy(), rtol=1e-3)


def test_messages_name_the_tensor():
    tensors = arrays(peer("resnet18", classes=7))
    assert from_torchvision("resnet18", tensors).model.num_classes == 7
    for change, message in [
        ({"conv1.weight": None}, r"conv1\.weight \(64, 3, 7, 7\) is missing"),
        ({"extra.weight": np.zeros(3)}, r"extra\.weight \(3,\) belongs to no layer"),
        ({"conv1.weight": np.zeros((64, 3, 3, 3))}, r"conv1\.weight has the shape \(64, 3, 3, 3\), not"),
        ({"fc.bias": np.zeros(8)}, r"fc\.bias has the shape \(8,\), not \(7,\)"),
        ({"bn1.weight": np.zeros((2, 2))}, r"bn1\.weight has the shape \(2, 2\), not \(64,\)"),
        ({"fc.weight": np.zeros(3)}, r"fc\.weight has the shape \(3,\), not"),
    ]:
        changed = {key: value for key, value in {**tensors, **change}.items() if value is not None}
        with pytest.raises(UserError, match=message):
            from_torchvision("resnet18", changed)
    with pytest.raises(UserError, match="it may be of resnet18"):
        from_torchvision("vgg11", tensors)
    with pytest.raises(UserError, match="no model 'resnet17'; known: alexnet"):
        from_torchvision("resnet17", tensors)


def gradient_and_changes(model, variables, x, labels, train):
    """Of the mean cross-entropy, for every parameter."""

    def loss(params):
        outputs, changed = model.apply(
            {**variables, "params": params}, x, train, method="scores", mutable=["batch_stats"]
        )
        chosen = jax.nn.log_softmax(outputs["logits"])[jnp.arange(len(labels)), labels]
        return -chosen.mean(), changed

    return jax.grad(loss, has_aux=True)(variables["params"])


def their_gradient(network, x, labels):
    network.zero_grad()
    outputs = network(torch.from_numpy(x).permute(0, 3, 1, 2))
    torch.nn.functional.cross_entropy(outputs, torch.from_numpy(labels)).backward()
    return {key: parameter.grad.numpy() for key, parameter in network.named_parameters()}


def compare(found, expected, relative):
    """Each tensor by its norm; what is zero but for rounding (a bias before a norm) by the largest."""
    largest = max(np.linalg.norm(leaf) for leaf in jax.tree.leaves(expected))
    for path, leaf in jax.tree_util.tree_leaves_with_path(expected):
        mine = reduce(lambda tree, part: tree[part.key], path, found)
        error = np.linalg.norm(np.asarray(mine) - leaf)
        assert error <= relative * np.linalg.norm(leaf) + 1e-12 * largest, path


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", ["resnet50", "vgg16_bn", "mobilenet_v2"])
def test_gradients_and_statistics_equal_torchvision(name, train):
    """In double precision: in single, ReLUs flip, and torch's own gradients of ResNet-50 are 0.5 % off."""
    network = without_dropout(peer(name, classes=10).train(train)).double()
    layers = ARCHITECTURES[name]().layers
    model = ARCHITECTURES[name]().build(10)
    x = np.random.default_rng(0).normal(size=(3, 4, 64, 64, 3))
    labels = np.array([1, 5, 0, 9])
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4)
    step = jax.jit(partial(gradient_and_changes, model, train=train))
    for images in x:
        with jax.enable_x64(True):
            variables = jax.tree.map(jnp.asarray, variables_of(layers, arrays(network)))
            gradient, changed = step(variables, images, labels)
        expected = their_gradient(network, images, labels)
        compare(gradient, variables_of(layers, expected)["params"], 1e-6)
        after = variables_of(layers, arrays(network))
        compare(changed["batch_stats"], after["batch_stats"], 1e-6)
        optimizer.step()


def test_gradients_in_single_precision_are_as_exact_as_torchs():
    network = peer("resnet50", classes=10)
    layers = ARCHITECTURES["resnet50"]().layers
    model = ARCHITECTURES["resnet50"]().build(10)
    x = np.random.default_rng(0).normal(size=(4, 64, 64, 3)).astype(np.float32)
    labels = np.array([1, 5, 0, 9])
    variables = jax.tree.map(jnp.asarray, variables_of(layers, arrays(network)))
    ours, _ = jax.jit(partial(gradient_and_changes, model, train=False))(variables, x, labels)
    theirs = variables_of(layers, their_gradient(network, x, labels))["params"]
    exact = variables_of(layers, their_gradient(network.double(), x.astype(np.float64), labels))["params"]

    def error(found):
        errors = jax.tree.map(lambda a, b: np.linalg.norm(a - b) / np.linalg.norm(b), found, exact)
        return np.median(jax.tree.leaves(errors))

    assert error(ours) <= 1.5 * error(theirs)
    assert error(ours) < 0.01
