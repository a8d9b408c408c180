# SPDX-License-Identifier: Apache-2.0
"""The tasks of the cell, one class and one file each; importing this enters all in ``TASKS``."""

from armor_ros.simulation.tasks.base import TASKS, Task
from armor_ros.simulation.tasks.insert_peg import InsertPeg
from armor_ros.simulation.tasks.open_drawer import OpenDrawer
from armor_ros.simulation.tasks.pick_and_lift import PickAndLift
from armor_ros.simulation.tasks.push_to_target import PushToTarget
from armor_ros.simulation.tasks.put_into_container import PutIntoContainer
from armor_ros.simulation.tasks.stack import Stack
from armor_ros.simulation.tasks.transport import Order, Transport

__all__ = [
    'TASKS',
    'InsertPeg',
    'OpenDrawer',
    'Order',
    'PickAndLift',
    'PushToTarget',
    'PutIntoContainer',
    'Stack',
    'Task',
    'Transport',
]
