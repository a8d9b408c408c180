# SPDX-License-Identifier: Apache-2.0
"""
The monitor's parameters: each declared once, with type, range, default and description.

The node declares them to ROS, ``armor evaluate`` reads the same file, so that a bag gets the
verdict of the robot; ``config/monitor.yaml`` is this table (``armor monitor --print-params``).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from armor_ros.episodes.diagnosis import (
    MAX_USUAL_EXPLANATIONS,
    ExplanationChoice,
    InputMode,
    RefinementSettings,
    ReturnPolicy,
)
from armor_ros.episodes.recorder import CameraConfig
from armor_ros.episodes.settings import EpisodeSettings
from armor_ros.episodes.text import MAX_TEXT_LENGTH
from armor_ros.errors import ArmorError
from armor_ros.parameter_declaration import check_value, declared

MEGABYTE = 1024 * 1024

# The model that comes with the package.
BUNDLED = 'simulated-cell'


@dataclass(frozen=True)
class MonitorParameters:
    """The parameters of one monitor, by name."""

    cameras: list[str] = declared(
        [''],
        'Cameras to watch, each "name=topic". Raw and compressed image topics are told apart by '
        'their type in the graph. The order is the order of the rows of a collage.',
    )
    primary_camera: str = declared(
        '', 'The camera whose video the model sees in clip mode. Empty: the first with frames.'
    )
    input_mode: str = declared(
        'checkpoint',
        "What the model looks at: one camera's video (clip), one picture of all cameras over "
        'time (collage), or what the checkpoint was trained with (checkpoint).',
        choices=('checkpoint', 'clip', 'collage'),
    )
    actions: list[str] = declared(
        ['*', '!*/armor/verify'],
        'Globs over action names whose goals are tasks; a leading "!" excludes.',
    )
    outermost_only: bool = declared(
        True, "A goal that runs inside another watched action's goal is no task of its own."
    )
    instructions: list[str] = declared(
        [''],
        'What an action asks the robot to do, each "glob=text", first match wins; the text '
        'completes "the robot is attempting to ...". TaskEvents bring their own.',
    )
    fps: float = declared(
        5.0, 'Frames a second and camera that are kept.', minimum=0.1, maximum=30.0
    )
    frame_height: int = declared(
        308, 'Height in pixels to which frames are resized on arrival.', minimum=28, maximum=4096
    )
    frame_width: int = declared(
        308, 'Width in pixels to which frames are resized on arrival.', minimum=28, maximum=4096
    )
    buffer_seconds: float = declared(
        60.0, 'Seconds of frames kept of each camera.', minimum=1.0, maximum=3600.0
    )
    buffer_megabytes: int = declared(
        256, 'Bound of the frames kept of each camera, in MiB.', minimum=1, maximum=65536
    )
    pre_roll: float = declared(
        0.0, "Seconds before a task's start that belong to its clip.", minimum=0.0, maximum=60.0
    )
    post_roll: float = declared(
        0.0, "Seconds after a task's end that belong to its clip.", minimum=0.0, maximum=60.0
    )
    settle: float = declared(
        0.5, 'Seconds to wait at most for frames still on their way.', minimum=0.0, maximum=10.0
    )
    lookback: float = declared(
        30.0,
        'Seconds before its end that a task with an unknown start is taken to have begun.',
        minimum=0.1,
        maximum=3600.0,
    )
    checkpoint: str = declared(
        BUNDLED,
        'The model: a checkpoint folder, or the name of a Qwen2.5-VL model on the hub. '
        f'{BUNDLED} comes with this package and knows the simulated robot alone.',
    )
    quantization: str = declared(
        'none', 'Precision of the backbone.', choices=('none', '8bit', '4bit')
    )
    device: str = declared(
        'auto', 'Where the model runs: auto, cpu, cuda or cuda:N. auto takes a GPU if any.'
    )
    interpreter: str = declared(
        '',
        'Python interpreter of the inference process, whose environment has torch. Empty: the '
        'one that runs the node.',
    )
    server: str = declared(
        '',
        'Inference server on another machine, "host:port". Empty: the node starts its own '
        'inference process.',
    )
    token_file: str = declared('', "File that holds the server's token.")
    rounds: int = declared(
        0,
        'Rounds of self-refinement at most (T). 0: as many as armor calibrate found best for the '
        "checkpoint, and 4, the paper's number, where it was not calibrated.",
        minimum=0,
        maximum=16,
        dynamic=True,
    )
    trajectories: int = declared(
        0,
        'Trajectories that are refined side by side (M). 0: as many as the checkpoint was '
        "calibrated with, and 3, the paper's number, where it was not calibrated.",
        minimum=0,
        maximum=16,
        dynamic=True,
    )
    tolerance: float = declared(
        1e-4,
        'Refinement stops when the combined entropy falls by less, in nats (epsilon).',
        minimum=0.0,
        maximum=10.0,
        dynamic=True,
    )
    entropy_weight: float = declared(
        0.1,
        "Weight of the explanation's entropy beside the detection's (lambda).",
        minimum=0.0,
        maximum=100.0,
        dynamic=True,
    )
    temperature: float = declared(
        0.7,
        'Sampling temperature of explanations (tau); 0 is greedy.',
        minimum=0.0,
        maximum=5.0,
        dynamic=True,
    )
    max_new_tokens: int = declared(
        80, 'Tokens of an explanation at most.', minimum=1, maximum=1024, dynamic=True
    )
    return_policy: str = declared(
        'last',
        "The round that is reported: the one at which refinement stops (last, the paper's), or "
        'the one with the lowest combined entropy (best).',
        choices=('last', 'best'),
        dynamic=True,
    )
    explanation_choice: str = declared(
        'consensus',
        'The trajectory of that round that is reported: the one with the lowest combined entropy '
        "(paper), or, of those with that one's label, the one whose explanation has most words in "
        "common with the others' (consensus), or the one whose explanation speaks most for this "
        'label when the detection is asked about each alone (agreement).',
        choices=('paper', 'agreement', 'consensus'),
        dynamic=True,
    )
    seed: int = declared(0, 'Seed of the sampling.', minimum=0, maximum=2**31 - 1, dynamic=True)
    target_error: float = declared(
        0.0,
        'Share of failures, and of successes, that may get the opposite verdict: what is too '
        "doubtful for it is ABSTAIN. 0: the level of the checkpoint's calibration, and no ABSTAIN "
        'without one; 1: every answer is given. Any other level needs a calibration made with '
        'the settings in use (armor calibrate), else tasks end as MODEL_ERROR.',
        minimum=0.0,
        maximum=1.0,
        dynamic=True,
    )
    deadline: float = declared(
        0.0,
        'Seconds of inference after which the best answer so far is reported, marked so; 0: '
        'refinement runs to its end. With a deadline, verdicts depend on the speed of the '
        'machine, and a recording may get another one than the robot.',
        minimum=0.0,
        maximum=3600.0,
        dynamic=True,
    )
    usual_explanations: list[str] = declared(
        [''],
        'Explanations that the model often gives, the likeliest first. They are guesses that '
        'make answers faster where they are right, and never change an answer.',
    )
    max_streams: int = declared(
        4,
        'Tasks whose video is encoded while they run, at most; the others are encoded at their '
        'end. 0: all is done at the end. A server elsewhere has its own.',
        minimum=0,
        maximum=64,
    )
    stream_megabytes: int = declared(
        4096,
        'Bound of what running tasks hold encoded beside the model, in MiB; what does not fit is '
        "encoded at a task's end, which its report says (late_frames). A server elsewhere has "
        'its own.',
        minimum=1,
        maximum=1048576,
    )
    timeout: float = declared(
        60.0,
        "Seconds after a task's end at which it is reported as TIMEOUT, on the steady clock.",
        minimum=0.5,
        maximum=3600.0,
    )
    queue_size: int = declared(
        16, 'Tasks that may wait for inference; more are QUEUE_FULL.', minimum=1, maximum=1024
    )
    provisional_reports: str = declared(
        'none',
        'Reports before the final one, marked provisional: none, one as soon as there is a first '
        'detection (first), or that and one after each round (rounds).',
        choices=('none', 'first', 'rounds'),
        dynamic=True,
    )
    report_history: int = declared(
        100, 'Reports kept for the get_report service.', minimum=1, maximum=10000
    )
    data_dir: str = declared(
        '', 'Folder of evidence and labels. Empty: $ROS_HOME/armor, or ~/.ros/armor.'
    )
    evidence_megabytes: int = declared(
        500,
        'Bound of the evidence pictures on disk in MiB, the oldest go first; 0 stores none.',
        minimum=0,
        maximum=1048576,
    )
    autostart: bool = declared(
        True, 'Configure and activate at start, without a lifecycle manager.'
    )

    def __post_init__(self) -> None:
        for declaration in dataclasses.fields(self):
            check_value(declaration, getattr(self, declaration.name))
        self.camera_configs()
        self.action_instructions()
        self.explanations()
        self.episode_settings()

    def camera_configs(self) -> tuple[CameraConfig, ...]:
        """Return the cameras in order; raise ArmorError for a malformed or repeated entry."""
        cameras: list[CameraConfig] = []
        for entry in filter(None, self.cameras):
            name, separator, topic = entry.partition('=')
            if not separator or not name.strip() or not topic.strip():
                raise ArmorError(
                    f'cameras: {entry!r} is not "name=topic"; write for instance '
                    '"front=/front/image_raw/compressed"'
                )
            if name.strip() in {camera.name for camera in cameras}:
                raise ArmorError(f'cameras: the name {name.strip()!r} is given twice')
            cameras.append(CameraConfig(name.strip(), topic.strip()))
        return tuple(cameras)

    def action_instructions(self) -> tuple[tuple[str, str], ...]:
        """Return (action glob, instruction) pairs; raise ArmorError for a malformed entry."""
        pairs: list[tuple[str, str]] = []
        for entry in filter(None, self.instructions):
            pattern, separator, text = entry.partition('=')
            if not separator or not pattern.strip() or not text.strip():
                raise ArmorError(
                    f'instructions: {entry!r} is not "glob=text"; write for instance '
                    '"/pick_*=pick up the item"'
                )
            pairs.append((pattern.strip(), text.strip()))
        return tuple(pairs)

    def explanations(self) -> tuple[str, ...]:
        """Return the usual explanations; raise ArmorError for too many or too long ones."""
        texts = tuple(filter(None, self.usual_explanations))
        if len(texts) > MAX_USUAL_EXPLANATIONS:
            raise ArmorError(
                f'usual_explanations has {len(texts)} entries; at most {MAX_USUAL_EXPLANATIONS} '
                'are taken: keep the likeliest'
            )
        for text in texts:
            if len(text) > MAX_TEXT_LENGTH:
                raise ArmorError(
                    f'usual_explanations: the entry that begins with {text[:40]!r} has '
                    f'{len(text)} characters; at most {MAX_TEXT_LENGTH} are taken: shorten it'
                )
        return texts

    def episode_settings(self) -> EpisodeSettings:
        """Return what the episode recorder needs."""
        return EpisodeSettings(
            fps=self.fps,
            frame_height=self.frame_height,
            frame_width=self.frame_width,
            buffer_seconds=self.buffer_seconds,
            buffer_bytes=self.buffer_megabytes * MEGABYTE,
            pre_roll=self.pre_roll,
            post_roll=self.post_roll,
            settle=self.settle,
            lookback=self.lookback,
            actions=tuple(filter(None, self.actions)),
            outermost_only=self.outermost_only,
            instructions=self.action_instructions(),
        )

    def refinement_settings(self) -> RefinementSettings:
        """Return what Algorithm 2 needs."""
        mode = None if self.input_mode == 'checkpoint' else InputMode(self.input_mode)
        return RefinementSettings(
            rounds=self.rounds,
            trajectories=self.trajectories,
            tolerance=self.tolerance,
            entropy_weight=self.entropy_weight,
            temperature=self.temperature,
            max_new_tokens=self.max_new_tokens,
            return_policy=ReturnPolicy(self.return_policy),
            seed=self.seed,
            input_mode=mode,
            camera=self.primary_camera,
            deadline=self.deadline,
            target_error=self.target_error,
            explanation_choice=ExplanationChoice(self.explanation_choice),
        )
