"""What every engine rests on: how it is named, what travels to a worker and back, and what a worker refuses."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from samcmp import engines, machine
from samcmp.data import cards
from samcmp.engines import Finished, Node, Pool, Setting, Work, handshake, order
from samcmp.engines.order import Order
from samcmp.errors import DataError, DeviceError, SamcmpError
from samcmp.experiment import where
from samcmp.experiment.keys import Inputs
from samcmp.experiment.kinds import Kind
from samcmp.experiment.run import Predictions
from samcmp.experiment.store import Store
from samcmp.experiment.where import SlurmTable, Where
from samcmp.records import Case, Protocol, Record, from_json
from samcmp.training.setup import Options
from tests.commands import Run
from tests.places import ROOT

SUITE = """
[suites.default]
title = ""
datasets = ["demo"]
models = ["gcn"]
optimizers = ["adam"]
"""


# ---------------------------------------------------------------------------------------------- --on


@pytest.mark.parametrize(
    ("text", "engine", "address"),
    [(None, "local", None), ("local", "local", None), ("ray", "ray", None), ("ray:node1:6379", "ray", "node1:6379")],
)
def test_an_engine_is_named_with_its_address(text: str | None, engine: str, address: str | None) -> None:
    found = where.read_on(text, {}, path=Path("benchmarks.toml"))
    assert found.engine == engine
    assert getattr(found.settings, "address", None) == address
    assert found.is_remote == (engine != "local")


def test_a_table_is_named_by_its_name_and_holds_the_settings_of_its_engine(tmp_path: Path) -> None:
    from samcmp.experiment import suites

    path = tmp_path / "b.toml"
    path.write_text(SUITE + '[run.cluster]\nengine = "slurm"\npartition = "gpu"\ntime = "1.5h"\nsetup = ["a", "b"]\n')
    found = where.read_on("cluster", suites.read(path).run, path=path)
    assert isinstance(found.settings, SlurmTable)
    assert (found.settings.partition, found.settings.seconds, found.settings.tasks) == ("gpu", 5400.0, 64)
    assert found.at("gres") == f"{path}: run.cluster.gres"
    assert where.read_on("slurm", {}, path=path).at("gres") == "--on slurm"


WRONG = {
    'engine = "slurm"\npartitoin = "gpu"': ("run.c.partitoin: slurm has no key 'partitoin'", "partition"),
    'engine = "slrum"': ("run.c.engine: unknown engine 'slrum'", "'slurm'"),
    'partition = "gpu"': ("run.c.engine: this key is missing", "local, ray, slurm"),
    'engine = "ray"\naddress = "ray://node:6379"': ("run.c.address: is not of the form", "node1:6379"),
    'engine = "slurm"\ntime = "90"': ("run.c.time: is not of the form", "unit"),
    'engine = "slurm"\nmemory = "8 GB"': ("run.c.memory: is not of the form", "8G"),
    'engine = "slurm"\ncpus = 0': ("run.c.cpus: must be at least 1, found 0", "Correct"),
    'engine = "slurm"\nsetup = "module load cuda"': ("run.c.setup: expected a list", "module load"),
    'engine = "local"\nmixed = 1': ("run.c.mixed: expected true or false", "Correct"),
    'engine = "slurm"\npartition = "a\\nb"': ("run.c.partition: is not of the form", "Correct"),
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_table_is_refused_with_its_key(run: Run, text: str) -> None:
    Path("b.toml").write_text(f"{SUITE}[run.c]\n{text}\n")
    code, _, err = run("compare", "--config", "b.toml", "--dry-run")
    what, remedy = WRONG[text]
    assert code == 2
    assert f"b.toml: {what}" in err
    assert remedy in err.splitlines()[1]


USAGE = {
    ("--on", "slrum"): "unknown engine or table [run.NAME] 'slrum'",
    ("--on", "ray:node1"): "'node1' is no address",
    ("--on", "slurm:node1"): "slurm has no address",
    ("--on", "ray", "--device", "cpu", "--jobs", "1"): "--jobs 1 --on ray: says how many",
    ("--on", "ray"): "--device auto --on ray: says nothing of other machines",
    ("--on", "ray", "--device", "cuda:1"): "a worker uses the device that its engine gives it",
    ("--detach",): "--detach: runs of the engine local end with this command",
}


@pytest.mark.parametrize("words", USAGE, ids=" ".join)
def test_what_does_not_fit_together_is_refused_in_two_lines(run: Run, words: tuple[str, ...]) -> None:
    code, _, err = run("compare", "--dry-run", *words)
    assert code == 2
    assert USAGE[words] in err
    assert len(err.splitlines()) == 2


def test_every_engine_that_a_table_may_name_is_made() -> None:
    assert engines.ENGINES.keys() == where.TABLES.keys()
    for name, (module, class_name) in engines.ENGINES.items():
        engine = engines.make(Setting(where.read_on(name, {}, path=Path()), store=Store(Path("no-such-store"))))
        assert (type(engine).__module__, type(engine).__name__) == (module, class_name)


def test_no_engine_is_imported_without_on() -> None:
    program = (
        "import sys; sys.argv = ['samcmp', 'compare', '--dry-run', '--store', 'no-such-store']\n"
        "from samcmp.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert 'samcmp.engines.local' in sys.modules\n"
        "loaded = {'ray', 'samcmp.engines.ray', 'samcmp.engines.slurm'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, capture_output=True)


def test_a_dry_run_shows_the_engines_plan(run: Run) -> None:
    code, out, _ = run("compare", "--dry-run", "--on", "local", "--device", "cpu")
    assert code == 0
    assert re.search(r"On local: 1 node, \d+ slots?: \d+ of ", out)


# ---------------------------------------------------------------------------------------------- a pool


def test_nodes_of_other_kinds_are_left_out_and_named() -> None:
    a, b = Kind("cpu", processor="A"), Kind("cpu", processor="B")
    pool = Pool((Node("n1", 2, a, "one"), Node("n2", 4, b, "two"), Node("n3", 1, Kind("cpu"), "three")))
    assert pool.slots == 7
    assert pool.kinds[b] == 4
    chosen = pool.of(b, why="another kind")
    assert [node.name for node in chosen.used] == ["n2", "n3"]  # of the third nothing is known that differs
    assert (chosen.slots, chosen.fingerprint) == (5, "two")
    assert chosen.nodes[0].left_out == "another kind"


# ---------------------------------------------------------------------------------------------- orders, deliveries


def an_order(**more: object) -> Order:
    case = Case("train", "demo", "gcn", "sam", Protocol(epochs=1, subset=40), optimizer_settings={"rho": 0.1})
    case = dataclasses.replace(case, **more)  # type: ignore[arg-type]
    return Order(Inputs().key_of(case), case)


def test_orders_and_deliveries_go_through_json_and_npz_and_come_back_equal(tmp_path: Path) -> None:
    sent = an_order()
    assert order.orders_from(order.to_bytes([sent, sent])) == [sent, sent]
    arrays = Predictions(np.arange(3), np.array([[1.0], [np.nan], [0.5]]), np.array([[0.25], [0.5], [1 / 3]]))
    record = Record(sent.key, sent.case, "ok", seconds=1.5, notes=("a note",))
    back = order.delivered(sent, order.delivery(Finished(record, arrays)))
    assert back.record == record
    assert back.predictions is not None
    here, there = (Store(tmp_path / name) for name in ("here", "there"))
    here.add(record, arrays)
    there.add(back.record, back.predictions)
    for kind, suffix in (("records", ".json"), ("predictions", ".npz")):
        names = [store.path(sent.key, kind, suffix).read_bytes() for store in (here, there)]
        assert names[0] == names[1]


@pytest.mark.parametrize("what", ["another key", "another case", "no record", "predictions cut short"])
def test_a_delivery_that_does_not_answer_its_order_is_refused(what: str) -> None:
    sent = an_order()
    record = Record(sent.key, sent.case, "error", reason="x")
    if what == "another key":
        record = dataclasses.replace(record, key="0" * 64)
    if what == "another case":
        record = dataclasses.replace(record, case=dataclasses.replace(sent.case, seed=1))
    text, _ = order.delivery(Finished(record, None))
    arrays = b"PK\x03\x04" if what == "predictions cut short" else None
    said = {"no record": "Field required", "predictions cut short": "cut short|zip"}.get(what, "was delivered for")
    with pytest.raises(ValueError, match=said):
        order.delivered(sent, (b"{}" if what == "no record" else text, arrays))


def test_an_order_with_a_key_that_is_none_is_refused() -> None:
    text = order.to_bytes(dataclasses.replace(an_order(), key="../../etc"))
    with pytest.raises(ValueError, match="64 hexadecimal"):
        order.order_from(text)


def test_a_users_table_split_and_card_travel_and_make_the_same_keys(tmp_path: Path) -> None:
    from samcmp.cli import common
    from samcmp.cli.options import DataOptions, SplitOptions

    table = tmp_path / "mine.csv"
    table.write_text("smiles,y\n" + "".join(f"{'C' * n}O,{n}.5\n" for n in range(1, 21)))
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": [*range(14)], "valid": [14, 15, 16], "test": [17, 18, 19]}))
    found = common.sources([], DataOptions(data=table, target=["y"]), SplitOptions(split_file=split))
    inputs = found.inputs("")
    name = found.datasets[0]
    case = Case(
        "train", name, "gcn", "adam", Protocol(epochs=1), split="file",
        data=inputs.datasets.identity(name), split_file=found.split_sha256,
    )  # fmt: skip
    there = tmp_path / "there"
    there.mkdir()
    mine = found.options("cpu", inputs.code_of(case))
    terms = order.terms_from(order.to_bytes(order.terms([case], mine, notes={"adam": "x"}, timeout=3.0)))
    assert {file.role for file in terms.files} == {"dataset", "split"}

    def place(file: order.SentFile) -> Path:
        path = file.below(there)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(Path(file.path).read_bytes())
        return path

    options = order.options(terms, place)
    handshake.check(terms, [Order(inputs.key_of(case), case)], options.datasets, node="n1")
    assert options.datasets.find(name).data != table
    from samcmp.training.setup import load_samples, make_split

    molecules = load_samples(case, options)
    assert len(make_split(molecules, case, options).test) == 3
    terms.files[0].below(there).write_text("changed")
    with pytest.raises(DataError, match="is not the"):
        order.options(terms, lambda file: file.below(there))


def test_code_that_is_not_below_the_current_folder_cannot_travel(tmp_path: Path) -> None:
    inside = order.SentFile("code", "nets/net.py", "/x/nets/net.py", "")
    assert order.code_path(inside, tmp_path) == tmp_path / "nets" / "net.py"
    for name in ("/x/net.py", "../net.py"):
        with pytest.raises(SamcmpError, match="not below the current folder"):
            order.code_path(dataclasses.replace(inside, name=name), tmp_path)


def test_only_the_users_cards_travel(tmp_path: Path) -> None:
    from samcmp.data.catalogue import Catalogue

    cases = [Case("train", name, "gcn", "adam") for name in ("demo", "mine")]
    text = (cards.shipped_folder() / "demo.toml").read_text().replace('name = "demo"', 'name = "mine"')
    (tmp_path / "mine.toml").write_text(text)
    (tmp_path / "demo.csv").write_bytes(next(cards.shipped_folder().glob("demo*.csv")).read_bytes())
    terms = order.terms(cases, Options(datasets=Catalogue([tmp_path])))
    assert [sent.card["name"] for sent in terms.cards] == ["mine"]


# ---------------------------------------------------------------------------------------------- the handshake


def terms_of(*orders: Order) -> order.Terms:
    cases = [each.case for each in orders]
    return order.terms(cases, Options(code=Inputs().code_of(*cases)))


def refused(terms: order.Terms, sent: Order) -> str:
    with pytest.raises(SamcmpError) as error:
        handshake.check(terms, [sent], Options().datasets, node="n1")
    assert error.value.where == "node n1"
    assert error.value.remedy
    return error.value.what


def test_a_machine_with_the_same_code_and_packages_takes_an_order() -> None:
    sent = an_order()
    handshake.check(terms_of(sent), [sent], Options().datasets, node="n1")


def test_another_version_of_a_package_or_of_python_is_named() -> None:
    sent = an_order()
    terms = terms_of(sent)
    older = {**terms.versions, "torch": "1.0", "python": "3.8.1"}
    said = refused(dataclasses.replace(terms, versions=older), sent)
    assert re.search(r"runs Python 3\.\d+, the machine that submits 3\.8; runs torch \S+, .* submits 1\.0", said)
    without = {name: v for name, v in terms.versions.items() if name != "samcmp"}
    if "samcmp" in terms.versions:
        assert "runs samcmp" in refused(dataclasses.replace(terms, versions=without), sent)


def test_code_that_differs_or_is_absent_is_named() -> None:
    sent = an_order()
    terms = terms_of(sent)
    code = {**terms.code, "samcmp.optim.sam": "0" * 64, "nets/net.py": "1" * 64, "version of torch": "0.1"}
    said = refused(dataclasses.replace(terms, code=code), sent)
    assert "the code of samcmp.optim.sam, torch (" in said
    assert "nets/net.py is absent" in said


def test_a_key_that_this_machine_would_not_make_is_refused() -> None:
    sent = an_order()
    said = refused(terms_of(sent), dataclasses.replace(sent, key="0" * 64))
    assert "under another key" in said


def test_another_content_of_a_dataset_is_named() -> None:
    sent = an_order(data="0" * 64)
    assert "the dataset demo differs" in refused(terms_of(sent), sent)


def test_a_node_describes_itself_and_goes_through_json() -> None:
    node = handshake.here("n1", slots=2, device="cpu")
    assert from_json(Node, order.to_bytes(node)) == node
    assert node.kind.processor == machine.processor()
    assert node.fingerprint
    assert node.versions["python"]


def test_a_node_without_a_gpu_says_so_and_the_remedy() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(DeviceError, match="has no CUDA device") as error:
        handshake.here("n1", slots=1, device="cuda:0")
    assert "gres" in str(error.value.remedy)


# ---------------------------------------------------------------------------------------------- work


def test_work_is_taken_once_and_what_is_given_back_is_taken_again(tmp_path: Path) -> None:
    sent = [an_order(seed=seed) for seed in range(3)]
    work = Work({each.key: each.case for each in sent}, Store(tmp_path), notes={"sam": "a note"})
    first, second = work.take(), work.take()
    assert first is not None
    assert second is not None
    assert [first[0], second[0]] == [sent[0].key, sent[1].key]
    work.give_back(first[0])
    assert [work.take(), work.take(), work.take()] == [first, (sent[2].key, sent[2].case), None]
    assert not work.more
    record = work.keep(Finished(Record(second[0], second[1], "error", reason="x"), None))
    assert record.notes == ("a note",)
    assert Store(tmp_path).get(second[0]) == record
    assert work.keep(Finished(record, None, stored=True)).notes == ("a note",)


def test_the_local_engine_keeps_the_contract(tmp_path: Path) -> None:
    sent = an_order()
    engine = engines.make(Setting(Where(), ("cpu",), Store(tmp_path), jobs=1))
    pool = engine.look()
    heard: list[object] = []
    work = Work({sent.key: sent.case}, Store(tmp_path))
    (done,) = engine.train(work, Options(), pool=pool, listen=heard.append, timeout=None)
    assert done.record.status == "ok"
    assert [type(event).__name__ for event in heard] == ["Began", "Progress"]
    engine.close()
    engine.close()
