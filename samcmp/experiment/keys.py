"""Content keys: everything that decides a result, and nothing that does not.

A result is looked up by its key, so a key must change when the data, the split, the settings, the seed or the code
that runs changes, and must not change with comments, file dates or the order in which things are asked for.
Nothing here imports torch: a plan of a thousand cases is keyed in a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from samcmp import modules
from samcmp.data.catalogue import Catalogue
from samcmp.records import Case, content_key, to_json

_PACKAGES = ("torch", "rdkit")  # whose versions change bits
_ADDED = ("own", "trial", "search", "drawn", "code")  # fields of a Case that its key holds where they say something
KEY_VERSION = 2  # raised when the meaning of a Case changes without its fields changing

Roots = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the cases of one comparison rest on beyond themselves. Code is read once, for all of them."""

    datasets: Catalogue = field(default_factory=Catalogue)
    split_file: str = ""  # SHA-256 of a file with the split
    fingerprint: str = ""  # of the machine: speeds are comparable on one machine only
    _code: dict[Roots, tuple[Mapping[str, str], str]] = field(default_factory=dict, repr=False, compare=False)

    def code_of(self, *cases: Case) -> Mapping[str, str]:
        """Every module that the cases run, a user's own included, with its hash: see :func:`modules.closure`."""
        return {name: digest for roots in set(map(_roots, cases)) for name, digest in self._closure(roots)[0].items()}

    def contents_of(self, model: str, optimizer: str) -> dict[str, str]:
        """The users' own of the two, each with the hash of its files: what tells two states of one file apart."""
        return {source: self.content_of(source) for source in _sources(model, optimizer)}

    def content_of(self, source: str) -> str:
        """SHA-256 of the files of file.py:Class, wherever they lie."""
        return modules.content_of(self._closure((source.rpartition(":")[0],))[0])

    def key_of(self, case: Case) -> str:
        """Content key of ``case``: everything that decides its result, and nothing that does not."""
        from samcmp import backbones, optim

        optimizer = optim.entry(case.optimizer)
        decides = {
            "version": KEY_VERSION,
            "case": {name: value for name, value in to_json(case).items() if value or name not in _ADDED},
            "optimizer": [
                optimizer.class_name,
                {**optimizer.settings, **case.settings},
                optimizer.loss_power,
                optimizer.schedule,
            ],
            "model": backbones.entry(case.model).settings,
            "code": self._closure(_roots(case))[1],
            **{package: modules.version(package) for package in _PACKAGES},
        }
        if case.kind == "profile":
            decides["machine"] = self.fingerprint
        return content_key(decides)

    def _closure(self, roots: Roots) -> tuple[Mapping[str, str], str]:
        if roots not in self._code:
            code = modules.closure(roots)
            self._code[roots] = code, content_key(code)
        return self._code[roots]


# What runs is what these modules import. Packages are not followed: an optimizer does not depend on the others.
_ROOTS = {"train": "samcmp.experiment.run", "profile": "samcmp.profiling.session"}
_ALWAYS = "samcmp.optim.building"


def _roots(case: Case) -> Roots:
    from samcmp import backbones, optim

    own = (source.rpartition(":")[0] for source in _sources(case.model, case.optimizer))
    model = backbones.entry(case.model).module
    return _ROOTS[case.kind], _ALWAYS, optim.entry(case.optimizer).module, model, *own


def _sources(model: str, optimizer: str) -> list[str]:
    """Which of the two are users' own: file.py:Class or package.module:Class."""
    from samcmp import backbones, optim

    own = ((model, backbones.is_user_model(model)), (optimizer, optim.is_user_optimizer(optimizer)))
    return [source for source, is_own in own if is_own]
