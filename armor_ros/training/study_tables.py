# SPDX-License-Identifier: Apache-2.0
"""The results of a study as study.json, and as tables and pictures (study.md)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from armor_ros.datasets.manifest import MANIFEST_FILE, read_manifest, write_whole
from armor_ros.episodes.text_verdict import TextVerdict
from armor_ros.evaluation.failure_kinds import sample_kinds
from armor_ros.evaluation.intervals import Figure
from armor_ros.evaluation.run_folder import host_info
from armor_ros.training.run_folder import CHECKPOINT_FOLDER, DATA_FILE, RECIPE_FILE, RunFolder
from armor_ros.training.study import StudyRecipe, Way, is_sft, ways_of
from armor_ros.training.study_analysis import text_verdict
from armor_ros.training.study_compute import noted_costs
from armor_ros.training.study_curves import round_curves, training_curves
from armor_ros.training.study_figures import over_seeds
from armor_ros.training.study_page import TRAINING_PICTURE, rounds_picture, study_page
from armor_ros.training.study_results import Answers, Pair, StudyResults

RESULTS_FILE = 'study.json'
PAGE_FILE = 'study.md'
SCHEMA = 1

# Figures that are no shares: their mean is not held within 0 and 1.
_UNBOUNDED = ('rounds', 'seconds')
# What is subtracted from a refined answer to show what its rounds gave: what it began with.
_BEFORE: dict[Way, Way] = {'likeliest': 'single'}
_FIRST: tuple[Way, ...] = ('single', 'round_0')


def write_results(results: StudyResults) -> dict[str, Any]:
    """Write study.json, pictures and study.md of all that is ready; return the first's content."""
    content = collect(results)
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(results.output / RESULTS_FILE, text + '\n')
    for name, picture in _pictures(results, content).items():
        write_whole(results.output / name, picture)
    write_whole(results.output / PAGE_FILE, study_page(content))
    return content


def _pictures(results: StudyResults, content: Mapping[str, Any]) -> dict[str, str]:
    """Return pictures of training and of rounds, by the names that study.md has for them."""
    recipes = list(results.recipes)
    logs = {
        name: [
            RunFolder(results.folder(name, run['seed']), writes=False).lines('step')
            for run in found['runs']
        ]
        for name, found in content['training'].items()
    }
    pictures = {TRAINING_PICTURE: training_curves(recipes, logs)}
    for split, found in content['splits'].items():
        pictures[rounds_picture(split)] = round_curves(recipes, found['rounds'])
    return {name: picture for name, picture in pictures.items() if picture}


def collect(results: StudyResults) -> dict[str, Any]:
    """Return everything that a study has found so far, as plain values."""
    study = results.study
    samples = read_manifest(results.data)
    kinds = sample_kinds(samples)
    verdict = text_verdict(samples, study.evaluation.splits)
    manifest = (results.data / MANIFEST_FILE).read_bytes()
    answers = Answers(results)
    return {
        'schema': SCHEMA,
        'name': study.name,
        'about': study.about,
        'base': study.base,
        'changes': study.changes,
        'evaluation': dataclasses.asdict(study.evaluation),
        'reference': study.reference,
        'seeds': results.seeds,
        'data': {
            'name': results.data.resolve().name,
            'manifest_sha256': hashlib.sha256(manifest).hexdigest(),
        },
        'training': {
            name: _training(results, name)
            for name in results.recipes
            if any(_is_trained(results, name, seed) for seed in range(results.seeds))
        },
        'splits': {
            split: {
                **_split(answers, split, kinds),
                'heads': _heads(answers, split, verdict),
                'rounds': _rounds(answers, split, kinds, verdict),
            }
            for split in study.evaluation.splits
        },
        **host_info(),
    }


def _split(answers: Answers, split: str, kinds: Mapping[str, str]) -> dict[str, Any]:
    rows, differences = [], []
    for entry, way, seeds in answers.rows:
        figures = [answers.figures(entry, way, seed, split, kinds) for seed in seeds]
        row = {'recipe': entry.name, 'about': entry.about, 'way': way, 'seeds': seeds}
        rows.append({**row, 'figures': _over_seeds(figures)})
        for minus, minus_way in _compared_with(answers, entry, way):
            shared = [seed for seed in seeds if seed in answers.results.ready(minus, minus_way)]
            if not shared:
                continue
            pair = Pair(entry, way, minus, minus_way)
            found = [answers.difference(pair, seed, split, kinds) for seed in shared]
            row = {'recipe': entry.name, 'way': way, 'minus': minus.name, 'minus_way': minus_way}
            differences.append({**row, 'seeds': shared, 'figures': _over_seeds(found, -1.0)})
    control = answers.results.control.get(split)
    return {'control': control, 'rows': rows, 'differences': differences}


def _heads(answers: Answers, split: str, verdict: TextVerdict | None) -> list[dict[str, Any]]:
    """Return how the heads of each trained model listen to each other."""
    rows: list[dict[str, Any]] = []
    if verdict is None:
        return rows
    for name in answers.results.recipes:
        found = answers.heads(name, split, verdict)
        if found:
            figures = _over_seeds(list(found.values()), -1.0)
            rows.append({'recipe': name, 'seeds': list(found), 'figures': figures})
    return rows


def _rounds(
    answers: Answers, split: str, kinds: Mapping[str, str], verdict: TextVerdict | None
) -> list[dict[str, Any]]:
    """Return the figures of each trained model after each round of refinement."""
    rows: list[dict[str, Any]] = []
    if verdict is None:
        return rows
    for name in answers.results.recipes:
        found = answers.rounds(name, split, kinds, verdict)
        for index in range(max(map(len, found.values()), default=0)):
            # where no task of a seed got there, all of them kept the answers of before
            figures = [own[min(index, len(own) - 1)] for own in found.values()]
            row = {'recipe': name, 'round': index, 'seeds': list(found)}
            rows.append({**row, 'figures': _over_seeds(figures)})
    return rows


def _compared_with(
    answers: Answers, entry: StudyRecipe, way: Way
) -> list[tuple[StudyRecipe, Way]]:
    """Return what is subtracted from an answer: its own model's first, and the reference's."""
    study = answers.results.study
    found: list[tuple[StudyRecipe, Way]] = []
    if way not in _FIRST:
        found.append((entry, _BEFORE.get(way, 'round_0')))
    name = study.reference_of(entry)
    if not name or entry.name == name:
        return found
    reference = study.recipe(name)
    recipe = answers.results.recipes[reference.trained_as or reference.name]
    if not is_sft(recipe):
        own: Way = way if way in ways_of(reference, recipe) else 'single'
        found.append((reference, own))
    return found


def _over_seeds(figures: Sequence[Mapping[str, Figure]], low: float = 0.0) -> dict[str, Figure]:
    names = list(dict.fromkeys(name for each in figures for name in each))
    return {
        name: over_seeds(
            [each[name] for each in figures if name in each],
            low,
            float('inf') if name in _UNBOUNDED else 1.0,
        )
        for name in names
    }


def _is_trained(results: StudyResults, name: str, seed: int) -> bool:
    return (results.folder(name, seed) / CHECKPOINT_FOLDER).is_dir()


def _training(results: StudyResults, name: str) -> dict[str, Any]:
    """Return what training a recipe took, for each seed that is done."""
    runs = []
    for seed in range(results.seeds):
        if not _is_trained(results, name, seed):
            continue
        folder = results.folder(name, seed)
        log = RunFolder(folder, writes=False)
        steps, sampled = log.lines('step'), log.lines('sampling')
        facts = json.loads((folder / DATA_FILE).read_text(encoding='utf-8'))
        runs.append(
            {
                'seed': seed,
                'steps': len(steps),
                'seconds': round(sum(float(line['seconds']) for line in (*steps, *sampled)), 3),
                'sampling': sampled,
                'samples': facts['samples'],
                'dense': facts['dense'],
                'step_costs': noted_costs(folder),
                'recipe': str((folder / RECIPE_FILE).relative_to(results.output)),
            }
        )
    epochs = sum(phase.epochs for phase in results.recipes[name].phases)
    entry = results.study.recipe(name)
    return {'epochs': epochs, 'compute_of': entry.compute_of, 'runs': runs}
