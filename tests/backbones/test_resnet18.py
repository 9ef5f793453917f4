"""ResNet-18 is the network of the paper: equal to a plain twin, with the parameters of torchvision's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from samcmp import backbones
from samcmp.images.batch import ImageBatch


def a_batch(n: int = 6, side: int = 32) -> ImageBatch:
    x = torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(0))
    return ImageBatch(x, torch.zeros(n, 1), torch.arange(n))


def twin(w: dict[str, Tensor], x: Tensor, *, training: bool) -> Tensor:
    """The network written out, from the names of its tensors alone."""

    def norm(h: Tensor, name: str) -> Tensor:
        mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        if training:
            mean, var = h.mean((0, 2, 3)), h.var((0, 2, 3), correction=0)
        scaled = (h - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
        return scaled * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]

    h = F.relu(norm(F.conv2d(x, w["conv1.weight"], padding=1), "bn1"))
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            f = F.relu(norm(F.conv2d(h, w[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1"))
            f = norm(F.conv2d(f, w[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            if stride == 2:
                h = norm(F.conv2d(h, w[f"{name}.downsample.0.weight"], stride=2), f"{name}.downsample.1")
            h = F.relu(f + h)
    return h.mean((2, 3)) @ w["fc.weight"].T + w["fc.bias"]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_the_model_equals_a_plain_twin(training: bool) -> None:
    torch.manual_seed(0)
    model = backbones.build(backbones.build_config("resnet18"), 10).train(training)
    batch = a_batch()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        out, wanted = model(batch), twin(weights, batch.x, training=training)
    assert out.shape == (6, 10)
    assert float((out - wanted).abs().max() / wanted.abs().max()) < 1e-5


def test_the_number_of_parameters_is_that_of_the_literature() -> None:
    for classes, count in ((10, 11_173_962), (100, 11_220_132)):
        model = backbones.build(backbones.build_config("resnet18"), classes)
        assert sum(p.numel() for p in model.parameters()) == count


def test_names_and_shapes_are_torchvisions_but_for_the_stem() -> None:
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    theirs = torchvision.models.resnet18(num_classes=10).state_dict()
    ours = backbones.build(backbones.build_config("resnet18"), 10).state_dict()
    assert list(ours) == list(theirs)
    different = {name for name in ours if ours[name].shape != theirs[name].shape}
    assert different == {"conv1.weight"}


def test_a_setting_that_makes_no_network_is_refused() -> None:
    from samcmp.errors import UsageError

    with pytest.raises(UsageError, match="at least 1"):
        backbones.build_config("resnet18", settings={"width": 0})
