# SPDX-License-Identifier: Apache-2.0
"""What the report says in words and tables, as plain values that its template lays out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from armor_ros.evaluation.lines import Line
from armor_ros.evaluation.metrics import Metrics
from armor_ros.evaluation.report.numbers import format_number
from armor_ros.evaluation.report.run import Run

LABEL_SOURCES = {
    'status': "the robot's own word (an action's status)",
    'event': "the robot's own word (a TaskEvent)",
    'label_task': 'an operator, through the service',
    'sidecar': 'a file of labels',
    'dataset': 'the data set',
}
GROUPS = {
    'source': 'recording or data set',
    'split': 'split',
    'task_kind': 'kind of task',
    'injected_mode': 'failure that was injected',
}
# Rows of a group's table; of more, those with most tasks.
MOST_ROWS = 24
# Below this many tasks of a class, a reader is told that intervals are wide.
_FEW = 30
_MOST_POINTS = 11

Row = dict[str, Any]


def content(run: Run) -> dict[str, Any]:
    """Return everything that the template shows, but charts and gallery."""
    metrics = run.metrics
    return {
        'title': run.folder.resolve().name or 'run',
        'model': next(iter(run.table)),
        'labels': label_words(run.lines),
        'used': metrics['run']['labels_used'],
        'counts': metrics['counts'],
        'notes': notes(run),
        'tiles': tiles(metrics),
        'table': comparison(run.table),
        'groups': group_tables(run.table),
        'robot': robot_table(run.lines),
        'risk_points': risk_points(metrics),
        'facts': facts(run),
        'metrics': metrics,
    }


def tiles(metrics: Metrics) -> list[Row]:
    """Return the headline figures: title, figure, how it is written, one plain sentence."""
    detection, reasoning = metrics['detection'], metrics['reasoning']
    seconds, kinds = metrics['cost']['inference_seconds'], metrics.get('kinds')
    own = 'agrees with the robot' if metrics['run']['labels_used'] == 'weak' else 'is right'
    long = None if seconds['p99'] is None else format_number(seconds['p99'], 'seconds')
    time = {'value': seconds['p50'], 'n': seconds['n'], 'reason': 'no task was timed'}
    return [
        _tile('Accuracy', detection['accuracy'], f'Share of tasks on which the answer {own}.'),
        _tile('Failures found', detection['recall'], 'Of the tasks that failed (recall).'),
        _tile(
            'Successes confirmed',
            detection['specificity'],
            'Of the tasks that succeeded; the others are false alarms (specificity).',
        ),
        _tile(
            'AUROC',
            detection['auroc'],
            'How well the probability ranks failures above successes: 0.5 is chance, 1 perfect.',
            'number',
        ),
        _tile(
            'ROUGE-L, failures',
            reasoning['rouge_l']['failures'],
            'How many words in order an explanation of a failure shares with the reference.',
            'number',
        ),
        *_kind_tile(kinds),
        _tile(
            'Verdicts given',
            metrics['abstention']['coverage'],
            'Share of tasks with SUCCESS or FAILURE; the others are ABSTAIN or UNKNOWN.',
        ),
        {
            **_tile('Seconds a task', time, 'Half of the tasks took no longer.', 'seconds'),
            'more': long and f'99 of 100: {long}',
        },
    ]


def _kind_tile(kinds: Mapping[str, Any] | None) -> list[Row]:
    """Return the tile on kinds of failure, where the data set says what caused them."""
    if not kinds:
        return []
    sentence = 'Of the failures, those whose explanation names what caused them.'
    return [_tile('Right kind named', kinds['right_kind'], sentence)]


def _tile(title: str, figure: Mapping[str, Any], sentence: str, kind: str = 'share') -> Row:
    return {'title': title, 'figure': figure, 'sentence': sentence, 'kind': kind, 'more': None}


def notes(run: Run) -> list[str]:
    """Return what a reader must know before any figure."""
    metrics, counts = run.metrics, run.metrics['counts']
    found = []
    models = [line.get('model') or {} for line in run.lines]
    if any(model.get('trained') is False for model in models):
        found.append('This model was never trained: its verdicts mean nothing.')
    if metrics['run']['labels_used'] == 'weak':
        found.append(
            "The only labels are the robot's own word, which a monitor is there to doubt: the "
            'figures are agreement with the robot, not accuracy.'
        )
    elif metrics['run']['labels_used'] == 'none':
        found.append('No task has a label: there is nothing to be right or wrong about.')
    else:
        for name, plural in (('failure', 'failures'), ('success', 'successes')):
            count = sum(line['label'] == name and not line.get('label_weak') for line in run.lines)
            if count < _FEW:
                found.append(
                    f'There {"is" if count == 1 else "are"} only {count} labelled '
                    f'{name if count == 1 else plural}: mind the intervals.'
                )
    if counts['unknown']:
        reasons = Counter(
            'text that could not be read' if line.get('unparsable') else line.get('status', '')
            for line in run.lines
            if line['verdict'] == 'UNKNOWN'
        )
        listed = ', '.join(f'{count} {reason}' for reason, count in reasons.most_common())
        found.append(
            f'{counts["unknown"]} of {counts["tasks"]} tasks got no answer ({listed}); where they '
            'have a label, they count as wrong.'
        )
    return found


def label_words(lines: Sequence[Line]) -> list[str]:
    """Return who labelled how many tasks, in words."""
    counts = Counter(line.get('label_source') or '' for line in lines if line['label'])
    words = [
        f'{count} by {LABEL_SOURCES.get(name, name or "nobody known")}'
        for name, count in counts.most_common()
    ]
    unlabelled = sum(line['label'] is None for line in lines)
    return words + ([f'{unlabelled} without a label'] if unlabelled else [])


def comparison(table: Mapping[str, Metrics]) -> dict[str, Any]:
    """Return the run and its baselines side by side, as the paper's Table 1: heads and rows."""
    judges = sorted({name for m in table.values() for name in m['reasoning']['judges']})
    heads = [
        ('Accuracy', 'share'),
        ('Balanced accuracy', 'share'),
        ('Failures found', 'share'),
        ('Successes confirmed', 'share'),
        ('F1', 'number'),
        ('AUROC', 'number'),
        *((f'Judge {judge}', 'number') for judge in judges),
        *((f'Judge {judge}, failures', 'number') for judge in judges),
        ('ROUGE-L', 'number'),
        ('ROUGE-L, failures', 'number'),
    ]
    rows = []
    for name, metrics in table.items():
        detection, reasoning = metrics['detection'], metrics['reasoning']
        keys = ('accuracy', 'balanced_accuracy', 'recall', 'specificity', 'f1', 'auroc')
        judged = [reasoning['judges'].get(judge, {}) for judge in judges]
        figures = [
            *(detection[key] for key in keys),
            *(scores.get('total') for scores in judged),
            *(scores.get('failures') for scores in judged),
            reasoning['rouge_l']['total'],
            reasoning['rouge_l']['failures'],
        ]
        rows.append(
            {
                'name': name,
                'n': detection['accuracy']['n'],
                'unparsable': metrics['counts']['unparsable'],
                'figures': figures,
            }
        )
    # a column that nobody has a figure for says nothing
    kept = [
        index
        for index in range(len(heads))
        if any(_is_known(row['figures'][index]) for row in rows)
    ]
    for row in rows:
        row['figures'] = [row['figures'][index] for index in kept]
    return {'heads': [heads[index] for index in kept], 'rows': rows}


def group_tables(table: Mapping[str, Metrics]) -> list[Row]:
    """Return a table a way of grouping, where there is more than one group."""
    own = next(iter(table.values()))
    tables = []
    for key, title in GROUPS.items():
        groups = own['groups'].get(key) or {}
        if len(groups) < 2:
            continue
        names = sorted(groups, key=lambda name: (-groups[name]['n'], name))[:MOST_ROWS]
        others = {
            name: {group: values['accuracy'] for group, values in m['groups'][key].items()}
            for name, m in list(table.items())[1:]
        }
        tables.append(
            {
                'key': key,
                'title': title,
                'baselines': list(others),
                'rows': [
                    {
                        'name': name,
                        **groups[name],
                        'others': [accuracy.get(name) for accuracy in others.values()],
                    }
                    for name in names
                ],
                'left_out': len(groups) - len(names),
            }
        )
    return tables


def robot_table(lines: Sequence[Line]) -> list[Row]:
    """Return how often each verdict met each word of the robot's stack; rows are its words."""
    words = ('SUCCEEDED', 'ABORTED', 'CANCELED', 'UNKNOWN')
    verdicts = ('SUCCESS', 'FAILURE', 'ABSTAIN', 'UNKNOWN')
    pairs = Counter((line.get('task_status') or 'UNKNOWN', line['verdict']) for line in lines)
    return [
        {'word': word, 'counts': {verdict: pairs[word, verdict] for verdict in verdicts}}
        for word in words
        if any(pairs[word, verdict] for verdict in verdicts)
    ]


def risk_points(metrics: Metrics) -> list[tuple[float, float]]:
    """Return at most eleven points of the risk-coverage curve, for those who read numbers."""
    curve = metrics['doubt']['risk_coverage']
    points = list(zip(curve['coverage'], curve['risk'], strict=True))
    if len(points) <= _MOST_POINTS:
        return points
    last = len(points) - 1
    return [points[round(step * last / (_MOST_POINTS - 1))] for step in range(_MOST_POINTS)]


def facts(run: Run) -> list[tuple[str, str]]:
    """Return what was run, as names and values."""
    settings, metrics = run.settings, run.metrics
    refinement = (settings.get('settings') or {}).get('refinement') or {}
    model = metrics['run']['model']
    rows: list[tuple[str, Any]] = [
        ('checkpoint', settings.get('checkpoint')),
        *((name, value) for name, value in _known(model)),
        ('configuration', _listed(metrics['run']['config_hash'])),
        ('sources', _sources(metrics)),
        ('splits', _listed(settings.get('splits'))),
        ('label files', _listed(settings.get('labels'))),
        *((name.replace('_', ' '), value) for name, value in _known(refinement)),
        ('intervals', _intervals(metrics)),
        *((f'version of {name}', value) for name, value in _known(settings.get('versions'))),
        *((name, value) for name, value in _known(settings.get('host'))),
    ]
    return [(name, str(value)) for name, value in rows if value not in (None, '', [])]


def _known(values: object) -> list[tuple[str, Any]]:
    """Return the entries of a mapping that say something."""
    if not isinstance(values, Mapping):
        return []
    return [(str(k), v) for k, v in values.items() if v is not None and v != '']


def _listed(value: Any) -> str:
    return ', '.join(map(str, value)) if isinstance(value, list) else str(value or '')


def _sources(metrics: Metrics) -> str:
    names = metrics['run']['sources']
    more = len(names) - MOST_ROWS
    return ', '.join(names[:MOST_ROWS]) + (f' and {more} more' if more > 0 else '')


def _intervals(metrics: Metrics) -> str:
    run = metrics['run']
    return (
        f'{run["confidence"]:.0%}, Wilson or bootstrap of {run["replicates"]} replicates that '
        f'draw whole recordings ({run["clusters"]} of them), seed {run["seed"]}'
    )


def _is_known(figure: Mapping[str, Any] | None) -> bool:
    return figure is not None and figure['value'] is not None
