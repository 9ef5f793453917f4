"""Settings that cannot be: refused before anything runs, in the dry run, too, with the option that was typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from samcmp.experiment import config, plan, suites
from samcmp.experiment.config import read_value
from samcmp.records import misfit
from tests.commands import Run


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("graphsam.rho=-1", "must be >= 0, got -1"),
        ("graphsam.rho=0.05,-1", "must be >= 0, got -1"),
        ("graphsam.beta=2", "in [0, 1], got 2"),
        ("graphsam.rho_schedule=stpe", "Did you mean 'step'"),
        ("sam.rho=none", "expected a number"),
        ("sam.gamma=0.1", "rho_schedule=step"),
        ("sam.eta=0.1", "adaptive=true"),
        ("gcn.depth=0", "at least 1"),
        ("gcn.depth=abc", "expected a whole number, found 'abc'"),
        ("gcn.depth=2.0", "expected a whole number, found 2.0"),
        ("gcn.dropout=nan", "finite"),
        ("gcn.deth=3", "Did you mean 'depth'"),
    ],
)
@pytest.mark.parametrize("command", ["compare", "train", "profile"])
def test_a_value_out_of_range_or_of_another_type_is_refused_with_the_option_that_was_typed(
    run: Run, command: str, setting: str, says: str
) -> None:
    optimizer = setting.partition(".")[0] if "sam" in setting else "adam"
    words = ("--dry-run",) if command == "compare" else ()
    code, out, err = run(command, "-o", optimizer, *words, "--set", setting)
    assert code == 2, out + err
    assert f"--set {setting}: " in err
    assert says in err
    assert not Path(".samcmp").exists()


def test_a_value_out_of_range_in_a_suite_is_refused_with_its_file(run: Run) -> None:
    Path("mine.toml").write_text(
        '[suites.mine]\ntitle = "t"\ndatasets = ["demo"]\nmodels = ["gcn"]\noptimizers = [{name = "sam", rho = -1}]\n'
    )
    code, _, err = run("compare", "--config", "mine.toml", "--suite", "mine", "--dry-run")
    assert code == 2
    assert "mine.toml: sam[rho=-1.0]: rho is a radius and must be >= 0" in err


def test_the_settings_of_every_shipped_suite_are_taken_by_their_optimizers() -> None:
    from samcmp.training.checks import check_settings

    known = suites.read()
    for name, suite in known.suites.items():
        request = config.Request(suite=name, protocol={"init_from": "0" * 64} if suite.needs_init_from else {})
        planned = plan.build(config.read(request, known))
        assert planned.where == {}, "nobody wrote a setting"
        cases = {case.arm: case for case in planned.train.values()}
        check_settings(cases.values(), dict.fromkeys(cases, name))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (("gcn.depth=2",), "not among the models of this run"),
        (("looksam.k=2",), "not among the optimizers of this run"),
        (("grahpsam.rho=1",), "Did you mean 'graphsam'"),
        (("sam.rho=1", "sam.rho=2"), "set twice"),
        (("mpnn.depth=2,3",), "one value"),
    ],
)
def test_a_setting_that_does_not_belong_to_the_run_says_why(run: Run, settings: tuple[str, ...], says: str) -> None:
    words = [word for setting in settings for word in ("--set", setting)]
    code, _, err = run("compare", "-m", "mpnn", "-o", "adam", "-o", "sam", "-o", "graphsam", "--dry-run", *words)
    assert code == 2
    assert f"--set {settings[-1]}: " in err
    assert says in err


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("None", None), ("3", 3), ("3.0", 3.0), ("1e-3", 1e-3), ("step", "step")]
)
def test_a_value_is_read_as_its_writer_meant_it(text: str, value: object) -> None:
    assert read_value(text) == value
    assert type(read_value(text)) is type(value)


@pytest.mark.parametrize(
    ("value", "default", "fits"),
    [
        (1, 0.5, True), (True, 0.5, False), (1, True, False), (2.0, 2, False), ("a", "b", True), (None, 1, False),
        (float("inf"), None, False), ("anything", None, True),
    ],
)  # fmt: skip
def test_a_value_fits_where_it_has_the_type_of_the_default(value: object, default: object, fits: bool) -> None:
    assert (misfit(value, default) is None) is fits
