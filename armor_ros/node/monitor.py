# SPDX-License-Identifier: Apache-2.0
"""The monitor: a lifecycle node that answers every task's end with a FailureReport."""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence

from rclpy.clock import Clock, ClockType
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.timer import Timer

from armor_msgs.msg import TaskEvent as TaskEventMessage
from armor_ros.episodes.goal_tracker import GoalState
from armor_ros.episodes.recorder import EpisodeRecorder
from armor_ros.errors import ArmorError
from armor_ros.node.cameras import CameraSubscription, deserialize
from armor_ros.node.conversions import event_from_message, image_from_message
from armor_ros.node.declaration import declare, watch_changes
from armor_ros.node.health import DiagnosticsPublisher, Shield
from armor_ros.node.inspection import inspect
from armor_ros.node.lifecycle import GuardedLifecycleNode
from armor_ros.node.reporter import Reporter
from armor_ros.node.services import ReportServices
from armor_ros.node.triggers import ActionWatch
from armor_ros.parameters import BUNDLED, MonitorParameters
from armor_ros.serving.desk import TaskDesk
from armor_ros.serving.events import ClientEvent
from armor_ros.serving.managed import ManagedInference, ServerSettings

# Deep enough for a burst of task ends between two turns of the executor.
EVENT_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
TICK_SECONDS = 0.05
GRAPH_SECONDS = 0.5
DIAGNOSTICS_SECONDS = 1.0


class Monitor(GuardedLifecycleNode):
    """
    Watches cameras and tasks, and publishes what really happened.

    Configured: parameters are read, topics are looked for. Active: frames and tasks are recorded
    and answered; the model lives from activation to deactivation. All callbacks run in one
    thread; the inference client's events are brought into it by a guard condition.
    """

    def __init__(self, **node_arguments: object) -> None:
        super().__init__('armor_monitor', **node_arguments)
        self.parameters: MonitorParameters = declare(self)
        self._steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._events: queue.SimpleQueue[ClientEvent] = queue.SimpleQueue()
        self.shield = Shield(self)
        self._news = self.create_guard_condition(self.shield(self._take_news))
        self.is_active = False
        self.cameras: list[CameraSubscription] = []
        self.last_message_ns: dict[str, int] = {}
        self.clock_moved_ns = 0
        self._last_now_ns = -1
        self._periodic: list[Timer] = []
        watch_changes(self)

    # -- transitions ------------------------------------------------------------------------

    def configure(self) -> None:
        """Read the parameters and create topics, services and timers; no model yet."""
        parameters = self.parameters
        cameras = parameters.camera_configs()
        if not cameras:
            raise ArmorError(
                'no cameras: set the parameter cameras to entries "name=topic", for instance '
                '"front=/front/image_raw/compressed"'
            )
        if not parameters.checkpoint and not parameters.server:
            raise ArmorError(
                'no model: set the parameter checkpoint to a checkpoint folder or a Qwen2.5-VL '
                'model name, or server to the "host:port" of an inference server'
            )
        if parameters.checkpoint == BUNDLED and not parameters.server:
            self.get_logger().warning(
                f'the model {BUNDLED} has seen the robot of "armor simulate" and nothing else; '
                'what it says of another means nothing. Set the parameter checkpoint to a model '
                'that was trained for yours'
            )
        self.recorder = EpisodeRecorder(parameters.episode_settings(), cameras, stacked=False)
        self.cameras = [
            CameraSubscription(self, camera, self.shield(self._on_image)) for camera in cameras
        ]
        self.last_message_ns = {camera.name: time.monotonic_ns() for camera in cameras}
        self._actions = ActionWatch(self, self._watches, self.shield(self._on_status))
        self._reporter = Reporter(self)
        self._event_subscription = self.create_subscription(
            TaskEventMessage, 'armor/task_event', self.shield(self._on_task_event), EVENT_QOS
        )
        self._diagnostics = DiagnosticsPublisher(self)
        self._report_services = ReportServices(self, self._reporter.history)
        self._periodic = [
            self.create_timer(period, self.shield(callback), clock=self._steady_clock)
            for period, callback in (
                (TICK_SECONDS, self._on_tick),
                (GRAPH_SECONDS, self._on_graph),
                (DIAGNOSTICS_SECONDS, self._on_diagnostics),
            )
        ]
        self._on_graph()

    def activate(self) -> None:
        """Start inference, and take frames and tasks from now on."""
        parameters = self.parameters
        # Goals accepted before this moment are history; a simulated clock at 0 has not begun.
        self.recorder.reset(self.now_ns() or None)
        self.inference = ManagedInference(
            ServerSettings(
                checkpoint=parameters.checkpoint,
                quantization=parameters.quantization,
                device=parameters.device,
                interpreter=parameters.interpreter,
                server=parameters.server,
                token_file=parameters.token_file,
                max_streams=parameters.max_streams,
                stream_megabytes=parameters.stream_megabytes,
            ),
            on_event=self._on_client_event,
            log=self._log_child,
            queue_size=parameters.queue_size,
            timeout=parameters.timeout,
            usual_explanations=parameters.explanations(),
        )
        self.desk = TaskDesk(
            self.recorder,
            self.inference.client,
            lambda: self.parameters.refinement_settings(),
            time.monotonic_ns,
            self._reporter.finish,
            self._reporter.progress,
            wait_seconds=parameters.post_roll + parameters.settle,
        )
        self.inference.start()
        self.is_active = True

    def deactivate(self) -> None:
        """Answer what is open with CANCELED, and free the model."""
        self.is_active = False
        self.desk.close()
        self._reporter.publish_finished(wait=True)
        self.inference.close()
        self.recorder.reset()

    def clean_up(self) -> None:
        """Drop all that configuring made."""
        for timer in self._periodic:
            self.destroy_timer(timer)
        self._periodic = []
        for camera in self.cameras:
            camera.close()
        self.cameras = []
        self._actions.close()
        self._report_services.close()
        self._reporter.close()
        self._diagnostics.close()
        self.destroy_subscription(self._event_subscription)

    def shut_down(self) -> None:
        """Leave the inference process and all topics, from any state."""
        if self.is_active:
            self.deactivate()
        if self._periodic:
            self.clean_up()

    # -- what comes in ----------------------------------------------------------------------

    def now_ns(self) -> int:
        """Return the ROS clock in nanoseconds (0 while a simulated clock has not begun)."""
        return int(self.get_clock().now().nanoseconds)

    @property
    def is_configured(self) -> bool:
        """Whether the node is past its configuration, active or not."""
        return bool(self._periodic)

    @property
    def actions(self) -> list[str]:
        """The actions whose goals are tasks."""
        return self._actions.actions

    def _watches(self, action: str) -> bool:
        return action != self._reporter.verify.name and self.parameters.episode_settings().watches(
            action
        )

    def _on_image(self, camera: str, stamp_ns: int, serialized: bytes, message_type: type) -> None:
        self.last_message_ns[camera] = time.monotonic_ns()
        if not self.is_active:
            return
        now = self.now_ns()
        if not self.recorder.wants(camera, stamp_ns, now):
            return
        try:
            message = deserialize(serialized, message_type)
        except ValueError:
            self.recorder.add_undecodable(camera, stamp_ns, now)
            return
        self.desk.image(camera, stamp_ns, now, image_from_message(message))

    def _on_status(self, action: str, goals: Sequence[GoalState]) -> None:
        if self.is_active:
            self.desk.goal_status(action, goals, self.now_ns())

    def _on_task_event(self, message: TaskEventMessage) -> None:
        if not self.is_active:
            return
        try:
            self.desk.task_event(event_from_message(message), self.now_ns())
        except ArmorError as error:
            self.get_logger().warning(f'task event refused: {error}')

    def wake(self) -> None:
        """Have the executor look at what other threads brought; from any thread."""
        self._news.trigger()

    def _on_client_event(self, event: ClientEvent) -> None:
        """Take an event in the client's thread."""
        self._events.put(event)
        self.wake()

    def _take_news(self) -> None:
        while not self._events.empty():
            event = self._events.get()
            if self.is_active:
                self.desk.handle(event)
        if self.is_active:
            self._reporter.publish_finished()

    def _on_tick(self) -> None:
        now = self.now_ns()
        if now != self._last_now_ns:
            self._last_now_ns, self.clock_moved_ns = now, time.monotonic_ns()
        if self.is_active:
            self._take_news()
            self.desk.tick(now)

    def _on_graph(self) -> None:
        for camera in self.cameras:
            camera.refresh()
        self._actions.refresh()

    def _on_diagnostics(self) -> None:
        self._diagnostics.publish(inspect(self), self.now_ns())

    def _log_child(self, line: str) -> None:
        self.get_logger().info(f'[inference] {line}')
