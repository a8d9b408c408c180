# SPDX-License-Identifier: Apache-2.0
"""Pick up the named item among distractors, and hold it up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from armor_ros.simulation.domain import DomainSettings
from armor_ros.simulation.events import FLOOR, GRIPPER
from armor_ros.simulation.scene import table_spots
from armor_ros.simulation.tasks.base import GRASP_MODES, Task, register
from armor_ros.simulation.tasks.drawing import among_distractors, on_table

if TYPE_CHECKING:
    from armor_ros.simulation.policy import Controller
    from armor_ros.simulation.statelog import StateLog

_LIFTED = 0.10
_RISE = 0.08
_SHOW_SECONDS = 0.9


@register
@dataclass(frozen=True, kw_only=True)
class PickAndLift(Task):
    """
    Lift the named item off the table and hold it.

    Done when the gripper holds the item at the end, 10 cm above where it stood, and no other item
    with it.
    """

    name: ClassVar[str] = 'pick_and_lift'
    modes: ClassVar[tuple[str, ...]] = (
        *GRASP_MODES,
        'rotation_offset',
        'wrong_sequence',
        'wrong_object',
        'nothing_transported',
    )
    ends_at_home: ClassVar[bool] = False

    @classmethod
    def draw(cls, rng: np.random.Generator, domain: DomainSettings) -> PickAndLift:
        """Place the item, one of its shape, one of its colour and perhaps another."""
        names = among_distractors(rng, domain, int(rng.integers(3, 5)))
        spots = table_spots(rng, len(names), apart=0.15)
        items, target = on_table(rng, names, spots)
        return cls(items=items, target=target)

    @property
    def instruction(self) -> str:
        """Name the item."""
        return f'pick up the {self.named.name} and lift it'

    @property
    def aim(self) -> str:
        """In the gripper."""
        return 'held up by the gripper'

    @property
    def done(self) -> str:
        """The item lifted."""
        return f'picked up the {self.named.name} from the table and held it up'

    def script(self, robot: Controller) -> Iterator[None]:
        """Grasp, raise and show."""
        yield from robot.grasp()
        yield from robot.carry(over=robot.position + np.array([0.0, 0.0, _RISE]))
        yield from robot.wait(_SHOW_SECONDS)
        robot.check_grip()

    def succeeded(self, log: StateLog) -> bool:
        """Tell whether this item alone is held up at the end."""
        rise = log.items[-1, :, 2] - log.items[0, :, 2]
        others = np.delete(rise, self.target)
        held = self.rest_of(log, self.target) == GRIPPER and rise[self.target] > _LIFTED
        return bool(held and (others < _LIFTED).all()) and not any(
            self.rest_of(log, i) == FLOOR for i in self.others()
        )

    def alternatives(self) -> tuple[Task, ...]:
        """Return the lifting of each other item."""
        return tuple(replace(self, target=i) for i in self.others())
