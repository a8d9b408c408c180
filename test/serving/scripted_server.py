# SPDX-License-Identifier: Apache-2.0
"""
A server whose model does what the task's name says, the failures above all.

Run as a script with the options of ``armor_ros.serving.server``; the checkpoint's name may be
"broken" (it cannot be loaded) or "slow" (it takes a second).
"""

import logging
import os
import signal
import sys
import threading
import time

import numpy as np

from armor_ros.episodes.diagnosis import Diagnosis, ModelInfo, Round, Verdict
from armor_ros.serving.server import make_parser, serve
from armor_ros.serving.worker import LoadedModel

INFO = ModelInfo('scripted', '1', 'none', '0' * 16, False)


class Stopped(Exception):  # noqa: N818
    """The inference was asked to end."""


def digest(episode):
    """Reduce an episode to a number in [0, 1) that depends on every pixel and stamp."""
    total = sum(int(np.sum(clip.stamps_ns % 1009)) for clip in episode.clips)
    for clip in episode.clips:
        weights = np.arange(1, clip.frames.size + 1, dtype=np.uint64)
        total += int(np.sum(clip.frames.reshape(-1).astype(np.uint64) * weights))
    return (total % 100_003) / 100_003


def diagnose(
    episode,
    settings,
    *,
    stream=None,
    deadline=None,
    on_round=None,
    on_detection=None,
    should_stop=None,
    usual_explanations=(),
):
    name = episode.task.name
    value = digest(episode)
    entry = Round(0, 0, value, value > 0.5, f'a digest of {name}', 0.1, 0.2, 0.12, True)
    if name == 'raise':
        raise ValueError('the numbers do not add up')
    if name == 'memory':
        raise MemoryError
    if name == 'exit':
        sys.exit(3)
    if name == 'kill':
        os.kill(os.getpid(), signal.SIGKILL)
    if name == 'freeze':
        os.kill(os.getpid(), signal.SIGSTOP)
    if name == 'cuda':
        raise RuntimeError('CUDA error: device-side assert triggered')
    if name == 'hang':
        threading.Event().wait()
    if name == 'nan detection':
        on_detection(float('nan'))
    on_detection(value)
    if name == 'compute':  # seconds of work that holds the interpreter's lock as long as it may
        end = time.monotonic() + 5.0
        while time.monotonic() < end:
            sum(range(10_000))
    deadline = time.monotonic() + (3600 if name == 'wait' else 0)
    while time.monotonic() < deadline:
        if should_stop():
            raise Stopped
        time.sleep(0.01)
    on_round((entry,))
    return Diagnosis(
        verdict=Verdict.FAILURE if value > 0.5 else Verdict.SUCCESS,
        failure_probability=float('nan') if name == 'nan' else value,
        explanation=entry.explanation,
        detection_entropy=0.1,
        explanation_entropy=0.2,
        combined_entropy=0.12,
        selected=0,
        trace=(entry,),
        settings=settings,
        model=INFO,
    )


def main():
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    options = make_parser().parse_args()

    def load():
        if options.checkpoint == 'broken':
            raise OSError('no such checkpoint')
        if options.checkpoint == 'slow':
            time.sleep(1.0)
        return LoadedModel(INFO, diagnose)

    serve(load, options)


if __name__ == '__main__':
    main()
