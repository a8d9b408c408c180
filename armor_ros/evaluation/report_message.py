# SPDX-License-Identifier: Apache-2.0
"""A line of predictions.jsonl as the messages that the live node would have published."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from armor_ros.datasets.bags import COMPRESSED_TYPE, TASK_EVENT_TYPE
from armor_ros.datasets.typestore import armor_types
from armor_ros.episodes.diagnosis import ReportStatus, Verdict
from armor_ros.episodes.task import TaskPhase, TaskStatus
from armor_ros.evaluation.lines import Line

REPORT_TYPE = 'armor_msgs/msg/FailureReport'
LOG_TYPE = 'rcl_interfaces/msg/Log'
NOT_COMPUTED = -1.0

_SECOND = 1_000_000_000
_LATEST_NS = (2**31 - 1) * _SECOND
_MOST_TEXT = 2000
_INFO, _WARN, _ERROR = 20, 30, 40
_LEVELS = {'SUCCESS': _INFO, 'FAILURE': _ERROR, 'ABSTAIN': _WARN, 'UNKNOWN': _WARN}


def failure_report(line: Line) -> bytes:
    """
    Return the FailureReport of a line, serialized; its label, if it has one, is in ``extra``.

    The stamp is the task's end. What a line does not know (the queue, for one) is zero.
    """
    settings, model = line.get('settings') or {}, line.get('model') or {}
    timing = line.get('timing') or {}
    seconds = _number(timing.get('inference_seconds'), 0.0)
    probability = _number(line.get('failure_probability'), 0.5)
    report = _new(
        REPORT_TYPE,
        header=_header(line.get('task_end_ns')),
        task=_task(line),
        task_start=_time(line.get('task_start_ns')),
        verdict=int(Verdict[line['verdict']]),
        status=int(_member(ReportStatus, line.get('status'), ReportStatus.OK)),
        status_text=_text(line.get('status_text')),
        provisional=False,
        failure_probability=probability if line['verdict'] != 'UNKNOWN' else 0.5,
        calibrated=bool(line.get('calibrated')),
        target_error=_number(line.get('target_error'), 0.0),
        **_entropies(line),
        explanation=_text(line.get('explanation')),
        disagrees_with_status=bool(line.get('disagrees_with_status')),
        rounds=_whole(line.get('rounds'), 255),
        trajectories=_whole(line.get('trajectories'), 255),
        temperature=_number(line.get('temperature', settings.get('temperature')), 0.0),
        trace=[_round(answer) for answer in line.get('trace') or []],
        selected=_whole(line.get('selected'), 255),
        cameras=[_camera(camera) for camera in line.get('cameras') or []],
        clip_start=_time(line.get('clip_start_ns')),
        clip_end=_time(line.get('clip_end_ns')),
        truncated=bool(line.get('truncated')),
        evidence_uri=_text(line.get('evidence')),
        model_id=_text(model.get('model_id')),
        model_revision=_text(model.get('revision')),
        weights_hash=_text(model.get('weights_hash')),
        quantization=_text(model.get('quantization')),
        config_hash=_text(line.get('config_hash')),
        queue_time=_duration(0),
        inference_time=_duration(round(seconds * _SECOND)),
        total_time=_duration(round(seconds * _SECOND)),
        extra=[_pair(key, value) for key, value in _extra(line)],
    )
    return _bytes(report, REPORT_TYPE)


def verdict_log(line: Line) -> bytes:
    """Return a sentence on a line as a log message, an error where the task failed."""
    message = _new(
        LOG_TYPE,
        stamp=_time(line.get('task_end_ns')),
        level=_LEVELS[line['verdict']],
        name=_text(line.get('task_name') or line['source']),
        msg=_text(sentence(line)),
        file='',
        function='',
        line=0,
    )
    return _bytes(message, LOG_TYPE)


def evidence_picture(line: Line, jpeg: bytes) -> bytes:
    """Return the evidence's JPEG as a CompressedImage, serialized."""
    message = _new(
        COMPRESSED_TYPE,
        header=_header(line.get('task_end_ns')),
        format='jpeg',
        data=np.frombuffer(jpeg, np.uint8),
    )
    return _bytes(message, COMPRESSED_TYPE)


def sentence(line: Line) -> str:
    """Return what a person wants to read of a line while the cameras play."""
    task = line.get('instruction') or line.get('task_name') or line['task_id']
    told = f'{line["verdict"]}: {task}'
    probability = line.get('failure_probability')
    facts = [] if probability is None else [f'probability of failure {probability:.2f}']
    facts.append(f'the robot said {line.get("task_status") or "UNKNOWN"}')
    if line['label']:
        facts.append(f'the label says {line["label"]}')
    words = line.get('explanation') or line.get('status_text') or ''
    return f'{told} ({", ".join(facts)})' + (f'. {words}' if words else '')


def _task(line: Line) -> Any:
    context = line.get('context') or {}
    status = _member(TaskStatus, line.get('task_status'), TaskStatus.UNKNOWN)
    return _new(
        TASK_EVENT_TYPE,
        header=_header(line.get('task_end_ns')),
        phase=int(TaskPhase.END),
        task_id=_text(line['task_id']),
        task_name=_text(line.get('task_name')),
        instruction=_text(line.get('instruction')),
        status=int(status),
        status_message=_text(line.get('task_status_message')),
        cameras=[],
        context=[_pair(key, value) for key, value in context.items()],
    )


def _extra(line: Line) -> list[tuple[str, str]]:
    label = line['label']
    model = line.get('model') or {}
    pairs = []
    if 'trained' in model:
        pairs.append(('model_trained', str(bool(model['trained'])).lower()))
    if label is not None:
        pairs.append(('label', label))
        pairs.append(('label_source', str(line.get('label_source') or '')))
        if line.get('label_explanation'):
            pairs.append(('label_explanation', line['label_explanation']))
    return pairs


def _round(answer: Line) -> Any:
    return _new(
        'armor_msgs/msg/RefinementRound',
        round=_whole(answer['round'], 255),
        trajectory=_whole(answer['trajectory'], 255),
        failure_probability=_number(answer['failure_probability'], 0.5),
        failed=bool(answer['failed']),
        explanation=_text(answer['explanation']),
        **_entropies(answer),
        best=bool(answer['best']),
    )


def _entropies(values: Line) -> dict[str, float]:
    names = ('detection_entropy', 'explanation_entropy', 'combined_entropy')
    return {name: _number(values.get(name), NOT_COMPUTED) for name in names}


def _camera(camera: Line) -> Any:
    counts = ('frames_seen', 'frames_used', 'frames_undecodable')
    return _new(
        'armor_msgs/msg/CameraEvidence',
        camera=_text(camera['camera']),
        topic=_text(camera.get('topic')),
        **{name: _whole(camera.get(name), 2**32 - 1) for name in counts},
        first_stamp=_time(camera.get('first_stamp_ns')),
        last_stamp=_time(camera.get('last_stamp_ns')),
        largest_gap=_duration(camera.get('largest_gap_ns')),
    )


def _new(kind: str, **fields: Any) -> Any:
    return armor_types().types[kind](**fields)


def _bytes(message: Any, kind: str) -> bytes:
    return bytes(armor_types().serialize_cdr(message, kind))


def _header(stamp_ns: int | None) -> Any:
    return _new('std_msgs/msg/Header', stamp=_time(stamp_ns), frame_id='')


def _time(stamp_ns: int | None) -> Any:
    sec, nanosec = divmod(_whole(stamp_ns, _LATEST_NS), _SECOND)
    return _new('builtin_interfaces/msg/Time', sec=sec, nanosec=nanosec)


def _duration(span_ns: int | None) -> Any:
    sec, nanosec = divmod(_whole(span_ns, _LATEST_NS), _SECOND)
    return _new('builtin_interfaces/msg/Duration', sec=sec, nanosec=nanosec)


def _pair(key: object, value: object) -> Any:
    return _new('diagnostic_msgs/msg/KeyValue', key=_text(key), value=_text(value))


def _member(kind: Any, name: object, otherwise: Any) -> Any:
    return kind.__members__.get(str(name), otherwise)


def _text(value: object) -> str:
    """Return a text that a message can hold: no more than it may, no half characters, no NUL."""
    text = '' if value is None else str(value)[:_MOST_TEXT]
    return text.encode('utf-8', 'replace').decode().replace('\0', ' ')


def _number(value: Any, otherwise: float) -> float:
    return float(value) if value is not None and math.isfinite(value) else otherwise


def _whole(value: Any, most: int) -> int:
    return min(max(int(value or 0), 0), most)
