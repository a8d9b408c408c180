# SPDX-License-Identifier: Apache-2.0
"""The VerifyTask action: a behaviour tree asks whether a task was done, and waits."""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.task import Future

from armor_msgs.action import VerifyTask
from armor_msgs.msg import FailureReport
from armor_ros.episodes.task import TaskEvent, TaskPhase, clean_task_id
from armor_ros.node.conversions import event_from_message, rounds_to_messages, to_nanoseconds
from armor_ros.serving.outcome import Progress

if TYPE_CHECKING:
    from armor_ros.node.monitor import Monitor

SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Waiting:
    goal: ServerGoalHandle
    report: Future


class VerifyServer:
    """Serves ``armor/verify``; each accepted goal ends with the report of its task."""

    def __init__(self, node: Monitor) -> None:
        self._node = node
        self._waiting: dict[str, _Waiting] = {}
        self._server = ActionServer(
            node,
            VerifyTask,
            'armor/verify',
            execute_callback=self._execute,
            goal_callback=self._accept,
            cancel_callback=self._cancel,
        )
        self.name = node.resolve_topic_name('armor/verify')

    def close(self) -> None:
        """Drop the action server."""
        self._server.destroy()

    def progress(self, progress: Progress) -> None:
        """Tell the client of a task, if there is one, how far its answer is."""
        waiting = self._waiting.get(progress.episode.task.task_id)
        if waiting is None or progress.failure_probability is not None:
            return
        waiting.goal.publish_feedback(
            VerifyTask.Feedback(
                state=VerifyTask.Feedback.INFERRING, rounds=rounds_to_messages(progress.rounds)
            )
        )

    def finish(self, report: FailureReport) -> None:
        """Give the client of a task, if there is one, its report."""
        waiting = self._waiting.pop(report.task.task_id, None)
        if waiting is not None:
            waiting.report.set_result(report)

    def _accept(self, request: VerifyTask.Goal) -> GoalResponse:
        task_id = request.task.task_id and clean_task_id(request.task.task_id)
        if not self._node.is_active:
            self._node.get_logger().warning('verify: refused, the monitor is not active')
            return GoalResponse.REJECT
        if task_id and task_id in self._waiting:
            self._node.get_logger().warning(f'verify: refused, {task_id!r} is being verified')
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _cancel(self, goal: ServerGoalHandle) -> CancelResponse:
        for task_id, waiting in self._waiting.items():
            if waiting.goal.goal_id == goal.goal_id:
                self._node.desk.cancel(task_id)
        return CancelResponse.ACCEPT

    async def _execute(self, goal: ServerGoalHandle) -> VerifyTask.Result:
        event, start_ns = self._task_of(goal.request)
        waiting = _Waiting(goal, Future())
        self._waiting[event.task_id] = waiting
        goal.publish_feedback(VerifyTask.Feedback(state=VerifyTask.Feedback.COLLECTING))
        if event.task_id in self._node.recorder.open_tasks:
            self._node.desk.task_event(event, self._node.now_ns())
        else:
            self._node.desk.window(event, start_ns)
        report = await waiting.report
        if goal.is_cancel_requested:
            goal.canceled()
        else:
            goal.succeed()
        return VerifyTask.Result(report=report)

    def _task_of(self, request: VerifyTask.Goal) -> tuple[TaskEvent, int]:
        """Return the END event that the goal means, and the start of its clip."""
        message = request.task
        message.phase = int(TaskPhase.END)
        event = event_from_message(message)
        event = dataclasses.replace(
            event,
            task_id=clean_task_id(event.task_id or f'verify/{uuid.uuid4().hex}'),
            stamp_ns=event.stamp_ns or self._node.now_ns(),
        )
        window_ns = to_nanoseconds(request.window) or int(self._node.parameters.lookback * SECOND)
        start_ns = to_nanoseconds(request.start) or event.stamp_ns - window_ns
        return event, min(start_ns, event.stamp_ns)
