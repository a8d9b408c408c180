# SPDX-License-Identifier: Apache-2.0
"""The model of the package tells what it was trained to tell, from a bag as a robot records it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from armor_ros.evaluation.command import EvaluationRequest, run_evaluation
from armor_ros.simulation.demo import generate_demo_bag
from armor_ros.simulation.engine import can_render

INSTRUCTION = '/transport=transport the blue can from the left bin to the right bin'
EPISODES = {'nominal': 'SUCCESS', 'missed_grasp': 'FAILURE', 'wrong_object': 'FAILURE'}


@pytest.mark.skipif(not can_render(), reason='no off-screen GL library works here')
def test_a_success_a_missed_grasp_and_a_wrong_object_are_told_apart(tmp_path: Path) -> None:
    bag = tmp_path / 'bag'
    generate_demo_bag(bag, episodes=tuple(EPISODES))
    run_evaluation(EvaluationRequest([bag], tmp_path / 'run', instructions=(INSTRUCTION,)))
    lines = (tmp_path / 'run' / 'predictions.jsonl').read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert [line['verdict'] for line in found] == list(EPISODES.values())
    assert all(line['calibrated'] for line in found)
