# SPDX-License-Identifier: Apache-2.0
"""The tables of a study as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_MAIN = {
    'accuracy': 'detection',
    'auroc': 'area under ROC',
    'rouge_l': 'explanation',
    'rouge_l_failures': 'of failures',
    'right_kind': 'right kind',
    'detected wrong_object': 'wrong object',
    'ece': 'calibration error',
    'error_auroc detection_entropy': 'entropy tells errors',
    'seconds': 'seconds',
}
_DIFFERENCES = {
    'accuracy': 'detection',
    'auroc': 'area under ROC',
    'rouge_l': 'explanation',
    'rouge_l_failures': 'of failures',
    'right_kind': 'right kind',
}
_TITLES = {'heads': '### Do the heads listen to each other?', 'rounds': '### Round by round'}
_HEADS = {
    'heads_agree': 'heads agree',
    'texts_right': 'texts right',
    'texts_mend': 'where the label is wrong',
    'texts_change': 'texts change',
    'texts_follow': 'and follow',
    'right_kind alone': 'right kind, clip alone',
    'right_kind own': 'own label',
    'right_kind true': 'true label',
    'right_kind opposite': 'opposite label',
    'other_kind': 'errors of another kind',
    'labels_change': 'labels change',
    'moves': 'failure likelier by',
    'accuracy alone': 'detection, clip alone',
    'accuracy own': 'own text',
    'accuracy right': 'text of the right outcome',
    'accuracy wrong': 'of the wrong one',
}
_HEADS_NOTE = (
    'Texts change where the explanation is another one given the opposite of the own label, and '
    'follow where it then speaks of that outcome. Errors of another kind are the share of wrong '
    'explanations of failures, from the clip alone, that name another kind of failure; the others '
    'name none. Labels change where it matters whether an explanation of another failure or of '
    'another success is quoted, and failure is likelier by so much given the former. Heads agree '
    'where label and explanation from the clip alone speak of the same outcome, and texts are '
    'right where these explanations speak of the true one: what they do not know, they cannot '
    'tell the detection. All answers are the likeliest ones.'
)
_ROUNDS = {
    'ran': 'ran',
    'accuracy': 'detection',
    'rouge_l_failures': 'explanation of failures',
    'right_kind': 'right kind',
    'heads_agree': 'heads agree',
    'texts_right': 'texts right',
    'entropy': 'detection entropy',
    'error_auroc': 'entropy tells errors',
}
_ROUNDS_NOTE = (
    'What would be answered with so many rounds more than the first; a task that stopped earlier '
    'keeps its answer, and ran is the share of those that did not.'
)
_CURVES = (
    'A curve is the mean over the seeds of the means of up to 25 steps; the band behind it goes '
    'from the lowest to the highest seed.'
)
_WAYS = {
    'single': 'single pass',
    'round_0': 'round 0',
    'last': 'refined, last',
    'best': 'refined, best',
    'likeliest': 'refined, likeliest',
    'agreeing_0': 'round 0, agreeing',
    'agreeing': 'refined, agreeing',
    'consensus_0': 'round 0, consensus',
    'consensus': 'refined, consensus',
    'written': 'as written',
    'made_to_think': 'made to think',
}
_READING = (
    'Detection is accuracy, and the area under the ROC curve that of the probability of failure, '
    'which depends on no threshold; explanation is ROUGE-L against the reference, of all tasks '
    'and of failures alone; right kind is the share of failures whose explanation names the kind '
    'of the event that caused them, and wrong object the share of failures of that kind that are '
    'detected. Entropy tells errors is the area under the ROC curve of the detection entropy as '
    "a detector of wrong answers, 0.5 is chance. Motion only is what a classifier of the arm's "
    'true path, which sees no object, reaches (accuracy; its interval is of balanced accuracy).'
)
_ANSWERS = (
    'Single pass is the likeliest label and text; round 0 the first round of refinement, whose '
    'text is sampled; refined is the answer of Algorithm 2, of the round at which it stopped '
    '(last) or of the one with the lowest combined entropy (best), or that of one trajectory that '
    'samples nothing (likeliest), which begins with the single pass. Agreeing takes of the '
    'trajectories with the same label the one whose explanation, given alone, makes the detection '
    'surest of it, consensus the one whose explanation is most like theirs. A fine-tuned model '
    'writes one text with both answers; made to think, it may not leave its thought empty.'
)
_INTERVALS = (
    'In brackets is the 95 % interval: over tasks (recordings are drawn whole) and over seeds '
    "(Student's t), added as the sides of a right angle are. With one seed it is that over tasks."
)
_STEPS = (
    'Epochs are over the samples that a recipe uses, so recipes of as many epochs on the same '
    'samples take the same steps. A control of equal compute has a longer last phase: as '
    'many plain steps as the other recipe costs, where the cost of a step of each kind is the '
    "median of its seconds in that recipe's run of the same seed over that of a warm-up step, "
    'unless the study fixes it; sampling is all that was asked, and all models that were trained '
    'for it, before phases. Phases with which several recipes begin were trained once; the '
    'seconds of each count them.'
)


TRAINING_PICTURE = 'training.svg'


def study_page(content: Mapping[str, Any]) -> str:
    """Return study.md, of the content of study.json."""
    parts = [f'# {content["name"]}']
    if content['about']:
        parts.append(content['about'])
    parts.append(
        f'Base recipe `{content["base"]}` on `{content["data"]["name"]}` (manifest sha256 '
        f'`{content["data"]["manifest_sha256"][:16]}`), up to {content["seeds"]} seeds.'
    )
    for split, found in content['splits'].items():
        parts += [f'## {split}', _main_table(found), _why_no_control(found['control'])]
        parts += ['### Differences', _difference_table(found)]
        parts += _analysis(found, split)
        parts += ['### Failures that are detected, by what caused them', _kind_table(found)]
    parts += ['## Training', _training_table(content['training'])]
    if content['training']:
        parts += [_picture(TRAINING_PICTURE, 'Losses over optimizer steps'), _CURVES]
    parts.append('## How to read this')
    parts += [_READING, _ANSWERS, _INTERVALS, _STEPS, _about(content)]
    return '\n\n'.join(part for part in parts if part) + '\n'


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; '' without rows."""
    lines = ['| ' + ' | '.join(row) + ' |' for row in rows]
    if not lines:
        return ''
    return '\n'.join(['| ' + ' | '.join(header) + ' |', '|' + '---|' * len(header), *lines])


def cell(figure: Mapping[str, Any] | None, *, signed: bool = False) -> str:
    """Return a figure with its interval as text, '-' where there is none."""
    if figure is None or figure['value'] is None:
        return '-'
    plus = '+' if signed else ''
    text = f'{figure["value"]:{plus}.3f}'
    if figure['low'] is not None:
        text += f' [{figure["low"]:{plus}.3f}, {figure["high"]:{plus}.3f}]'
    return text


def _main_table(found: Mapping[str, Any]) -> str:
    control = _control(found['control'])
    return table(
        ('recipe', 'answer', 'seeds', *_MAIN.values(), 'motion only'),
        [
            (
                row['recipe'],
                _WAYS[row['way']],
                str(len(row['seeds'])),
                *(cell(row['figures'].get(name)) for name in _MAIN),
                control,
            )
            for row in found['rows']
        ],
    )


def _control(control: Mapping[str, Any] | None) -> str:
    if control is None or control['value'] is None:
        return '-'
    return f'{control["accuracy"]:.3f} [{control["low"]:.3f}, {control["high"]:.3f}]'


def _why_no_control(control: Mapping[str, Any] | None) -> str:
    if control is None or control['value'] is not None:
        return ''
    return f'Motion only is not known: {control["reason"]}.'


def _difference_table(found: Mapping[str, Any]) -> str:
    return table(
        ('answer', 'minus', 'seeds', *_DIFFERENCES.values()),
        [
            (
                f'{row["recipe"]}, {_WAYS[row["way"]]}',
                f'{row["minus"]}, {_WAYS[row["minus_way"]]}',
                str(len(row['seeds'])),
                *(cell(row['figures'].get(name), signed=True) for name in _DIFFERENCES),
            )
            for row in found['differences']
        ],
    )


def _kind_table(found: Mapping[str, Any]) -> str:
    prefix = 'detected '
    names = dict.fromkeys(
        name.removeprefix(prefix)
        for row in found['rows']
        for name in row['figures']
        if name.startswith(prefix) and not name.startswith('detected injected ')
    )
    header = ['recipe', 'answer']
    for name in names:
        count = max(row['figures'].get(prefix + name, {'n': 0})['n'] for row in found['rows'])
        header.append(f'{name} (n {count})')
    if not names:
        return 'No sample says what caused its failure.'
    return table(
        header,
        [
            (
                row['recipe'],
                _WAYS[row['way']],
                *(cell(row['figures'].get(prefix + name)) for name in names),
            )
            for row in found['rows']
        ],
    )


def rounds_picture(split: str) -> str:
    """Return the name of the picture of a split's rounds."""
    return f'rounds-{split}.svg'


def _picture(name: str, about: str) -> str:
    return f'![{about}]({name})'


def _analysis(found: Mapping[str, Any], split: str) -> list[str]:
    """Return the tables on what refinement has to work with; nothing before they are there."""
    parts = []
    for name, columns, note in (('heads', _HEADS, _HEADS_NOTE), ('rounds', _ROUNDS, _ROUNDS_NOTE)):
        rows = [
            (
                row['recipe'],
                *([str(row['round'])] if 'round' in row else []),
                str(len(row['seeds'])),
                *(cell(row['figures'].get(key), signed=key == 'moves') for key in columns),
            )
            for row in found[name]
        ]
        header = ('recipe', *(['round'] if name == 'rounds' else []), 'seeds', *columns.values())
        if rows:
            picture = _picture(rounds_picture(split), 'Answers after each round')
            parts += [_TITLES[name], *([picture] if name == 'rounds' else [])]
            parts += [table(header, rows), note]
    return parts


def _training_table(training: Mapping[str, Any]) -> str:
    rows = []
    for name, found in training.items():
        runs = found['runs']
        seconds = sum(run['seconds'] for run in runs) / len(runs)
        steps = sorted({run['steps'] for run in runs})
        costs = runs[0]['step_costs'] or {}
        rows.append(
            (
                name,
                f'equal compute to {found["compute_of"]}'
                if found['compute_of']
                else f'{found["epochs"]:g}',
                ', '.join(map(str, steps)),
                str(runs[0]['samples']),
                str(runs[0]['dense']),
                f'{seconds:.0f}',
                ', '.join(f'{kind} {cost:g}' for kind, cost in costs.items()) or '-',
            )
        )
    header = ('recipe', 'epochs', 'steps', 'samples', 'dense', 'seconds', 'a step costs')
    return table(header, rows)


def _about(content: Mapping[str, Any]) -> str:
    versions = ', '.join(f'{name} {value}' for name, value in content['versions'].items())
    return f'Made with {versions}, on {content["host"]["machine"]}.'
