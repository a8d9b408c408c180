# SPDX-License-Identifier: Apache-2.0
"""Collages and contact sheets: what is where, and what is white."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from armor_ros.episodes.collage import (
    encode_jpeg,
    render_clip,
    render_collage,
    sample_indices,
    save_picture,
    select_steps,
)
from armor_ros.episodes.episode import CameraClip, CameraEvidence, Episode
from armor_ros.episodes.task import TaskEvent, TaskPhase
from armor_ros.errors import ArmorError

SECOND = 1_000_000_000
PERIOD = SECOND // 5
START = 1_700_000_000 * SECOND
VIEWS = ('front', 'wrist', 'overhead')
CELL = (40, 60)


def clip(view: int, steps: list[int], values: dict[int, int] | None = None) -> CameraClip:
    """Return a clip with a frame in each of the steps, the view in red, the step in green."""
    frames = np.zeros((len(steps), 30, 30, 3), np.uint8)
    for index, step in enumerate(steps):
        frames[index] = (100 + view, 50 + 2 * step, (values or {}).get(step, 0))
    stamps = np.array([START + step * PERIOD + 7 for step in steps], np.int64)
    evidence = CameraEvidence(VIEWS[view], '/t', len(steps), len(steps), 0, 0, 0, 0)
    return CameraClip(evidence, frames, stamps)


def episode(*clips: CameraClip) -> Episode:
    end = START + 10 * SECOND
    task = TaskEvent(TaskPhase.END, 'task', end)
    return Episode(task, START, end, START, end, clips, False, 5.0)


def cells(picture: np.ndarray, rows: int, columns: int) -> list[list[list[int]]]:
    """Return the colour at each cell's lower right corner, away from the label."""
    height, width = picture.shape[0] // rows, picture.shape[1] // columns
    return [
        [picture[(r + 1) * height - 2, (c + 1) * width - 2].tolist() for c in range(columns)]
        for r in range(rows)
    ]


@given(st.integers(0, 500), st.integers(1, 64))
def test_uniform_indices_hold_first_and_last(count: int, columns: int) -> None:
    indices = sample_indices(count, columns)
    assert len(indices) == min(count, columns)
    assert indices == sorted(set(indices))
    assert all(0 <= index < count for index in indices)
    if count > 1 and columns > 1:
        assert (indices[0], indices[-1]) == (0, count - 1)
        gaps = np.diff(indices)
        assert gaps.max() - gaps.min() <= 1


def test_one_column_shows_the_end() -> None:
    assert sample_indices(9, 1) == [8]


def test_keyframes_are_where_the_most_moves() -> None:
    motion = np.array([0, 0, 5, 0, 9, 0, 5, 0, 0, 1], float)
    assert sample_indices(10, 4, motion) == [0, 2, 4, 9]
    assert sample_indices(10, 5, motion) == [0, 2, 4, 6, 9]
    assert sample_indices(10, 2, motion) == [0, 9]
    assert sample_indices(3, 4, motion) == [0, 1, 2]


def test_rows_are_views_and_columns_time_steps() -> None:
    picture = render_collage(
        episode(*(clip(view, list(range(50))) for view in range(3))), columns=8, cell=CELL
    )
    assert picture.shape == (3 * 40, 8 * 60, 3)
    expected = [0, 7, 14, 21, 28, 35, 42, 49]
    assert cells(picture, 3, 8) == [
        [[100 + view, 50 + 2 * step, 0] for step in expected] for view in range(3)
    ]


def test_cells_without_a_frame_are_white() -> None:
    half = clip(1, list(range(0, 25)))
    picture = render_collage(
        episode(clip(0, list(range(50))), half, clip(2, [])), columns=8, cell=CELL
    )
    rows = cells(picture, 3, 8)
    white = [255, 255, 255]
    assert white not in rows[0]
    assert rows[1][4:] == [white] * 4
    assert white not in rows[1][:4]
    assert rows[2] == [white] * 8
    assert (picture[80:] == 255).all()


def test_a_short_clip_leaves_later_columns_white() -> None:
    picture = render_collage(episode(clip(0, [0, 1, 2])), columns=5, cell=CELL)
    assert [colour == [255] * 3 for colour in cells(picture, 1, 5)[0]] == [False] * 3 + [True] * 2


def test_a_frame_missing_from_one_slot_is_taken_from_the_next() -> None:
    lagging = clip(1, [0, 2, 4])
    picture = render_collage(episode(clip(0, [0, 1, 2, 3, 4]), lagging), columns=5, cell=CELL)
    greens = [colour[1] for colour in cells(picture, 2, 5)[1]]
    assert greens == [50, 50, 54, 54, 58] or greens == [50, 54, 54, 58, 58]


def test_keyframes_of_an_episode() -> None:
    values = dict.fromkeys(range(20, 35), 255)
    moving = clip(0, list(range(50)), values)
    steps = select_steps([moving, clip(1, list(range(50)))], 5.0, 4, 'keyframes')
    assert [(step - START) // PERIOD for step in steps] == [0, 20, 35, 49]
    assert steps == select_steps([moving, clip(1, list(range(50)))], 5.0, 4, 'keyframes')


def test_cameras_are_shown_in_the_order_asked_for() -> None:
    whole = episode(*(clip(view, list(range(8))) for view in range(3)))
    picture = render_collage(whole, cell=CELL, cameras=('overhead', 'front'))
    assert [row[0][0] for row in cells(picture, 2, 8)] == [102, 100]


def test_labels_are_readable_and_can_be_left_out() -> None:
    whole = episode(clip(0, list(range(8))), clip(1, list(range(8))))
    plain = render_collage(whole, cell=(168, 168), annotate=False)
    labelled = render_collage(whole, cell=(168, 168))
    assert (plain[:168, :168] == (100, 50, 0)).all()
    changed = (plain != labelled).any(axis=2)
    for row in range(2):
        for column in range(8):
            cell = changed[row * 168 : (row + 1) * 168, column * 168 : (column + 1) * 168]
            height = int(cell.any(axis=1).sum())
            assert 12 <= height <= 30
            assert cell.mean() < 0.1
            corner = labelled[row * 168 : row * 168 + height, column * 168 : column * 168 + 20]
            assert corner.max() > 200
            assert corner.min() == 0
    # Each column bears another number.
    numbers = {labelled[168:190, c * 168 : c * 168 + 14].tobytes() for c in range(8)}
    assert len(numbers) == 8
    assert np.array_equal(labelled, render_collage(whole, cell=(168, 168)))


def test_a_contact_sheet_shows_every_frame_in_reading_order() -> None:
    picture = render_clip(episode(clip(0, list(range(10)))), columns=4, cell=CELL)
    rows = cells(picture, 3, 4)
    greens = [colour[1] for row in rows for colour in row]
    assert greens == [50 + 2 * step for step in range(10)] + [255, 255]
    few = render_clip(episode(clip(0, list(range(50)))), columns=4, cell=CELL, max_frames=8)
    assert few.shape == (2 * 40, 4 * 60, 3)


def test_a_contact_sheet_of_nothing_is_white() -> None:
    picture = render_clip(episode(clip(0, []), clip(1, [1])), 'front', cell=CELL)
    assert (picture == 255).all()
    assert (render_collage(episode(clip(0, [])), cell=CELL) == 255).all()


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'columns': 0}, 'columns is 0'),
        ({'columns': 65}, 'columns is 65'),
        ({'cell': (4, 60)}, 'cell is 4 x 60'),
        ({'selection': 'random'}, "selection is 'random'"),
        ({'cameras': ('back',)}, "no camera 'back'"),
        ({'cameras': ()}, 'no camera to make'),
    ],
)
def test_refusals(options: dict[str, object], words: str) -> None:
    with pytest.raises(ArmorError, match=words):
        render_collage(episode(clip(0, [1])), **options)  # type: ignore[arg-type]


def test_pictures_are_saved_whole(tmp_path: Path) -> None:
    picture = render_collage(episode(clip(0, list(range(8)))), cell=CELL)
    for name in ('a/b/c.png', 'c.jpg', 'C.JPEG'):
        path = save_picture(tmp_path / name, picture)
        back = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        assert back.shape == picture.shape
        limit = 0 if name.endswith('png') else 4
        assert np.abs(back.astype(int) - picture).mean() <= limit
    left = sorted(path.name for path in tmp_path.rglob('*') if path.is_file())
    assert left == ['C.JPEG', 'c.jpg', 'c.png']
    assert encode_jpeg(picture).startswith(b'\xff\xd8\xff')


def test_pictures_that_cannot_be_saved(tmp_path: Path) -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    (tmp_path / 'file').write_text('here')
    (tmp_path / 'folder.png').mkdir()
    for path in (tmp_path / 'file' / 'a.png', tmp_path / 'folder.png'):
        with pytest.raises(ArmorError, match='cannot be written'):
            save_picture(path, picture)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['file', 'folder.png']
    with pytest.raises(ArmorError, match=r"ends in '\.gif'"):
        save_picture(tmp_path / 'a.gif', picture)
    with pytest.raises(ArmorError, match='uint8'):
        save_picture(tmp_path / 'a.png', picture.astype(float))
