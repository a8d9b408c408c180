# SPDX-License-Identifier: Apache-2.0
"""A layout for Foxglove (and Lichtblick): the cameras, and the monitor's verdicts beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

REPORT_TOPIC = '/armor/failure_report'
VERDICT_TOPIC = '/armor/verdict'
EVIDENCE_TOPIC = '/armor/evidence/compressed'

# More cameras than this are too small to see anything.
_MOST_CAMERAS = 6


def foxglove_layout(cameras: Sequence[str]) -> dict[str, Any]:
    """Return the layout for some camera topics, to be written as JSON and imported there."""
    panels: dict[str, Any] = {
        'Image!evidence': _image(EVIDENCE_TOPIC),
        'StateTransitions!verdict': {
            'paths': [
                {
                    'value': f'{REPORT_TOPIC}.verdict',
                    'label': 'verdict',
                    'enabled': True,
                    'timestampMethod': 'receiveTime',
                }
            ],
            'isSynced': True,
        },
        'RosOut!verdict': {'topicToRender': VERDICT_TOPIC, 'searchTerms': [], 'minLogLevel': 1},
        'RawMessages!report': {'topicPath': REPORT_TOPIC},
    }
    views = [f'Image!camera{number}' for number, _ in enumerate(cameras[:_MOST_CAMERAS], 1)]
    panels.update(zip(views, map(_image, cameras), strict=False))
    verdicts = _split(
        'column',
        _split('column', 'RosOut!verdict', 'StateTransitions!verdict', 60),
        _split('column', 'Image!evidence', 'RawMessages!report', 50),
        40,
    )
    return {
        'configById': panels,
        'globalVariables': {},
        'userNodes': {},
        'playbackConfig': {'speed': 1},
        'layout': _split('row', _grid(views), verdicts, 55) if views else verdicts,
    }


def _image(topic: str) -> dict[str, Any]:
    return {'imageMode': {'imageTopic': topic}}


def _split(direction: str, first: Any, second: Any, percentage: float) -> dict[str, Any]:
    return {
        'direction': direction,
        'first': first,
        'second': second,
        'splitPercentage': percentage,
    }


def _grid(views: Sequence[str]) -> Any:
    """Return the views one below the other, from four on in two columns."""
    if len(views) < 4:
        return _column(views)
    half = (len(views) + 1) // 2
    return _split('row', _column(views[:half]), _column(views[half:]), 50)


def _column(views: Sequence[str]) -> Any:
    if len(views) == 1:
        return views[0]
    return _split('column', views[0], _column(views[1:]), 100 / len(views))
