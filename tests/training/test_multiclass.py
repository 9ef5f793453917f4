"""A target with several classes: cross-entropy, accuracy, its classes in a user's table, and predictions by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, recall_score
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from torch.nn import functional as F

from samcmp.analysis.auc import mcnemar
from samcmp.experiment.store import Store
from samcmp.optim.trajectory import divergence
from samcmp.records import Protocol
from samcmp.training import tasks
from samcmp.training.loop import learning_rate
from tests.commands import Run

DEMO = Path(tasks.__file__).parents[1] / "datasets" / "demo.csv"
COLOURS = ("amber", "blue", "green")


def drawn(n: int = 40, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(n, classes, generator=generator)
    y = torch.randint(classes, (n, 1), generator=generator).float()
    y[::7] = torch.nan
    return z, y


def test_the_loss_is_the_cross_entropy_of_the_labels_that_exist() -> None:
    z, y = drawn()
    known = ~y[:, 0].isnan()
    criterion = tasks.Criterion("multiclass")
    assert criterion(z, y) == pytest.approx(float(F.cross_entropy(z[known], y[known, 0].long())), rel=1e-6)
    assert torch.equal(criterion.per_graph(z, y) == 0, ~known)
    p = criterion.link(z)
    losses = tasks.log_loss("multiclass", y.double().numpy(), p.double().numpy())
    assert np.nanmean(losses) == pytest.approx(float(criterion(z, y)), rel=1e-6)
    with pytest.raises(ValueError, match="prediction is"):
        criterion(z, torch.cat([y, y], 1))


def test_accuracy_and_its_classes_are_scikit_learns() -> None:
    z, y = (tensor.double().numpy() for tensor in drawn(200))
    known = ~np.isnan(y[:, 0])
    score = tasks.score("accuracy", y, z)
    assert score.mean == pytest.approx(accuracy_score(y[known, 0], z[known].argmax(1)))
    assert list(score.per_class) == pytest.approx(recall_score(y[known, 0], z[known].argmax(1), average=None).tolist())
    assert score.smallest_class == np.unique(y[known, 0], return_counts=True)[1].min()
    assert tasks.score("accuracy", np.array([[0.0]]), np.array([[0.9, 0.1]])).per_class == (1.0, None)
    assert tasks.better("accuracy", 0.9, 0.8)


def test_the_divergence_of_classes_is_that_of_their_softmax() -> None:
    z, y = drawn()
    reference = z.flip(0)
    known = ~y[:, 0].isnan()
    a, b = (F.log_softmax(t[known] / 5.0, 1) for t in (reference, z))
    wanted = 25.0 * F.kl_div(b, a, reduction="batchmean", log_target=True)
    assert divergence(reference, z, y, tau=5.0, outputs="auto") == pytest.approx(float(wanted), rel=1e-5)


def test_the_cosine_is_torchs_after_a_linear_warm_up() -> None:
    protocol = Protocol(epochs=3, batch_size=10, schedule="cosine", peak_lr=0.1, warmup_epochs=0.0)
    rate = learning_rate("cosine", protocol=protocol, train_size=100)
    base = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(base, T_max=30)
    for t in range(1, 31):
        assert rate(t) == pytest.approx(base.param_groups[0]["lr"], abs=1e-9)
        base.step()
        theirs.step()
    assert rate(31) == pytest.approx(0.0)
    warm = learning_rate("cosine", protocol=Protocol(epochs=3, batch_size=10, warmup_epochs=1.0), train_size=100)
    assert warm(10) == pytest.approx(1e-3)
    assert warm(5) < warm(10) == warm(11) > warm(12)


def test_two_accuracies_on_one_test_set_are_tested_as_mcnemar_does() -> None:
    draw = np.random.default_rng(0)
    y = draw.integers(3, size=300).astype(float)
    mine, theirs = (np.eye(3)[np.where(draw.random(300) < share, y, 0).astype(int)] for share in (0.9, 0.7))
    difference, p = mcnemar(y, mine, theirs)
    right = [(x.argmax(1) == y).astype(int) for x in (mine, theirs)]
    table = pd.crosstab(*right).reindex(index=[0, 1], columns=[0, 1], fill_value=0).to_numpy()
    assert p == pytest.approx(reference_mcnemar(table, exact=True).pvalue)
    assert difference.value == pytest.approx(right[0].mean() - right[1].mean())
    assert difference.low is not None
    assert difference.high is not None
    assert difference.low < difference.value < difference.high


def coloured(path: str, *, n: int = 90) -> pd.DataFrame:
    """A table whose class is told by the molecule's hydrogen bonds, as far as its text shows them."""
    table = pd.read_csv(DEMO).head(n)
    table["colour"] = [COLOURS[min(2, text.count("N") + text.count("O"))] for text in table["smiles"]]
    table.loc[3, "colour"] = ""
    table.to_csv(path, index=False)
    return table


def test_classes_of_molecules_are_learnt_stored_and_predicted_by_name(run: Run) -> None:
    table = coloured("mine.csv")
    words = ("--data", "mine.csv", "--target", "colour", "--task", "multiclass", "-m", "gcn", "--epochs", "8")
    code, out, err = run(
        "train", *words, "-o", "sam", "--batch-size", "8", "--device", "cpu", "--save", "m.safetensors"
    )
    assert code == 0, err
    assert "right by class" in out
    (record,) = Store(Path(".samcmp")).records()
    assert record.accuracy is not None
    assert (record.accuracy.metric, set(record.accuracy.per_class)) == ("accuracy", set(COLOURS))
    code, _, err = run("predict", "m.safetensors", "--data", "mine.csv", "--output", "out.csv", "--device", "cpu")
    assert code == 0, err
    made = pd.read_csv("out.csv")
    shares = made[[f"probability_colour_{name}" for name in COLOURS]].to_numpy()
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    assert made["predicted_colour"].tolist() == [COLOURS[i] for i in shares.argmax(axis=1)]
    kept = Store(Path(".samcmp")).predictions(record.key)
    assert kept is not None
    np.testing.assert_allclose(shares[kept["rows"]], kept["prediction"], rtol=1e-5, atol=1e-6)
    truth = [COLOURS[int(i)] for i in kept["truth"][:, 0]]
    assert truth == table["colour"][kept["rows"]].tolist()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--target", "colour"), "classes by name take --task multiclass"),
        (("--target", "logS", "--task", "multiclass"), "are no classes"),
        (
            ("--target", "colour", "--target", "group", "--task", "multiclass"),
            "a multiclass task has one target column",
        ),
        (("--target", "colour", "--task", "manyclass"), "unknown task 'manyclass'"),
    ],
)
def test_a_table_that_holds_no_such_classes_is_refused(run: Run, words: tuple[str, ...], said: str) -> None:
    coloured("mine.csv", n=30)
    code, _, err = run("train", "--data", "mine.csv", *words, "-m", "gcn", "-o", "sam")
    assert code == 2
    assert said in err


def test_whole_numbers_are_classes_by_size_and_an_audit_counts_them(run: Run) -> None:
    table = pd.read_csv(DEMO).head(60)
    table["grade"] = [(10, 2, 7)[i % 3] for i in range(60)]
    table.to_csv("mine.csv", index=False)
    words = ("--data", "mine.csv", "--target", "grade", "--task", "multiclass")
    code, out, err = run("fetch", "--audit", *words)
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines() if line.split()[1:] == ["20", "33.3"]] == ["2", "7", "10"]
