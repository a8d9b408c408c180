# SPDX-License-Identifier: Apache-2.0
"""``armor evaluate``: sources through the model and baselines, then everything made of it."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from armor_ros.episodes.config_hash import config_hash
from armor_ros.errors import ArmorError
from armor_ros.evaluation.baselines.answer import Example
from armor_ros.evaluation.display import Display, print_summary
from armor_ros.evaluation.evaluate import EvaluationSummary, RunOptions, evaluate
from armor_ros.evaluation.labels import LabelBook
from armor_ros.evaluation.opening import data_set_opener, open_sources
from armor_ros.evaluation.outcome import OutcomeOptions, check_outcome, make_outcome
from armor_ros.evaluation.predictor import (
    BaselinePredictor,
    EvaluationSettings,
    ModelPredictor,
    Predictor,
)
from armor_ros.evaluation.processes import Processes
from armor_ros.evaluation.run_folder import RunFolder, host_info
from armor_ros.evaluation.sources import SourceSettings
from armor_ros.parameter_declaration import Value
from armor_ros.parameters import MonitorParameters
from armor_ros.parameters_file import read_parameters

_MAX_UNKNOWN = 12


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """
    What is to be evaluated, and how; see ``armor evaluate --help``.

    Arguments that are not empty win over the parameters file. ``data_format`` is 'auto' or the
    name of a data set's format, ``data_options`` are "name=value" for its reader. ``examples``
    are sources of which ``shots`` cases are shown to baselines that take examples.
    """

    sources: Sequence[Path]
    output: Path
    checkpoint: str = ''
    params_file: Path | None = None
    cameras: Sequence[str] = ()
    instructions: Sequence[str] = ()
    quantization: str = ''
    device: str = ''
    data_format: str = 'auto'
    data_options: Sequence[str] = ()
    splits: Sequence[str] = ()
    labels: Sequence[Path] = ()
    baselines: Sequence[str] = ()
    examples: Sequence[Path] = ()
    example_splits: Sequence[str] = ()
    shots: int = 4
    pictures: bool = True
    workers: int = 0
    overwrite: bool = False
    outcome: OutcomeOptions = field(default_factory=OutcomeOptions)


def run_evaluation(request: EvaluationRequest) -> None:
    """
    Evaluate, print what came out, and write all files of the run.

    Raises ArmorError for bad settings, and at the end when a source gave no task or a limit does
    not hold.
    """
    parameters = evaluation_parameters(request)
    processes = Processes()
    try:
        _Evaluation(request, parameters, processes).run()
    finally:
        processes.close()


def evaluation_parameters(request: EvaluationRequest) -> MonitorParameters:
    """Return the monitor's parameters from its file and the arguments; ArmorError if bad."""
    values: dict[str, Value] = read_parameters(request.params_file) if request.params_file else {}
    given: dict[str, Value] = {
        'checkpoint': request.checkpoint,
        'cameras': list(request.cameras),
        'instructions': list(request.instructions),
        'quantization': request.quantization,
        'device': request.device,
    }
    values.update({name: value for name, value in given.items() if value})
    if request.baselines:
        # these can be asked alone
        values.setdefault('checkpoint', '')
    parameters = MonitorParameters(**values)  # type: ignore[arg-type]
    if not parameters.checkpoint and not request.baselines:
        raise ArmorError(
            'no model: give --checkpoint, a checkpoint folder or a Qwen2.5-VL model, a '
            'parameters file that names one, or a --baseline'
        )
    return parameters


class _Evaluation:
    """One run of the command."""

    def __init__(
        self, request: EvaluationRequest, parameters: MonitorParameters, processes: Processes
    ) -> None:
        self._request = request
        self._parameters = parameters
        self._processes = processes
        self._folder = RunFolder(request.output)
        self._console = Console(stderr=True, quiet=not processes.is_main)
        self._settings = EvaluationSettings(
            parameters.episode_settings(), parameters.refinement_settings(), request.pictures
        )
        self._labels = LabelBook(request.labels)
        cameras = parameters.camera_configs() or None
        _check_camera(parameters)
        self._source_settings = SourceSettings(
            self._settings.episodes, cameras, self._labels, tuple(request.splits)
        )
        self._sources, self._failures = open_sources(
            request.sources,
            self._source_settings,
            data_set_opener(request.data_format, request.data_options),
        )
        if not self._sources:
            raise ArmorError('\n'.join(self._failures) or 'no sources were given')
        self._run = config_hash(
            self._settings.episodes,
            [] if cameras is None else list(cameras),
            self._labels.digest(),
            list(request.splits),
        )

    def run(self) -> None:
        """Ask the model, then the baselines; score and render."""
        self._processes.on_main(self._check)
        if self._request.overwrite:
            self._processes.on_main(self._folder.clear)
        summary: EvaluationSummary | None = None
        if self._parameters.checkpoint:
            summary = self._ask_model()
        for spec in dict.fromkeys(self._request.baselines):
            answered = self._ask_baseline(spec, is_main=summary is None)
            summary = summary or answered
        assert summary is not None
        if self._processes.is_main:
            self._conclude(summary)

    def _check(self) -> None:
        """Raise ArmorError for what can be known to be wrong before a model runs for hours."""
        from armor_ros.evaluation.baselines import make_baseline

        self._folder.check_place()
        check_outcome(self._request.outcome)
        for spec in self._request.baselines:
            # a local model is loaded when its turn comes: two may not fit beside each other
            if not spec.startswith('hf:'):
                make_baseline(spec).check()

    def _ask_model(self) -> EvaluationSummary:
        # Torch is imported only when there is something to do for it.
        from armor_ros.inference.diagnoser import Diagnoser
        from armor_ros.model.checkpoint import load_checkpoint

        parameters = self._parameters
        with Display(self._console) as display:
            model = load_checkpoint(
                parameters.checkpoint,
                quantization=parameters.quantization,
                device=parameters.device,
            )
            diagnoser = Diagnoser(model, usual_explanations=parameters.explanations())
            predictor = ModelPredictor(
                diagnoser, self._settings, model.info, _calibration(parameters.checkpoint)
            )
            self._begin('model', predictor, dataclasses.asdict(model.info))
            summary = self._evaluate(predictor, self._folder.path, 'model', display)
        print_summary(self._console, summary)
        if not model.info.trained:
            self._console.print(
                '[bold]This model was never trained: its verdicts mean nothing.[/]'
            )
        del model, diagnoser, predictor
        gc.collect()
        return summary

    def _ask_baseline(self, spec: str, *, is_main: bool) -> EvaluationSummary:
        """Ask a baseline; it takes the model's place in the folder where there is no model."""
        from armor_ros.evaluation.baselines import make_baseline, takes_examples

        with Display(self._console) as display:
            baseline = make_baseline(
                spec,
                mode=self._settings.refinement.input_mode,
                camera=self._settings.refinement.camera,
                device=self._parameters.device,
                examples=self._examples() if takes_examples(spec) else (),
            )
            baseline.check()
            predictor = BaselinePredictor(
                baseline, self._settings, str(getattr(baseline, 'weights_hash', ''))
            )
            if is_main:
                self._begin(baseline.name, predictor, {'model_id': baseline.name})
            folder = self._folder.path if is_main else self._folder.baseline(baseline.name)
            summary = self._evaluate(predictor, folder, folder.name, display)
        self._console.print(f'{baseline.name}: {summary.tasks} tasks', highlight=False)
        return summary

    def _examples(self) -> tuple[Example, ...]:
        from armor_ros.evaluation.examples import choose_examples

        request = self._request
        if not request.examples:
            return ()
        settings = replace(self._source_settings, splits=tuple(request.example_splits))
        opener = data_set_opener(request.data_format, request.data_options)
        sources, failures = open_sources(request.examples, settings, opener)
        if failures:
            raise ArmorError('\n'.join(failures))
        return choose_examples(sources, request.shots, self._sources)

    def _begin(self, name: str, predictor: Predictor, model: dict[str, Any]) -> None:
        """Write run.json before the first answer, so that another run is refused from then on."""
        identity = {'settings': self._run, 'model': predictor.identity}
        request, settings = self._request, self._settings
        content = {
            'identity': identity,
            'answered_by': name,
            'sources': [
                {'name': source.name, 'kind': source.kind, 'path': str(source.path)}
                for source in self._sources
            ],
            'labels': [str(path) for path in request.labels],
            'splits': list(request.splits),
            'checkpoint': self._parameters.checkpoint,
            'model': model,
            'settings': {
                'episodes': dataclasses.asdict(settings.episodes),
                'refinement': dataclasses.asdict(settings.refinement),
                'cameras': [dataclasses.asdict(c) for c in self._parameters.camera_configs()],
            },
            'baselines': list(request.baselines),
            'processes': self._processes.count,
            **host_info(),
        }

        self._processes.on_main(lambda: self._folder.begin(content))

    def _evaluate(
        self, predictor: Predictor, output: Path, name: str, display: Display
    ) -> EvaluationSummary:
        options = RunOptions(
            evidence=self._folder.path if self._settings.pictures else None,
            workers=self._request.workers,
            parts=self._folder.parts / name,
        )
        return evaluate(
            self._sources,
            predictor,
            output,
            options,
            run=self._run,
            processes=self._processes,
            on_progress=display,
        )

    def _conclude(self, summary: EvaluationSummary) -> None:
        failures = [*self._failures, *summary.failures]
        unknown = self._labels.unknown(summary.ids)
        if unknown:
            listed = ', '.join(unknown[:_MAX_UNKNOWN])
            more = len(unknown) - _MAX_UNKNOWN
            self._console.print(
                f'[bold]{len(unknown)} labels are of no task here:[/] {listed}'
                + (f' and {more} more' if more > 0 else ''),
                highlight=False,
            )
        if not failures:
            self._folder.finish()
        try:
            make_outcome(self._folder.path, self._sources, self._request.outcome, self._console)
        except ArmorError as error:
            failures.append(str(error))
        if failures:
            raise ArmorError('\n'.join(failures))


def _check_camera(parameters: MonitorParameters) -> None:
    name = parameters.primary_camera
    known = [camera.name for camera in parameters.camera_configs()]
    if name and known and name not in known:
        raise ArmorError(f'the primary camera {name!r} is none of the cameras: {", ".join(known)}')


def _calibration(checkpoint: str) -> str:
    """Return a digest of the calibration beside a checkpoint, '' without one."""
    from armor_ros.model.calibration import CALIBRATION_FILE
    from armor_ros.model.weights import find_checkpoint

    file = find_checkpoint(checkpoint).path / CALIBRATION_FILE
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file.is_file() else ''
