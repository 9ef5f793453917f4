"""A worker on another machine says what it is, and proves before a case that it would make the same key of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from samcmp import machine, modules
from samcmp.data.catalogue import Catalogue
from samcmp.engines import Node
from samcmp.engines.order import Order, Terms
from samcmp.errors import DeviceError, SamcmpError
from samcmp.experiment import kinds
from samcmp.experiment.keys import Inputs

EQUAL = ("torch", "samcmp", "rdkit", "torch-geometric", "numpy", "scipy")  # packages whose versions must be equal
_SAME = "Install the same on both; `samcmp doctor` lists the versions of a machine."


def here(name: str, *, slots: int, device: str) -> Node:
    """Describe this machine to the one that submits. Raises DeviceError where the device is not there."""
    if device != "cpu":
        from samcmp.training.setup import resolve_device

        try:
            resolve_device(device)
        except DeviceError as error:
            raise DeviceError(
                f"has no CUDA device: {error.what}",
                where=f"node {name}",
                remedy="Ask for one (gres of Slurm, gpus of Ray), or use --device cpu.",
            ) from None
    return Node(name, slots, kinds.here(device), kinds.fingerprint(device), machine.versions())


def check_versions(theirs: Mapping[str, str], *, node: str, ours: Mapping[str, str]) -> None:
    """Raise SamcmpError for another version of Python or of a package that computes.

    Args:
        theirs: of ``node``, the worker's machine.
        ours: of the machine that submits.
    """
    there, submits = _minor(theirs.get("python")), _minor(ours.get("python"))
    different = [] if there == submits else [f"runs Python {there}, the machine that submits {submits}"]
    for package in EQUAL:
        if theirs.get(package) != ours.get(package):
            there = theirs.get(package) or "absent"
            different.append(f"runs {package} {there}, the machine that submits {ours.get(package) or 'none'}")
    if different:
        raise SamcmpError("; ".join(different), where=f"node {node}", remedy=_SAME)


def _minor(version: str | None) -> str:
    return ".".join((version or "unknown").split(".")[:2])


def check(terms: Terms, orders: Iterable[Order], catalogue: Catalogue, *, node: str, fingerprint: str = "") -> None:
    """Refuse orders whose keys this machine would not give them, naming what differs. Raises SamcmpError.

    Args:
        catalogue: of :func:`samcmp.engines.order.options`.
        fingerprint: of the device, for orders of a profile session.
    """
    check_code(terms, node=node)
    check_keys(orders, Inputs(catalogue, fingerprint=fingerprint), node=node)


def check_code(terms: Terms, *, node: str) -> None:
    """Refuse other versions and other code, naming what differs. Raises SamcmpError."""
    check_versions(machine.versions(), node=node, ours=terms.versions)
    differs, absent = [], []
    for name, digest in terms.code.items():
        package = modules.package_of(name)
        path = modules.path_of(name) if package is None else None
        if package is not None:
            installed = modules.version(package)
            if installed is None:
                absent.append(package)
            elif installed != digest:
                differs.append(f"{package} ({installed} here, {digest} there)")
        elif path is None:
            absent.append(name)
        elif modules.digest_of(path) != digest:
            differs.append(name)
    said = [f"the code of {_some(differs)} differs"] if differs else []
    said += [f"{_some(absent)} {'is' if len(absent) == 1 else 'are'} absent"] if absent else []
    if said:
        raise SamcmpError("; ".join(said), where=f"node {node}", remedy=_SAME)


def check_keys(orders: Iterable[Order], inputs: Inputs, *, node: str) -> None:
    """Refuse orders whose data or key is not what this machine has. Raises SamcmpError."""
    catalogue = inputs.datasets
    for order in orders:
        case = order.case
        if case.data and catalogue.identity(case.dataset) != case.data:
            raise SamcmpError(
                f"the dataset {case.dataset} differs from that of the machine that submits", where=f"node {node}",
                remedy="Install the same samcmp, and the same packages that bring datasets, on both.",
            )  # fmt: skip
        if inputs.key_of(case) != order.key:
            raise SamcmpError(
                f"would file {case.dataset} {case.model} {case.arm} under another key than the machine that submits: "
                "an entry of the catalogues differs",
                where=f"node {node}",
                remedy="Install the same samcmp, and the same packages that bring models and optimizers, on both.",
            )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more
