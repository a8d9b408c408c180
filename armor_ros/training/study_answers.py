# SPDX-License-Identifier: Apache-2.0
"""
The models of a study answer: by the code of ``armor evaluate``, in several ways.

- ``single``: one pass, the likeliest label and text.
- ``round_0``: the first round of refinement, whose texts are sampled.
- ``last``: Algorithm 2's answer, of the round at which it stopped.
- ``best``: that of the round with the lowest combined entropy.
- ``likeliest``: Algorithm 2's answer in one trajectory that samples nothing, which begins with
  ``single``.
- ``agreeing_0`` and ``agreeing``: round 0 and Algorithm 2's answer, but of the trajectories the
  one whose explanation agrees most with the label (see ``ExplanationChoice``).
- ``consensus_0`` and ``consensus``: the same with the explanation that is most like the others.
- ``written``: the text of a fine-tuned model.
- ``made_to_think``: the same where its thought may not be empty.

Rounds of one run of Algorithm 2 give all that are sampled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from armor_ros.datasets.detect import open_data_set
from armor_ros.datasets.manifest import MANIFEST_FILE, write_whole
from armor_ros.datasets.record import DataSet, Record, Skipped
from armor_ros.episodes.diagnosis import ExplanationChoice, RefinementSettings, ReturnPolicy
from armor_ros.episodes.settings import EpisodeSettings
from armor_ros.errors import ArmorError
from armor_ros.evaluation.evaluate import EvaluationProgress, evaluate
from armor_ros.evaluation.lines import (
    PREDICTIONS,
    Line,
    answer_within,
    read_lines,
    rounds_run,
)
from armor_ros.evaluation.predictor import (
    BaselinePredictor,
    EvaluationSettings,
    ModelPredictor,
    Predictor,
)
from armor_ros.evaluation.sources import RecordSource, SourceSettings
from armor_ros.inference.diagnoser import Diagnoser
from armor_ros.model.armor import ArmorModel
from armor_ros.model.checkpoint import load_checkpoint
from armor_ros.training.sft_answers import SftAnswers
from armor_ros.training.study import StudyEvaluation, Way

DONE_FILE = 'answered.json'
# The folder of the run of Algorithm 2 that these ways are parts of.
REFINED = 'refined'
# Of each, after how many rounds (0: all), of which of these, and which trajectory.
_REFINED: dict[str, tuple[int, ReturnPolicy, ExplanationChoice]] = {
    'round_0': (1, ReturnPolicy.LAST, ExplanationChoice.PAPER),
    'last': (0, ReturnPolicy.LAST, ExplanationChoice.PAPER),
    'best': (0, ReturnPolicy.BEST, ExplanationChoice.PAPER),
    'agreeing_0': (1, ReturnPolicy.LAST, ExplanationChoice.AGREEMENT),
    'agreeing': (0, ReturnPolicy.LAST, ExplanationChoice.AGREEMENT),
    'consensus_0': (1, ReturnPolicy.LAST, ExplanationChoice.CONSENSUS),
    'consensus': (0, ReturnPolicy.LAST, ExplanationChoice.CONSENSUS),
}

Progress = Callable[[EvaluationProgress], None]


@dataclass(frozen=True, slots=True)
class Questions:
    """What the models of a study are asked: the test splits of a data set, seen by cameras."""

    data: Path
    cameras: tuple[str, ...]
    settings: StudyEvaluation

    def digest(self) -> str:
        """Return what tells apart questions that may be answered differently."""
        manifest = (self.data / MANIFEST_FILE).read_bytes()
        settings = asdict(self.settings)
        # asked elsewhere
        del settings['probes']
        told = json.dumps([settings, self.cameras, 'agreement']).encode()
        return hashlib.sha256(manifest + told).hexdigest()[:16]


def folder_of(way: Way) -> str:
    """Return the name of the folder with the answers of a way."""
    return REFINED if way in _REFINED else way


def answer_all(
    checkpoint: Path,
    questions: Questions,
    ways: Sequence[Way],
    output: Path,
    on_progress: Progress | None = None,
) -> None:
    """
    Let a checkpoint answer in several ways, each in a folder of ``output``.

    What is answered already by the same weights is kept; an interrupted run goes on. Raises
    ArmorError when a sample cannot be read or the model fails on all.
    """
    model = load_checkpoint(checkpoint)
    asked = [model.info.weights_hash, questions.digest()]
    for name in dict.fromkeys(folder_of(way) for way in ways):
        folder = output / name
        done = folder / DONE_FILE
        if (folder / PREDICTIONS).is_file() and _read(done) == asked:
            continue
        predictor = _predictor(model, questions.settings, name)
        source = _source(questions, model.config.fps)
        summary = evaluate([source], predictor, folder, run=questions.digest(),
                           on_progress=on_progress)  # fmt: skip
        if summary.failures:
            raise ArmorError('\n'.join(summary.failures))
        write_whole(done, json.dumps(asked) + '\n')


def read_answers(output: Path, way: Way) -> list[Line]:
    """Return the lines of predictions of a way; raises ArmorError when there are none."""
    lines = read_lines(output / folder_of(way))
    return [as_answered(line, way) for line in lines]


def as_answered(line: Line, way: Way) -> Line:
    """Return the line as if it had been answered in another way of refinement."""
    if way not in _REFINED or not line.get('trace'):
        return line
    rounds, policy, choice = _REFINED[way]
    return _with_answer(line, rounds or rounds_run(line), policy, choice)


def at_round(line: Line, rounds: int) -> Line:
    """Return the line as if refinement had taken so many rounds at most."""
    if not line.get('trace'):
        return line
    return _with_answer(line, rounds, ReturnPolicy.LAST, ExplanationChoice.PAPER)


def _with_answer(line: Line, rounds: int, policy: ReturnPolicy, choice: ExplanationChoice) -> Line:
    settings = {**(line.get('settings') or {}), 'explanation_choice': choice.value}
    entry = answer_within({**line, 'settings': settings}, rounds, policy)
    if entry is None:
        return line
    copied = ('failure_probability', 'explanation', 'detection_entropy', 'explanation_entropy',
              'combined_entropy')  # fmt: skip
    return {
        **line,
        **{key: entry[key] for key in copied},
        'selected': line['trace'].index(entry),
        'settings': settings,
        'verdict': 'FAILURE' if entry['failed'] else 'SUCCESS',
        'calibrated': False,
    }


def _read(file: Path) -> object:
    try:
        return json.loads(file.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None


def _predictor(model: ArmorModel, settings: StudyEvaluation, name: str) -> Predictor:
    episodes = EpisodeSettings(fps=model.config.fps)
    if name in ('written', 'made_to_think'):
        answers = SftAnswers(
            model, thinks=name == 'made_to_think', max_new_tokens=settings.sft_tokens
        )
        return BaselinePredictor(answers, EvaluationSettings(episodes), answers.weights_hash)
    refinement = RefinementSettings(
        rounds=settings.rounds,
        trajectories=settings.trajectories,
        temperature=settings.temperature,
        max_new_tokens=settings.max_new_tokens,
        # notes agreements, and is else what Algorithm 2 does
        explanation_choice=ExplanationChoice.AGREEMENT,
    )
    if name in ('single', 'likeliest'):
        refinement = replace(refinement, trajectories=1, temperature=0.0)
    if name == 'single':
        refinement = replace(refinement, rounds=1)
    diagnoser = Diagnoser(model)
    return ModelPredictor(diagnoser, EvaluationSettings(episodes, refinement), model.info)


def _source(questions: Questions, fps: float) -> RecordSource:
    """Return the test samples as they were recorded, which is how training shows its own."""
    settings = SourceSettings(
        EpisodeSettings(fps=fps), splits=questions.settings.splits, as_recorded=True
    )
    opened = open_data_set(questions.data, 'manifest')
    chosen = _TestRecords(opened, questions)
    return RecordSource(questions.data, questions.data.resolve().name, chosen, settings)


class _TestRecords:
    """The records of a data set that are asked about, with the cameras that the model knows."""

    def __init__(self, data_set: DataSet, questions: Questions) -> None:
        self._data_set = data_set
        self._questions = questions
        self.skipped: Skipped = data_set.skipped
        self.examples = data_set.examples
        self.format = data_set.format

    def records(self) -> Iterator[Record]:
        """Yield them in the data set's order."""
        settings = self._questions.settings
        records = [each for each in self._data_set.records() if each.split in settings.splits]
        for split in settings.splits:
            own = [record for record in records if record.split == split]
            if not own:
                raise ArmorError(
                    f'{self._questions.data} has no sample of the split {split!r}; name others in '
                    'evaluation.splits'
                )
            kept = _draw(own, settings.samples)
            for record in own:
                if record.id in kept:
                    views = {
                        name: view
                        for name, view in record.views.items()
                        if name in self._questions.cameras
                    }
                    yield replace(record, views=views)


def _draw(records: Sequence[Record], count: int) -> set[str]:
    """Return the ids of up to ``count`` records (0: of all), those of one recording together."""

    def rank(record: Record) -> bytes:
        name = record.group or record.episode or record.id
        return hashlib.sha256(name.encode('utf-8', 'surrogatepass')).digest()

    ordered = sorted(records, key=rank)
    return {record.id for record in (ordered[:count] if count else ordered)}
