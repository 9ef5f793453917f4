"""What every model promises, tried on any model: ours, a third party's, a user's own.

    report = check_config(backbones.build_config("dmpnn"))
    print(report)

Each promise is a function that is tried on a handful of molecules or images in float64: it returns what it found, or
raises Broken. A promise that a model by its nature does not give (a read-out that reads the atoms as a sequence depends
on their order) is reported as not applicable, with the reason.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from samcmp.conformance.report import Broken, NotApplicable, Report, try_each
from samcmp.data.molecules import Molecules
from samcmp.graphs.batch import Columns
from samcmp.graphs.graphset import GraphSet
from samcmp.images.batch import ImageBatch
from samcmp.training.loop import Batch, model_loss
from samcmp.training.tasks import Criterion, Task

TASKS = 3
MOLECULES = (
    "CC(=O)Oc1ccccc1C(=O)O",
    "C",
    "[Na+]",
    "[Na+].[Cl-]",
    "OC(=O)c1ccccc1.CCN(CC)CC",
    "CN1CCC[C@H]1c1cccnc1",
    "C/C=C/C(=O)O",
    "O=[N+]([O-])c1cc(F)c(Cl)c(Br)c1",
    "C1CC2CCC1CC2",
    "CCCCCCCCCC(=O)NCCS(=O)(=O)O",
)
REORDERED = {  # the same molecules without stereo marks, atoms written in another order
    "CC(=O)Oc1ccccc1C(=O)O": "OC(=O)c1c(OC(C)=O)cccc1",
    "OC(=O)c1ccccc1.CCN(CC)CC": "N(CC)(CC)CC.c1cccc(C(O)=O)c1",
    "CCCCCCCCCC(=O)NCCS(=O)(=O)O": "OS(=O)(=O)CCNC(CCCCCCCCC)=O",
    "C1CC2CCC1CC2": "C12CCC(CC1)CC2",
}
SIDE = 16  # pixels of the images: in float64 those of 32 take minutes
STEPS = 4  # in which every parameter must have had a gradient
CLOSE_SECOND = 1e-5  # of second derivatives and their differences
CLOSE = 1e-9  # float64 differences that rounding explains, relative to the largest value


@dataclass(eq=False)
class Subject:
    """A model under trial: how it is built, and what its batches hold."""

    build: Callable[[int], nn.Module]
    columns: Columns
    prepare: Callable[..., dict[str, Any]] | None = None
    order_matters: bool = False
    compiler: str = "aot_eager"
    criterion: Criterion = field(default_factory=lambda: Criterion("classification"))

    samples: ClassVar[tuple[str, ...]] = MOLECULES

    def model(self, seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        return self.build(TASKS).double()

    def batch(self, smiles: Sequence[str], *, labels: bool = True) -> Batch:
        """Return the molecules as one float64 batch with labels, a third of them missing."""
        y = _labels(len(smiles), labels=labels)
        rows = np.arange(len(smiles), dtype=np.int64)
        names = tuple(f"task{t}" for t in range(TASKS))
        task = Task("classification", "roc-auc", names)
        found = Molecules("conformance", rows, tuple(smiles), y, names, "classification", task.metric, "")
        graphs = GraphSet.load_or_build(found, self.columns, prepare=self.prepare, cache=False)
        return graphs.batch(torch.arange(len(smiles))).to(dtype=torch.float64)

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        own = getattr(model, "predict", None)
        model.eval()
        with torch.no_grad():
            out: Tensor = own(batch, lambda value: value) if own is not None else model(batch)
        return out

    def loss(self, model: nn.Module, batch: Batch, *, seed: int = 0) -> Tensor:
        torch.manual_seed(seed)
        model.train()
        return model_loss(model, batch, self.criterion)


class ImageSubject(Subject):
    """A model of images under trial; a sample is the name of an image that is drawn by it."""

    samples: ClassVar[tuple[str, ...]] = ("0", "1", "2", "3", "4")

    def batch(self, smiles: Sequence[str], *, labels: bool = True) -> Batch:
        """Return the images as one float64 batch with labels, a third of them missing."""
        x = np.stack([np.random.default_rng(int(name)).standard_normal((3, SIDE, SIDE)) for name in smiles])
        y = torch.from_numpy(_labels(len(smiles), labels=labels))
        return ImageBatch(torch.from_numpy(x), y, torch.arange(len(smiles)))


def _labels(n: int, *, labels: bool) -> NDArray[np.float64]:
    """Draw (n, TASKS) labels from a fixed seed, a third of them missing, or all."""
    drawn = np.random.default_rng(0).random((n, TASKS))
    return np.where(drawn < 1 / 3, np.nan, (drawn > 2 / 3).astype(float)) if labels else np.full(drawn.shape, np.nan)


def _difference(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape:
        raise Broken(f"shapes {tuple(one.shape)} and {tuple(other.shape)}")
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-12))


def _same(one: Tensor, other: Tensor, *, within: float = CLOSE) -> str:
    difference = _difference(one, other)
    if not difference <= within:
        raise Broken(f"relative difference {difference:.1e}, more than {within:.0e}")
    return f"relative difference {difference:.1e}"


def _finite(*values: Tensor) -> None:
    if not all(bool(value.isfinite().all()) for value in values):
        raise Broken("a value is not finite")


def shape(subject: Subject) -> None:
    """Predictions are one row a sample, one column a task."""
    batch = subject.batch(subject.samples)
    out = subject.predict(subject.model(), batch)
    if out.shape != (len(subject.samples), TASKS):
        raise Broken(f"shape {tuple(out.shape)} for {len(subject.samples)} samples and {TASKS} tasks")
    _finite(out)


def atom_order(subject: Subject) -> str:
    if subject.order_matters:
        raise NotApplicable("this model reads the atoms of a molecule as a sequence")
    model = subject.model()
    one = subject.predict(model, subject.batch(list(REORDERED)))
    return _same(subject.predict(model, subject.batch(list(REORDERED.values()))), one)


def batch_mates(subject: Subject) -> str:
    model = subject.model()
    together = subject.predict(model, subject.batch(subject.samples))
    alone = torch.cat([subject.predict(model, subject.batch([one])) for one in subject.samples])
    return _same(alone, together)


def gradients(subject: Subject) -> str:
    model, batch = subject.model(), subject.batch(subject.samples)
    for seed in range(STEPS):  # a model that draws its depth may pass over a part in one step
        subject.loss(model, batch, seed=seed).backward()  # type: ignore[no-untyped-call]
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    without = [name for name, p in trained.items() if p.grad is None]
    flat = [name for name, p in trained.items() if p.grad is not None and not bool(p.grad.any())]
    if without or flat:
        raise Broken(f"no gradient: {', '.join(without) or 'none'}; gradient 0: {', '.join(flat) or 'none'}")
    return f"{len(trained)} tensors, {sum(p.numel() for p in trained.values())} parameters"


def trains_on(*smiles: str) -> Callable[[Subject], None]:
    """Return the promise that these molecules give finite predictions, losses and gradients."""

    def promise(subject: Subject) -> None:
        _trains(subject, smiles)

    return promise


def _trains(subject: Subject, smiles: Sequence[str], *, labels: bool = True) -> tuple[Tensor, list[Tensor]]:
    model = subject.model()
    batch = subject.batch(smiles, labels=labels)
    _finite(subject.predict(model, batch))
    loss = subject.loss(model, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    _finite(loss.detach(), *grads)
    return loss.detach(), grads


def no_labels(subject: Subject) -> None:
    loss, grads = _trains(subject, subject.samples[-2:], labels=False)
    if float(loss) != 0 or any(bool(grad.any()) for grad in grads):
        raise Broken(f"loss {float(loss):.3g} and gradients from labels that do not exist")


def derivative(subject: Subject) -> str:
    """The gradient along a random direction is the slope of the loss (central difference)."""
    model, batch, parameters, along = _direction(subject)
    slope = torch.autograd.grad(subject.loss(model, batch), parameters, allow_unused=True)
    parts = [g * d for g, d in zip(slope, along, strict=True) if g is not None]
    ours, scale = (sum(float(part.sum()) for part in of) for of in (parts, [part.abs() for part in parts]))
    best = min(abs(_slope(subject, model, batch, along, step=step) - ours) for step in (1e-5, 1e-6, 1e-7))
    if not best <= 1e-6 * max(scale, 1e-12):
        raise Broken(f"slope differs by {best:.1e}, gradient {ours:.3e}")
    return f"difference {best / max(scale, 1e-12):.1e} of the gradient's size"


def _direction(subject: Subject) -> tuple[nn.Module, Batch, list[nn.Parameter], list[Tensor]]:
    """Return a model, a batch, and a random direction for the model's trained parameters."""
    model = subject.model()
    parameters = [p for p in model.parameters() if p.requires_grad]
    generator = torch.Generator().manual_seed(1)
    along = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    return model, subject.batch(subject.samples[:6]), parameters, along


def _slope(subject: Subject, model: nn.Module, batch: Batch, along: list[Tensor], *, step: float) -> float:
    values = []
    for sign in (1, -1):
        with torch.no_grad(), _moved(model, along, sign * step):
            values.append(float(subject.loss(model, batch)))
    return (values[0] - values[1]) / (2 * step)


@contextlib.contextmanager
def _moved(model: nn.Module, along: list[Tensor], step: float) -> Iterator[None]:
    """Add ``step`` times a direction to the parameters, and take it off again."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    for size in (step, -step):
        with torch.no_grad():
            for p, d in zip(parameters, along, strict=True):
                p.add_(d, alpha=size)
        if size == step:
            yield


def second_derivative(subject: Subject) -> str:
    """The derivative of the gradient along a random direction is its central difference."""
    model, batch, parameters, along = _direction(subject)

    def gradient(*, twice: bool = False) -> list[Tensor]:
        found = torch.autograd.grad(subject.loss(model, batch), parameters, create_graph=twice, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]

    try:
        slope = sum((g * d).sum() for g, d in zip(gradient(twice=True), along, strict=True))
        assert isinstance(slope, Tensor)
        found = torch.autograd.grad(slope, parameters, allow_unused=True)
    except (RuntimeError, NotImplementedError) as error:
        raise NotApplicable(f"torch refuses: {str(error).splitlines()[0]}") from error
    ours = _flat([torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)])
    best = torch.inf
    for step in (1e-5, 1e-6, 1e-7, 1e-8, 1e-9):  # short ones pass no kink of a wide model's many
        with _moved(model, along, step):
            ahead = _flat(gradient())
        with _moved(model, along, -step):
            behind = _flat(gradient())
        expected = (ahead - behind) / (2 * step)
        best = min(best, float((ours - expected).norm() / expected.norm().clamp(min=1e-12)))
        if best <= CLOSE_SECOND:
            break
    if not best <= CLOSE_SECOND:
        raise Broken(f"second derivatives differ by {best:.1e} of their size, and torch raises nothing")
    return f"difference {best:.1e} of their size"


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def same_bits(subject: Subject) -> None:
    found = []
    with _deterministic():
        for _ in range(2):
            model = subject.model()
            loss = subject.loss(model, subject.batch(subject.samples))
            loss.backward()  # type: ignore[no-untyped-call]
            found.append([loss.detach(), *[p.grad for p in model.parameters() if p.grad is not None]])
    if not all(torch.equal(one, other) for one, other in zip(*found, strict=True)):
        raise Broken("two runs from one seed differ in their bits")


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def compiled(subject: Subject) -> str:
    from torch._dynamo import list_backends, reset

    if subject.compiler not in list_backends(None):
        raise NotApplicable(f"torch.compile has no backend {subject.compiler!r} here")
    model, batch = subject.model(), subject.batch(subject.samples)
    plain = subject.predict(model, batch)
    reset()
    try:
        quick: Any = torch.compile(model, backend=subject.compiler)
        out = subject.predict(quick, batch)
        return _same(out, plain)
    finally:
        reset()


def bfloat16(subject: Subject) -> str:
    model, batch = subject.model().float(), subject.batch(subject.samples).to(dtype=torch.float32)
    plain = subject.predict(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        out = subject.predict(model, batch)
        loss = subject.loss(model, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    _finite(out, loss.detach(), *[p.grad for p in model.parameters() if p.grad is not None])
    difference = float((out.float() - plain).abs().max() / plain.abs().max().clamp(min=1e-3))
    if difference > 0.2:
        raise Broken(f"predictions differ from float32 by {difference:.0%}")
    return f"within {difference:.1%} of float32"


def round_trip(subject: Subject) -> None:
    model, other, batch = subject.model(), subject.model(seed=1), subject.batch(subject.samples)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    if not torch.equal(subject.predict(model, batch), subject.predict(other, batch)):
        raise Broken("predictions differ after the weights were saved and loaded")


PROMISES: Mapping[str, Callable[[Subject], str | None]] = {
    "one prediction a sample and task": shape,
    "atom order does not matter": atom_order,
    "batch mates do not matter": batch_mates,
    "a gradient reaches every parameter": gradients,
    "the gradient is the slope of the loss": derivative,
    "the gradient differentiates, or raises": second_derivative,
    "single atom": trains_on("C"),
    "no bonds": trains_on("[Na+].[Cl-]", "[K+]"),
    "fragments": trains_on("OC(=O)c1ccccc1.CCN(CC)CC", "[Na+].CC(=O)[O-]"),
    "492 atoms": trains_on("C" * 492, "CO"),
    "no labels, no loss, no gradient": no_labels,
    "deterministic mode repeats every bit": same_bits,
    "torch.compile": compiled,
    "autocast bfloat16": bfloat16,
    "weights survive saving": round_trip,
}
OF_MOLECULES = frozenset({"atom order does not matter", "single atom", "no bonds", "fragments", "492 atoms"})
IMAGE_PROMISES = {name: promise for name, promise in PROMISES.items() if name not in OF_MOLECULES}


def check_config(config: Any, **settings: Any) -> Report:
    """Try every promise on the model of a configuration; ``settings`` are those of :class:`Subject`."""
    subject = subject_of(config, **settings)
    return try_each(IMAGE_PROMISES if isinstance(subject, ImageSubject) else PROMISES, subject)


def subject_of(config: Any, **settings: Any) -> Subject:
    """Return the model of a configuration as it is tried: on molecules or on images."""
    from samcmp import backbones

    def build(tasks: int) -> nn.Module:
        return backbones.build(config, tasks)

    if backbones.reads(config) == "images":
        return ImageSubject(build, Columns("chemprop-v1"), **settings)  # columns that it never reads
    order = {"order_matters": backbones.reads_order(config), **settings}
    return Subject(build, config.columns, backbones.prepare_of(config), **order)


def check_backbone(build: Callable[[int], nn.Module], *, columns: Columns, **settings: Any) -> Report:
    """Try every promise on ``build(tasks)``; ``columns`` and ``settings`` are those of :class:`Subject`."""
    return try_each(PROMISES, Subject(build, columns, **settings))
