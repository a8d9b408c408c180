# SPDX-License-Identifier: Apache-2.0
"""What the monitor says of its own health."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from armor_ros.node.health import ERROR, OK, WARN, Finding

if TYPE_CHECKING:
    from armor_ros.node.monitor import Monitor

SECOND = 1_000_000_000
# Silence of the clock, or of a camera, for so long is worth a word.
CLOCK_PATIENCE_SECONDS = 3.0
FRAME_PATIENCE_SECONDS = 2.0


def inspect(node: Monitor) -> list[Finding]:
    """Return the findings on cameras, clock, tasks, inference and ourselves, for /diagnostics."""
    return [*_cameras(node), _clock(node), _tasks(node), _inference(node), _errors(node)]


def _cameras(node: Monitor) -> list[Finding]:
    now = time.monotonic_ns()
    counters = node.recorder.counters()
    findings = []
    for subscription in node.cameras:
        name = subscription.camera.name
        silence = (now - node.last_message_ns[name]) / SECOND
        health = subscription.health(silence, FRAME_PATIENCE_SECONDS)
        values = {
            'topic': subscription.camera.topic,
            'messages': subscription.messages,
            'malformed': subscription.malformed,
            **counters.get(name, {}),
        }
        findings.append(Finding(f'camera {name}', health.level, health.message, values))
    return findings


def _clock(node: Monitor) -> Finding:
    if not node.get_parameter('use_sim_time').value:
        return Finding('clock', OK, 'system time')
    standstill = (time.monotonic_ns() - node.clock_moved_ns) / SECOND
    if standstill <= CLOCK_PATIENCE_SECONDS:
        return Finding('clock', OK, 'simulated time')
    if node.now_ns() == 0:
        return Finding(
            'clock', WARN, 'use_sim_time is set and nothing has been published on /clock'
        )
    return Finding('clock', WARN, f'/clock has not moved for {standstill:.0f} s')


def _tasks(node: Monitor) -> Finding:
    values = {'actions': ', '.join(node.actions) or 'none', **node.recorder.task_counters()}
    if not node.is_active:
        return Finding('tasks', OK, 'the node is not active', values)
    values |= {'running': node.desk.running, 'waiting': node.desk.waiting}
    if node.desk.waiting >= node.parameters.queue_size:
        return Finding('tasks', WARN, 'the queue is full: further tasks are not answered', values)
    return Finding('tasks', OK, f'{node.desk.waiting} waiting for inference', values)


def _errors(node: Monitor) -> Finding:
    if not node.shield.count:
        return Finding('internal errors', OK, 'none')
    return Finding('internal errors', ERROR, node.shield.last, {'count': node.shield.count})


def _inference(node: Monitor) -> Finding:
    if not node.is_active:
        return Finding('inference', OK, 'no model is loaded: the node is not active')
    state, detail, deaths = node.inference.state()
    level = {'ready': OK, 'failed': ERROR}.get(state, WARN)
    return Finding(
        'inference', level, f'{state}: {detail}' if detail else state, {'deaths': deaths}
    )
