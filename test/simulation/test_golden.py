# SPDX-License-Identifier: Apache-2.0
"""
Episodes that must stay as they are: one seed of each task, undisturbed and with its first failure.

After a change that is meant to alter them, and with the pinned MuJoCo, write them anew with
``python test/simulation/test_golden.py``.
"""

import hashlib
import importlib.metadata
import json
from pathlib import Path

import numpy as np
import pytest

from armor_ros.simulation.episode import draw_setup, run_episode
from armor_ros.simulation.failures import NOMINAL
from armor_ros.simulation.tasks import TASKS

FILE = Path(__file__).with_name('golden.json')
MUJOCO = '4.0.0'
SEED = 11
MODES = [(task, mode) for task in TASKS for mode in (NOMINAL, TASKS[task].modes[0])]

pytestmark = pytest.mark.skipif(
    importlib.metadata.version('mujoco') != MUJOCO,
    reason=f'states are those of mujoco {MUJOCO}',
)


def observed(task: str, mode: str) -> dict:
    """Simulate an episode; states count to the millimetre, twice a second."""
    episode = run_episode(draw_setup(SEED, mode, task))
    log = episode.log
    states = np.concatenate([log.items[::25].ravel(), log.tcp[::25].ravel(), log.width[::25]])
    digest = hashlib.sha256(np.rint(1000 * states).astype('<i4').tobytes()).hexdigest()
    cause = episode.judgement.cause
    return {
        'instruction': episode.setup.scene.instruction,
        'success': episode.judgement.success,
        'cause': None if cause is None else cause.kind.value,
        'states': digest[:16],
    }


@pytest.mark.parametrize(('task', 'mode'), MODES)
def test_episode_is_as_it_was(task, mode):
    golden = json.loads(FILE.read_text())
    assert observed(task, mode) == golden[f'{task}/{mode}'], f'see {Path(__file__).name}'


def test_every_task_has_a_success_and_a_failure():
    golden = json.loads(FILE.read_text())
    labels = [(name.split('/')[0], row['success']) for name, row in golden.items()]
    assert sorted(labels) == sorted((task, done) for task in TASKS for done in (False, True))


def test_the_tested_versions_pin_the_mujoco_of_these_states():
    pins = (FILE.parents[2] / 'constraints.txt').read_text().splitlines()
    assert f'mujoco=={MUJOCO}' in pins


def test_there_is_nothing_else():
    assert set(json.loads(FILE.read_text())) == {f'{task}/{mode}' for task, mode in MODES}


if __name__ == '__main__':
    rows = {f'{task}/{mode}': observed(task, mode) for task, mode in MODES}
    FILE.write_text(json.dumps(rows, indent=2) + '\n')
