# SPDX-License-Identifier: Apache-2.0
"""
The manifest dataset: a folder with one JSON line a sample, and the files that the lines name.

``manifest.jsonl`` has a ``Sample`` a line. Paths in it are relative to the folder, written with
``/``, and never lead out of it.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from armor_ros.configuration import config_from_dict
from armor_ros.datasets.video import Frames, read_video
from armor_ros.episodes.decoding import CompressedImage, decode_image, resize
from armor_ros.errors import ArmorError

MANIFEST_FILE = 'manifest.jsonl'
_WHERE_FROM = (
    'give the folder of a manifest data set, as armor simulate, armor dataset convert and armor '
    'dataset from-bags write'
)
PICTURES = ('.jpg', '.jpeg', '.png')

Label = Literal['success', 'failure']


@dataclass(frozen=True, slots=True)
class Sample:
    """
    One labelled clip under one instruction.

    ``views`` maps a camera's name to an mp4 file or a folder of pictures, each with ``frames``
    frames at ``fps``. ``label`` is what a learner is told; ``explanation`` None makes the sample
    sparse. ``judged`` is the truth where it is known: another than ``label`` under label noise.
    ``episode`` names the recording, which several samples may share (twins: the same video under
    another instruction); ``group`` those that must not be torn apart by a split of one's own,
    because they begin alike. ``weak`` says that the label is the word of the robot's own stack,
    ``robot_status`` what that was ('SUCCEEDED', 'ABORTED', ''), ``injected_mode`` how the attempt
    was disturbed: neither of these two is a label. ``event`` is the earliest causal event; its
    ``time_ns``, like the times in ``explanation``, counts from the clip's first frame. ``state``
    is an .npz file with arrays of ``frames`` rows, ``items`` names the things whose places it
    holds, in its order.
    """

    id: str
    instruction: str
    views: dict[str, str]
    fps: float
    frames: int
    label: Label
    weak: bool = False
    task: str = ''
    explanation: str | None = None
    split: str = ''
    source: str = ''
    episode: str = ''
    group: str = ''
    judged: Label | None = None
    robot_status: str = ''
    injected_mode: str = ''
    seed: int | None = None
    event: dict[str, Any] | None = None
    state: str | None = None
    items: tuple[str, ...] = ()
    bag: str | None = None
    collage: str | None = None

    def __post_init__(self) -> None:
        if not self.id:
            raise ArmorError("id is ''; each sample needs a name of its own")
        if not self.fps > 0 or self.fps == float('inf'):
            raise ArmorError(f'fps is {self.fps}; it must be a positive number')
        if self.frames < 1:
            raise ArmorError(f'frames is {self.frames}; it must be at least 1')
        if self.explanation is not None and not self.explanation.strip():
            raise ArmorError(
                f'explanation is {self.explanation!r}; leave it out, or null, where there is none'
            )
        for name, path in self.paths().items():
            check_path(name, path)

    def paths(self) -> dict[str, str]:
        """Return every path of the sample by the name of its field."""
        files = {'state': self.state, 'bag': self.bag, 'collage': self.collage}
        named = {name: path for name, path in files.items() if path is not None}
        return {f'views.{name}': path for name, path in self.views.items()} | named

    @property
    def dense(self) -> bool:
        """Tell whether the sample has an explanation."""
        return self.explanation is not None

    @property
    def failure_kind(self) -> str:
        """The kind of the event that caused the failure, '' where there is none known."""
        failed = (self.judged or self.label) == 'failure'
        return str((self.event or {}).get('kind', '')) if failed else ''


def check_path(name: str, path: str) -> None:
    """Refuse a path that is empty, absolute, not written with '/', or leads out of the folder."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith('/') or '..' in parts or set(path) & {'\\', ':', '\0'}:
        raise ArmorError(
            f'{name} is {path!r}; it must be a path below the folder of the manifest, without ".."'
        )


def sample_to_line(sample: Sample) -> str:
    """Return a sample as one line of JSON, without the line's end."""
    return json.dumps(dataclasses.asdict(sample), allow_nan=False)


def sample_from_line(line: str, where: str) -> Sample:
    """
    Parse one line; ``where`` names it in errors.

    Raises ArmorError on malformed JSON, an unknown key, a value of the wrong type or out of
    range, and a path that leads out of the folder.
    """
    try:
        return config_from_dict(Sample, json.loads(line))
    except (ValueError, RecursionError) as error:
        raise ArmorError(f'{where} is not valid JSON: {error}') from error
    except ArmorError as error:
        raise ArmorError(f'{where}: {error}') from error


def write_manifest(root: Path, samples: Iterable[Sample]) -> Path:
    """Write ``manifest.jsonl`` in the folder ``root``, whole or not at all; return its path."""
    path = root / MANIFEST_FILE
    text = ''.join(sample_to_line(sample) + '\n' for sample in samples)
    write_whole(path, text)
    return path


def write_whole(path: Path, text: str) -> None:
    """Replace a text file at once; raises ArmorError when it cannot be written."""
    unfinished = path.with_name(f'.{path.name}.tmp')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(text, encoding='utf-8')
        unfinished.replace(path)
    except OSError as error:
        raise ArmorError(f'cannot write {path}: {error}') from error


def read_manifest(root: Path, split: str | None = None) -> tuple[Sample, ...]:
    """
    Return the samples of the manifest in the folder ``root``, of one split or of all.

    Raises ArmorError when there is no manifest, a line is wrong (it is named), two samples have
    one id, or the split has no sample.
    """
    path = root / MANIFEST_FILE
    if not path.exists():
        remedy = f'give its folder, {root.parent}' if root.is_file() else _WHERE_FROM
        raise ArmorError(f'there is no {MANIFEST_FILE} in {root}; {remedy}')
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ArmorError(f'cannot read {path}: {error}') from error
    samples = [
        sample_from_line(line, f'{path}, line {number}')
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    for name, count in Counter(sample.id for sample in samples).items():
        if count > 1:
            raise ArmorError(f'{path}: {count} samples have the id {name!r}; make them unique')
    if split is None:
        return tuple(samples)
    chosen = tuple(sample for sample in samples if sample.split == split)
    if not chosen:
        known = ', '.join(sorted({sample.split for sample in samples})) or 'none'
        raise ArmorError(f'{path} has no sample of the split {split!r}; its splits: {known}')
    return chosen


def locate(root: Path, path: str) -> Path:
    """Return where a sample's path lies; raises ArmorError when a link leads it out of root."""
    check_path('path', path)
    place = root / path
    if not place.resolve().is_relative_to(root.resolve()):
        raise ArmorError(f'{place} is a link that leads out of {root}; copy the file instead')
    return place


def read_view(root: Path, sample: Sample, view: str) -> Frames:
    """
    Return the frames of one view, (frames, H, W, 3) uint8 RGB.

    Raises ArmorError when the sample has no such view, the file cannot be read, or the number
    of frames is another than the manifest says.
    """
    place = _locate_view(root, sample, view)
    frames = _read_pictures(place) if place.is_dir() else read_video(place)
    if len(frames) != sample.frames:
        raise ArmorError(
            f'{place} has {len(frames)} frames; the manifest says {sample.frames} '
            f'(sample {sample.id!r})'
        )
    return frames


def read_first_frame(root: Path, sample: Sample, view: str) -> Frames:
    """Return the first frame of one view, (H, W, 3) uint8 RGB; raises as ``read_view`` does."""
    place = _locate_view(root, sample, view)
    frames = _read_pictures(place, 1) if place.is_dir() else read_video(place, 1)
    first: Frames = frames[0]
    return first


def _locate_view(root: Path, sample: Sample, view: str) -> Path:
    if view not in sample.views:
        known = ', '.join(sample.views) or 'none'
        raise ArmorError(f'sample {sample.id!r} has no view {view!r}; its views: {known}')
    return locate(root, sample.views[view])


def read_state(root: Path, sample: Sample) -> dict[str, npt.NDArray[Any]]:
    """
    Return the arrays of a sample's state by name, each with ``frames`` rows; nothing is unpickled.

    Raises ArmorError when the sample has none, or the file is damaged or does not fit.
    """
    if sample.state is None:
        raise ArmorError(f'sample {sample.id!r} has no state')
    place = locate(root, sample.state)
    try:
        with np.load(place, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise ArmorError(f'cannot read the state {place}: {error}') from error
    for name, array in arrays.items():
        if not array.ndim or len(array) != sample.frames:
            raise ArmorError(
                f'{place}: {name} is {array.shape}; it needs {sample.frames} rows, one a frame'
            )
    return arrays


def _read_pictures(folder: Path, most: int | None = None) -> Frames:
    """
    Return the first ``most`` pictures of a folder, else all.

    They are in the order of their numbers, else of their names.
    """
    files = [file for file in folder.iterdir() if file.suffix.lower() in PICTURES]
    files.sort(key=lambda file: (int(file.stem) if file.stem.isdecimal() else -1, file.name))
    if not files:
        raise ArmorError(f'{folder} holds no picture ({", ".join(PICTURES)})')
    frames: list[Frames] = []
    for file in files[:most]:
        try:
            frame = decode_image(CompressedImage('', file.read_bytes()))
        except (OSError, ArmorError) as error:
            raise ArmorError(f'cannot read the picture {file}: {error}') from error
        # a folder of odd sizes takes that of its first picture
        size = frames[0].shape[:2] if frames else frame.shape[:2]
        frames.append(resize(frame, (size[0], size[1])))
    return np.stack(frames)
