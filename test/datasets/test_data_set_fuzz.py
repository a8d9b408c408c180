# SPDX-License-Identifier: Apache-2.0
"""
Damaged data sets: whatever is wrong in a file, a reader skips it or raises ArmorError.

As a program, ``python test_data_set_fuzz.py MINUTES [SEED]`` damages data sets for so long.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from foreign_data import WRITERS, film, write_failsafe, write_lerobot_v2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from armor_ros.datasets.detect import open_data_set
from armor_ros.datasets.manifest import Sample, write_manifest
from armor_ros.errors import ArmorError


def write_manifest_set(root: Path) -> Path:
    film(root / 'a.mp4', 10, 5.0)
    sample = Sample(
        id='a', instruction='go', views={'front': 'a.mp4'}, fps=5.0, frames=10, label='success'
    )
    write_manifest(root, [sample])
    return root


SETS: dict[str, Callable[[Path], Path]] = WRITERS | {
    'lerobot_v2': write_lerobot_v2,
    'attempts': lambda root: write_failsafe(root, rows=False),
    'manifest': write_manifest_set,
}
FORMAT = {'lerobot_v2': 'lerobot', 'attempts': 'failsafe'}
ODD: list[Any] = [
    None, True, -1, 0, 7, 0.5, 1e308, float('nan'), 10**30, '', 'Yes', '../x', '/etc/passwd', '.',
    '\0', '\ud800', 'x' * 5000, 'a/' * 300, [], {}, [[]], {'bytes': 5}, [None, {}],
]  # fmt: skip


def nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value as (container, key)."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        yield value, key
        if isinstance(item, (dict, list)):
            yield from nodes(item)


def damage_json(value: Any, rng: random.Random) -> Any:
    """Drop, replace, nest or repeat something, in place where that can be."""
    if not isinstance(value, (dict, list)) or not value or rng.random() < 0.03:
        return rng.choice(ODD)
    container, key = rng.choice(list(nodes(value)))
    action = rng.choice(('drop', 'replace', 'replace', 'nest', 'repeat', 'rename'))
    if action == 'drop':
        del container[key]
    elif action == 'replace':
        container[key] = rng.choice(ODD)
    elif action == 'nest':
        container[key] = rng.choice(([container[key]], {'x': container[key]}))
    elif action == 'repeat':
        if isinstance(container, list):
            container.insert(key, container[key])
        else:
            container[str(rng.choice(ODD))] = container[key]
    elif isinstance(container, dict):
        container[rng.choice(['', 'x', str(key).upper(), '/' + str(key)])] = container.pop(key)
    return value


def damage_table(path: Path, rng: random.Random) -> None:
    """Drop a column of a parquet file, or fill it with something else."""
    columns = pq.read_table(path).to_pydict()
    name = rng.choice(list(columns))
    action = rng.choice(('drop', 'replace', 'rename', 'shorten'))
    if action == 'drop':
        del columns[name]
    elif action == 'rename':
        columns[name + 'x'] = columns.pop(name)
    elif action == 'shorten':
        count = rng.randrange(len(columns[name]))
        columns = {key: values[:count] for key, values in columns.items()}
    else:
        columns[name] = [rng.choice(ODD)] * len(columns[name])
    written = path.with_suffix('.new')
    try:
        compression = rng.choice(['none', 'snappy', 'zstd', 'gzip'])
        pq.write_table(pa.table(columns), written, compression=compression)
        written.replace(path)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        written.unlink(missing_ok=True)  # not a column that can be written


def damage_bytes(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 3, 30))):
        if not data:
            break
        # headers are where damage tells most
        end = rng.choice((64, 600, len(data)))
        place = rng.randrange(max(1, min(end, len(data))))
        if rng.random() < 0.3:
            place = len(data) - 1 - place
        action = rng.choice(('flip', 'set', 'cut', 'insert', 'remove'))
        if action == 'flip':
            data[place] ^= 1 << rng.randrange(8)
        elif action == 'set':
            length = rng.choice((1, 4, 8))
            data[place : place + length] = rng.choice((b'\0', b'\xff')) * length
        elif action == 'cut' and rng.random() < 0.2:
            del data[place:]
        elif action == 'insert':
            data[place:place] = rng.randbytes(rng.choice((1, 4, 100)))
        elif action == 'remove':
            del data[place : place + rng.choice((1, 4, 100))]
    path.write_bytes(data)


def damage(path: Path, rng: random.Random) -> None:
    """Damage one file, in its structure or its bytes."""
    kind = path.suffix
    if rng.random() < 0.05:
        path.unlink()
    elif kind == '.json' and rng.random() < 0.7:
        text = path.read_text().replace('NaN', '0')
        path.write_text(json.dumps(damage_json(json.loads(text), rng)))
    elif kind == '.jsonl' and rng.random() < 0.7:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        damaged = damage_json(lines, rng)
        rows = damaged if isinstance(damaged, list) else [damaged]
        path.write_text('\n'.join(json.dumps(row) for row in rows))
    elif kind == '.parquet' and rng.random() < 0.5:
        damage_table(path, rng)
    else:
        damage_bytes(path, rng)


def read_all(root: Path, name: str) -> str:
    """Open a data set and read every view of every record; return what came of it."""
    try:
        data = open_data_set(root, FORMAT.get(name, name))
        records = list(data.records())
    except ArmorError:
        return 'refused'
    outcome = 'skipped' if data.skipped else 'read'
    ids = [record.id for record in records]
    assert len(set(ids)) == len(ids)
    for record in records:
        json.dumps(vars_of(record)).encode('utf-8')
        for view in record.views.values():
            try:
                clip = view.read(5.0, (32, 32))
                assert clip.shape[1:] == (32, 32, 3)
            except ArmorError:
                outcome = 'unreadable view'
    return outcome


def vars_of(record: Any) -> dict[str, Any]:
    names = [name for name in record.__dataclass_fields__ if name != 'views']
    return {name: getattr(record, name) for name in names} | {'views': list(record.views)}


def fuzz_once(root: Path, name: str, rng: random.Random) -> str:
    """Damage one or two files of a data set, read it, and mend it again."""
    files = sorted(path for path in root.rglob('*') if path.is_file())
    # pictures are many and much alike
    described = [path for path in files if path.suffix not in ('.mp4', '.png')]
    chosen = {rng.choice(described if described and rng.random() < 0.6 else files)}
    if rng.random() < 0.2:
        chosen.add(rng.choice(files))
    kept = {path: path.read_bytes() for path in chosen}
    try:
        for path in sorted(chosen):
            damage(path, rng)
        return read_all(root, name)
    finally:
        for path, data in kept.items():
            path.write_bytes(data)


@pytest.fixture(scope='module')
def data_sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write(tmp_path_factory.mktemp(name)) for name, write in SETS.items()}


@pytest.mark.parametrize('name', SETS)
def test_a_damaged_data_set_is_skipped_or_refused(data_sets: dict[str, Path], name: str) -> None:
    @settings(
        max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
    )
    @given(st.randoms(use_true_random=False))
    def fuzz(rng: random.Random) -> None:
        fuzz_once(data_sets[name], name, rng)

    fuzz()


def test_the_damage_is_noticed(data_sets: dict[str, Path]) -> None:
    """Else the fuzzing would show nothing."""
    outcomes = Counter(
        fuzz_once(data_sets[name], name, random.Random(seed))
        for name in ('aha', 'lerobot_v2')
        for seed in range(60)
    )
    assert min(outcomes[kind] for kind in ('refused', 'skipped', 'unreadable view')) >= 5, outcomes


def main(minutes: float, first_seed: int) -> None:
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in SETS}
    with tempfile.TemporaryDirectory() as folder:
        roots = {name: write(Path(folder, name)) for name, write in SETS.items()}
        log = Path(tempfile.gettempdir(), f'armor_fuzz_{first_seed}.log')
        end, seed = time.monotonic() + 60 * minutes, first_seed
        while time.monotonic() < end:
            for name in SETS:
                log.write_text(f'{name} {seed}')  # found there after a crash of a library
                started = time.monotonic()
                outcomes[name][fuzz_once(roots[name], name, random.Random(seed))] += 1
                if time.monotonic() - started > 5:
                    print('slow:', name, seed, time.monotonic() - started, flush=True)
            seed += 1
    for name, counted in outcomes.items():
        print(name, sum(counted.values()), dict(counted))
    print('examples:', sum(sum(counted.values()) for counted in outcomes.values()))


if __name__ == '__main__':
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
