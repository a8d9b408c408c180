# SPDX-License-Identifier: Apache-2.0
"""Wilson's interval of a share, for those who have no scipy."""

from __future__ import annotations

import math
from statistics import NormalDist

_Z = NormalDist().inv_cdf(0.975)


def wilson(hits: float, n: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of ``hits`` out of ``n`` independent tasks, ``n`` > 0."""
    count, total = round(hits), round(n)
    share, shrink = count / total, 1 + _Z**2 / total
    middle = (share + _Z**2 / (2 * total)) / shrink
    reach = _Z * math.sqrt(share * (1 - share) / total + (_Z / (2 * total)) ** 2) / shrink
    low = 0.0 if count == 0 else middle - reach
    return low, 1.0 if count == total else middle + reach
