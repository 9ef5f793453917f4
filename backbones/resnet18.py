"""ResNet-18: residual blocks of two convolutions (He et al., CVPR 2016, arXiv:1512.03385, equations 1 and 2).

    y = relu(F(x) + x)        F(x) = bn(W_2 * relu(bn(W_1 * x)))
    y = relu(F(x) + W_s x)    where the width grows: W_s a 1 x 1 convolution of stride 2 with bn (option B)

For images of 32 x 32 pixels the stem is one 3 x 3 convolution of stride 1 without pooling, as section 4.2 has it on
CIFAR-10; the stages are the four of the 18-layer network of table 1. 11,173,962 parameters for 10 classes.

Shapes: G images of h x w pixels, K channels, T outputs. Names of parameters are those of torchvision's ResNet.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from samcmp.images.batch import ImageBatch

STAGES = 4


@dataclass(frozen=True)
class Config:
    """Settings of the model."""

    width: int = 64  # channels of the first stage, doubled in each of the others
    blocks: int = 2  # of each stage

    def __post_init__(self) -> None:
        if self.width < 1 or self.blocks < 1:
            raise ValueError(f"width and blocks are at least 1, got {self.width} and {self.blocks}")


def convolution(inputs: int, outputs: int, size: int, *, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)


class Block(nn.Module):
    """y = relu(F(x) + x), or + W_s x where stride or width change."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, outputs, 3, stride=stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = convolution(outputs, outputs, 3)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                convolution(inputs, outputs, 1, stride=stride), nn.BatchNorm2d(outputs)
            )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        F = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))  # (G, K, h, w)
        shortcut = x if self.downsample is None else self.downsample(x)
        return torch.relu(F + shortcut)


class Model(nn.Module):
    """A stem, four stages of residual blocks, the mean over pixels, a linear layer."""

    task_parts = ("fc",)

    def __init__(self, config: Config, tasks: int) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * 2**stage for stage in range(STAGES)]
        self.conv1 = convolution(3, config.width, 3)
        self.bn1 = nn.BatchNorm2d(config.width)
        for stage, (inputs, outputs) in enumerate(zip([config.width, *widths], widths, strict=False)):
            blocks = [Block(inputs, outputs, stride=1 if stage == 0 else 2)]
            blocks += [Block(outputs, outputs, stride=1) for _ in range(config.blocks - 1)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(widths[-1], tasks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # He et al., ICCV 2015, equation 14
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, batch: ImageBatch) -> Tensor:
        h = torch.relu(self.bn1(self.conv1(batch.x)))  # (G, K, h, w)
        for stage in range(STAGES):
            h = self.get_submodule(f"layer{stage + 1}")(h)
        return self.fc(h.mean((2, 3)))  # type: ignore[no-any-return]  # (G, T)
