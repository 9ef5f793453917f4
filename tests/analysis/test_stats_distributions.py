"""Distribution functions against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from samcmp.analysis.distributions import chi2_above, range_quantile, t_above, t_central, t_quantile


@pytest.mark.parametrize("df", [1, 2, 3, 4, 9, 24, 99, 500])
def test_students_t_equals_scipys(df: int) -> None:
    for t in (-6.0, -1.3, 0.0, 0.4, 2.1, 9.0):
        assert t_above(t, df) == pytest.approx(stats.t.sf(t, df), abs=1e-14)
        assert t_central(t, df) == pytest.approx(1 - 2 * stats.t.sf(abs(t), df), abs=1e-14)
    for p in (0.001, 0.025, 0.5, 0.8, 0.95, 0.9995):
        assert t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-9, abs=1e-9)


def test_chi_squared_equals_scipys() -> None:
    for df in (1, 2, 3, 7, 8, 23):
        for x in (0.0, 0.3, 4.0, 30.0):
            assert chi2_above(x, df) == pytest.approx(stats.chi2.sf(x, df), abs=1e-14)


@pytest.mark.parametrize("groups", [2, 3, 8, 24])
def test_range_of_normals_equals_scipys_studentized_range(groups: int) -> None:
    assert range_quantile(0.95, groups) == pytest.approx(stats.studentized_range.ppf(0.95, groups, np.inf), rel=1e-9)


@pytest.mark.parametrize(("p", "df"), [(0.0, 3), (1.0, 3), (0.5, 0)])
def test_nonsense_is_refused(p: float, df: int) -> None:
    with pytest.raises(ValueError, match=r"probability|whole number"):
        t_quantile(p if df else 0.9, df)
