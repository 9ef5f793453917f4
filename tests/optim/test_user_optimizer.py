"""A user's own optimizer is compared from its file: every usual form, under the content of the file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from samcmp import modules, optim
from samcmp.analysis.build import compare
from samcmp.analysis.names import short_names
from samcmp.cli import execute
from samcmp.conformance import own
from samcmp.conformance.optimizer import check_optimizer
from samcmp.conformance.report import Report
from samcmp.errors import ConfigError, UsageError
from samcmp.experiment import config, plan, suites
from samcmp.experiment.store import Store
from samcmp.records import Case, Record, content_key
from tests.commands import TINY, Run
from tests.report import made

AROUND = """
import torch

class MySAM(torch.optim.Optimizer):
    def __init__(self, base, rho=0.05):
        self.base, self.rho = base, rho
        super().__init__(base.param_groups, {})
        self.param_groups = base.param_groups

    @torch.no_grad()
    def step(self, closure):
        with torch.enable_grad():
            loss = closure()
        held = [(p, p.clone()) for group in self.param_groups for p in group["params"]]
        norm = torch.stack([p.grad.norm() for p, _ in held]).norm()
        for p, _ in held:
            p.add_(p.grad * (self.rho / norm))
        with torch.enable_grad():
            closure()
        for p, before in held:
            p.copy_(before)
        self.base.step()
        return loss
"""
TWO_STEPS = """
import torch

class MySAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer, rho=0.05, **kwargs):
        super().__init__(params, dict(rho=rho, **kwargs))
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        held = [p for group in self.param_groups for p in group["params"]]
        norm = torch.stack([p.grad.norm() for p in held]).norm()
        for p in held:
            self.state[p]["old_p"] = p.data.clone()
            p.add_(p.grad * (self.param_groups[0]["rho"] / norm))
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for group in self.param_groups:
            for p in group["params"]:
                p.data = self.state[p]["old_p"]
        self.base_optimizer.step()
"""
FAMILY = """
from samcmp.optim import SAM

class MySAM(SAM):
    pass
"""
ALONE = """
import torch

class Mine(torch.optim.Adam):
    def __init__(self, params, lr=1e-3, weight_decay=0.0):
        super().__init__(params, lr=lr, weight_decay=weight_decay)
"""


def trained(name: str, base: type[torch.optim.Optimizer] = torch.optim.Adam, **settings: Any) -> list[float]:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
    x = torch.randn(16, 4, dtype=torch.float64)
    made = optim.build(name, base(net.parameters(), lr=1e-2), steps_per_epoch=3, epochs=2, seed=0, settings=settings)

    def closure() -> torch.Tensor:
        net.zero_grad()
        loss = (net(x) - x.sum(1, keepdim=True)).pow(2).mean()
        loss.backward()
        return loss.detach()

    return [float(made.optimizer.step(closure)) for _ in range(6)]


@pytest.mark.parametrize("text", [AROUND, TWO_STEPS, FAMILY], ids=["around a base", "first_step", "SharpnessAware"])
@pytest.mark.parametrize("base", [torch.optim.Adam, torch.optim.SGD])
def test_every_form_of_sam_from_a_file_is_the_sam_of_the_catalogue(tmp_path: Path, text: str, base: Any) -> None:
    (tmp_path / "mine.py").write_text(text)
    name = f"{tmp_path}/mine.py:MySAM"
    for settings in ({}, {"rho": 0.2}):
        assert trained(name, base, **settings) == pytest.approx(trained("sam", base, **settings), rel=1e-9)
    assert trained(name, rho=0.2) != trained(name)


def test_an_optimizer_by_itself_gets_the_rate_and_the_weight_decay_of_the_protocol(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(ALONE)
    assert trained(f"{tmp_path}/mine.py:Mine") == trained("adam")
    assert trained("torch.optim:Adam") == trained("adam")


@pytest.mark.parametrize(
    "root", ["torch.optim", "torch.optim.adagrad", "torch.nn", "torch_geometric.nn.models", "scipy.optimize"]
)
def test_a_class_of_what_samcmp_is_built_on_is_known_by_a_version_and_not_by_thousands_of_files(root: str) -> None:
    """Read as source, torch takes half a minute in every process that keys or holds a run."""
    code = modules.closure([root])
    assert len(code) == 1
    (name,) = code
    assert modules.package_of(name) is not None
    modules.hold(code)


@pytest.mark.parametrize(
    ("source", "lacks"), [("mine.py:", "class"), ("mine.py:My SAM", "class"), (":MySAM", "file"), (":", "file")]
)
@pytest.mark.parametrize("option", ["--optimizer", "--model"])
def test_a_name_that_lacks_its_class_or_its_file_is_refused(
    here: Path, run: Run, option: str, source: str, lacks: str
) -> None:
    code, out, err = run("compare", option, source, "--dry-run")
    assert (code, out) == (2, "")
    assert f"{option}: {source!r} names no {lacks}" in " ".join(err.split())


def test_a_file_without_any_class_says_so(here: Path, run: Run) -> None:
    (here / "none.py").write_text("x = 1")
    code, _, err = run("compare", "-o", "none.py:MySAM", "--dry-run")
    assert (code, "unknown class 'MySAM' There is none." in " ".join(err.split())) == (2, True)
    assert run("check", ":MySAM")[0] == 2


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        (AROUND, {"rho": 0.05}),
        (TWO_STEPS, {"rho": 0.05}),
        (FAMILY, {"rho": 0.05, "radius": None}),
        (ALONE.replace("Mine", "MySAM"), {}),
        ("from helper import MySAM\n", {"beta": 0.9}),
    ],
    ids=["around", "two steps", "inherited", "by itself", "imported from beside"],
)
def test_settings_are_read_without_running_the_file(tmp_path: Path, text: str, settings: dict[str, Any]) -> None:
    (tmp_path / "helper.py").write_text("class MySAM:\n    def __init__(self, base, *, beta=0.9): ...\n")
    (tmp_path / "mine.py").write_text(f"{text}\nraise SystemExit('was run')\n")
    assert dict(optim.entry(f"{tmp_path}/mine.py:MySAM").settings) == settings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class MySAM: ...", ("'MySAM' is not a torch.optim.Optimizer",)),
        (AROUND.replace("MySAM", "OurSAM"), ("unknown class 'MySAM'", "OurSAM")),
        (AROUND.replace("rho=0.05", "rho, theta"), ("needs rho, theta", "--set MySAM.rho=VALUE")),
        (TWO_STEPS.replace("base_optimizer, rho", "inner, rho"), ("needs inner", "base_optimizer after it")),
        ("import no_such_package_here", ("importing", "No module named 'no_such_package_here'")),
        (
            "import torch\nclass MySAM(torch.optim.SGD):\n    def __init__(self, params, lr): ...",
            ("takes no weight_decay",),
        ),
    ],
    ids=["no optimizer", "another name", "required", "another form", "import", "weight decay"],
)
def test_what_cannot_be_built_says_why_and_what_to_do(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    (tmp_path / "mine.py").write_text(text)
    base = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], weight_decay=0.1)
    with pytest.raises(UsageError) as caught:
        optim.build(f"{tmp_path}/mine.py:MySAM", base, steps_per_epoch=2, epochs=1, seed=0)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def planned(*optimizers: str, overrides: tuple[str, ...] = (), file: Path | None = None) -> plan.Plan:
    request = config.Request(datasets=("demo",), models=("gcn",), optimizers=optimizers, overrides=overrides)
    return plan.build(config.read(request, suites.read(file)))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(AROUND)
    return tmp_path


def test_a_key_holds_the_content_of_the_file_and_of_what_lies_beside_it(here: Path) -> None:
    before = set(planned("mine.py:MySAM").keys)
    (here / "mine.py").write_text(AROUND.replace("import torch", "import torch  # a comment", 1))
    assert set(planned("mine.py:MySAM").keys) == before
    (here / "mine.py").write_text(AROUND.replace("norm()\n        for", "norm() + 1e-12\n        for"))
    assert not before & set(planned("mine.py:MySAM").keys)
    (here / "mine.py").write_text(f"import helper\n{AROUND}")
    (here / "helper.py").write_text("K = 1")
    with_helper = set(planned("mine.py:MySAM").keys)
    (here / "helper.py").write_text("K = 2")
    assert not with_helper & set(planned("mine.py:MySAM").keys)


def test_a_class_of_ours_that_a_user_derives_from_belongs_to_the_key(here: Path) -> None:
    (here / "mine.py").write_text(FAMILY)
    assert {"samcmp.optim.sam", "samcmp.optim.base"} <= set(planned("mine.py:MySAM").code)


def test_a_setting_is_named_by_the_class_and_in_full_where_two_have_the_name(here: Path) -> None:
    (here / "other.py").write_text(AROUND)
    arms = {case.arm for case in planned("mine.py:MySAM", overrides=("MySAM.rho=0.1,0.2",)).train.values()}
    assert arms == {"mine.py:MySAM[rho=0.1]", "mine.py:MySAM[rho=0.2]"}
    with pytest.raises(UsageError, match=r"class of mine\.py and of other\.py"):
        planned("mine.py:MySAM", "other.py:MySAM", overrides=("MySAM.rho=0.1",))
    two = planned("mine.py:MySAM", "other.py:MySAM", overrides=("other.py:MySAM.rho=0.1",))
    assert {case.arm for case in two.train.values()} == {"mine.py:MySAM", "other.py:MySAM[rho=0.1]"}


@pytest.mark.parametrize(
    ("name", "override", "words"),
    [
        ("gone.py:MySAM", "", "there is no file gone.py"),
        ("mine.py", "", "Write mine.py:CLASS"),
        ("mine.py:MySAM", "MySAM.roh=1", "Did you mean 'rho'?"),
        ("mine.py:MySAM", "MySAM.rho=big", "expected a number"),
    ],
)
def test_a_wrong_name_or_setting_is_refused_before_anything_runs(
    here: Path, name: str, override: str, words: str
) -> None:
    with pytest.raises((ConfigError, UsageError)) as caught:
        planned(name, overrides=(override,) if override else ())
    assert words in str(caught.value)


def test_a_suite_names_a_file_as_seen_from_its_own_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "suite").mkdir()
    (here / "mine.py").rename(here / "suite" / "mine.py")
    file = here / "suite" / "b.toml"
    file.write_text(
        '[suites.mine]\ntitle = "t"\ndatasets = ["demo"]\nmodels = ["gcn"]\n'
        'optimizers = ["adam", "mine.py:MySAM", { name = "mine.py:MySAM", rho = 0.2 }]\n'
        '[optimizers."mine.py:MySAM"]\nrho = 0.1\n'
        '[tuning.optimizers."mine.py:MySAM"]\nrho = { low = 0.01, high = 1.0 }\n'
    )
    for folder in (here, here / "suite"):
        monkeypatch.chdir(folder)
        known = suites.read(Path("suite/b.toml") if folder == here else Path("b.toml"))
        cases = plan.build(config.read(config.Request(suite="mine"), known)).train.values()
        name = "suite/mine.py:MySAM" if folder == here else "mine.py:MySAM"
        assert {case.arm for case in cases} == {"adam", f"{name}[rho=0.1]", f"{name}[rho=0.2]"}


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["adam", "a/b.py:My[rho=1]", "a/b.py:My ×2"], ["adam", "My[rho=1]", "My ×2"]),
        (["sam", "x/a.py:My", "x/b.py:My"], ["sam", "a.py:My", "b.py:My"]),
        (["p/q/x/a.py:My", "p/q/y/a.py:My", "z.py:Other"], ["x/a.py:My", "y/a.py:My", "Other"]),
        (["x/a.py:My", "a.py:My"], ["x/a.py:My", "a.py:My"]),
        (["x/a.py:My[rho=1]", "y/a.py:My[rho=2]"], ["x/a.py:My[rho=1]", "y/a.py:My[rho=2]"]),
        (["sam", "some/where/mine.py:SAM"], ["sam", "mine.py:SAM"]),
        (["A.py:My", "a.py:My"], ["A.py:My", "a.py:My"]),
    ],
)
def test_arms_are_named_by_class_and_told_apart_by_as_much_of_the_path_as_it_takes(
    names: list[str], short: list[str]
) -> None:
    assert [*short_names(names).values()] == short


def test_a_comparison_runs_names_and_keeps_optimizers_from_files(here: Path, run: Run) -> None:
    (here / "other.py").write_text(FAMILY)
    words = ("compare", "-m", "gcn", *TINY, "--store", "s", "-o", "sam", "-o", "mine.py:MySAM", "-o", "other.py:MySAM")
    code, out, err = run(*words)
    assert code == 0, err
    assert "mine.py:MySAM" in out
    assert "other.py:MySAM" in out
    scores = {r.case.arm: r.accuracy.test for r in Store(here / "s").records() if r.accuracy and not r.case.seed}
    assert scores["other.py:MySAM"] == scores["sam"]  # the same steps, from a process of its own
    assert scores["mine.py:MySAM"] == pytest.approx(scores["sam"], rel=1e-4)
    code, out, err = run(*words[:-2])
    assert (code, "0 training runs and 1 profile session" in err) == (0, True)
    assert " MySAM " in out


def test_what_a_file_was_before_is_not_joined_with_what_it_is(here: Path) -> None:
    def ran(content: str, seed: int, month: int) -> Record:
        record = made.run(0.8, "mine.py:MySAM", seed, created=f"2026-0{month}-01T00:00:00+00:00")
        code = {"mine.py:MySAM": content}
        return dataclasses.replace(
            record, key=content_key([content, seed]), case=dataclasses.replace(record.case, code=code)
        )

    (cell,) = compare([ran("old", 0, 1), ran("old", 1, 1), ran("old", 2, 1), ran("new", 0, 2), ran("new", 1, 2)]).cells
    assert [row.score.n for row in cell.rows if row.score] == [2]


def test_a_step_that_returns_nothing_is_named(here: Path, run: Run) -> None:
    (here / "mine.py").write_text(AROUND.replace("return loss", "return None"))
    code, out, err = run("train", "-m", "gcn", *TINY[:6], "--device", "cpu", "--store", "s", "-o", "mine.py:MySAM")
    assert code == 1
    assert "MySAM.step(closure) returned nothing" in " ".join((out + err).split())
    assert dataclasses.asdict(Store(here / "s").records()[0])["status"] == "error"


SUBTRACTS = TWO_STEPS.replace('self.state[p]["old_p"] = p.data.clone()', "").replace(
    """p.add_(p.grad * (self.param_groups[0]["rho"] / norm))""",
    """self.state[p]["e"] = p.grad * (self.param_groups[0]["rho"] / (norm + 1e-12))
            p.add_(self.state[p]["e"])""",
).replace("""p.data = self.state[p]["old_p"]""", """p.sub_(self.state[p]["e"])""").replace(
    """for group in self.param_groups for p in group["params"]]""",
    """for group in self.param_groups for p in group["params"] if p.grad is not None]""",
).replace("""for p in group["params"]:
                p.sub_""", """for p in [p for p in group["params"] if p.grad is not None]:
                p.sub_""")  # fmt: skip
QUICK = ("a compiled model trains the same", "replicas of two ranks stay identical")


def report_of(text: str) -> Report:
    Path("mine.py").write_text(text)
    build, rho_zero = own.builds("mine.py:MySAM")
    return check_optimizer(build, rho_zero=rho_zero, leave_out=QUICK)


def test_restoring_by_subtraction_is_said_once_and_with_its_cause(here: Path) -> None:
    report = report_of(SUBTRACTS)
    found = {result.promise: result.found for result in report.broken}
    assert "after adding ε and subtracting it" in found["weights are restored bit for bit"]
    assert report["torch's learning-rate schedulers work"].kept
    assert report["bf16 weights"].kept
    assert report["rho = 0 is the base optimizer, bit for bit"].kept


def test_a_rho_that_is_no_entry_of_the_groups_is_found_all_the_same(here: Path) -> None:
    report = report_of(AROUND.replace("norm()\n        for", "norm() + 1e-12\n        for").replace(
        """for p in group["params"]]""", """for p in group["params"] if p.grad is not None]"""))  # fmt: skip
    assert report["rho = 0 is the base optimizer, bit for bit"].kept
    assert "rho is no entry of its param groups" in report["two param groups, each with its rho"].found
    assert "has no 'betas'" in report["add_param_group in mid-training"].found
    assert "__getstate__" in report["a deep copy is independent"].found
    assert "lacks the state of the base" in report["a checkpoint resumes at every step, read without pickle"].found


def test_what_cannot_be_built_is_one_error_and_no_list_of_broken_promises(here: Path, run: Run) -> None:
    (here / "mine.py").write_text(
        "import torch\nclass MySAM(torch.optim.Optimizer):\n    def __init__(self, base):\n        {}['x']"
    )
    code, out, err = run("check", "mine.py")
    assert (code, out) == (2, "")
    assert "cannot be built: KeyError: 'x' (at mine.py:4)" in " ".join(err.split())


def test_broken_promises_are_a_note_below_the_table_and_tried_once_for_a_content(
    here: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMCMP_CACHE", str(here / "cache"))
    words = ("compare", "-m", "gcn", *TINY, "-o", "adam", "-o", "mine.py:MySAM")
    code, out, err = run(*words, "--store", "s")
    assert code == 0, err
    assert "MySAM breaks" in out
    assert "restored when the closure raises" in " ".join(out.split())
    (kept,) = (here / "cache" / "promises").iterdir()
    kept.write_text('{"broken": ["told from the cache"]}')
    _, out, _ = run(*words, "--store", "t")
    assert "MySAM breaks 1 promise of the family: told from the cache" in " ".join(out.split())
    _, out, _ = run("report", "--store", "s")
    assert "MySAM breaks" in out


def test_two_classes_of_one_name_are_told_apart_where_their_promises_are_tried_and_noted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = ("a b/mine.py:MySAM", "c/mine.py:MySAM")
    cases = [Case("train", "demo", "gcn", source) for source in sources]

    def call(_: object, source: str, **__: object) -> list[str]:
        if source == sources[0]:
            return ["bf16 weights"]
        raise execute.child.Died("error", "it ended")

    monkeypatch.setattr(execute.child, "call", call)
    notes = execute._promises(cases, short_names(sources))
    assert capsys.readouterr().err.splitlines() == [
        "a b/mine.py:MySAM: trying the promises of the family",
        "c/mine.py:MySAM: trying the promises of the family",
    ]
    assert notes == {
        sources[0]: "a b/mine.py:MySAM breaks 1 promise of the family: bf16 weights; "
        "`samcmp check 'a b/mine.py:MySAM'` says why",
        sources[1]: "c/mine.py:MySAM: its promises could not be tried: it ended",
    }
