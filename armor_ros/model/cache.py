# SPDX-License-Identifier: Apache-2.0
"""Keys and values of one episode, of its prefix and of the branches behind it."""

from __future__ import annotations

import torch

_GROWTH = 1.25
_SMALLEST = 256


class KeyValueCache:
    """
    One preallocated store per decoder layer, each (key heads, capacity, head size).

    Tokens are written at any slot; which slots a token sees is for its mask to say.
    """

    def __init__(
        self, layers: int, key_heads: int, size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        shape = (key_heads, 0, size)
        self.keys = [torch.empty(shape, dtype=dtype, device=device) for _ in range(layers)]
        self.values = [torch.empty(shape, dtype=dtype, device=device) for _ in range(layers)]

    @property
    def capacity(self) -> int:
        """Number of slots."""
        return self.keys[0].shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of all stores."""
        return 2 * len(self.keys) * self.keys[0].nbytes

    def reserve(self, slots: int, *, exactly: bool = False) -> None:
        """
        Make room for ``slots`` in all; contents are kept.

        Grows by a quarter at least, unless ``exactly``, so that a stream copies little.
        """
        if slots <= self.capacity:
            return
        if not exactly:
            slots = self._grown(slots)
        # Layer by layer, so that only one is held twice.
        for stores in (self.keys, self.values):
            for layer, old in enumerate(stores):
                new = old.new_empty((old.shape[0], slots, old.shape[2]))
                new[:, : old.shape[1]] = old
                stores[layer] = new

    def nbytes_with(self, slots: int) -> int:
        """Bytes of all stores once there is room for ``slots``, as ``reserve`` would make it."""
        capacity = self.capacity if slots <= self.capacity else self._grown(slots)
        heads, _, size = self.keys[0].shape
        return 2 * len(self.keys) * heads * capacity * size * self.keys[0].element_size()

    def _grown(self, slots: int) -> int:
        """Return the capacity that makes room for more slots than there are."""
        return max(slots, int(self.capacity * _GROWTH), _SMALLEST)

    def write(
        self,
        layer: int,
        slots: slice | torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> None:
        """Write (N, key heads, size) keys and values into N slots, a slice or indices."""
        for store, new in ((self.keys[layer], keys), (self.values[layer], values)):
            if isinstance(slots, slice):
                store[:, slots] = new.transpose(0, 1)
            else:
                store.index_copy_(1, slots, new.transpose(0, 1))
