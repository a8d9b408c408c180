# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from toy_training import make_recipe, smaller, write_data

from armor_ros.datasets.manifest import Sample, read_manifest
from armor_ros.errors import ArmorError
from armor_ros.inference.diagnoser import Diagnoser
from armor_ros.model.checkpoint import load_checkpoint
from armor_ros.training.checks import read_splits
from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.recipe_files import read_training_recipe, recipe_text
from armor_ros.training.run import Silent, TrainingRequest, train
from armor_ros.training.samples import sample_episode
from armor_ros.training.schedule import StepReport
from armor_ros.training.start import sample_texts, starting_model
from armor_ros.training.trainer import Interrupted
from armor_ros.training.validation import Trial, sft_said

QUICK = make_recipe({'kind': 'warmup'}, evaluation={'samples': 2, 'shown': 1})


class Listener(Silent):
    """Notes what it hears, and stops after some steps."""

    def __init__(self, most: int = 99) -> None:
        self.steps: list[StepReport] = []
        self.trials: list[Trial] = []
        self.planned: tuple[list[int], int] = ([], 0)
        self.cautions: list[str] = []
        self._most = most

    def plan(self, steps: list[int], done: int) -> None:
        self.planned = (steps, done)

    def caution(self, text: str) -> None:
        self.cautions.append(text)

    def step(self, report: StepReport) -> None:
        self.steps.append(report)

    def trial(self, trial: Trial) -> None:
        self.trials.append(trial)

    def should_stop(self) -> bool:
        return len(self.steps) >= self._most


def request(
    recipe: TrainingRecipe, data: Path, output: Path, **options: object
) -> TrainingRequest:
    made = TrainingRequest(recipe, data, output, tracker='none')
    return dataclasses.replace(made, **options)  # type: ignore[arg-type]


def test_a_run_leaves_a_checkpoint_that_answers(toy_data: Path, tmp_path: Path) -> None:
    listener = Listener()
    folder = train(
        request(QUICK, toy_data, tmp_path, dtype='bf16', listener=listener, cache=tmp_path / 'c')
    )
    model = load_checkpoint(folder, device='cpu')
    assert model.info.trained
    assert model.info.model_id == 'toy'
    # What is stored: a machine without instructions for bf16 loads it wider.
    stored = [load_file(file) for file in folder.glob('*.safetensors')]
    assert {weight.dtype for own in stored for weight in own.values()} == {torch.bfloat16}
    sample = read_manifest(toy_data, 'validation')[0]
    episode = sample_episode(toy_data, sample, ('front',))
    assert 0 < Diagnoser(model).diagnose(episode).failure_probability < 1
    lines = [json.loads(line) for line in (tmp_path / 'training.jsonl').read_text().splitlines()]
    assert [line['kind'] for line in lines] == ['step', 'step', 'trial']
    assert listener.planned == ([2], 0)
    assert lines[1]['detection'] == listener.steps[1].detection
    trial = listener.trials[0]
    assert trial.samples == 2
    assert trial.accuracy in (0.0, 0.5, 1.0)
    assert lines[2]['shown'][0]['sample'] == trial.shown[0].sample
    card = (folder / 'README.md').read_text()
    counts = '8 samples (4 failure, 4 success), 3 of them explained'
    for text in ('not a safety function', 'drawing', f'{trial.detection:.3f}', 'kind: warmup'):
        assert text in card
    assert counts in card
    assert len(list((tmp_path / 'c').glob('*.npy'))) == 10
    again = Listener()
    assert train(request(QUICK, toy_data, tmp_path, dtype='bf16', listener=again)) == folder
    assert again.steps == []
    with pytest.raises(ArmorError, match='is finished, with weights in bf16; give --dtype bf16'):
        train(request(QUICK, toy_data, tmp_path))


def test_an_interrupted_run_is_gone_on_with_and_no_other(toy_data: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(request(QUICK, toy_data, tmp_path, listener=Listener(1)))
    other = smaller(QUICK, optimizer=dataclasses.replace(QUICK.optimizer, learning_rate=2e-3))
    with pytest.raises(
        ArmorError, match=r'optimizer.learning_rate was 0.001, and is 0.002.*--outp'
    ):
        train(request(other, toy_data, tmp_path))
    data = write_data(tmp_path / 'other', lambda s: dataclasses.replace(s, instruction='lift'))
    with pytest.raises(ArmorError, match='another data set, or one that has changed'):
        train(request(QUICK, data, tmp_path))
    # what was done after the state was kept will be done again
    with (tmp_path / 'training.jsonl').open('a') as file:
        file.write('{"kind": "step", "phase": 0, "step": 1}\n')
    rest = Listener()
    train(request(QUICK, toy_data, tmp_path, listener=rest))
    assert rest.planned == ([2], 1)
    assert [report.step for report in rest.steps] == [1]
    lines = [json.loads(line) for line in (tmp_path / 'training.jsonl').read_text().splitlines()]
    assert [(line['kind'], line['step']) for line in lines] == [
        ('step', 0), ('step', 1), ('trial', 1),
    ]  # fmt: skip


def test_tensorboard_has_each_step_once(toy_data: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = make_recipe({'kind': 'warmup', 'epochs': 2})
    with pytest.raises(Interrupted):
        train(request(recipe, toy_data, tmp_path, tracker='tensorboard', listener=Listener(1)))
    kept = shutil.copytree(tmp_path / 'state', tmp_path / 'kept')
    time.sleep(1.1)  # a second file of events has the second in its name
    with pytest.raises(Interrupted):
        train(request(recipe, toy_data, tmp_path, tracker='tensorboard', listener=Listener(2)))
    # as if it had been killed before it kept its state
    shutil.rmtree(tmp_path / 'state')
    kept.rename(tmp_path / 'state')
    time.sleep(1.1)
    train(request(recipe, toy_data, tmp_path, tracker='tensorboard'))
    events = EventAccumulator(str(tmp_path / 'logs' / 'armor'))
    events.Reload()
    assert [event.step for event in events.Scalars('training/detection')] == [0, 1, 2, 3]


def test_a_start_that_another_run_leaves_is_asked_for(toy_data: Path, tmp_path: Path) -> None:
    model = dataclasses.replace(QUICK.model, random=None, checkpoint='out/facts/checkpoint')
    with pytest.raises(ArmorError, match='what a run in out/facts leaves, so train that first'):
        train(request(dataclasses.replace(QUICK, model=model), toy_data, tmp_path))


def test_two_processes_never_train_in_one_folder(toy_data: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(request(QUICK, toy_data, tmp_path, listener=Listener(1)))
    log = (tmp_path / 'training.jsonl').read_text()
    holding = 'import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); '
    holder = subprocess.Popen(
        [
            sys.executable,
            '-c',
            holding + 'print(flush=True); sys.stdin.read()',
            str(tmp_path / '.lock'),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(ArmorError, match=r'another process is training in .*; wait until'):
        train(request(QUICK, toy_data, tmp_path))
    assert (tmp_path / 'training.jsonl').read_text() == log
    holder.communicate()
    train(request(QUICK, toy_data, tmp_path))


def unlabelled(sample: Sample) -> Sample:
    return dataclasses.replace(sample, label='success', explanation=None, state=None)


def test_data_that_cannot_teach_is_refused(toy_data: Path, tmp_path: Path) -> None:
    def refused(recipe: TrainingRecipe, data: Path, match: str) -> None:
        with pytest.raises(ArmorError, match=match):
            read_splits(data, recipe)

    one = write_data(tmp_path / 'one', unlabelled)
    refused(QUICK, one, "all 8 samples of the split 'train' are labelled 'success'; a detector")
    sparse = write_data(tmp_path / 'sparse', lambda s: dataclasses.replace(
        s, explanation=None, state=None, views={'left': s.views['front']}))  # fmt: skip
    lacking: tuple[dict[str, object], ...] = (
        {'kind': 'expert'},
        {'kind': 'sft', 'only_dense': True},
        {'kind': 'facts', 'explain': True},
    )
    for phase in lacking:
        refused(make_recipe(phase), sparse, f'phase {phase["kind"]} needs explained samples')
    refused(make_recipe({'kind': 'perception'}), sparse, 'which 8 of 8 samples lack, first')
    refused(
        make_recipe({'kind': 'warmup'}), sparse, 'none of the cameras front, wrist; its views: l'
    )
    absent = make_recipe({'kind': 'warmup'}, data={'validation': 'val'}, evaluation={'samples': 2})
    refused(absent, toy_data, "no sample of the split 'val'; its splits: .*name one in data.valid")
    same = make_recipe({'kind': 'warmup'}, data={'validation': 'train'})
    refused(same, toy_data, 'the split that is learned from')
    none = make_recipe({'kind': 'warmup'}, data={'validation': ''}, evaluation={'samples': 2})
    assert len(read_splits(toy_data, none)[0]) == 8


def test_rollouts_shorter_than_explanations_are_said(toy_data: Path, tmp_path: Path) -> None:
    samples = read_splits(toy_data, QUICK)[0]
    texts = [sample.explanation for sample in samples if sample.explanation]
    model = starting_model(QUICK, sample_texts(samples))
    lengths = [len(model.prompts.encode_text(text)) for text in texts]
    assert len({*lengths}) > 1
    for limit, cut in ((max(lengths), 0), (min(lengths), sum(x > min(lengths) for x in lengths))):
        online = {'kind': 'online', 'rounds': 2, 'max_new_tokens': limit}
        recipe, listener = make_recipe({'kind': 'warmup'}, online), Listener(most=1)
        with pytest.raises(Interrupted):
            train(request(recipe, toy_data, tmp_path / str(limit), listener=listener))
        said = (
            f'phase 2, online: max_new_tokens is {limit}, and {cut} of {len(lengths)} '
            f'explanations have more, up to {max(lengths)};'
        )
        assert [text[: len(said)] for text in listener.cautions] == [said] * bool(cut)


def test_broken_files_are_listed_before_the_first_step(tmp_path: Path) -> None:
    data = write_data(tmp_path / 'data')
    (data / 'views/s1/front/2.png').write_bytes(b'no picture')
    (data / 'views/s3/front/3.png').unlink()
    listener = Listener()
    with pytest.raises(ArmorError, match=r"(?s)'s1'.*2\.png.*'s3'.*has 3 frames; the manifest s"):
        train(request(QUICK, data, tmp_path / 'out', listener=listener))
    assert listener.steps == []
    with pytest.raises(ArmorError, match=r'2\.png|3 frames'):
        train(request(QUICK, data, tmp_path / 'out', check=False))


def test_trackers_and_types_of_weights_are_checked(toy_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ArmorError, match="tracker is 'tensorbord'; it must be none, tensorboard"):
        train(request(QUICK, toy_data, tmp_path, tracker='tensorbord'))
    with pytest.raises(ArmorError, match="dtype is 'int8'; it must be one of float32, bf16"):
        train(request(QUICK, toy_data, tmp_path, dtype='int8'))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', ['paper', 'paper-lora'])
def test_paper_is_table_5(name: str) -> None:
    recipe = read_training_recipe(name)
    assert recipe.name == name
    phases = [(phase.kind, phase.epochs, phase.only_dense) for phase in recipe.phases]
    # Algorithm 1: the second line learns from D_dense alone, the others from all
    assert phases == [('warmup', 2.0, False), ('expert', 1.0, True), ('online', 10.0, False)]
    online = recipe.phases[2]
    assert (online.rounds, online.temperature, online.sample_label) == (3, 0.7, True)
    assert recipe.phases[1].conditioning == 'paper'
    assert recipe.batch_size == 16
    assert recipe.model.config.fps == 5.0
    assert recipe.model.config.head.dropout == 0.1
    assert (recipe.optimizer.weight_decay, recipe.optimizer.warmup_ratio) == (0.1, 0.03)
    if name == 'paper':
        rates = (recipe.optimizer.learning_rate, recipe.optimizer.vision_learning_rate)
        assert rates == (1e-5, 2e-6)
        assert recipe.lora is None


def in_short(name: str, start: str = '') -> TrainingRecipe:
    """Return a recipe of ours with a step or two of each phase, from the checkpoint ``start``."""
    recipe = read_training_recipe(name)
    short = [dataclasses.replace(phase, epochs=0.01, rounds=min(phase.rounds, 2), max_new_tokens=4)
             for phase in recipe.phases]  # fmt: skip
    data = dataclasses.replace(recipe.data, validation='validation')
    random = recipe.model.random
    if random is None:
        model = dataclasses.replace(recipe.model, checkpoint=start)
    else:
        model = dataclasses.replace(recipe.model, random=dataclasses.replace(random, vision=start))
    return smaller(
        recipe, phases=tuple(short), batch_size=2, micro_batch_size=2, data=data, model=model
    )


def test_recipes_of_small_models_run_on_a_processor(toy_data: Path, tmp_path: Path) -> None:
    for name, start, named in (
        ('smoke', '', ''),
        ('perception', '', ''),
        ('facts', 'perception', 'simulated-cell'),
        ('speech', 'facts', 'out/facts/checkpoint'),
        ('small', 'facts', 'out/facts/checkpoint'),
        ('more', 'small', 'simulated-cell'),
    ):
        shipped = read_training_recipe(name).model
        assert (shipped.random.vision if shipped.random else shipped.checkpoint) == named
        recipe = in_short(name, str(tmp_path / start / 'checkpoint') if start else '')
        listener = Listener()
        train(request(recipe, toy_data, tmp_path / name, listener=listener, check=False))
        assert {report.phase for report in listener.steps} == set(range(len(recipe.phases)))
        assert all(report.detection + report.auxiliary > 0 for report in listener.steps)


@pytest.mark.parametrize(
    ('capabilities', 'precision'),
    [({'avx2': True}, 'no'), ({'avx2': True, 'avx512_bf16': True}, 'bf16'), ({'bf16': 1}, 'bf16')],
)
def test_the_machine_decides_on_the_precision_where_the_recipe_does_not(
    toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capabilities: dict[str, object], precision: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: capabilities, raising=False)
    recipe = smaller(QUICK, precision='auto')
    with pytest.raises(Interrupted):
        train(request(recipe, toy_data, tmp_path, listener=Listener(1), check=False))
    assert read_training_recipe(tmp_path / 'recipe.yaml').precision == precision


def test_recipes_survive_being_written(tmp_path: Path) -> None:
    path = tmp_path / 'toy.yaml'
    path.write_text(recipe_text(QUICK))
    assert read_training_recipe(path) == QUICK
    plain = yaml.safe_load(path.read_text())
    del plain['name']
    path.write_text(yaml.safe_dump(plain | {'batch_sice': 3}))
    with pytest.raises(
        ArmorError, match=r"toy\.yaml: unknown key 'batch_sice'; did you mean 'batch_s"
    ):
        read_training_recipe(path)
    with pytest.raises(ArmorError, match=r"no recipe 'papers'; .*paper, paper-lora, .*smoke"):
        read_training_recipe('papers')


def test_answers_of_fine_tuning_are_read() -> None:
    said = sft_said('<think>it fell</think> <answer>No</answer>')
    assert (said.failed, said.explanation) == (True, 'it fell')
    assert sft_said('<think></think> <answer>Yes</answer>').failed is False
    cut = sft_said('<think>it fell and')
    assert (cut.failed, cut.explanation) == (None, 'it fell and')


def test_ctrl_c_keeps_the_state(toy_data: Path, tmp_path: Path) -> None:
    recipe, output = tmp_path / 'toy.yaml', tmp_path / 'out'
    long = make_recipe({'kind': 'warmup', 'epochs': 1000})
    recipe.write_text(recipe_text(long))
    command = [sys.executable, '-m', 'armor_ros.cli', 'train', recipe, '--data', toy_data,
               '--output', output, '--tracker', 'none']  # fmt: skip
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {'OMP_NUM_THREADS': '1'}
    )
    log = output / 'training.jsonl'
    while not log.is_file() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert 'the same command goes on' in said
    done = len(log.read_text().splitlines())
    assert json.loads((output / 'state/progress.json').read_text()) == {'phase': 0, 'step': done}
