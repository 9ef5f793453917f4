"""Descriptors of whole molecules, each put on a scale from 0 to 1, for models that read them beside the graph.

``rdkit2d`` is the set of 200 RDKit descriptors that Yang et al. (2019) and GROVER (Rong et al. 2020) use, in
alphabetical order. The published values are *not* reproduced: those are passed through distribution functions that
the package descriptastorus fitted to a company's compounds. Here each descriptor is passed through its empirical
distribution function over a fixed reference, the distinct molecules of the MoleculeNet files that are named in
``rdkit2d_reference.csv``'s first line, half of the equal values counting as below. The reference is fixed, so a
molecule's values depend on that molecule alone (no test set leaks into a training set by way of a scale), and no
label is read. A value beyond the reference's largest is 1, below its smallest 0.

A descriptor that RDKit cannot compute for a molecule (partial charges of some metals) is 0, as GROVER's code has it.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from samcmp.errors import unknown

if TYPE_CHECKING:
    from rdkit.Chem import Mol

VERSION = "1"  # part of every cache key: count up when a value's meaning changes
WIDTHS = {"rdkit2d": 200}
LEVELS = 65  # quantiles of the reference that are kept of each descriptor

Progress = Callable[[str, int, int | None], None]

_FRAGMENTS = """
Al_COO Al_OH Al_OH_noTert ArN Ar_COO Ar_N Ar_NH Ar_OH COO COO2 C_O C_O_noCOO C_S HOCCN Imine NH0 NH1 NH2 N_O
Ndealkylation1 Ndealkylation2 Nhpyrrole SH aldehyde alkyl_carbamate alkyl_halide allylic_oxid amide amidine aniline
aryl_methyl azide azo barbitur benzene benzodiazepine bicyclic diazo dihydropyridine epoxide ester ether furan guanido
halogen hdrzine hdrzone imidazole imide isocyan isothiocyan ketone ketone_Topliss lactam lactone methoxy morpholine
nitrile nitro nitro_arom nitro_arom_nonortho nitroso oxazole oxime para_hydroxylation phenol phenol_noOrthoHbond
phos_acid phos_ester piperdine piperzine priamide prisulfonamd pyridine quatN sulfide sulfonamd sulfone
term_acetylene tetrazole thiazole thiocyan thiophene unbrch_alkane urea
""".split()  # noqa: SIM905
_SURFACES = {"EState_VSA": 11, "PEOE_VSA": 14, "SMR_VSA": 10, "SlogP_VSA": 12, "VSA_EState": 10}
_OTHERS = """
BalabanJ BertzCT Chi0 Chi0n Chi0v Chi1 Chi1n Chi1v Chi2n Chi2v Chi3n Chi3v Chi4n Chi4v ExactMolWt FpDensityMorgan1
FpDensityMorgan2 FpDensityMorgan3 FractionCSP3 HallKierAlpha HeavyAtomCount HeavyAtomMolWt Ipc Kappa1 Kappa2 Kappa3
LabuteASA MaxAbsEStateIndex MaxAbsPartialCharge MaxEStateIndex MaxPartialCharge MinAbsEStateIndex
MinAbsPartialCharge MinEStateIndex MinPartialCharge MolLogP MolMR MolWt NHOHCount NOCount NumAliphaticCarbocycles
NumAliphaticHeterocycles NumAliphaticRings NumAromaticCarbocycles NumAromaticHeterocycles NumAromaticRings
NumHAcceptors NumHDonors NumHeteroatoms NumRadicalElectrons NumRotatableBonds NumSaturatedCarbocycles
NumSaturatedHeterocycles NumSaturatedRings NumValenceElectrons RingCount TPSA qed
""".split()  # noqa: SIM905
NAMES: tuple[str, ...] = tuple(
    sorted(
        [f"fr_{name}" for name in _FRAGMENTS]
        + [f"{name}{i}" for name, count in _SURFACES.items() for i in range(1, count + 1)]
        + _OTHERS
    )
)


def compute(name: str, smiles: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
    """Return the descriptors ``name`` of each molecule, from 0 to 1: (M, 200).

    Raises :class:`UsageError` for an unknown name and :class:`DataError` for a SMILES that cannot be read.
    """
    if name not in WIDTHS:
        raise unknown("set of descriptors", name, WIDTHS)
    return normalised(raw(smiles, progress=progress))


def raw(smiles: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float64]:
    """Return the 200 values as RDKit computes them, NaN where it cannot: (M, 200)."""
    from rdkit.rdBase import BlockLogs

    from samcmp.graphs.featurize import parse

    values = np.full((len(smiles), len(NAMES)), np.nan)
    functions = _functions()
    for i, text in enumerate(smiles):
        mol = parse(text)
        with BlockLogs():
            values[i] = [_value(function, mol) for function in functions]
        if progress is not None:
            progress("descriptors", i + 1, len(smiles))
    return values


def normalised(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return raw values (M, 200) on the reference's scale from 0 to 1; NaN becomes 0."""
    scaled = np.zeros(values.shape, dtype=np.float32)
    for column, (points, levels) in enumerate(_reference()):
        known = ~np.isnan(values[:, column])
        scaled[known, column] = np.interp(values[known, column], points, levels, left=0.0, right=1.0)
    return scaled


def distribution(sample: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``LEVELS`` quantiles of the known values of a sample, ascending; a column of zeros where none is known."""
    known = sample[~np.isnan(sample)]
    if not len(known):
        return np.zeros(LEVELS)
    return np.quantile(known, np.linspace(0, 1, LEVELS), method="lower")


def _functions() -> list[Callable[[Mol], float]]:
    from rdkit.Chem import Descriptors

    return [getattr(Descriptors, name) for name in NAMES]


def _value(function: Callable[[Mol], float], mol: Mol) -> float:
    try:
        value = float(function(mol))
    except (ValueError, RuntimeError, ZeroDivisionError, OverflowError):
        return math.nan  # RDKit has no parameters for some elements
    return value if math.isfinite(value) else math.nan


@cache
def _reference() -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]:
    """Return for each descriptor its distinct quantiles and the middle of the levels that each stands for."""
    text = resources.files("samcmp.graphs").joinpath("rdkit2d_reference.csv").read_text(encoding="utf-8")
    rows = {row[0]: row[1:] for row in csv.reader(_without_comments(text.splitlines()))}
    distributions = []
    for name in NAMES:
        quantiles = np.array([float(value) for value in rows[name]])
        points, first, count = np.unique(quantiles, return_index=True, return_counts=True)
        distributions.append((points, (first + (count - 1) / 2) / (len(quantiles) - 1)))
    return tuple(distributions)


def _without_comments(lines: Iterable[str]) -> list[str]:
    return [line for line in lines if not line.startswith("#")]


def write_reference(path: Any, smiles: Sequence[str], *, about: str) -> None:
    """Write the reference's quantiles of every descriptor; this made the file that is shipped."""
    values = raw(smiles)
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(f"# {about}; {LEVELS} quantiles of each descriptor, levels 0 to 1 in equal steps\n")
        writer = csv.writer(file, lineterminator="\n")
        for column, name in enumerate(NAMES):
            writer.writerow([name, *(f"{q:.7g}" for q in distribution(values[:, column]))])
