# SPDX-License-Identifier: Apache-2.0
"""The tasks of the cell, one class and one file each; importing this enters all in ``TASKS``."""

from armor_ros.simulation.tasks.base import TASKS, Task
from armor_ros.simulation.tasks.transport import Order, Transport

__all__ = ['TASKS', 'Order', 'Task', 'Transport']
