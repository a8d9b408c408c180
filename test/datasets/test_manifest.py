# SPDX-License-Identifier: Apache-2.0
"""The manifest dataset: lines, frames and states come back, and nothing leads out of its root."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from armor_ros.datasets.manifest import (
    Sample,
    read_first_frame,
    read_manifest,
    read_state,
    read_view,
    sample_from_line,
    sample_to_line,
    write_manifest,
)
from armor_ros.datasets.video import write_video
from armor_ros.episodes.picture import save_picture
from armor_ros.errors import ArmorError

SAMPLE = Sample(
    id='train-1',
    instruction='lift the red ball',
    views={'front': 'videos/train-1/front.mp4'},
    fps=5.0,
    frames=4,
    label='failure',
    split='train',
)

paths = st.lists(
    st.text('abcXYZ019_-. ', min_size=1).filter(lambda part: part.strip('. ')),
    min_size=1,
    max_size=3,
).map('/'.join)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
samples = st.builds(
    Sample,
    id=st.text(min_size=1),
    instruction=st.text(),
    views=st.dictionaries(st.text(), paths, max_size=3),
    fps=st.floats(0.1, 100.0),
    frames=st.integers(1, 10**6),
    label=st.sampled_from(['success', 'failure']),
    task=st.text(),
    explanation=st.none() | st.text(min_size=1).filter(str.strip),
    split=st.text(),
    judged=st.none() | st.sampled_from(['success', 'failure']),
    seed=st.none() | st.integers(),
    event=st.none() | st.dictionaries(st.text(), values, max_size=3),
    state=st.none() | paths,
    bag=st.none() | paths,
)


@given(samples)
def test_every_sample_survives_its_line(sample: Sample) -> None:
    line = sample_to_line(sample)
    # by lines in the sense of str.splitlines too, which knows more ends than '\n'
    assert len(line.splitlines()) == 1
    assert sample_from_line(line, 'x') == sample


@given(st.text() | values.map(json.dumps))
def test_any_other_line_is_refused(line: str) -> None:
    with pytest.raises(ArmorError, match=r'^line 7'):
        sample_from_line(line, 'line 7')


def test_a_written_manifest_is_read(tmp_path: Path) -> None:
    both = (SAMPLE, replace(SAMPLE, id='test-1', split='test', explanation='It fell.'))
    write_manifest(tmp_path, both)
    assert read_manifest(tmp_path) == both
    assert read_manifest(tmp_path, 'test') == both[1:]
    assert both[1].dense
    assert not both[0].dense
    with pytest.raises(ArmorError, match="'dev'; its splits: test, train"):
        read_manifest(tmp_path, 'dev')


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'explaination': 'x'}, "unknown key 'explaination'; did you mean 'explanation'"),
        ({'label': 'maybe'}, "label is 'maybe'"),
        ({'frames': 0}, 'frames is 0'),
        ({'frames': 2.5}, 'frames is 2.5'),
        ({'fps': -1}, 'fps is -1'),
        ({'explanation': ' '}, "explanation is ' '; leave it out, or null"),
        ({'id': ''}, "id is ''"),
        ({'views': ['a.mp4']}, 'views is'),
        ({'views': {'front': '../a.mp4'}}, 'views.front is'),
        ({'views': {'front': 'a/../../b.mp4'}}, 'views.front is'),
        ({'views': {'front': '/etc/passwd'}}, 'views.front is'),
        ({'views': {'front': 'C:/a.mp4'}}, 'views.front is'),
        ({'views': {'front': '..\\a.mp4'}}, 'views.front is'),
        ({'views': {'front': ''}}, 'views.front is'),
        ({'state': '..'}, 'state is'),
        ({'bag': '//host/x'}, 'bag is'),
        ({'collage': 'a\0b'}, 'collage is'),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, change: dict, words: str) -> None:
    wrong = json.loads(sample_to_line(SAMPLE)) | change
    write_manifest(tmp_path, [SAMPLE])
    with (tmp_path / 'manifest.jsonl').open('a') as file:
        file.write(json.dumps(wrong) + '\n')
    with pytest.raises(ArmorError) as caught:
        read_manifest(tmp_path)
    assert 'manifest.jsonl, line 2: ' in str(caught.value)
    assert words in str(caught.value)


def test_missing_keys_double_ids_and_no_manifest_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArmorError, match=r'there is no manifest.jsonl in .*; give the folder of'):
        read_manifest(tmp_path)
    with pytest.raises(ArmorError, match="'instruction' is missing"):
        sample_from_line('{"id": "a"}', 'x')
    write_manifest(tmp_path, [SAMPLE, SAMPLE])
    with pytest.raises(ArmorError, match="2 samples have the id 'train-1'"):
        read_manifest(tmp_path)


def film(frames: int = 4) -> np.ndarray:
    return np.arange(frames, dtype=np.uint8)[:, None, None, None] * 50 + np.zeros(
        (1, 32, 48, 3), np.uint8
    )


def test_views_are_read_from_mp4_and_from_folders(tmp_path: Path) -> None:
    (tmp_path / 'videos/train-1').mkdir(parents=True)
    write_video(tmp_path / 'videos/train-1/front.mp4', film(), 5.0)
    for index, frame in enumerate(film(12)):
        save_picture(tmp_path / f'videos/train-1/wrist/{index}.png', frame)
    sample = replace(
        SAMPLE, views={'front': 'videos/train-1/front.mp4', 'wrist': 'videos/train-1/wrist'}
    )
    front = read_view(tmp_path, sample, 'front')
    assert front.shape == (4, 32, 48, 3)
    assert np.abs(front.astype(int) - film()).max() < 10
    wrist = read_view(tmp_path, replace(sample, frames=12), 'wrist')
    np.testing.assert_array_equal(wrist, film(12))  # 10.png comes after 9.png
    np.testing.assert_array_equal(read_first_frame(tmp_path, sample, 'front'), front[0])
    np.testing.assert_array_equal(read_first_frame(tmp_path, sample, 'wrist'), wrist[0])
    with pytest.raises(ArmorError, match="no view 'side'; its views: front, wrist"):
        read_view(tmp_path, sample, 'side')
    with pytest.raises(ArmorError, match='has 4 frames; the manifest says 5'):
        read_view(tmp_path, replace(sample, frames=5), 'front')


def test_bad_folders_of_pictures_are_named(tmp_path: Path) -> None:
    sample = replace(SAMPLE, views={'front': 'front'})
    (tmp_path / 'front').mkdir()
    with pytest.raises(ArmorError, match='holds no picture'):
        read_view(tmp_path, sample, 'front')
    (tmp_path / 'front' / '0.png').write_bytes(b'no picture')
    with pytest.raises(ArmorError, match=r'0\.png'):
        read_view(tmp_path, sample, 'front')


def test_links_do_not_lead_out_of_the_root(tmp_path: Path) -> None:
    root = tmp_path / 'root'
    root.mkdir()
    write_video(tmp_path / 'secret.mp4', film(), 5.0)
    (root / 'a.mp4').symlink_to('../secret.mp4')
    with pytest.raises(ArmorError, match='leads out of'):
        read_view(root, replace(SAMPLE, views={'front': 'a.mp4'}), 'front')
    # a root that is a link itself is fine
    (tmp_path / 'alias').symlink_to(tmp_path)
    sample = replace(SAMPLE, views={'front': 'secret.mp4'})
    assert len(read_view(tmp_path / 'alias', sample, 'front')) == 4


def test_states_are_read_and_never_unpickled(tmp_path: Path) -> None:
    sample = replace(SAMPLE, state='s.npz')
    np.savez(tmp_path / 's.npz', tcp=np.ones((4, 3)))
    assert read_state(tmp_path, sample)['tcp'].shape == (4, 3)
    with pytest.raises(ArmorError, match='needs 5 rows'):
        read_state(tmp_path, replace(sample, frames=5))
    np.savez(tmp_path / 's.npz', tcp=np.array([{}, {}, {}, {}]))
    with pytest.raises(ArmorError, match=r's\.npz'):
        read_state(tmp_path, sample)
    for junk in (b'', b'junk', b'PK\x03\x04'):
        (tmp_path / 's.npz').write_bytes(junk)
        with pytest.raises(ArmorError, match=r's\.npz'):
            read_state(tmp_path, sample)
    with pytest.raises(ArmorError, match='has no state'):
        read_state(tmp_path, SAMPLE)
