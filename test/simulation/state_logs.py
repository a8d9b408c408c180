# SPDX-License-Identifier: Apache-2.0
"""State logs written by hand, on which the judge is tried."""

import numpy as np

from armor_ros.simulation.scene import SHAPES
from armor_ros.simulation.statelog import StateLog
from armor_ros.simulation.tasks import Task

TICK_NS = 20_000_000


def still(task: Task, samples: int) -> StateLog:
    """A log in which nothing happens to the task's items; the open gripper is far away."""
    centers = [(i.x, i.y, i.z + SHAPES[i.shape].height / 2) for i in task.items]
    count = len(centers)
    return StateLog(
        times_ns=np.arange(samples, dtype=np.int64) * TICK_NS,
        items=np.repeat(np.array(centers)[None], samples, axis=0),
        quats=np.tile([1.0, 0.0, 0.0, 0.0], (samples, count, 1)),
        touched=np.zeros((samples, count, 2), dtype=bool),
        meets=np.zeros((samples, count, count), dtype=bool),
        leans=np.ones((samples, count), dtype=bool),
        lids=np.zeros((samples, count)),
        width=np.full(samples, 0.08),
        closing=np.zeros(samples, dtype=bool),
        tcp=np.tile([0.3, 0.0, 0.5], (samples, 1)),
        yaw=np.zeros(samples),
        joints=np.zeros((samples, 7)),
        articulated=np.zeros((samples, 0)),
        blow=np.zeros(samples),
        struck=np.full(samples, -1, dtype=np.int64),
        places=np.full((samples, 3, 1 + count, 2), np.nan),
    )
