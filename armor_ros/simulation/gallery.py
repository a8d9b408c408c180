# SPDX-License-Identifier: Apache-2.0
"""
``armor simulate --gallery``: a manifest dataset as one HTML page to look at.

The page holds its pictures, opens without a network and loads nothing from anywhere.
"""

from __future__ import annotations

import base64
import html
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from armor_ros.datasets.manifest import Sample, read_manifest, read_view, write_whole
from armor_ros.episodes.collage import sample_indices
from armor_ros.episodes.decoding import resize
from armor_ros.errors import ArmorError
from armor_ros.simulation.gallery_page import PAGE

GALLERY_FILE = 'gallery.html'
MOST_RECORDINGS = 1000
COLUMNS = 8
_CELL = 128
_GAP = 2
_JPEG_QUALITY = 78
_VIEW_ORDER = ('front', 'wrist', 'overhead')

Progress = Callable[[int, int], None]


def write_gallery(
    root: Path,
    *,
    output: Path | None = None,
    most: int = 120,
    progress: Progress | None = None,
) -> Path:
    """
    Write the page of the manifest dataset in the folder ``root``; return its path.

    ``output`` is the file, by default ``gallery.html`` in the dataset. Of more than ``most``
    recordings (about 80 kB each) a selection is shown that has of every task and mode alike.
    Samples that share a recording stand together under its pictures. Raises ArmorError when the
    dataset cannot be read or is empty.
    """
    if not 1 <= most <= MOST_RECORDINGS:
        raise ArmorError(f'{most} recordings in a gallery; give 1 to {MOST_RECORDINGS}')
    samples = read_manifest(root)
    if not samples:
        raise ArmorError(f'{root} has no samples to show')
    recordings = _recordings(samples)
    chosen = select(recordings, most)
    cards = []
    for number, recording in enumerate(chosen):
        if progress is not None:
            progress(number, len(chosen))
        cards.append(_card(recording, _picture(root, recording[0])))
    place = root / GALLERY_FILE if output is None else output
    write_whole(place, page(root.resolve().name, samples, len(recordings), chosen, cards))
    return place


def _recordings(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Return the samples by recording, in the order of the manifest."""
    recordings: dict[str, list[Sample]] = {}
    for sample in samples:
        recordings.setdefault(sample.episode or sample.id, []).append(sample)
    return list(recordings.values())


def select(recordings: Sequence[list[Sample]], most: int) -> list[list[Sample]]:
    """Return at most ``most`` recordings, in turn one of each task, mode and label."""
    kinds: dict[tuple[str, str, str], list[int]] = {}
    for index, recording in enumerate(recordings):
        first = recording[0]
        kinds.setdefault((first.task, first.injected_mode, first.label), []).append(index)
    turns = sorted(
        (turn, index) for indices in kinds.values() for turn, index in enumerate(indices)
    )
    return [recordings[index] for index in sorted(index for _, index in turns[:most])]


def contact_sheet(views: Sequence[npt.NDArray[np.uint8]], steps: Sequence[int]) -> Any:
    """Return the frames ``steps`` of each view, a row a view, (H, W, 3) with white gaps."""
    pitch = _CELL + _GAP
    height, width = len(views) * pitch - _GAP, len(steps) * pitch - _GAP
    sheet = np.full((height, width, 3), 255, np.uint8)
    for row, frames in enumerate(views):
        for column, step in enumerate(steps):
            top, left = row * pitch, column * pitch
            sheet[top : top + _CELL, left : left + _CELL] = resize(frames[step], (_CELL, _CELL))
    return sheet


def _picture(root: Path, sample: Sample) -> str:
    """Return the figure of a recording: its pictures as a data URI, and their times."""
    known = [view for view in _VIEW_ORDER if view in sample.views]
    views = known + sorted(set(sample.views) - set(known))
    if not views:
        return '<p class="none">no pictures</p>'
    steps = sample_indices(sample.frames, COLUMNS)
    sheet = contact_sheet([read_view(root, sample, view) for view in views], steps)
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    done, data = cv2.imencode('.jpg', cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ArmorError(f'cannot encode the pictures of sample {sample.id!r}')
    encoded = base64.b64encode(data.tobytes()).decode('ascii')
    names = ''.join(f'<span>{_text(view)}</span>' for view in views)
    cause = _cause_step(sample, steps)
    times = ''.join(
        f'<span{" class=cause" if column == cause else ""}>{step / sample.fps:.1f} s</span>'
        for column, step in enumerate(steps)
    )
    height, width = sheet.shape[:2]
    return (
        f'<figure><div class="views">{names}</div><img decoding="async" '
        f'alt="{_text(", ".join(views))} over time" width="{width}" height="{height}" '
        f'src="data:image/jpeg;base64,{encoded}"><div class="times">{times}</div></figure>'
    )


def _cause_step(sample: Sample, steps: Sequence[int]) -> int | None:
    """Return the column nearest to the causal event, None without one."""
    seconds = _cause_seconds(sample)
    if seconds is None:
        return None
    return int(np.abs(np.array(steps) / sample.fps - seconds).argmin())


def _cause_seconds(sample: Sample) -> float | None:
    time_ns = (sample.event or {}).get('time_ns')
    return time_ns / 1e9 if isinstance(time_ns, int) else None


def _card(recording: Sequence[Sample], picture: str) -> str:
    first = recording[0]
    facts = [first.task, f'disturbed: {first.injected_mode or "unknown"}', first.split]
    facts += [f'{first.frames / first.fps:.1f} s']
    facts += [f'seed {first.seed}'] if first.seed is not None else []
    chips = ''.join(f'<span>{_text(fact)}</span>' for fact in facts if fact)
    rows = ''.join(_row(sample) for sample in recording)
    name = _text(first.episode or first.id)
    return (
        f'<article>{picture}<div class="facts"><b>{name}</b>{chips}</div>'
        f'<div class="samples">{rows}</div></article>'
    )


def _row(sample: Sample) -> str:
    judged = sample.judged or sample.label
    marks = []
    if judged != sample.label:
        marks.append(f'<em>label noise: really a {_text(judged)}</em>')
    claim = {'SUCCEEDED': 'success', 'ABORTED': 'failure'}.get(sample.robot_status)
    lies = claim is not None and claim != judged
    if sample.robot_status:
        wrong = ' class="wrong"' if lies else ''
        marks.append(f'<span{wrong}>robot: {_text(sample.robot_status)}</span>')
    cause = _cause(sample)
    if cause:
        marks.append(f'<span>cause: {_text(cause)}</span>')
    explanation = (
        f'<q>{_text(sample.explanation)}</q>'
        if sample.explanation is not None
        else '<i>sparse: no explanation</i>'
    )
    data = {
        'label': sample.label,
        'task': sample.task,
        'mode': sample.injected_mode,
        'split': sample.split,
        'odd': 'yes' if lies or judged != sample.label else 'no',
    }
    attributes = ' '.join(f'data-{key}="{_text(value)}"' for key, value in data.items())
    return (
        f'<section class="{_text(sample.label)}" {attributes}><h3><strong>{_text(sample.label)}'
        f'</strong>{_text(sample.instruction)}</h3><p>{explanation}</p>'
        f'<p class="marks">{"".join(marks)}</p></section>'
    )


def _cause(sample: Sample) -> str:
    """Return the causal event in a few words, '' without one."""
    event = sample.event or {}
    parts = [str(event.get('kind', '')).replace('_', ' '), str(event.get('item', ''))]
    if event.get('place'):
        parts.append(f'at {event["place"]}')
    seconds = _cause_seconds(sample)
    if seconds is not None:
        parts.append(f'{seconds:.1f} s')
    return ', '.join(part for part in parts if part)


def page(
    name: str,
    samples: Sequence[Sample],
    recordings: int,
    chosen: Sequence[Sequence[Sample]],
    cards: Sequence[str],
) -> str:
    """Return the whole page; every text in it is escaped."""
    shown = [sample for recording in chosen for sample in recording]
    labels = Counter(sample.label for sample in samples)
    dense = sum(sample.dense for sample in samples)
    summary = (
        f'{len(samples)} samples of {recordings} recordings: {labels["success"]} successes, '
        f'{labels["failure"]} failures, {dense} with an explanation.'
    )
    if len(chosen) < recordings:
        summary += f' {len(chosen)} recordings are shown here.'
    parts = {
        'title': _text(name),
        'summary': _text(summary),
        'label': _options(sample.label for sample in shown),
        'task': _options(sample.task for sample in shown),
        'mode': _options(sample.injected_mode for sample in shown),
        'split': _options(sample.split for sample in shown),
        'cards': '\n'.join(cards),
    }
    # In one pass, so that no text of a dataset is taken for a place to fill in.
    return re.sub('@([a-z]+)@', lambda place: parts[place[1]], PAGE)


def _options(values: Any) -> str:
    names = sorted({value for value in values if value})
    return ''.join(f'<option>{_text(value)}</option>' for value in names)


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
