# SPDX-License-Identifier: Apache-2.0
"""Lines of predictions.jsonl, as a run would have written them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SETTINGS = {
    'rounds': 4,
    'trajectories': 2,
    'tolerance': 1e-4,
    'entropy_weight': 0.1,
    'temperature': 0.7,
    'max_new_tokens': 80,
    'return_policy': 'last',
    'sample_label': False,
    'seed': 0,
    'input_mode': None,
    'camera': '',
    'deadline': 0.0,
    'target_error': 0.0,
    'fps': 5.0,
}
MODEL = {
    'model_id': 'm',
    'revision': '',
    'weights_hash': 'weights',
    'quantization': 'none',
    'trained': True,
    'calibration': '',
}


def entropy(p: float) -> float:
    """Return the entropy of a coin in nats."""
    return -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)


def a_round(
    index: int,
    probability: float,
    explanation: str = 'the can slipped',
    *,
    explanation_entropy: float = 0.5,
    trajectory: int = 0,
    best: bool = True,
) -> dict[str, Any]:
    """Return one trajectory's answer in one round."""
    detection = entropy(probability)
    return {
        'round': index,
        'trajectory': trajectory,
        'failure_probability': probability,
        'failed': probability >= 0.5,
        'explanation': explanation,
        'detection_entropy': detection,
        'explanation_entropy': explanation_entropy,
        'combined_entropy': detection + 0.1 * explanation_entropy,
        'best': best,
    }


def a_line(
    number: int,
    label: str | None = 'failure',
    probability: float = 0.9,
    *,
    trace: Sequence[dict[str, Any]] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Return the line of a model's answer; ``trace`` by default is one round."""
    rounds = list(trace) if trace is not None else [a_round(0, probability)]
    selected = len(rounds) - 1
    answer = rounds[selected]
    line = {
        'source': 'set',
        'source_kind': 'manifest',
        'sample_id': f's{number:04d}',
        'task_id': f't{number}',
        'task_name': 'transport',
        'instruction': 'move the can',
        'task_status': 'SUCCEEDED',
        'split': 'test',
        'task_kind': 'transport',
        'episode': f'set/{number}',
        'group': '',
        'injected_mode': '',
        'label': label,
        'label_source': 'dataset' if label else '',
        'label_weak': False,
        'label_explanation': None,
        'verdict': 'FAILURE' if answer['failed'] else 'SUCCESS',
        'status': 'OK',
        'failure_probability': answer['failure_probability'],
        'calibrated': False,
        'target_error': 0.0,
        **{name: answer[name] for name in answer if name.endswith('entropy')},
        'explanation': answer['explanation'],
        'rounds': 1 + answer['round'],
        'trajectories': 1,
        'trace': rounds,
        'selected': selected,
        'model': dict(MODEL),
        'config_hash': 'c' * 16,
        'settings': dict(SETTINGS),
        'unparsable': False,
        'raw_answers': [],
        'timing': {
            'inference_seconds': 1.0,
            'first_detection_seconds': 0.5,
            'round_seconds': [1.0],
        },
    }
    return {**line, **changes}


def unknown(number: int, label: str | None = 'failure', **changes: Any) -> dict[str, Any]:
    """Return the line of a task on which there is no answer."""
    nothing = dict.fromkeys(
        ('failure_probability', 'detection_entropy', 'explanation_entropy', 'combined_entropy')
    )
    empty = {'trace': [], 'selected': None, 'explanation': '', 'rounds': 0, 'model': None}
    line = a_line(number, label, verdict='UNKNOWN', status='NO_FRAMES', settings=None)
    return {**line, **nothing, **empty, **changes}


def of_baseline(number: int, label: str | None, failed: bool | None, **changes: Any) -> Any:
    """Return the line of a baseline that gives no probability; None is an unparsable answer."""
    line = unknown(number, label, status='OK', model={'model_id': 'always'})
    verdict = {None: 'UNKNOWN', True: 'FAILURE', False: 'SUCCESS'}[failed]
    return {**line, 'verdict': verdict, 'unparsable': failed is None, **changes}


def random_lines(count: int, seed: int = 0, clusters: int = 0) -> list[dict[str, Any]]:
    """Return lines of a model that is right more often than not, some tasks in one recording."""
    rng = np.random.default_rng(seed)
    lines = []
    for number in range(count):
        failed = bool(rng.random() < 0.5)
        base = 1 / (1 + math.exp(-((2 if failed else -2) + 2 * rng.normal())))
        trace = [
            a_round(
                index,
                float(np.clip(base + 0.2 * rng.normal(), 0, 1)),
                str(rng.choice(['the can slipped', 'it was moved', 'the gripper missed'])),
                explanation_entropy=float(rng.random()),
            )
            for index in range(rng.integers(1, 4))
        ]
        label = 'failure' if failed else 'success'
        episode = f'set/{number % clusters if clusters else number}'
        reference = 'the can slipped' if failed else 'it was moved'
        lines.append(
            a_line(number, label, trace=trace, episode=episode, label_explanation=reference)
        )
    return lines


def write_lines(folder: Path, lines: Sequence[dict[str, Any]]) -> Path:
    """Write a run folder's predictions."""
    folder.mkdir(parents=True, exist_ok=True)
    text = ''.join(json.dumps(line, ensure_ascii=False) + '\n' for line in lines)
    (folder / 'predictions.jsonl').write_text(text, encoding='utf-8')
    return folder
