# SPDX-License-Identifier: Apache-2.0
"""Insert the named peg into the slot of a socket."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from armor_ros.simulation.domain import DomainSettings, Look
from armor_ros.simulation.events import FLOOR, GRIPPER, TABLE, Event, EventKind
from armor_ros.simulation.furniture import SOCKET_HALF, SOCKET_HEIGHT, add_socket
from armor_ros.simulation.scene import COLORS, SHAPES, table_spots
from armor_ros.simulation.tasks.base import GRASP_MODES, Position, register
from armor_ros.simulation.tasks.drawing import on_table
from armor_ros.simulation.tasks.placing import Placing

if TYPE_CHECKING:
    from armor_ros.simulation.policy import Controller
    from armor_ros.simulation.statelog import StateLog

_PEG = 'peg'
_HEIGHT = SHAPES[_PEG].height
# Metres: an inserted peg's middle is so near to the slot's, and so little above the table.
_INSIDE = 0.016
_SUNK = 0.012
_UPRIGHT = 0.9
# Metres: so near to the fingertips' middle is the middle of the peg that they hold.
_HELD = 0.06
_EDGE = 'top of the '
_SIDE = 'side of the '
# Metres: a fallen peg whose middle is higher than this leans on a socket.
_LEANING = 0.030


@dataclass(frozen=True, slots=True)
class Socket:
    """A block with a slot: colour, middle (x, y) in metres, turn of the slot in radians."""

    color: str
    x: float
    y: float
    yaw: float

    @property
    def name(self) -> str:
        """The words that identify the socket, 'blue socket'."""
        return f'{self.color} socket'


@register
@dataclass(frozen=True, kw_only=True)
class InsertPeg(Placing):
    """
    Insert the named peg into one of two sockets, whose slots are turned.

    Done when the peg stands in the slot of ``sockets[goal]`` at the end, let go of, and the other
    pegs stand where they stood.
    """

    name: ClassVar[str] = 'insert_peg'
    modes: ClassVar[tuple[str, ...]] = (
        *GRASP_MODES,
        'goal_offset',
        'goal_rotation',
        'missing_rotation',
        'wrong_sequence',
        'wrong_object',
        'wrong_destination',
        'nothing_transported',
    )
    goal_size: ClassVar[float] = 0.018

    sockets: tuple[Socket, ...]

    @classmethod
    def draw(cls, rng: np.random.Generator, domain: DomainSettings) -> InsertPeg:
        """Place two sockets and three pegs, all of different colours."""
        colors = [domain.colors[i] for i in rng.permutation(len(domain.colors))[:5]]
        places = table_spots(rng, 2, apart=0.2, x=(0.40, 0.58), y=(-0.2, 0.2))
        sockets = tuple(
            Socket(color, x, y, float(rng.choice((-1.0, 1.0)) * rng.uniform(0.4, 0.75)))
            for color, (x, y) in zip(colors[3:], places, strict=True)
        )
        spots = table_spots(rng, 3, apart=0.14, x=(0.34, 0.62), y=(-0.25, 0.25), taken=(*places,))
        items, target = on_table(rng, [(color, _PEG) for color in colors[:3]], spots)
        return cls(items=items, target=target, goal=0, sockets=sockets)

    @property
    def instruction(self) -> str:
        """Name the peg and the socket."""
        return f'insert the {self.named.name} into the {self._goal.name}'

    @property
    def goals(self) -> tuple[Socket, ...]:
        """The sockets."""
        return self.sockets

    @property
    def done(self) -> str:
        """Peg and socket."""
        return f'inserted the {self.named.name} into the {self._goal.name}'

    def furnish(self, spec: Any, look: Look) -> None:
        """Add the sockets."""
        for socket in self.sockets:
            add_socket(spec, (socket.x, socket.y), socket.yaw, COLORS[socket.color])

    def script(self, robot: Controller) -> Iterator[None]:
        """Grasp, carry, turn with the slot, lower into it."""
        yaw = self._socket_at(robot.plan.place).yaw
        yield from robot.grasp()
        yield from robot.carry(yaw)
        yield from robot.put_down(0.0, yaw)

    def _socket_at(self, place: tuple[float, float]) -> Socket:
        return min(self.sockets, key=lambda s: np.hypot(s.x - place[0], s.y - place[1]))

    def place_of(self, position: Position) -> str:
        """Return the socket in or over which a point is, else 'table' or 'floor'."""
        if position[2] < -0.05:
            return FLOOR
        for socket in self.sockets:
            x, y = _in_frame(socket, position)
            if abs(x) <= SOCKET_HALF[0] and abs(y) <= SOCKET_HALF[1]:
                return socket.name
        return TABLE

    def rest_of(self, log: StateLog, item: int) -> str:
        """Return where a peg is at the end: in a slot, on top of one, leaning on a socket ..."""
        rest = super().rest_of(log, item)
        fallen = log.upright(item, -1) < _UPRIGHT and log.items[-1, item, 2] > _LEANING
        if rest == TABLE and fallen:
            return f'{_SIDE}{self._socket_at(_flat(log, item)).name}'
        if rest in (GRIPPER, TABLE, FLOOR) or _inserted(
            log, item, self._socket_at(_flat(log, item))
        ):
            return rest
        return f'{_EDGE}{rest}'

    def at(self, place: str) -> str:
        """Return 'in the blue socket', 'on top of ...', 'leaning on ...', 'on the table'."""
        if place.startswith(_SIDE):
            return f'leaning on the {place.removeprefix(_SIDE)}'
        return f'on {place}' if place.startswith(_EDGE) else super().at(place)

    def hard_contact(self, log: StateLog, sample: int, event: Event) -> Event:
        """Tell a peg that is pressed onto a socket from other collisions."""
        peg = self.target
        reach = float(np.linalg.norm(log.items[sample, peg] - log.tcp[sample]))
        held = log.closing[sample] and reach < _HELD
        place = self.place_of(log.items[sample, peg])
        above = log.items[sample, peg, 2] - _HEIGHT / 2 > SOCKET_HEIGHT - 0.01
        if not (held and above) or place in (TABLE, FLOOR) or log.struck[sample] not in (-1, peg):
            return event
        turn = log.item_yaw(peg, sample) - self._socket_at(_flat(log, peg, sample)).yaw
        return replace(
            event,
            kind=EventKind.JAMMED,
            place=place,
            furniture=True,
            offset=self.goal_offset(log, sample),
            turn=float((turn + np.pi / 2) % np.pi - np.pi / 2),
        )


def _flat(log: StateLog, item: int, sample: int = -1) -> tuple[float, float]:
    return float(log.items[sample, item, 0]), float(log.items[sample, item, 1])


def _in_frame(socket: Socket, position: Position) -> tuple[float, float]:
    """Return a point in the socket's own frame, metres."""
    dx, dy = float(position[0]) - socket.x, float(position[1]) - socket.y
    c, s = np.cos(socket.yaw), np.sin(socket.yaw)
    return float(c * dx + s * dy), float(c * dy - s * dx)


def _inserted(log: StateLog, item: int, socket: Socket) -> bool:
    """Tell whether a peg stands in a slot at the end."""
    x, y = _flat(log, item)
    return bool(
        np.hypot(x - socket.x, y - socket.y) < _INSIDE
        and log.items[-1, item, 2] < _HEIGHT / 2 + _SUNK
        and log.upright(item, -1) > _UPRIGHT
    )
