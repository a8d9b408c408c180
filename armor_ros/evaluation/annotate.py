# SPDX-License-Identifier: Apache-2.0
"""
Recordings with their verdicts: the cameras as they were, and the report where each task ended.

A file is read and written message by message, so that long recordings need little memory.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from armor_ros.datasets.bag_reader import BagReader
from armor_ros.datasets.bag_writer import BagWriter
from armor_ros.datasets.bags import COMPRESSED_TYPE
from armor_ros.datasets.cameras import IMAGE_TYPES, choose_cameras, usual_order
from armor_ros.datasets.manifest import write_whole
from armor_ros.datasets.storage import RawMessage
from armor_ros.episodes.text import safe_file_name
from armor_ros.errors import ArmorError
from armor_ros.evaluation.evidence_file import evidence_path
from armor_ros.evaluation.foxglove import (
    EVIDENCE_TOPIC,
    REPORT_TOPIC,
    VERDICT_TOPIC,
    foxglove_layout,
)
from armor_ros.evaluation.lines import Line, read_lines
from armor_ros.evaluation.recording_clock import choose_clock, clock_time, log_time
from armor_ros.evaluation.report_message import (
    LOG_TYPE,
    REPORT_TYPE,
    evidence_picture,
    failure_report,
    verdict_log,
)
from armor_ros.evaluation.run_folder import RunFolder

ANNOTATED = 'annotated'
LAYOUT = 'foxglove_layout.json'

_SECOND = 1_000_000_000
# A task may end as long after the last message that was recorded.
_AFTER_END_NS = 60 * _SECOND
_MAX_PICTURE = 32 << 20

Progress = Callable[[str, float], None]


@dataclass
class AnnotationSummary:
    """Files that were written, and sentences on what was not, each with how often."""

    files: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def annotate_run(
    folder: Path,
    recordings: Mapping[str, Path] | None = None,
    on_progress: Progress | None = None,
) -> AnnotationSummary:
    """
    Write an annotated MCAP of every recording of a run, and a layout that shows them in Foxglove.

    ``recordings`` are paths by the names of sources in the run; None takes those that run.json
    names. ``on_progress`` is told a recording's name and how far it is, from 0 to 1. Raises
    ArmorError when nothing could be written, or a disk is full.
    """
    lines: dict[str, list[Line]] = {}
    summary = AnnotationSummary()
    for line in read_lines(folder):
        if line.get('source_kind', 'bag') == 'bag':
            lines.setdefault(line['source'], []).append(line)
        else:
            summary.left_out['tasks of data sets: there is no recording to annotate'] += 1
    paths = known_recordings(folder) if recordings is None else recordings
    cameras: Counter[str] = Counter()
    for name, file in _file_names(lines).items():
        path = paths.get(name)
        if path is None or not path.exists():
            where = f'at {path}' if path is not None else 'in run.json'
            summary.left_out[f'{name}: the recording is not there ({where}); give its path'] += 1
            continue
        try:
            target = folder / ANNOTATED / file
            topics = annotate_recording(path, lines[name], target, folder, on_progress)
        except ArmorError as error:
            summary.left_out[f'{name}: {error}'] += 1
            continue
        cameras.update(topics)
        summary.files.append(target)
    if not summary.files:
        raise ArmorError(
            'no recording was annotated: ' + ('; '.join(summary.left_out) or 'the run has none')
        )
    layout = json.dumps(foxglove_layout(_in_order(cameras)), indent=1, ensure_ascii=False)
    write_whole(folder / LAYOUT, f'{layout}\n')
    return summary


def known_recordings(folder: Path) -> dict[str, Path]:
    """Return the paths of the recordings that a run was made of, by name."""
    sources = RunFolder(folder).read().get('sources') or []
    return {
        str(source['name']): Path(str(source['path']))
        for source in sources
        if isinstance(source, dict) and source.get('kind') == 'bag'
    }


def annotate_recording(
    recording: Path,
    lines: Sequence[Line],
    output: Path,
    folder: Path,
    on_progress: Progress | None = None,
) -> list[str]:
    """
    Write the MCAP file ``output`` of one recording and its lines; return its camera topics.

    It has the messages of the cameras as they were recorded, and at each task's end its
    FailureReport, the evidence's picture from the run ``folder``, and a log message. Raises
    ArmorError when the recording cannot be read, or the file cannot be written.
    """
    unfinished = output.with_name(f'.{output.stem}.tmp')
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        with BagReader(recording) as reader:
            topics = _camera_topics(reader, lines)
            with BagWriter(unfinished) as writer:
                _copy(reader, writer, topics, _Annotations(lines, folder, reader), on_progress)
        written = next(unfinished.glob('*.mcap'), None) or next(unfinished.glob('.*.mcap'))
        written.replace(output)
    except OSError as error:
        raise ArmorError(f'cannot write {output}: {error.strerror or error}; make room') from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return list(topics)


def _copy(
    reader: BagReader,
    writer: BagWriter,
    topics: Mapping[str, str],
    annotations: _Annotations,
    on_progress: Progress | None,
) -> None:
    duration = max(1, reader.end_ns - reader.start_ns)
    for message in reader.messages({*topics, *annotations.topics}):
        annotations.advance(message, writer)
        if topics.get(message.topic) == message.type:
            writer.write_raw(message.topic, message.type, message.log_ns, bytes(message.data))
        if on_progress is not None:
            done = (message.log_ns - reader.start_ns) / duration
            on_progress(reader.path.name, min(1.0, max(0.0, done)))
    annotations.finish(writer)


class _Annotations:
    """
    The lines of a recording, written as soon as the recording has come to their tasks' ends.

    Ends are instants of the robot's clock, which may be the log's, /clock, or that of the
    cameras' stamps; it is the one whose times the ends lie in. Where that clock starts over, as
    in a simulation that was reset, lines come in the turn that they belong to.
    """

    def __init__(self, lines: Sequence[Line], folder: Path, reader: BagReader) -> None:
        self._waiting = deque(zip(_turns(lines), lines, strict=True))
        self._folder = folder
        self._log_ns = reader.start_ns
        self._read_clock = choose_clock(reader, [_end_of(line) for line in lines])
        self._turn = 0
        self._newest_ns = 0
        self.topics = {'/clock'} if self._read_clock is clock_time else set[str]()

    def advance(self, message: RawMessage, writer: BagWriter) -> None:
        """Write the lines whose tasks ended before a message."""
        now_ns = self._read_clock(message)
        if now_ns:
            if now_ns < self._newest_ns - _SECOND:
                self._turn += 1
                self._newest_ns = 0
            self._newest_ns = max(self._newest_ns, now_ns)
            while self._waiting and self._is_due(*self._waiting[0]):
                _, line = self._waiting.popleft()
                log_ns = message.log_ns
                if self._read_clock is log_time:
                    log_ns = max(self._log_ns, _end_of(line))
                self._write(line, log_ns, writer)
        self._log_ns = max(self._log_ns, message.log_ns)

    def _is_due(self, turn: int, line: Line) -> bool:
        if self._read_clock is log_time or turn == self._turn:
            return _end_of(line) <= self._newest_ns
        return turn < self._turn

    def finish(self, writer: BagWriter) -> None:
        """Write the lines that are left: their tasks ended with the recording."""
        while self._waiting:
            _, line = self._waiting.popleft()
            later = _end_of(line) - self._log_ns
            is_near = self._read_clock is log_time and 0 < later < _AFTER_END_NS
            self._write(line, self._log_ns + (later if is_near else 0), writer)

    def _write(self, line: Line, log_ns: int, writer: BagWriter) -> None:
        self._log_ns = max(self._log_ns, log_ns)
        writer.write_raw(REPORT_TOPIC, REPORT_TYPE, log_ns, failure_report(line))
        writer.write_raw(VERDICT_TOPIC, LOG_TYPE, log_ns, verdict_log(line))
        jpeg = _picture(evidence_path(self._folder, line))
        if jpeg:
            picture = evidence_picture(line, jpeg)
            writer.write_raw(EVIDENCE_TOPIC, COMPRESSED_TYPE, log_ns, picture)


def _camera_topics(reader: BagReader, lines: Sequence[Line]) -> dict[str, str]:
    """Return topic and type of the cameras that were looked at, else of those that there are."""
    used = {camera.get('topic') for line in lines for camera in line.get('cameras') or []}
    there = {
        topic.name: topic.type
        for topic in reader.topics
        if topic.type in IMAGE_TYPES and topic.serialization == 'cdr'
    }
    used = used & set(there) or {camera.topic for camera in choose_cameras(reader.topics)}
    return {topic: kind for topic, kind in there.items() if topic in used}


def _turns(lines: Sequence[Line]) -> list[int]:
    """
    Return for each line how often its clock had started over before.

    It has where a task is there again, or ends before the one that was completed before it.
    """
    turns: list[int] = []
    seen: set[str] = set()
    newest_ns = 0
    for line in lines:
        turn = turns[-1] if turns else 0
        if line['task_id'] in seen or _end_of(line) < newest_ns - _SECOND:
            turn += 1
            seen.clear()
            newest_ns = 0
        seen.add(line['task_id'])
        newest_ns = max(newest_ns, _end_of(line))
        turns.append(turn)
    return turns


def _end_of(line: Line) -> int:
    return int(line.get('task_end_ns') or 0)


def _picture(path: Path | None) -> bytes:
    if path is None:
        return b''
    try:
        return path.read_bytes() if path.stat().st_size <= _MAX_PICTURE else b''
    except OSError:
        return b''


def _file_names(names: Mapping[str, Any]) -> dict[str, str]:
    """Return a file for each source, named after it; no two are the same."""
    taken: set[str] = set()
    files = {}
    for name in names:
        plain = safe_file_name(name.removesuffix('.mcap').replace('/', '_'))
        stem, number = plain, 1
        while stem in taken:
            number += 1
            stem = f'{plain}.{number}'
        taken.add(stem)
        files[name] = f'{stem}.mcap'
    return files


def _in_order(cameras: Counter[str]) -> list[str]:
    """Return the topics of cameras, those of most recordings first, else in the usual order."""
    usual = {name: rank for rank, name in enumerate(usual_order(cameras))}
    return sorted(cameras, key=lambda topic: (-cameras[topic], usual[topic]))
