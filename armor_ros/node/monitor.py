# SPDX-License-Identifier: Apache-2.0
"""The monitor: a lifecycle node that answers every task's end with a FailureReport."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.timer import Timer

from armor_msgs.msg import FailureReport
from armor_msgs.msg import TaskEvent as TaskEventMessage
from armor_ros.episodes.config_hash import config_hash
from armor_ros.episodes.diagnosis import ReportStatus
from armor_ros.episodes.goal_tracker import GoalState
from armor_ros.episodes.recorder import EpisodeRecorder
from armor_ros.errors import ArmorError
from armor_ros.node import reports
from armor_ros.node.cameras import CameraSubscription, deserialize
from armor_ros.node.conversions import event_from_message, image_from_message
from armor_ros.node.declaration import declare, watch_changes
from armor_ros.node.evidence import EvidencePublisher
from armor_ros.node.health import DiagnosticsPublisher, Shield
from armor_ros.node.inspection import inspect
from armor_ros.node.services import ReportServices
from armor_ros.node.triggers import ActionWatch
from armor_ros.node.verify import VerifyServer
from armor_ros.parameters import MonitorParameters
from armor_ros.serving.client import ClientEvent
from armor_ros.serving.desk import Outcome, Progress, TaskDesk
from armor_ros.serving.managed import ManagedInference, ServerSettings

REPORT_QOS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=10,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
# Deep enough for a burst of task ends between two turns of the executor.
EVENT_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
TICK_SECONDS = 0.05
GRAPH_SECONDS = 0.5
DIAGNOSTICS_SECONDS = 1.0


class Monitor(LifecycleNode):
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
        self._wake = self.create_guard_condition(self.shield(self._drain_events))
        self.is_active = False
        self.cameras: list[CameraSubscription] = []
        self.last_message_ns: dict[str, int] = {}
        self.clock_moved_ns = 0
        self._last_now_ns = -1
        self._periodic: list[Timer] = []
        watch_changes(self)

    # -- transitions ------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters and create topics, services and timers; no model yet."""
        return self._guarded('configure', self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start inference, and take frames and tasks from now on."""
        return self._guarded('activate', self._activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Answer what is open with CANCELED, and free the model."""
        return self._guarded('deactivate', self._deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Drop all that configuring made."""
        return self._guarded('clean up', self._cleanup)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Leave from any state."""
        return self._guarded('shut down', self._shutdown)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Return to unconfigured after an error in a transition."""
        return self._guarded('recover', self._shutdown)

    def _guarded(self, what: str, transition: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            transition()
        except ArmorError as error:
            self.get_logger().error(f'cannot {what}: {error}')
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # an illegal state must not take the process down
            self.get_logger().error(f'cannot {what}: {type(error).__name__}: {error}')
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
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
        self.recorder = EpisodeRecorder(parameters.episode_settings(), cameras)
        self.cameras = [
            CameraSubscription(self, camera, self.shield(self._on_image)) for camera in cameras
        ]
        self.last_message_ns = {camera.name: time.monotonic_ns() for camera in cameras}
        self._actions = ActionWatch(self, self._watches, self.shield(self._on_status))
        self._evidence = EvidencePublisher(self, parameters, REPORT_QOS)
        self._history = reports.ReportHistory(parameters.report_history)
        self._report_publisher = self.create_publisher(
            FailureReport, 'armor/failure_report', REPORT_QOS
        )
        self._event_subscription = self.create_subscription(
            TaskEventMessage, 'armor/task_event', self.shield(self._on_task_event), EVENT_QOS
        )
        self._diagnostics = DiagnosticsPublisher(self)
        self._report_services = ReportServices(self, self._history)
        self._verify = VerifyServer(self)
        self._periodic = [
            self.create_timer(period, self.shield(callback), clock=self._steady_clock)
            for period, callback in (
                (TICK_SECONDS, self._on_tick),
                (GRAPH_SECONDS, self._on_graph),
                (DIAGNOSTICS_SECONDS, self._on_diagnostics),
            )
        ]
        self._on_graph()

    def _activate(self) -> None:
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
            ),
            on_event=self._on_client_event,
            log=self._log_child,
            queue_size=parameters.queue_size,
            timeout=parameters.timeout,
        )
        self.desk = TaskDesk(
            self.recorder,
            self.inference.client,
            lambda: self.parameters.refinement_settings(),
            time.monotonic_ns,
            self._on_outcome,
            self._on_progress,
            wait_seconds=parameters.post_roll + parameters.settle,
        )
        self.inference.start()
        self.is_active = True

    def _deactivate(self) -> None:
        self.is_active = False
        self.desk.close()
        self.inference.close()
        self.recorder.reset()

    def _cleanup(self) -> None:
        for timer in self._periodic:
            self.destroy_timer(timer)
        self._periodic = []
        for camera in self.cameras:
            camera.close()
        self.cameras = []
        self._actions.close()
        self._report_services.close()
        self._verify.close()
        self._diagnostics.close()
        self.destroy_subscription(self._event_subscription)
        self.destroy_publisher(self._report_publisher)
        self._evidence.close()

    def _shutdown(self) -> None:
        if self.is_active:
            self._deactivate()
        if self._periodic:
            self._cleanup()

    def release(self) -> None:
        """Leave the inference process and all topics, before the node is destroyed."""
        self._shutdown()

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
        return action != self._verify.name and self.parameters.episode_settings().watches(action)

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

    def _on_client_event(self, event: ClientEvent) -> None:
        """Take an event in the client's thread, and wake the executor for it."""
        self._events.put(event)
        self._wake.trigger()

    def _drain_events(self) -> None:
        while not self._events.empty():
            event = self._events.get()
            if self.is_active:
                self.desk.handle(event)

    def _on_tick(self) -> None:
        now = self.now_ns()
        if now != self._last_now_ns:
            self._last_now_ns, self.clock_moved_ns = now, time.monotonic_ns()
        if self.is_active:
            self._drain_events()
            self.desk.tick(now)

    def _on_graph(self) -> None:
        for camera in self.cameras:
            camera.refresh()
        self._actions.refresh()

    def _on_diagnostics(self) -> None:
        self._diagnostics.publish(inspect(self), self.now_ns())

    def _log_child(self, line: str) -> None:
        self.get_logger().info(f'[inference] {line}')

    # -- what goes out ----------------------------------------------------------------------

    def _on_progress(self, progress: Progress) -> None:
        self._verify.progress(progress)
        if progress.failure_probability is None or not self.parameters.provisional:
            return
        report = reports.provisional_report(
            progress.episode, progress.failure_probability, self.now_ns(), reports.Timing()
        )
        self._publish(report)

    def _on_outcome(self, outcome: Outcome) -> None:
        timing = reports.Timing(outcome.queue_ns, outcome.inference_ns, outcome.total_ns)
        now = self.now_ns()
        try:
            report = self._report_of(outcome, now, timing)
        except Exception as error:  # a report that cannot be made is a report all the same
            text = f'internal error: {type(error).__name__}: {error}'
            status = ReportStatus.MODEL_ERROR
            report = reports.unknown_report(outcome.episode, status, text, now, timing)
        report.evidence_uri = self._evidence.show(outcome.episode)
        self._publish(report)
        self._verify.finish(report)

    def _report_of(self, outcome: Outcome, now_ns: int, timing: reports.Timing) -> FailureReport:
        diagnosis = outcome.diagnosis
        if diagnosis is None:
            return reports.unknown_report(
                outcome.episode, outcome.status, outcome.text, now_ns, timing
            )
        digest = config_hash(
            self.parameters.episode_settings(), diagnosis.settings, diagnosis.model
        )
        return reports.diagnosis_report(outcome.episode, diagnosis, digest, now_ns, timing)

    def _publish(self, report: FailureReport) -> None:
        self._history.add(report)
        self._report_publisher.publish(report)
        self.get_logger().info(reports.one_line(report))
