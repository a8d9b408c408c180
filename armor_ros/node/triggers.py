# SPDX-License-Identifier: Apache-2.0
"""What tells the monitor of tasks: the status topics of actions, found in the graph by glob."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from action_msgs.msg import GoalStatusArray
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription

from armor_ros.episodes.goal_tracker import GoalState
from armor_ros.node.conversions import goals_from_message

STATUS_TYPE = 'action_msgs/msg/GoalStatusArray'
STATUS_SUFFIX = '/_action/status'

# Reliable and transient local, as action servers publish it: a goal that ends while the
# subscription is still being matched is only recoverable so. The depth lets many short goals
# follow each other within one turn of the executor.
STATUS_QOS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=100,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


class ActionWatch:
    """
    Subscribes to the status topic of every action in the graph that ``watches`` accepts.

    ``on_status(action, goals)`` gets each array. ``refresh`` is to be called about once a second.
    """

    def __init__(
        self,
        node: LifecycleNode,
        watches: Callable[[str], bool],
        on_status: Callable[[str, Sequence[GoalState]], None],
    ) -> None:
        self._node = node
        self._watches = watches
        self._on_status = on_status
        self._subscriptions: dict[str, Subscription] = {}

    @property
    def actions(self) -> list[str]:
        """The actions that are watched, sorted."""
        return sorted(self._subscriptions)

    def refresh(self) -> None:
        """Look for new actions; one that was seen once stays, since its server may come back."""
        for topic, types in self._node.get_topic_names_and_types():
            if STATUS_TYPE not in types or not topic.endswith(STATUS_SUFFIX):
                continue
            action = topic[: -len(STATUS_SUFFIX)]
            if action not in self._subscriptions and self._watches(action):
                self._subscribe(action, topic)

    def _subscribe(self, action: str, topic: str) -> None:
        def receive(message: GoalStatusArray) -> None:
            self._on_status(action, goals_from_message(message))

        self._subscriptions[action] = self._node.create_subscription(
            GoalStatusArray, topic, receive, STATUS_QOS
        )
        self._node.get_logger().info(f'watching action {action}')

    def close(self) -> None:
        """Drop all subscriptions."""
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
