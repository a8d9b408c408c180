# SPDX-License-Identifier: Apache-2.0
"""``armor simulate`` on the command line: the bag, the data set, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from armor_ros.cli import app
from armor_ros.errors import ArmorError
from armor_ros.simulation import command
from armor_ros.simulation.command import Overrides, parse_shard
from armor_ros.simulation.generate import Generated
from armor_ros.simulation.recipe import Recipe
from armor_ros.simulation.splits import plan_pairs
from armor_ros.simulation.summary import SplitSummary, Summary
from armor_ros.simulation.workers import Outcome

RECIPE = 'splits: {train: {episodes: 2, tasks: {transport: 1}}}\n'


def armor(*arguments: str) -> Any:
    return CliRunner().invoke(app, ['simulate', *arguments])


def test_without_a_recipe_it_is_the_bag(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = []
    monkeypatch.setattr(command, 'run_simulation', lambda *args: calls.append(args))
    result = armor('--output', str(tmp_path / 'bag'), '--seed', '3')
    assert result.exit_code == 0
    assert calls == [(tmp_path / 'bag', Overrides(seed=3))]


def test_a_recipe_and_its_options_arrive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[Any] = []

    def fake(recipe: Recipe, output: Path, **options: Any) -> Generated:
        calls.append((recipe, output, options['shard'], options['workers']))
        split = SplitSummary(1, 0, 2, 1, 1, 2, 0, 0, 0, {'success': 7.0, 'failure': 7.0})
        return Generated(output, (), Summary({'train': split}, {'slip': {'dropped': 3}}), (), 0)

    monkeypatch.setattr(command, 'generate', fake)
    (tmp_path / 'r.yaml').write_text(RECIPE)
    result = armor(
        '--recipe', str(tmp_path / 'r.yaml'), '--output', str(tmp_path / 'set'), '--shard', '2/3',
        '--workers', '4', '--format', 'mcap', '--format', 'collage', '--seed', '9', '--size', '64',
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    ((recipe, output, shard, workers),) = calls
    assert (recipe.formats, recipe.seed, recipe.size) == (('mcap', 'collage'), 9, 64)
    assert (output, shard, workers) == (tmp_path / 'set', (2, 3), 4)


def test_pairs_that_were_not_made_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fake(recipe: Recipe, output: Path, **_: Any) -> Generated:
        failed = Outcome(plan_pairs(recipe)[0], None, 'the worker died with exit code -9')
        return Generated(output, (), Summary({}, {}), (failed,), 1)

    monkeypatch.setattr(command, 'generate', fake)
    (tmp_path / 'r.yaml').write_text(RECIPE)
    status = command.run_recipe(tmp_path / 'set', str(tmp_path / 'r.yaml'), Overrides())
    told = capsys.readouterr().err
    assert status == 1
    assert 'train-000000 could not be made: the worker died with exit code -9' in told
    assert '1 pairs of episodes are still to be made' in told


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ([], 'needs --output'),
        (['--output', 'x', '--format', 'mcap'], 'give --recipe too'),
        (['--output', 'x', '--recipe', 'smok'], "no recipe 'smok'"),
        (['--output', 'x', '--recipe', 'smoke', '--shard', '3/2'], "shard is '3/2'"),
        (['--output', 'x', '--recipe', 'smoke', '--format', 'mp4'], "'mp4'; it must be one of"),
        (['--output', 'x', '--recipe', 'smoke', '--size', '77'], 'even'),
        (['--output', 'x', '--recipe', 'smoke', '--format', 'audit', '--gallery'], 'first alone'),
    ],
)
def test_mistakes_are_refused(arguments: list[str], words: str, tmp_path: Path) -> None:
    result = armor(*[str(tmp_path / 'x') if a == 'x' else a for a in arguments])
    assert isinstance(result.exception, ArmorError)
    assert words in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_shards() -> None:
    assert parse_shard('1/1') == (1, 1)
    for wrong in ('0/2', '3/2', '1', 'a/b', '1/0', '-1/2', '1/2/3', ''):
        with pytest.raises(ArmorError, match='shard'):
            parse_shard(wrong)


def test_audit_is_an_action_of_its_own(tmp_path: Path) -> None:
    result = armor('audit', str(tmp_path))
    assert isinstance(result.exception, ArmorError)
    assert 'manifest.jsonl' in str(result.exception)
