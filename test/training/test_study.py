# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from toy_training import make_recipe, write_data
from typer.testing import CliRunner

from armor_ros.cli import app
from armor_ros.datasets.manifest import Sample
from armor_ros.errors import ArmorError
from armor_ros.evaluation.lines import read_lines
from armor_ros.training.recipe_files import read_training_recipe, recipe_text
from armor_ros.training.run import Silent
from armor_ros.training.study import changed, find_study, read_study, with_seed
from armor_ros.training.study_compute import measured_costs
from armor_ros.training.study_run import StudyRequest, run_study
from armor_ros.training.study_tables import collect
from armor_ros.training.trainer import Interrupted

PLAIN = [{'kind': 'warmup', 'epochs': 2}]
ARMOR = [
    {'kind': 'warmup', 'epochs': 1},
    {'kind': 'online', 'epochs': 1, 'rounds': 2, 'max_new_tokens': 4},
]
CROSS = [ARMOR[0], {**ARMOR[1], 'folds': 2}]
# Of the study's armor, seed 1, in a single pass: what each test sample's failure is given.
GOLDEN = [0.4903, 0.4932, 0.4903, 0.4932]
SFT = [{'kind': 'sft', 'epochs': 2, 'only_dense': True}]


def with_tests(sample: Sample) -> Sample:
    """Four of the ten samples are tests, with explanations and causes."""
    if sample.id not in ('s6', 's7', 's8', 's9'):
        return sample
    failed = sample.label == 'failure'
    return dataclasses.replace(
        sample,
        split='test',
        explanation='the can slips out of the gripper' if failed else 'the can is on the shelf',
        event={'kind': 'dropped'} if failed else None,
        injected_mode='grip' if failed else '',
    )


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp('study') / 'toy', with_tests)


def write_study(folder: Path, *recipes: dict[str, Any], **more: Any) -> Path:
    """Write a base recipe and a study of it."""
    folder.mkdir(parents=True, exist_ok=True)
    base = make_recipe({'kind': 'warmup'}, evaluation={'samples': 0})
    (folder / 'base.yaml').write_text(recipe_text(base))
    content = {
        'base': 'base.yaml',
        'recipes': list(recipes),
        'evaluation': {
            'splits': ['test'], 'rounds': 2, 'trajectories': 2, 'max_new_tokens': 5,
            'sft_tokens': 12,
        },
        **more,
    }  # fmt: skip
    path = folder / 'toys.yaml'
    path.write_text(yaml.safe_dump(content))
    return path


def request_of(path: Path, data: Path, output: Path, **more: Any) -> StudyRequest:
    study, recipes = read_study(path)
    return StudyRequest(study, recipes, data, output, **more)


def rows_of(output: Path) -> list[dict[str, Any]]:
    """Return a study's rows without their times, which are the machine's."""
    content = json.loads((output / 'study.json').read_text())
    rows: list[dict[str, Any]] = content['splits']['test']['rows']
    for row in rows:
        row['figures'].pop('seconds')
    return rows


def test_a_study_of_a_few_recipes(tmp_path: Path, data: Path) -> None:
    path = write_study(
        tmp_path,
        {'name': 'plain', 'changes': {'phases': PLAIN}, 'ways': ['single']},
        {'name': 'refined-plain', 'trained_as': 'plain', 'ways': ['last']},
        {
            'name': 'longer',
            'changes': {'phases': PLAIN},
            'compute_of': 'armor',
            'ways': ['single'],
            'reference': 'armor',
        },
        {'name': 'armor', 'changes': {'phases': ARMOR}},
        {'name': 'agreeing', 'trained_as': 'armor', 'ways': ['agreeing_0', 'agreeing']},
        {'name': 'SFT-D', 'changes': {'phases': SFT}},
        reference='plain',
        step_costs={'warmup': 1.0, 'online': 2.0},
    )

    def control(root: Path, splits: Any) -> dict[str, dict[str, Any]]:
        assert (root, tuple(splits)) == (data, ('test',))
        return {'test': {'value': 0.5, 'low': 0.4, 'high': 0.6, 'n': 4, 'accuracy': 0.75}}

    request = request_of(path, data, tmp_path / 'out', seeds=2, control=control)
    run_study(request)
    content = json.loads((tmp_path / 'out' / 'study.json').read_text())
    rows = {(row['recipe'], row['way']): row for row in content['splits']['test']['rows']}
    assert list(rows) == [
        ('plain', 'single'), ('refined-plain', 'last'),
        ('longer', 'single'),
        *(('armor', way) for way in ('single', 'round_0', 'last', 'best', 'likeliest')),
        ('agreeing', 'agreeing_0'), ('agreeing', 'agreeing'),
        ('SFT-D', 'written'), ('SFT-D', 'made_to_think'),
    ]  # fmt: skip
    assert all(row['seeds'] == [0, 1] for row in rows.values())
    for row in rows.values():
        figures = row['figures']
        assert figures['accuracy']['n'] == 4
        assert len(figures['accuracy']['values']) == 2
        assert figures['right_kind']['n'] == 2
        assert figures['detected dropped']['n'] == 2
        assert 'detected injected grip' in figures
    # 6 samples in batches of 4, and online steps at two plain ones: 2 + 2 x 2 = 6
    training = content['training']
    assert [run['steps'] for run in training['armor']['runs']] == [4, 4]
    assert [run['steps'] for run in training['longer']['runs']] == [6, 6]
    assert training['SFT-D']['runs'][0]['dense'] == 3
    page = (tmp_path / 'out' / 'study.md').read_text()
    assert '| armor | refined, last | 2 |' in page
    assert '0.750 [0.400, 0.600]' in page
    for picture in ('training.svg', 'rounds-test.svg'):
        assert f']({picture})' in page
        assert '>armor</text>' in (tmp_path / 'out' / picture).read_text()
    differences = content['splits']['test']['differences']
    pairs = {(d['recipe'], d['way'], d['minus'], d['minus_way']) for d in differences}
    assert ('armor', 'last', 'armor', 'round_0') in pairs
    assert ('armor', 'likeliest', 'armor', 'single') in pairs
    assert ('armor', 'single', 'plain', 'single') in pairs
    assert [pair for pair in pairs if pair[0] == 'longer'] == [
        ('longer', 'single', 'armor', 'single')
    ]
    assert ('agreeing', 'agreeing', 'agreeing', 'round_0') in pairs
    assert_rows_tell_the_same(request, rows)
    assert_heads_and_rounds(content['splits']['test'], rows)
    assert '### Do the heads listen to each other?' in page
    assert '| armor | 1 | 2 |' in page.split('### Round by round')[1]
    lines = read_lines(tmp_path / 'out' / 'runs' / 'armor' / 'seed-1' / 'answers' / 'single')
    found = [line['failure_probability'] for line in lines]
    assert found == pytest.approx(GOLDEN, abs=2e-3)


def assert_rows_tell_the_same(request: StudyRequest, rows: dict[Any, Any]) -> None:
    """The table's figures are those of the files that armor score reads too."""
    answers = request.output / 'runs' / 'armor' / 'seed-1' / 'answers'
    lines = read_lines(answers / 'single')
    assert [line['split'] for line in lines] == ['test'] * 4
    right = [(line['verdict'] == 'FAILURE') == (line['label'] == 'failure') for line in lines]
    found = rows['armor', 'single']['figures']['accuracy']['values'][1]
    assert found == pytest.approx(sum(right) / 4)
    for way, rounds in (('round_0', 0), ('last', -1)):
        lines = read_lines(answers / 'refined')
        said = [[e for e in line['trace'] if e['best']][rounds]['failed'] for line in lines]
        right = [
            one == (line['label'] == 'failure') for one, line in zip(said, lines, strict=True)
        ]
        found = rows['armor', way]['figures']['accuracy']['values'][1]
        assert found == pytest.approx(sum(right) / 4)
    # nothing is sampled, so refinement begins with what the single pass says
    for line, refined in zip(
        read_lines(answers / 'single'), read_lines(answers / 'likeliest'), strict=True
    ):
        first = refined['trace'][0]
        assert (first['round'], first['explanation']) == (0, line['explanation'])
        assert first['failure_probability'] == line['failure_probability']
        assert refined['rounds'] == len(refined['trace']) > 1
        assert (refined['settings']['trajectories'], refined['settings']['temperature']) == (1, 0)


def assert_heads_and_rounds(found: dict[str, Any], rows: dict[Any, Any]) -> None:
    """What is asked once more, and round by round, tells the same as the rows do."""
    heads = {row['recipe']: row['figures'] for row in found['heads']}
    assert list(heads) == ['plain', 'longer', 'armor']
    for name, figures in heads.items():
        assert figures['heads_agree']['n'] == 4
        assert figures['right_kind alone']['n'] == 2
        single = rows[name, 'single']['figures']['accuracy']['values']
        assert figures['accuracy alone']['values'] == single
    rounds = {(row['recipe'], row['round']): row['figures'] for row in found['rounds']}
    assert [key for key in rounds if key[0] == 'armor'] == [('armor', 0), ('armor', 1)]
    for place, way in ((0, 'round_0'), (1, 'last')):
        for name in ('accuracy', 'right_kind', 'rouge_l_failures'):
            told = rounds['armor', place][name]['values']
            assert told == rows['armor', way]['figures'][name]['values']
    assert rounds['armor', 0]['ran']['value'] == 1


def test_an_interrupted_study_goes_on(tmp_path: Path, data: Path) -> None:
    path = write_study(
        tmp_path,
        {'name': 'one', 'changes': {'phases': PLAIN}, 'ways': ['single']},
        {'name': 'two', 'changes': {'phases': ARMOR}, 'ways': ['single', 'last']},
    )
    run_study(request_of(path, data, tmp_path / 'whole', seeds=1))
    steps: list[tuple[str, int, int]] = []

    def watched(stop: int) -> Any:
        class Watch(Silent):
            def __init__(self, recipe: Any) -> None:
                self._name = recipe.name

            def __enter__(self) -> Watch:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def step(self, report: Any) -> None:
                steps.append((self._name, report.phase, report.step))

            def should_stop(self) -> bool:
                return len(steps) == stop

        return Watch

    request = request_of(path, data, tmp_path / 'parts', seeds=1)
    with pytest.raises(Interrupted):
        run_study(dataclasses.replace(request, watch=watched(6)))
    partial = json.loads((tmp_path / 'parts' / 'study.json').read_text())
    assert [row['recipe'] for row in partial['splits']['test']['rows']] == ['one']
    kept = tmp_path / 'parts' / 'runs' / 'one' / 'seed-0' / 'answers' / 'single'
    before = (kept / 'predictions.jsonl').stat().st_mtime_ns
    run_study(dataclasses.replace(request, watch=watched(0)))
    assert steps == [
        *(('one', 0, step) for step in range(3)),
        ('two', 0, 0), ('two', 0, 1), ('two', 1, 0), ('two', 1, 1),
    ]  # fmt: skip
    assert (kept / 'predictions.jsonl').stat().st_mtime_ns == before
    assert rows_of(tmp_path / 'parts') == rows_of(tmp_path / 'whole')


def test_only_some_recipes(tmp_path: Path, data: Path) -> None:
    path = write_study(
        tmp_path,
        {'name': 'one', 'changes': {'phases': PLAIN}, 'ways': ['single']},
        {'name': 'two', 'changes': {'phases': SFT}, 'ways': ['written']},
    )
    request = request_of(path, data, tmp_path / 'out', seeds=1)
    results = run_study(dataclasses.replace(request, only=('two',)))
    rows = collect(results)['splits']['test']['rows']
    assert [(row['recipe'], row['way']) for row in rows] == [('two', 'written')]
    with pytest.raises(ArmorError, match="no recipe 'three'; its recipes: one, two"):
        run_study(dataclasses.replace(request, only=('three',)))


def test_shards_share_the_seeds(tmp_path: Path, data: Path) -> None:
    path = write_study(tmp_path, {'name': 'one', 'changes': {'phases': PLAIN}, 'ways': ['single']})
    run_study(request_of(path, data, tmp_path / 'whole', seeds=3))
    parts = request_of(path, data, tmp_path / 'parts', seeds=3)
    run_study(dataclasses.replace(parts, shard=(2, 2)))
    (row,) = rows_of(tmp_path / 'parts')
    assert row['seeds'] == [1]
    run_study(dataclasses.replace(parts, shard=(1, 2)))
    assert rows_of(tmp_path / 'parts') == rows_of(tmp_path / 'whole')


def test_the_command(tmp_path: Path, data: Path) -> None:
    path = write_study(tmp_path, {'name': 'one', 'changes': {'phases': PLAIN}, 'ways': ['single']})
    arguments = ['study', str(path), '--data', str(data), '--output', str(tmp_path / 'out')]
    done = CliRunner().invoke(app, [*arguments, '--seeds', '1'])
    assert done.exit_code == 0, done.output
    assert '| one | single pass | 1 |' in done.output
    assert 'Motion only is not known: ' in done.output
    assert 'too few' in done.output
    wrong = CliRunner().invoke(app, [*arguments, '--only', 'two'])
    assert isinstance(wrong.exception, ArmorError)


def test_costs_are_medians_in_plain_steps() -> None:
    # the first two steps of a phase warm caches up
    seconds = {0: [9.0, 9.0, 1.0, 2.0, 12.0], 1: [90.0, 90.0, 6.0, 10.0, 120.0]}
    steps = [
        {'phase': phase, 'step': step, 'steps': 5, 'seconds': spent}
        for phase, each in seconds.items()
        for step, spent in enumerate(each)
    ]
    sampling = [{'seconds': 3.0}, {'seconds': 5.0}]
    found = measured_costs(steps, ['warmup', 'online'], sampling)
    assert found == {'warmup': 1.0, 'online': 5.0, 'sampling': 4.0}


def test_measured_compute_needs_the_other_first(tmp_path: Path, data: Path) -> None:
    path = write_study(
        tmp_path,
        {
            'name': 'longer',
            'changes': {'phases': PLAIN},
            'compute_of': 'armor',
            'ways': ['single'],
        },
        {'name': 'armor', 'changes': {'phases': CROSS}, 'ways': ['single']},
    )
    request = request_of(path, data, tmp_path / 'out', seeds=1)
    with pytest.raises(ArmorError, match='has not been trained with seed 0; train it first'):
        run_study(dataclasses.replace(request, only=('longer',)))
    results = run_study(request)
    noted = tmp_path / 'out' / 'runs' / 'longer' / 'seed-0' / 'compute.json'
    costs = json.loads(noted.read_text())['step_costs']
    assert costs['warmup'] == 1.0
    assert costs['online'] > 0
    # two models on three of six samples, and their answers
    assert costs['sampling'] > 1
    training = collect(results)['training']
    log = list(
        map(
            json.loads,
            (tmp_path / 'out' / 'runs' / 'armor' / 'seed-0' / 'training.jsonl')
            .read_text()
            .splitlines(),
        )
    )
    sampling = [line for line in log if line['kind'] == 'sampling']
    assert training['armor']['runs'][0]['sampling'] == sampling
    assert [line['asked'] for line in sampling] == [6]
    steps = costs['sampling'] + 2 + 2 * costs['online']
    assert training['longer']['runs'][0]['steps'] == pytest.approx(steps, abs=0.51)
    # measured anew it might differ; what was noted stays
    before = noted.read_bytes()
    run_study(request)
    assert noted.read_bytes() == before


@pytest.mark.parametrize(
    ('recipes', 'more', 'words'),
    [
        ([{'name': 'a', 'changes': {'data.dens': 3}}], {}, 'a: unknown key .data.dens.; did you'),
        ([{'name': 'a', 'changes': {'date.dense': 3}}], {}, "there is no 'date', but phases"),
        ([{'name': 'a', 'changes': {'phases.1.epochs': 3}}], {}, "'1' is none of the 1 places"),
        ([{'name': 'a', 'changes': {'seed.b': 3}}], {}, "'seed' has no parts"),
        ([{'name': 'a'}, {'name': 'a'}], {}, "2 recipes are named 'a'"),
        ([{'name': 'a/b'}], {}, "named 'a/b'; use letters"),
        ([{'name': 'a', 'trained_as': 'b'}], {}, "no recipe 'b'"),
        ([{'name': 'a'}, {'name': 'b', 'trained_as': 'a', 'changes': {'seed': 1}}], {},
         'leave its changes'),
        ([{'name': 'a', 'trained_as': 'a'}], {}, 'refers to a, which is not trained by itself'),
        ([{'name': 'a', 'ways': ['written']}], {}, "cannot be asked the way 'written'"),
        ([{'name': 'a'}, {'name': 'b', 'changes': {'phases.0.epochs': 3}}], {},
         'a has 1 epochs and b 3'),
        ([{'name': 'a'}, {'name': 'b', 'reference': 'b', 'changes': {'phases.0.epochs': 3}},
          {'name': 'c', 'reference': 'b'}], {}, 'b has 3 epochs and c 1'),
        ([{'name': 'a'}], {'reference': 'c'}, "no recipe 'c'"),
        ([{'name': 'a', 'reference': 'c'}], {}, "no recipe 'c'"),
        ([{'name': 'a'}], {'evaluation': {'splits': []}}, 'evaluation.splits is empty'),
    ],
)  # fmt: skip
def test_mistakes_are_named(
    tmp_path: Path, recipes: list[dict[str, Any]], more: dict[str, Any], words: str
) -> None:
    with pytest.raises(ArmorError, match=words):
        read_study(write_study(tmp_path, *recipes, **more))


def test_splits_are_checked_before_training(tmp_path: Path, data: Path) -> None:
    for split, words in (('tests', "no sample of the split 'tests'"), ('train', 'learns from')):
        path = write_study(tmp_path, {'name': 'a'}, evaluation={'splits': [split]})
        with pytest.raises(ArmorError, match=words):
            run_study(request_of(path, data, tmp_path / 'out', seeds=1))
        assert not (tmp_path / 'out' / 'runs').exists()


def test_changes_reach_into_lists_and_missing_parts() -> None:
    recipe = make_recipe({'kind': 'warmup'}, {'kind': 'expert'})
    found = changed(recipe, {'phases.1.conditioning': 'mixed', 'lora.rank': 4, 'data.dense': 2})
    assert found.phases[1].conditioning == 'mixed'
    assert found.lora is not None
    assert found.lora.rank == 4
    assert found.data.dense == 2
    assert changed(recipe, {}) == recipe
    assert with_seed(recipe, 5).data.seed == with_seed(recipe, 5).seed == 5


@pytest.mark.parametrize('name', ['ablations', 'ratios', 'smoke'])
def test_shipped_studies_are_sound(name: str) -> None:
    study, recipes = read_study(name)
    assert len(recipes) >= 2
    if name == 'ratios':
        data = [recipe.data for recipe in recipes.values()]
        assert {round((d.sparse or 0) / (d.dense or 1)) for d in data} == {2, 5, 10, 30}
    if name == 'ablations':
        names = {recipe.name for recipe in study.recipes}
        assert names >= {
            'SFT-D', 'SFT-S+D', 'multitask', 'refinement-only', 'offline-only', 'online-only',
            'armor', 'armor+mixed', 'armor+contrast', 'armor+verified', 'armor+cross',
            'armor+choice', 'equal-compute',
        }  # fmt: skip


@pytest.mark.parametrize('name', ['ablations', 'smoke'])
def test_all_recipes_begin_where_a_start_says(name: str) -> None:
    usual, others = read_study(name)
    study, recipes = read_study(name, 'out/own/checkpoint')
    assert all(recipe.model.checkpoint == 'out/own/checkpoint' for recipe in recipes.values())
    for key, recipe in recipes.items():
        assert recipe.model.random is None
        assert dataclasses.replace(recipe, model=others[key].model) == others[key]
    assert dataclasses.replace(study, changes=usual.changes) == usual


def test_unknown_studies_are_listed() -> None:
    with pytest.raises(ArmorError, match='one of these names: ablations, depth, ratios, smoke'):
        find_study('nothing')
    assert read_training_recipe('small').name == 'small'
