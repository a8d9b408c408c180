# SPDX-License-Identifier: Apache-2.0
"""What goes out on each task: provisional reports if wanted, the picture, the final report."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from armor_msgs.msg import FailureReport
from armor_ros.episodes.config_hash import config_hash
from armor_ros.episodes.diagnosis import Diagnosis, ReportStatus
from armor_ros.episodes.episode import Episode
from armor_ros.node import reports
from armor_ros.node.evidence import EvidencePublisher
from armor_ros.node.verify import VerifyServer
from armor_ros.serving.outcome import Outcome, Progress

if TYPE_CHECKING:
    from armor_ros.node.monitor import Monitor

REPORT_QOS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=10,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


class Reporter:
    """
    Publishes FailureReports, and gives them to the history and to who waits in VerifyTask.

    A final report names its picture, so that it goes out when that is drawn: ``publish_finished``
    is to be called then, and from time to time.
    """

    def __init__(self, node: Monitor) -> None:
        self.history = reports.ReportHistory(node.parameters.report_history)
        self.verify = VerifyServer(node)
        self._node = node
        self._publisher = node.create_publisher(FailureReport, 'armor/failure_report', REPORT_QOS)
        self._evidence = EvidencePublisher(node, node.parameters, REPORT_QOS, node.wake)
        # Outcomes whose picture is being drawn, and since when (steady clock).
        self._finished: deque[tuple[Outcome, int]] = deque()

    def progress(self, progress: Progress) -> None:
        """Take news of a task."""
        # The model works in another process now, and there is time to draw.
        self._evidence.draw(progress.episode)
        self.verify.progress(progress)
        wanted, now = self._node.parameters.provisional_reports, self._node.now_ns()
        timing = reports.Timing(progress.queue_ns, progress.inference_ns, progress.total_ns)
        if wanted != 'none' and progress.failure_probability is not None:
            probability = progress.failure_probability
            self._publish(reports.provisional_report(progress.episode, probability, now, timing))
        elif wanted == 'rounds' and progress.diagnosis is not None:
            report = self._report_of(progress.episode, progress.diagnosis, now, timing)
            report.provisional = True
            self._publish(report)

    def finish(self, outcome: Outcome) -> None:
        """Take the end of a task; its report goes out as soon as there is its picture."""
        self._evidence.draw(outcome.episode)
        self._finished.append((outcome, time.monotonic_ns()))
        self.publish_finished()

    def publish_finished(self, *, wait: bool = False) -> None:
        """Publish the reports whose pictures are drawn, or all if told to ``wait`` for them."""
        while self._finished and (wait or self._evidence.is_drawn(self._finished[0][0].episode)):
            outcome, since = self._finished.popleft()
            uri = self._evidence.show(outcome.episode)
            report = self._final_report(outcome, time.monotonic_ns() - since)
            report.evidence_uri = uri
            self._publish(report)
            self.verify.finish(report)

    def close(self) -> None:
        """Drop the topics and the action."""
        self.verify.close()
        self._evidence.close()
        self._node.destroy_publisher(self._publisher)

    def _final_report(self, outcome: Outcome, waited_ns: int) -> FailureReport:
        now, total_ns = self._node.now_ns(), outcome.total_ns + waited_ns
        timing = reports.Timing(outcome.queue_ns, outcome.inference_ns, total_ns)
        status, text = outcome.status, outcome.text
        try:
            if outcome.diagnosis is not None:
                return self._report_of(outcome.episode, outcome.diagnosis, now, timing)
        except Exception as error:  # a report that cannot be made is a report all the same
            text = f'internal error: {type(error).__name__}: {error}'
            status = ReportStatus.MODEL_ERROR
        return reports.unknown_report(outcome.episode, status, text, now, timing)

    def _report_of(
        self, episode: Episode, diagnosis: Diagnosis, now_ns: int, timing: reports.Timing
    ) -> FailureReport:
        digest = config_hash(
            self._node.parameters.episode_settings(), diagnosis.settings, diagnosis.model
        )
        return reports.diagnosis_report(episode, diagnosis, digest, now_ns, timing)

    def _publish(self, report: FailureReport) -> None:
        self.history.add(report)
        self._publisher.publish(report)
        self._node.get_logger().info(reports.one_line(report))
