"""Beside accelerate, Lightning, safetensors and the hub: weights and states that they save are all there."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samcmp.optim import SAM, GraphSAM, LookSAM

MAKERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "sam": SAM,
    "graphsam": lambda base: GraphSAM(base, anchor_every=3),
    "looksam": lambda base: LookSAM(base, k=2),
}
WIDTH = 6


def new_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 1))


def new_batch(t: int) -> Tensor:
    return torch.randn(8, WIDTH, generator=torch.Generator().manual_seed(t))


def new_loss(model: nn.Module, t: int) -> Tensor:
    return (model(new_batch(t)) - 1).square().mean()


def trained(model: nn.Module, optimizer: Any, steps: range) -> nn.Module:
    for t in steps:

        def closure(t: int = t) -> Tensor:
            loss = new_loss(model, t)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()

        optimizer.step(closure)
    return model


def assert_same(one: Any, other: Any) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Callable[[torch.optim.Optimizer], Any]:
    return MAKERS[request.param]


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=1e-2)


def test_accelerate_saves_every_weight_and_resumes(make: Any, tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    safetensors = pytest.importorskip("safetensors.torch")
    accelerator = accelerate.Accelerator(cpu=True)

    def prepared() -> tuple[nn.Module, Any]:
        model = new_model()
        return accelerator.prepare(model, make(adam(model)))  # type: ignore[no-any-return]

    def train(model: nn.Module, optimizer: Any, steps: range) -> None:
        for t in steps:

            def closure(t: int = t) -> Tensor:
                loss = new_loss(model, t)
                accelerator.backward(loss)
                return loss.detach()

            optimizer.step(closure)

    model, optimizer = prepared()
    train(model, optimizer, range(4))
    accelerator.save_model(model, tmp_path / "model")
    assert_same(safetensors.load_file(tmp_path / "model" / "model.safetensors"), model.state_dict())
    accelerator.save_state(tmp_path / "state")
    train(model, optimizer, range(4, 8))
    ends = {name: value.clone() for name, value in model.state_dict().items()}
    accelerator.load_state(tmp_path / "state")
    train(model, optimizer, range(4, 8))
    assert_same(model.state_dict(), ends)
    accelerator.free_memory()


def test_lightning_saves_every_weight_and_resumes(make: Any, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch")

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = new_model()

        def training_step(self, batch: Tensor, index: int) -> Tensor:
            return (self.model(batch) - 1).square().mean()  # type: ignore[no-any-return]

        def configure_optimizers(self) -> Any:
            return make(adam(self.model))

    def fitted(epochs: int, checkpoint: Path | None = None) -> Any:
        batches = [new_batch(t) for t in range(4)]
        trainer = lightning.Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False,
            enable_progress_bar=False, default_root_dir=tmp_path,
        )  # fmt: skip
        module = Module()
        trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None), ckpt_path=checkpoint)
        return trainer, module

    half, module = fitted(1)
    half.save_checkpoint(tmp_path / "half.ckpt")
    saved = torch.load(tmp_path / "half.ckpt", weights_only=True)["state_dict"]
    assert_same(saved, module.state_dict())
    _, resumed = fitted(2, tmp_path / "half.ckpt")
    _, whole = fitted(2)
    assert_same(resumed.state_dict(), whole.state_dict())
    alone = new_model()
    trained(alone, make(adam(alone)), range(4))
    assert_same(module.model.state_dict(), alone.state_dict())


def test_safetensors_saves_every_weight(make: Any, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    model = new_model()
    trained(model, make(adam(model)), range(3))
    safetensors.save_model(model, str(tmp_path / "model.safetensors"))
    other = new_model()
    safetensors.load_model(other, str(tmp_path / "model.safetensors"))
    assert_same(other.state_dict(), model.state_dict())


def test_the_hubs_mixin_saves_every_weight(make: Any, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")

    class Model(nn.Module, hub.PyTorchModelHubMixin):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = new_model()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.model(x)
            return out

    model = Model()
    trained(model, make(adam(model)), range(3))
    model.save_pretrained(tmp_path)
    assert_same(Model.from_pretrained(tmp_path).state_dict(), model.state_dict())


def test_a_saved_parameter_is_as_large_as_itself(make: Any) -> None:
    model = nn.Linear(300, 300)
    trained(nn.Sequential(nn.Linear(WIDTH, 300), model), make(adam(model)), range(2))
    file = io.BytesIO()
    torch.save(model.bias, file)
    assert len(file.getvalue()) < 10_000
