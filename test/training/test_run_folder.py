# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: who may take it, and what is said of a damaged one."""

from __future__ import annotations

import dataclasses
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from test_training_run import QUICK, Listener, request
from toy_training import make_recipe, smaller, write_data

from armor_ros.datasets.manifest import read_manifest
from armor_ros.errors import ArmorError
from armor_ros.training.checks import worse_than_guessing
from armor_ros.training.recipe_files import recipe_text
from armor_ros.training.run import train
from armor_ros.training.run_folder import RunFolder, data_facts
from armor_ros.training.trainer import Interrupted

OTHER = smaller(QUICK, optimizer=dataclasses.replace(QUICK.optimizer, learning_rate=2e-3))


def test_a_start_that_was_refused_does_not_take_the_folder(tmp_path: Path) -> None:
    data = write_data(tmp_path / 'data')
    picture = data / 'views/s1/front/2.png'
    whole = picture.read_bytes()
    picture.write_bytes(b'no picture')
    output = tmp_path / 'out'
    with pytest.raises(ArmorError, match='s1'):
        train(request(QUICK, data, output))
    picture.write_bytes(whole)
    # what was wrong may have been the recipe, or the data set
    with pytest.raises(Interrupted):
        train(request(OTHER, data, output, listener=Listener(1)))
    with pytest.raises(ArmorError, match=r'learning_rate was 0.002, and is 0.001'):
        train(request(QUICK, data, output))
    assert (train(request(OTHER, data, output)) / 'README.md').is_file()
    with pytest.raises(ArmorError, match=r'another recipe: phases had 1 entries, and has 2;?'):
        train(request(smaller(OTHER, phases=OTHER.phases * 2), data, output))


def test_a_data_set_is_no_folder_for_a_run(toy_data: Path) -> None:
    with pytest.raises(ArmorError, match=r'is a data set; give the run a folder of its own'):
        train(request(QUICK, toy_data, toy_data))
    assert not (toy_data / 'recipe.yaml').exists()


@pytest.fixture(scope='module')
def interrupted(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that was stopped after its first step."""
    output = tmp_path_factory.mktemp('interrupted')
    with pytest.raises(Interrupted):
        train(request(QUICK, toy_data, output, listener=Listener(1)))
    return output


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ('name', 'damage', 'said'),
    [
        (
            'recipe.yaml',
            lambda path: path.write_text(''),
            r"recipe\.yaml: 'phases' is missing.*",
        ),
        ('data.json', lambda path: path.write_text(''), r'data\.json is damaged'),
        ('data.json', lambda path: path.write_text('{"name": "x"}'), r'data\.json is damaged'),
        ('state/phase-0-step-1/model.safetensors', cut, r'phase-0-step-1 is damaged'),
        ('state/phase-0-step-1/optimizer.bin', cut, r'phase-0-step-1 is damaged'),
        ('training.jsonl', lambda path: path.write_text('{"ki\n{}\n'), r'training\.jsonl is dam'),
    ],
)
def test_damage_is_told_with_the_remedy(
    interrupted: Path,
    toy_data: Path,
    tmp_path: Path,
    name: str,
    damage: Callable[[Path], None],
    said: str,
) -> None:
    output = shutil.copytree(interrupted, tmp_path / 'out')
    damage(output / name)
    with pytest.raises(ArmorError, match=f'{said}.*remove .*out.* to begin anew'):
        train(request(QUICK, toy_data, output))


def test_a_line_that_was_cut_off_is_left_out(
    interrupted: Path, toy_data: Path, tmp_path: Path
) -> None:
    output = shutil.copytree(interrupted, tmp_path / 'out')
    with (output / 'training.jsonl').open('a') as file:
        file.write('{"kind": "step", "phase": 0, "st')
    train(request(QUICK, toy_data, output))
    assert [line['step'] for line in RunFolder(output).lines('step')] == [0, 1]


def test_a_full_disk_is_said_and_the_state_before_kept(
    interrupted: Path, toy_data: Path, tmp_path: Path
) -> None:
    output = shutil.copytree(interrupted, tmp_path / 'out')
    recipe = tmp_path / 'toy.yaml'
    recipe.write_text(recipe_text(QUICK))
    weights = (output / 'state/phase-0-step-1/model.safetensors').stat().st_size

    def no_room() -> None:
        # what is longer cannot be written: as on a disk that is full
        resource.setrlimit(resource.RLIMIT_FSIZE, (weights // 2, weights // 2))

    done = subprocess.run(
        [sys.executable, '-m', 'armor_ros.cli', 'train', recipe, '--data', toy_data,
         '--output', output, '--tracker', 'none'],
        preexec_fn=no_room, capture_output=True, text=True, check=False,
        env=os.environ | {'OMP_NUM_THREADS': '1'},
    )  # fmt: skip
    assert done.returncode == 1
    assert 'cannot keep the state in' in done.stderr
    assert 'make room, and the same command goes on' in done.stderr
    assert 'Traceback' not in done.stderr
    assert [path.name for path in (output / 'state').iterdir() if path.is_dir()] == [
        'phase-0-step-1'
    ]
    train(request(QUICK, toy_data, output))


def test_what_cannot_be_written_to_is_said_once(toy_data: Path, tmp_path: Path) -> None:
    file = tmp_path / 'file'
    file.touch()
    with pytest.raises(ArmorError, match=r'cannot keep pictures in .*; give another --cache'):
        train(request(QUICK, toy_data, tmp_path / 'out', cache=file / 'cache'))
    with pytest.raises(ArmorError, match=r'cannot write to .*; give another --output'):
        train(request(QUICK, toy_data, file / 'out'))


def test_training_that_came_apart_is_said(toy_data: Path, tmp_path: Path) -> None:
    wild = make_recipe(
        {'kind': 'warmup', 'epochs': 6},
        optimizer={'learning_rate': 3.0, 'vision_learning_rate': 0.0, 'clip_norm': 1e6},
    )
    listener = Listener()
    folder = train(request(wild, toy_data, tmp_path, listener=listener))
    (said,) = listener.cautions
    assert 'training has come apart' in said
    assert said in (folder / 'README.md').read_text()


def test_guessing_is_no_reason_to_warn() -> None:
    assert worse_than_guessing([]) == ''
    steps = [{'detection': 90.0}] * 5 + [{'detection': 0.7}] * 10
    assert worse_than_guessing(steps) == ''
    assert 'is 1.61 in the mean' in worse_than_guessing([*steps, {'detection': 9.8}])


def test_weak_labels_are_counted(tmp_path: Path) -> None:
    data = write_data(
        tmp_path, lambda sample: dataclasses.replace(sample, weak=sample.id in ('s1', 's2'))
    )
    samples = read_manifest(data)
    assert data_facts(data, samples[:2], samples[2:]).weak == 1
