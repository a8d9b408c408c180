# SPDX-License-Identifier: Apache-2.0
"""What explains a gain of refinement, or none: whether heads listen, and whether doubt tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from armor_ros.datasets.manifest import Sample
from armor_ros.episodes.text_verdict import TextVerdict
from armor_ros.evaluation.doubt import error_auroc
from armor_ros.evaluation.failure_kinds import NO_KINDS, kind_figures, kind_of
from armor_ros.evaluation.intervals import Bootstrap, Figure, Flags
from armor_ros.evaluation.labelled import Labelled, numbers
from armor_ros.evaluation.lines import Line, answered_failed, rounds_run
from armor_ros.evaluation.reasoning import Referenced
from armor_ros.training.study_answers import at_round
from armor_ros.training.study_probes import Probe, explained
from armor_ros.training.verification import explains_both, verdict_of


def text_verdict(samples: Sequence[Sample], splits: Sequence[str]) -> TextVerdict | None:
    """
    Return who tells what an explanation speaks of, taught by samples of no evaluated split.

    None where these do not explain both failures and successes.
    """
    others = explained([own for own in samples if own.split not in splits])
    return verdict_of(others) if explains_both(others) else None


def probe_figures(probes: Sequence[Probe], verdict: TextVerdict) -> dict[str, Figure]:
    """
    Return how far each head listens to what is quoted of the other, by name.

    - ``texts_change``: the explanation is another given the opposite of the model's own label,
      ``texts_follow``: it then speaks of that outcome.
    - ``right_kind HOW``: of failures, whose explanation names the right kind, from the clip
      (``alone``), given the ``own``, the ``true`` and the ``opposite`` label. ``other_kind``: of
      the wrong ones from the clip alone, those that name another kind of failure.
    - ``labels_change``: the label depends on whether an explanation of another failure or of
      another success is quoted; ``moves``: how much more likely failure is given the former.
    - ``accuracy HOW``: of the label, from the clip ``alone``, given the ``own`` explanation, and
      one of another sample with the ``right`` or the ``wrong`` outcome.
    - ``heads_agree``: label and explanation from the clip alone speak of the same outcome;
      ``texts_right``: the explanation speaks of the true one, ``texts_mend``: it does where the
      label is wrong. What is quoted cannot tell the detection more than that.
    """
    bootstrap, everything = Bootstrap([own.cluster for own in probes]), _all(probes)
    agree = _flags([verdict.agrees(own.explanation, own.said_failed) for own in probes])
    right = _flags([verdict.agrees(own.explanation, own.failed) for own in probes])
    wrong_label = _flags([own.said_failed != own.failed for own in probes])
    return {
        **_text_figures(probes, verdict, bootstrap),
        **_label_figures(probes, bootstrap),
        'heads_agree': bootstrap.proportion(agree, everything),
        'texts_right': bootstrap.proportion(right, everything),
        'texts_mend': bootstrap.proportion(right, wrong_label, 'no label is wrong'),
    }


def _text_figures(
    probes: Sequence[Probe], verdict: TextVerdict, bootstrap: Bootstrap
) -> dict[str, Figure]:
    """Return how explanations depend on the label that is quoted."""
    everything = _all(probes)
    known = _flags([own.failed and bool(own.kind) for own in probes])
    texts = {
        'alone': [own.explanation for own in probes],
        'own': [own.given_own for own in probes],
        'true': [
            own.given_own if own.said_failed == own.failed else own.given_opposite
            for own in probes
        ],
        'opposite': [own.given_opposite for own in probes],
    }
    named = {
        how: _flags([kind_of(text) == own.kind for text, own in zip(said_so, probes, strict=True)])
        for how, said_so in texts.items()
    }
    names_a_kind = _flags([bool(kind_of(text)) for text in texts['alone']])
    follow = _flags([verdict.agrees(own.given_opposite, not own.said_failed) for own in probes])
    change = _flags([own.given_opposite != own.given_own for own in probes])
    return {
        'texts_change': bootstrap.proportion(change, everything),
        'texts_follow': bootstrap.proportion(follow, everything),
        **{
            f'right_kind {how}': bootstrap.proportion(hits, known, NO_KINDS)
            for how, hits in named.items()
        },
        'other_kind': bootstrap.proportion(
            names_a_kind, known & ~named['alone'], 'no kind is named wrongly'
        ),
    }


def _label_figures(probes: Sequence[Probe], bootstrap: Bootstrap) -> dict[str, Figure]:
    """Return how labels depend on the explanation that is quoted."""
    everything = _all(probes)
    failed = _flags([own.failed for own in probes])
    of_failure, of_success = (
        np.array([getattr(own, f'probability_{outcome}') for own in probes], np.float64)
        for outcome in ('failure', 'success')
    )
    said = {
        'alone': _flags([own.said_failed for own in probes]),
        'own': _flags([own.probability_own >= 0.5 for own in probes]),
        # an explanation of the right outcome, and of the wrong one
        'right': np.where(failed, of_failure, of_success) >= 0.5,
        'wrong': np.where(failed, of_success, of_failure) >= 0.5,
    }
    return {
        'labels_change': bootstrap.proportion(
            (of_failure >= 0.5) != (of_success >= 0.5), everything
        ),
        'moves': bootstrap.mean(of_failure - of_success, everything),
        **{
            f'accuracy {how}': bootstrap.proportion(label == failed, everything)
            for how, label in said.items()
        },
    }


def _all(probes: Sequence[Probe]) -> Flags:
    return np.ones(len(probes), np.bool_)


def _flags(values: Sequence[bool]) -> Flags:
    return np.array(values, np.bool_)


def round_figures(
    lines: Sequence[Line], kinds: Mapping[str, str], verdict: TextVerdict
) -> list[dict[str, Figure]]:
    """
    Return the figures after each round of refinement, from round 0 on.

    A task that stopped earlier keeps its answer; ``ran`` is the share of those that did not.
    ``error_auroc`` says how well the detection entropy tells wrong labels from right ones.
    """
    count = max((rounds_run(line) for line in lines), default=0)
    return [_round(lines, index, kinds, verdict) for index in range(count)]


def _round(
    lines: Sequence[Line], index: int, kinds: Mapping[str, str], verdict: TextVerdict
) -> dict[str, Figure]:
    answers = [at_round(line, index + 1) for line in lines if line['label']]
    tasks = Labelled.of(answers)
    bootstrap, everything = tasks.bootstrap, tasks.everything
    referenced = Referenced(answers, {})
    rouge = referenced.rouge([line.get('explanation') or '' for line in referenced.lines])
    ran = np.array([rounds_run(line) > index for line in tasks.lines], np.bool_)
    texts = [line.get('explanation') or '' for line in tasks.lines]
    agree = _flags(
        [
            verdict.agrees(text, bool(answered_failed(line)))
            for text, line in zip(texts, tasks.lines, strict=True)
        ]
    )
    right = _flags(
        [
            verdict.agrees(text, line['label'] == 'failure')
            for text, line in zip(texts, tasks.lines, strict=True)
        ]
    )
    entropy = np.nan_to_num(numbers(tasks.lines, 'detection_entropy'))
    return {
        'ran': bootstrap.proportion(ran, everything),
        'accuracy': bootstrap.proportion(tasks.right, everything),
        'rouge_l_failures': referenced.mean(rouge, referenced.failed),
        'right_kind': kind_figures(tasks, kinds)['right_kind'],
        'heads_agree': bootstrap.proportion(agree, tasks.answered, 'no task was answered'),
        'texts_right': bootstrap.proportion(right, everything),
        'entropy': bootstrap.mean(entropy, tasks.answered, 'no task was answered'),
        'error_auroc': error_auroc(tasks)['detection_entropy'],
    }
