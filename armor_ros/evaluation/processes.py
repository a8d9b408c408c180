# SPDX-License-Identifier: Apache-2.0
"""
The processes that share an evaluation: one, or as many as a launcher started.

``accelerate launch --multi_gpu -m armor_ros.cli evaluate ...`` starts one a GPU; ``torchrun
--nproc-per-node N -m ...`` and ``mpirun`` do so without GPUs. On several machines the output
folder must be one that they share.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from armor_ros.errors import ArmorError

T = TypeVar('T')

# What launchers tell the number of processes by: torchrun (and accelerate), then MPI.
_COUNTS = ('WORLD_SIZE', 'OMPI_COMM_WORLD_SIZE', 'PMI_SIZE', 'MV2_COMM_WORLD_SIZE')
# Processes wait for the slowest at the end of a run: as long as it takes.
_PATIENCE = timedelta(days=30)


class Processes:
    """The group that this process belongs to; alone unless a launcher started several."""

    def __init__(self) -> None:
        self.index, self.count = 0, 1
        self._state: Any = None
        if any(os.environ.get(name, '1') not in ('', '1') for name in _COUNTS):
            import torch
            from accelerate import PartialState

            # only GPUs are detected by themselves
            without_gpu = os.environ.get('ACCELERATE_USE_CPU', '').lower() in ('1', 'true', 'yes')
            self._state = PartialState(
                cpu=without_gpu or not torch.cuda.is_available(), timeout=_PATIENCE
            )
            self.index, self.count = self._state.process_index, self._state.num_processes
            if self.count == 1:
                # each would do everything, and write the same files
                raise ArmorError(
                    'a launcher started several processes, but they do not find each other; start '
                    'them with accelerate launch --multi_gpu, torchrun or mpirun, or start one'
                )

    @property
    def is_main(self) -> bool:
        """Whether this process speaks for all."""
        return self.index == 0

    def on_main(self, work: Callable[[], T]) -> T:
        """
        Have the main process do some work while the others wait; return what it returned to all.

        When it raises ArmorError all processes end: the main one with the error, the others
        silently. What is returned travels by pickle.
        """
        told: list[tuple[Any, str | None]] = [(None, None)]
        if self.is_main:
            try:
                told = [(work(), None)]
            except ArmorError as error:
                if self._state is None:
                    raise
                told = [(None, str(error))]
        if self._state is not None:
            from accelerate.utils import broadcast_object_list

            broadcast_object_list(told, from_process=0)
        value, failure = told[0]
        if failure is not None:
            self.close()
            if self.is_main:
                raise ArmorError(failure)
            raise SystemExit(1)
        result: T = value
        return result

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self._state is not None:
            self._state.wait_for_everyone()

    def close(self) -> None:
        """Leave the group, so that the launcher sees an orderly end."""
        if self._state is not None:
            self._state.destroy_process_group()
            self._state = None
