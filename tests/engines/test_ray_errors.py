"""What ``--on ray`` says before it has reached a cluster."""

from __future__ import annotations

import importlib.util
import json
import socket
from types import SimpleNamespace

import pytest

from samcmp.engines import Setting, ray
from samcmp.engines.ray import Ray
from samcmp.engines.ray_cluster import Machine, Need, broken, taken, unconnected
from samcmp.errors import SamcmpError, UsageError
from samcmp.experiment.where import RayTable, Where


def engine(address: str | None = None) -> Ray:
    return Ray(Setting(Where(RayTable(engine="ray", address=address), f"--on ray:{address}")))


def test_ray_that_is_not_installed_is_named_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as error:
        engine().look()
    assert str(error.value) == '--on ray: Ray is not installed\npip install "samcmp[ray]"'


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


@pytest.mark.usefixtures("installed")
def test_an_address_where_nothing_answers_is_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(SamcmpError, match=r"nothing answers there \(Connection refused\)") as error:
        engine(f"127.0.0.1:{port}").look()
    assert error.value.where == f"--on ray:127.0.0.1:{port}"


@pytest.mark.usefixtures("installed")
def test_a_host_without_an_address_is_refused() -> None:
    with pytest.raises(SamcmpError, match="nothing answers there"):
        engine("no-such-host.invalid:6379").look()


@pytest.mark.usefixtures("installed")
def test_a_machine_outside_the_cluster_is_told_how_to_join(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    monkeypatch.setattr(psutil, "process_iter", lambda attrs: iter([]))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(SamcmpError, match="is not a node of the cluster") as error:
            engine(address).look()
    assert f"ray start --address={address} --num-cpus=0" in str(error.value.remedy)


@pytest.mark.parametrize(
    ("where", "named"), [("esol.csv", "node n1: esol.csv"), (None, "node n1"), ("node n1", "node n1")]
)
def test_what_a_worker_cannot_do_is_said_with_its_node(where: str | None, named: str) -> None:
    said = json.dumps({"what": "cannot be read", "where": where, "remedy": "Check it.", "node": "abc"}).encode()
    with pytest.raises(SamcmpError) as error:
        taken(("refused", [said]), [Machine("abc", "n1", 1, 0, 1)])
    assert (error.value.where, error.value.what) == (named, "cannot be read")


def test_a_node_without_this_package_is_named() -> None:
    error = broken(SimpleNamespace(cause=ModuleNotFoundError("No module named 'samcmp'", name="samcmp")), "n1")
    assert (error.where, error.what) == ("node n1", "cannot import samcmp")
    assert "samcmp[ray]" in str(error.remedy)


def test_another_version_of_the_cluster_is_named_with_ours() -> None:
    said = (
        "Version mismatch: The cluster was started with:\n    Ray: 2.55.0\n    Python: 3.12.4\n"
        "This process on 10.0.0.1 was started with:\n    Ray: 2.60.0\n    Python: 3.11.2\n"
    )
    error = unconnected(RuntimeError(said), Need("a:1", 1, 0, "cpu", "--on ray:a:1"), ray="2.60.0")
    assert error.what.startswith("the cluster runs Ray 2.55.0, this machine 2.60.0; Python 3.12.4, this machine 3.")


def test_a_token_that_the_cluster_asks_for_is_named() -> None:
    error = ConnectionError("Failed to connect to Ray cluster at a:1")
    error.__cause__ = RuntimeError("Last connection error: RPC error: InvalidAuthToken: token is missing or incorrect")
    refused = unconnected(error, Need("a:1", 1, 0, "cpu", "--on ray:a:1"), ray="2.60.0")
    assert "asks for a token" in refused.what
    assert "RAY_AUTH_MODE=token" in str(refused.remedy)


def test_runs_on_ray_cannot_be_detached() -> None:
    with pytest.raises(UsageError, match="runs of the engine ray end with this command"):
        engine().detach()


def test_progress_of_a_case_that_has_ended_is_dropped() -> None:
    heard: list[object] = []
    ray._tell(ray.Lines([{"key": "0" * 64, "node": "n", "since": 0.0, "progress": None}]), {}, heard.append)
    assert heard == []
