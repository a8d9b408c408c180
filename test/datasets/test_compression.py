# SPDX-License-Identifier: Apache-2.0
"""zstd and lz4 are undone, but not to any size."""

from __future__ import annotations

from pathlib import Path

import lz4.frame
import pytest

from armor_ros.datasets.compression import expand_file, unlz4, unzstd, zstd

DATA = bytes(range(256)) * 40


def test_frames_in_a_row_are_one() -> None:
    packed = zstd.compress(DATA[:5000]) + zstd.compress(DATA[5000:])
    assert unzstd(packed) == (DATA, True)
    assert unzstd(b'') == (b'', True)


def test_growth_is_limited() -> None:
    bomb = zstd.compress(bytes(1 << 20))
    assert len(bomb) < 1000
    with pytest.raises(ValueError, match='grows beyond 1000 bytes'):
        unzstd(bomb, 1000)
    with pytest.raises(ValueError, match='grows beyond 15000 bytes'):
        unzstd(zstd.compress(DATA) * 2, 15_000)
    assert unzstd(zstd.compress(DATA), len(DATA)) == (DATA, True)
    assert len(unlz4(lz4.frame.compress(bytes(1 << 20)), 1000)) == 1000


def test_a_cut_input_says_so() -> None:
    data, complete = unzstd(zstd.compress(DATA)[:-3])
    assert not complete
    assert DATA.startswith(data)


def test_what_is_not_compressed_is_refused() -> None:
    with pytest.raises(ValueError, match=r'\w'):
        unzstd(b'no zstd at all, rather a text')
    with pytest.raises(ValueError, match=r'\w'):
        unlz4(b'no lz4 at all, rather a text')


@pytest.mark.parametrize('cut', [0, 3])
def test_files(tmp_path: Path, cut: int) -> None:
    packed = zstd.compress(DATA) + zstd.compress(DATA)
    source, target = tmp_path / 'a.zstd', tmp_path / 'a'
    source.write_bytes(packed[: len(packed) - cut])
    assert expand_file(source, target) is (cut == 0)
    assert target.read_bytes().startswith(DATA)
    source.write_bytes(b'no zstd at all, rather a text')
    with pytest.raises(ValueError, match=r'\w'):
        expand_file(source, target)
