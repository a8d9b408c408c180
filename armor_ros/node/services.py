# SPDX-License-Identifier: Apache-2.0
"""The services: reports for who missed them, labels from who knows better."""

from __future__ import annotations

from typing import TYPE_CHECKING

from armor_msgs.srv import GetReport, LabelTask
from armor_ros.episodes.storage import LabelLog
from armor_ros.episodes.task import MAX_TEXT_LENGTH, clean_task_id, clean_text
from armor_ros.errors import ArmorError
from armor_ros.node.conversions import to_nanoseconds
from armor_ros.node.declaration import data_folder
from armor_ros.node.reports import ReportHistory

if TYPE_CHECKING:
    from armor_ros.node.monitor import Monitor

LABELS = {LabelTask.Request.SUCCESS: 'success', LabelTask.Request.FAILURE: 'failure'}


class ReportServices:
    """Serves ``armor/get_report`` and ``armor/label_task``."""

    def __init__(self, node: Monitor, history: ReportHistory) -> None:
        self._node = node
        self._history = history
        self._labels = LabelLog(data_folder(node.parameters) / 'labels.jsonl')
        self._services = [
            node.create_service(GetReport, 'armor/get_report', self._get_report),
            node.create_service(LabelTask, 'armor/label_task', self._label_task),
        ]

    def close(self) -> None:
        """Drop the services."""
        for service in self._services:
            self._node.destroy_service(service)

    def _get_report(
        self, request: GetReport.Request, response: GetReport.Response
    ) -> GetReport.Response:
        response.reports = self._history.find(
            request.task_id, max(1, request.max_count), request.include_provisional
        )
        if not response.reports:
            of_task = f' of task {request.task_id!r}' if request.task_id else ''
            response.message = (
                f'no report{of_task}; {len(self._history)} reports are kept, '
                f'{self._node.parameters.report_history} at most'
            )
        return response

    def _label_task(
        self, request: LabelTask.Request, response: LabelTask.Response
    ) -> LabelTask.Response:
        try:
            response.record_uri = self._store_label(request)
            response.success = True
        except ArmorError as error:
            response.message = str(error)
        return response

    def _store_label(self, request: LabelTask.Request) -> str:
        if request.label not in LABELS:
            raise ArmorError(f'label is {request.label}; it must be SUCCESS (1) or FAILURE (2)')
        if len(request.explanation) > MAX_TEXT_LENGTH:
            raise ArmorError(
                f'the explanation has {len(request.explanation)} characters; at most '
                f'{MAX_TEXT_LENGTH} are taken: shorten it'
            )
        known = self._history.find(request.task_id) if request.task_id else []
        if not known:
            raise ArmorError(
                f'no report of task {request.task_id!r} is kept; ask get_report for the ids'
            )
        report = known[0]
        record = {
            'task_id': clean_task_id(request.task_id),
            'label': LABELS[request.label],
            'explanation': clean_text(request.explanation),
            'annotator': clean_text(request.annotator)[:128],
            'labelled_at_ns': self._node.now_ns(),
            'instruction': report.task.instruction,
            'task_name': report.task.task_name,
            'robot_status': report.task.status,
            'verdict': report.verdict,
            'failure_probability': report.failure_probability,
            'clip_start_ns': to_nanoseconds(report.clip_start),
            'clip_end_ns': to_nanoseconds(report.clip_end),
            'evidence_uri': report.evidence_uri,
        }
        return self._labels.append(record).as_uri()
