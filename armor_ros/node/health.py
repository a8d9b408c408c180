# SPDX-License-Identifier: Apache-2.0
"""The node's health on /diagnostics: frames, tasks, inference. Never a task's verdict."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import ParamSpec

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile

from armor_ros.node.conversions import to_time

LEVELS = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR)
OK, WARN, ERROR = range(3)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of diagnostics: ``level`` is OK, WARN or ERROR."""

    name: str
    level: int
    message: str
    values: Mapping[str, object] = field(default_factory=dict)


Arguments = ParamSpec('Arguments')


class Shield:
    """
    Keeps an unforeseen error of one callback from ending the process that watches the robot.

    The error is logged with its traceback and counted; ``count`` and ``last`` go to diagnostics.
    """

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self.count = 0
        self.last = ''

    def __call__(self, callback: Callable[Arguments, None]) -> Callable[Arguments, None]:
        """Return the callback, shielded."""

        @functools.wraps(callback)
        def shielded(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
            try:
                callback(*args, **kwargs)
            except Exception as error:
                self.count += 1
                self.last = f'{type(error).__name__}: {error}'
                self._node.get_logger().error(traceback.format_exc())

        return shielded


class DiagnosticsPublisher:
    """
    Publishes findings as a DiagnosticArray, and logs a finding when its level changes.

    The topic is the absolute ``/diagnostics`` that aggregators listen to, whatever the node's
    namespace; the names of the findings carry the node's full name.
    """

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._publisher = node.create_publisher(
            DiagnosticArray, '/diagnostics', QoSProfile(depth=10)
        )
        self._levels: dict[str, int] = {}

    def publish(self, findings: Iterable[Finding], now_ns: int) -> None:
        """Publish all findings in one array."""
        array = DiagnosticArray()
        array.header.stamp = to_time(now_ns)
        name = self._node.get_fully_qualified_name().lstrip('/')
        for finding in findings:
            array.status.append(
                DiagnosticStatus(
                    level=LEVELS[finding.level],
                    name=f'{name}: {finding.name}',
                    message=finding.message,
                    hardware_id='armor',
                    values=[
                        KeyValue(key=key, value=str(value))
                        for key, value in finding.values.items()
                    ],
                )
            )
            self._log_change(finding)
        self._publisher.publish(array)

    def _log_change(self, finding: Finding) -> None:
        if self._levels.get(finding.name, OK) == finding.level:
            return
        self._levels[finding.name] = finding.level
        logger = self._node.get_logger()
        text = f'{finding.name}: {finding.message}'
        # separate call sites: rclpy refuses one site that logs at changing severities
        if finding.level == ERROR:
            logger.error(text)
        elif finding.level == WARN:
            logger.warning(text)
        else:
            logger.info(text)

    def close(self) -> None:
        """Drop the publisher."""
        self._node.destroy_publisher(self._publisher)
