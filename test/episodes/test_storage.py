# SPDX-License-Identifier: Apache-2.0
"""Pictures stay within their quota, labels are appended, a refusing disk is one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from armor_ros.episodes.storage import EvidenceStore, LabelLog
from armor_ros.errors import ArmorError


def test_the_oldest_pictures_go_first(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path / 'evidence', max_bytes=250)
    for stamp in (5, 40, 300, 1000):
        store.save(f'task/{stamp}', stamp, bytes(100))
        total = sum(path.stat().st_size for path in (tmp_path / 'evidence').iterdir())
        assert total <= 250
    names = sorted(path.name for path in (tmp_path / 'evidence').iterdir())
    assert [int(name.partition('_')[0]) for name in names] == [300, 1000]


def test_a_picture_over_the_quota_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path, max_bytes=250)
    kept = store.save('a', 1, bytes(100))
    with pytest.raises(ArmorError, match=r'251 bytes.*250'):
        store.save('b', 2, bytes(251))
    assert kept.exists()


def test_a_task_id_is_never_a_path(tmp_path: Path) -> None:
    path = EvidenceStore(tmp_path / 'evidence', 1000).save('../../x', 1, b'jpeg')
    assert path.parent == tmp_path / 'evidence'


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / 'taken').write_text('')
    with pytest.raises(ArmorError, match='data_dir'):
        EvidenceStore(tmp_path / 'taken', 1000).save('a', 1, b'jpeg')
    with pytest.raises(ArmorError, match='data_dir'):
        LabelLog(tmp_path / 'taken' / 'labels.jsonl').append({})


def test_labels_are_appended(tmp_path: Path) -> None:
    log = LabelLog(tmp_path / 'data' / 'labels.jsonl')
    log.append({'task_id': 'a', 'explanation': 'héllo'})
    log.append({'task_id': 'b'})
    lines = (tmp_path / 'data' / 'labels.jsonl').read_text(encoding='utf-8').splitlines()
    assert [json.loads(line)['task_id'] for line in lines] == ['a', 'b']
