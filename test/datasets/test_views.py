# SPDX-License-Identifier: Apache-2.0
"""Views: which frames a clip has, at what size, and what a bad file costs."""

from __future__ import annotations

import os
import pickle
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from foreign_data import film, greys, plain, ramp
from hypothesis import given, settings
from hypothesis import strategies as st

from armor_ros.datasets.sampling import ClipSampler, sampled_indices
from armor_ros.datasets.video import probe_video, write_video
from armor_ros.datasets.views import (
    CollageView,
    PicturesView,
    VideoView,
    in_order,
    read_picture,
)
from armor_ros.episodes.picture import save_picture
from armor_ros.errors import ArmorError


def near(found: list[int], expected: list[int]) -> bool:
    return len(found) == len(expected) and all(
        abs(a - b) <= 2 for a, b in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize(
    ('fps', 'expected'),
    [
        (5.0, [0, 12, 24, 36, 48, 60, 72, 84, 96, 108]),  # every third frame
        (4.0, [0, 16, 32, 48, 60, 76, 92, 108]),  # the first at or after k / 4 s
        (15.0, [4 * index for index in range(30)]),
        (30.0, [4 * (-(-index // 2)) for index in range(59)]),  # a frame stands for two
    ],
)
def test_frame_k_is_the_first_at_or_after_k_through_fps(
    tmp_path: Path, fps: float, expected: list[int]
) -> None:
    view = VideoView(film(tmp_path / 'a.mp4', 30, 15.0))
    assert near(greys(view.read(fps)), expected)


def test_a_part_of_a_video_is_counted_from_its_start(tmp_path: Path) -> None:
    path = film(tmp_path / 'a.mp4', 45, 15.0)
    assert near(greys(VideoView(path, 1.0, 2.0).read(5.0)), [60, 72, 84, 96, 108])
    # rounded stamps, as tables have them, neither lose a frame nor add one
    part = VideoView(path, 1.0666667, 1.3333333)
    assert near(greys(part.read(15.0)), [64, 68, 72, 76])


def test_parts_far_into_a_video_are_found_by_its_index(tmp_path: Path) -> None:
    path = film(tmp_path / 'a.mp4', 60, 5.0)
    for start in range(0, 12, 2):
        part = VideoView(path, float(start), start + 0.4).read(5.0)
        assert near(greys(part), [20 * start, 20 * start + 4])


def test_pictures_are_cropped_then_resized(tmp_path: Path) -> None:
    frames = np.zeros((3, 80, 100, 3), np.uint8)
    frames[:, 20:60, 30:80] = 200
    write_video(tmp_path / 'a.mp4', frames, 5.0)
    view = VideoView(tmp_path / 'a.mp4', crop=(34, 24, 76, 56))
    clip = view.read(5.0, (16, 24))
    assert clip.shape == (3, 16, 24, 3)
    assert clip.min() > 190
    assert view.read(5.0).shape == (3, 32, 42, 3)
    with pytest.raises(ArmorError, match=r'crop is \(0, 0, 101, 20\).*100 x 80'):
        VideoView(tmp_path / 'a.mp4', crop=(0, 0, 101, 20)).read(5.0)


def test_av1_is_read(tmp_path: Path) -> None:
    if 'libsvtav1' not in av.codecs_available:
        pytest.skip('this build of PyAV cannot write AV1')
    path = tmp_path / 'a.mp4'

    def write() -> None:
        with av.open(str(path), 'w') as container:
            stream = container.add_stream('libsvtav1', rate=10)
            stream.width, stream.height, stream.pix_fmt = 96, 64, 'yuv420p'
            for index, frame in enumerate(ramp(20)):
                picture = av.VideoFrame.from_ndarray(frame, format='rgb24')
                picture.pts = index
                container.mux(stream.encode(picture))
            container.mux(stream.encode())

    # As root the encoder gives the thread that calls it the highest of all priorities, and does
    # not take it back: all tests after would go before whatever runs beside them. Here it ends.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(write).result()
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    assert near(greys(VideoView(path, 1.0, 2.0).read(5.0)), [40, 48, 56, 64, 72])


def test_a_video_that_lacks_its_end_is_refused(tmp_path: Path) -> None:
    """Its end may be where the task failed."""
    path = film(tmp_path / 'a.mp4', 30, 15.0)
    with pytest.raises(ArmorError, match=r'ends at 2\.00 s and should last to 3\.00 s'):
        VideoView(path, 0.0, 3.0).read(5.0)
    assert len(VideoView(path, 0.0, 2.3).read(5.0)) == 10
    # the index first, as for the web, then cut: the header still promises all
    whole = tmp_path / 'web.mp4'
    noise = np.random.default_rng(0).integers(0, 255, (40, 64, 96, 3), np.uint8)
    with av.open(str(whole), 'w', options={'movflags': 'faststart'}) as container:
        stream = container.add_stream('mpeg4', rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, 'yuv420p'
        for frame in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
        container.mux(stream.encode())
    assert len(VideoView(whole).read(5.0)) == 20
    os.truncate(whole, whole.stat().st_size // 2)
    with pytest.raises(ArmorError, match=r'cannot read the video|cut short'):
        VideoView(whole).read(5.0)


@pytest.mark.parametrize('content', [b'', b'no video', bytes(1000)])
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / 'a.mp4'
    path.write_bytes(content)
    with pytest.raises(ArmorError, match=r'cannot read the video .*a\.mp4'):
        VideoView(path).read(5.0)
    with pytest.raises(ArmorError, match=r'cannot read the video'):
        VideoView(tmp_path / 'missing.mp4').read(5.0)


def test_a_part_without_frames_is_refused(tmp_path: Path) -> None:
    path = film(tmp_path / 'a.mp4', 15, 15.0)
    with pytest.raises(ArmorError, match=r'cannot read|ends at|holds no frame'):
        VideoView(path, 5.0).read(5.0)


def test_only_what_is_returned_is_held(tmp_path: Path) -> None:
    path = film(tmp_path / 'a.mp4', 150, 15.0, height=240, width=320, step=1)
    VideoView(path).read(1.0, (24, 32))
    tracemalloc.start()
    clip = VideoView(path).read(5.0, (120, 160))
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert clip.shape == (50, 120, 160, 3)
    # the frames until they are copied, the clip, and a few pictures of full size
    assert held < 2 * clip.nbytes + 4 * 240 * 320 * 3


def test_pictures_keep_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 0, 1):
        save_picture(tmp_path / f'{number}.png', plain(10 * number))
    files = in_order(tmp_path.iterdir())
    assert [file.stem for file in files] == ['0', '1', '2', '10']
    assert greys(PicturesView(files, 0.0).read(5.0)) == [0, 10, 20, 100]
    assert greys(PicturesView(files, 10.0).read(5.0)) == [0, 20]
    assert greys(PicturesView(files, 2.0).read(4.0)) == [0, 10, 10, 20, 20, 100, 100]
    assert PicturesView(files, 0.0).read(5.0, (10, 12)).shape == (4, 10, 12, 3)


def test_a_collage_is_one_frame(tmp_path: Path) -> None:
    save_picture(tmp_path / 'a.jpg', plain(90, 40, 60))
    view = CollageView(tmp_path / 'a.jpg')
    assert view.read(5.0).shape == (1, 40, 60, 3)
    assert view.read(0.1, (20, 30)).shape == (1, 20, 30, 3)


def test_pictures_that_cannot_be_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    bomb = tmp_path / 'bomb.png'
    save_picture(bomb, plain(0))
    data = bytearray(bomb.read_bytes())
    data[16:24] = (100_000).to_bytes(4, 'big') * 2
    bomb.write_bytes(data)
    with pytest.raises(ArmorError, match=r'bomb\.png.*100000 x 100000 pixels'):
        read_picture(bomb)
    # a chunk's length is believed by decoders: 4 GiB for 200 bytes
    save_picture(bomb, plain(0))
    data = bytearray(bomb.read_bytes())
    data[33:37] = b'\xff\xff\xff\x0f'
    bomb.write_bytes(data)
    with pytest.raises(ArmorError, match=r'bomb\.png.*claims 4294967055 bytes, and \d+ are left'):
        read_picture(bomb)
    bomb.write_bytes(bomb.read_bytes()[:8])
    with pytest.raises(ArmorError, match=r'bomb\.png'):
        read_picture(bomb)
    (tmp_path / 'text.png').write_text('text')
    with pytest.raises(ArmorError, match=r'text\.png'):
        PicturesView((tmp_path / 'text.png',), 0.0).read(5.0)
    huge = tmp_path / 'huge.jpg'
    with huge.open('wb') as file:
        file.truncate(200_000_000)
    with pytest.raises(ArmorError, match='200000000 bytes; the limit'):
        read_picture(huge)


def test_rates_and_sizes_out_of_range_are_refused(tmp_path: Path) -> None:
    path = film(tmp_path / 'a.mp4', 15)
    for fps in (0.0, -1.0, float('nan'), float('inf'), 1001.0):
        with pytest.raises(ArmorError, match='fps is'):
            VideoView(path).read(fps)
    with pytest.raises(ArmorError, match='size is'):
        VideoView(path).read(5.0, (0, 10))


def test_a_clip_grows_to_a_limit_only(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = ClipSampler('x', 5.0)
    with pytest.raises(ArmorError, match='more than 20000 frames at 5 a second'):
        sampler.add(plain(0, 1, 1), 1e12)
    monkeypatch.setattr('armor_ros.datasets.sampling.MAX_CLIP_BYTES', 50_000)
    sampler = ClipSampler('x', 5.0)
    sampler.add(plain(0), 0.0)
    sampler.add(plain(0), 0.2)
    with pytest.raises(ArmorError, match='smaller size'):
        sampler.add(plain(0), 0.4)


def test_views_travel_to_other_processes(tmp_path: Path) -> None:
    view = VideoView(film(tmp_path / 'a.mp4', 15), 0.0, 1.0)
    assert pickle.loads(pickle.dumps(view)) == view


def test_a_header_tells_rate_and_length(tmp_path: Path) -> None:
    header = probe_video(film(tmp_path / 'a.mp4', 30, 15.0))
    assert (header.width, header.height, header.fps) == (96, 64, 15.0)
    assert header.seconds == pytest.approx(2.0)


@given(
    st.integers(1, 200), st.sampled_from([1, 5, 10, 15, 30]), st.sampled_from([0.5, 1, 4, 5, 25])
)
@settings(deadline=None)
def test_indices_are_those_of_the_definition(count: int, recorded: int, fps: float) -> None:
    expected = []
    k = 0
    while True:
        later = [i for i in range(count) if i / recorded >= k / fps - 1e-9]
        if not later:
            break
        expected.append(later[0])
        k += 1
    assert sampled_indices(count, float(recorded), fps) == expected
