# SPDX-License-Identifier: Apache-2.0
"""Recordings, whole and damaged, as plain values."""

from __future__ import annotations

import shutil
import sqlite3
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from armor_ros.datasets.bag_reader import BagReader
from armor_ros.datasets.bag_writer import BagWriter, write_bag
from armor_ros.datasets.bags import (
    Bag,
    BagClock,
    BagImage,
    BagMessage,
    BagStatus,
    BagTaskEvent,
    bag_info,
    find_cameras,
    read_bag,
)
from armor_ros.datasets.compression import ZSTD_MAGIC, zstd
from armor_ros.datasets.storage import parse_qos
from armor_ros.episodes.decoding import CompressedImage, RawImage
from armor_ros.episodes.goal_tracker import GoalState
from armor_ros.episodes.task import TaskEvent, TaskPhase, TaskStatus
from armor_ros.errors import ArmorError

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
RAW_TOPIC = '/front/image_raw'
JPEG_TOPIC = '/wrist/image_raw/compressed'
ALL = (RAW_TOPIC, JPEG_TOPIC)


def sample_messages(count: int = 12) -> list[BagMessage]:
    """A small recording with every kind of message, one image of each camera every 100 ms."""
    pixels = np.arange(48, dtype=np.uint8)
    start = TaskEvent(
        TaskPhase.START,
        'task-1',
        START,
        name='pick',
        instruction='pick up the can',
        cameras=('front',),
        context=(('robot', 'r1'),),
    )
    end = TaskEvent(TaskPhase.END, 'task-1', START + SECOND, status=TaskStatus.ABORTED)
    messages: list[BagMessage] = [
        BagTaskEvent('/armor/task_event', START, start),
        BagStatus('/arm/move', START + 1, (GoalState(bytes(range(16)), START, 2),)),
    ]
    for index in range(count):
        log_ns = START + index * SECOND // 10 + 2
        stamp_ns = log_ns - 1_000_000
        raw = RawImage('rgb8', 4, 4, 12, False, memoryview(pixels + index % 200))
        jpeg = CompressedImage('jpeg', memoryview(pixels - index % 200))
        messages += [
            BagClock(log_ns, log_ns),
            BagImage(RAW_TOPIC, log_ns + 1, stamp_ns, raw),
            BagImage(JPEG_TOPIC, log_ns + 2, 0, jpeg),
        ]
    last = messages[-1].log_ns
    messages += [
        BagTaskEvent('/armor/task_event', last + 1, end),
        BagStatus('/arm/move', last + 2, (GoalState(bytes(range(16)), START, 4),)),
    ]
    return messages


def comparable(messages: list[BagMessage]) -> list[object]:
    """Images compare by their bytes."""
    rows: list[object] = []
    for message in messages:
        if isinstance(message, BagImage):
            image = message.image
            kind = (
                ('raw', image.encoding, image.width, image.height, image.step, image.is_bigendian)
                if isinstance(image, RawImage)
                else ('compressed', image.format)
            )
            rows.append(
                (message.topic, message.log_ns, message.stamp_ns, *kind, bytes(image.data))
            )
        else:
            rows.append(message)
    return rows


@pytest.fixture(scope='module')
def sample_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('bags') / 'sample'
    write_bag(path, sample_messages())
    return path


@pytest.mark.parametrize(
    ('storage', 'compression'),
    [
        ('mcap', 'none'),
        ('mcap', 'message'),
        ('mcap', 'file'),
        ('mcap', 'chunk'),
        ('sqlite3', 'none'),
        ('sqlite3', 'message'),
        ('sqlite3', 'file'),
    ],
)
def test_what_is_written_is_read_back(tmp_path: Path, storage: str, compression: str) -> None:
    messages = sample_messages()
    write_bag(tmp_path / 'bag', messages, storage=storage, compression=compression)
    with Bag(tmp_path / 'bag') as bag:
        assert comparable(list(bag.read(ALL))) == comparable(messages)
        assert not bag.problems


@pytest.mark.parametrize('compression', ['none', 'message', 'file'])
@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('single_file', [False, True])
def test_without_metadata_the_bag_is_the_same(
    tmp_path: Path, storage: str, compression: str, single_file: bool
) -> None:
    messages = sample_messages()
    write_bag(tmp_path / 'bag', messages, storage=storage, compression=compression)
    (tmp_path / 'bag' / 'metadata.yaml').unlink()
    path = next((tmp_path / 'bag').iterdir()) if single_file else tmp_path / 'bag'
    assert comparable(list(read_bag(path, ALL))) == comparable(messages)


def test_metadata_yaml_itself_names_the_bag(sample_bag: Path) -> None:
    assert bag_info(sample_bag / 'metadata.yaml').message_count == 40


def test_broken_metadata_is_no_obstacle(sample_bag: Path, tmp_path: Path) -> None:
    bag = shutil.copytree(sample_bag, tmp_path / 'bag')
    for text in ('', ':\t:', 'rosbag2_bagfile_information: 3', '\0\0'):
        (bag / 'metadata.yaml').write_text(text)
        assert bag_info(bag).message_count == 40


def test_info(sample_bag: Path) -> None:
    info = bag_info(sample_bag)
    assert info.message_count == 40
    assert info.actions == ('/arm/move',)
    assert info.task_event_topics == ('/armor/task_event',)
    assert [(camera.name, camera.topic) for camera in info.cameras] == [
        ('front', RAW_TOPIC),
        ('wrist', JPEG_TOPIC),
    ]
    messages = sample_messages()
    assert (info.start_ns, info.end_ns) == (messages[0].log_ns, messages[-1].log_ns)
    status = next(topic for topic in info.topics if topic.name.startswith('/arm'))
    assert status.count == 2
    assert status.qos[0].durability == 'transient_local'
    assert status.qos[0].reliability == 'reliable'


def write_split_bag(folder: Path, messages: list[BagMessage], parts: int) -> None:
    """A bag in several files, as rosbag2 splits one; metadata lists them all."""
    size = -(-len(messages) // parts)
    names = []
    for part in range(parts):
        write_bag(folder.parent / f'part{part}', messages[part * size : (part + 1) * size])
        folder.mkdir(exist_ok=True)
        source = next((folder.parent / f'part{part}').glob('*.mcap'))
        names.append(f'bag_{part}.mcap')
        shutil.move(source, folder / names[-1])
    listed = ''.join(f'  - {name}\n' for name in names)
    (folder / 'metadata.yaml').write_text(
        f'rosbag2_bagfile_information:\n  version: 5\n  relative_file_paths:\n{listed}'
    )


def test_split_bag_is_one_stream(tmp_path: Path) -> None:
    messages = sample_messages()
    write_split_bag(tmp_path / 'bag', messages, parts=12)
    assert comparable(list(read_bag(tmp_path / 'bag', ALL))) == comparable(messages)
    # Without metadata, part 10 must not come before part 2 either.
    (tmp_path / 'bag' / 'metadata.yaml').unlink()
    assert comparable(list(read_bag(tmp_path / 'bag', ALL))) == comparable(messages)
    assert bag_info(tmp_path / 'bag').message_count == len(messages)


def test_split_bag_with_missing_parts_gives_the_rest(tmp_path: Path) -> None:
    messages = sample_messages()
    write_split_bag(tmp_path / 'bag', messages, parts=4)
    (tmp_path / 'bag' / 'bag_1.mcap').unlink()
    with Bag(tmp_path / 'bag') as bag:
        found = comparable(list(bag.read(ALL)))
        assert found == comparable(messages[:10] + messages[20:])
        assert list(bag.problems) == ['1 of 4 parts of the bag are missing: bag_1.mcap']


def test_split_bag_with_all_parts_missing_says_so(tmp_path: Path) -> None:
    write_split_bag(tmp_path / 'bag', sample_messages(), parts=2)
    for path in (tmp_path / 'bag').glob('*.mcap'):
        path.unlink()
    with pytest.raises(ArmorError, match=r'none of the files .*bag_0\.mcap, bag_1\.mcap'):
        Bag(tmp_path / 'bag')


def test_one_bad_part_is_told_and_left_out(tmp_path: Path) -> None:
    messages = sample_messages()
    write_split_bag(tmp_path / 'bag', messages, parts=2)
    (tmp_path / 'bag' / 'bag_0.mcap').write_bytes(b'')
    with Bag(tmp_path / 'bag') as bag:
        assert comparable(list(bag.read(ALL))) == comparable(messages[20:])
        assert 'is empty' in next(iter(bag.problems))


def test_overlapping_parts_are_merged_by_time(tmp_path: Path) -> None:
    messages = sample_messages()
    folder = tmp_path / 'bag'
    folder.mkdir()
    for part in range(2):
        write_bag(tmp_path / f'part{part}', messages[part::2])
        source = next((tmp_path / f'part{part}').glob('*.mcap'))
        shutil.move(source, folder / f'bag_{part}.mcap')
    assert comparable(list(read_bag(folder, ALL))) == comparable(messages)


def test_messages_written_out_of_order_come_in_log_order(tmp_path: Path) -> None:
    messages = sample_messages()
    shuffled = [messages[index] for index in np.random.default_rng(0).permutation(len(messages))]
    for storage in ('mcap', 'sqlite3'):
        write_bag(tmp_path / storage, shuffled, storage=storage)
        assert comparable(list(read_bag(tmp_path / storage, ALL))) == comparable(messages)


def cut(source: Path, target: Path, size: int) -> Path:
    target.write_bytes(source.read_bytes()[:size])
    return target


@pytest.fixture(scope='module')
def large_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file with several chunks of each kind, for cutting."""
    folder = tmp_path_factory.mktemp('large')
    noise = np.random.default_rng(1).integers(0, 255, (20, 200_000), dtype=np.uint8)
    messages = [
        BagImage(
            JPEG_TOPIC,
            START + index * SECOND,
            START + index * SECOND,
            CompressedImage('jpeg', noise[index]),
        )
        for index in range(20)
    ]
    files = {}
    for compression in ('none', 'chunk'):
        write_bag(folder / compression, messages, compression=compression)
        files[compression] = next((folder / compression).glob('*.mcap'))
    return files


@pytest.mark.parametrize('compression', ['none', 'chunk'])
def test_a_cut_mcap_is_read_to_its_end(
    large_files: dict[str, Path], tmp_path: Path, compression: str
) -> None:
    whole = large_files[compression]
    size = whole.stat().st_size
    path = cut(whole, tmp_path / 'cut.mcap', size * 3 // 4)
    with Bag(path) as bag:
        found = list(bag.read())
        # Twenty images of equal size: at three quarters, 14 or 15 of them are whole.
        assert len(found) in (14, 15)
        assert bag.info().message_count == len(found)
        assert 'ends early' in next(iter(bag.problems))


@given(fraction=st.floats(0, 1))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_no_cut_raises_anything_but_armor_error(
    tmp_path_factory: pytest.TempPathFactory, storage: str, fraction: float
) -> None:
    whole = sample_file(tmp_path_factory, storage)
    path = tmp_path_factory.mktemp('cut') / f'cut{whole.suffix}'
    cut(whole, path, int(whole.stat().st_size * fraction))
    check_never_surprises(path)


@given(position=st.floats(0, 1, exclude_max=True), values=st.binary(min_size=1, max_size=16))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_no_damage_raises_anything_but_armor_error(
    tmp_path_factory: pytest.TempPathFactory,
    storage: str,
    position: float,
    values: bytes,
) -> None:
    whole = sample_file(tmp_path_factory, storage)
    data = bytearray(whole.read_bytes())
    offset = int(len(data) * position)
    data[offset : offset + len(values)] = values
    path = tmp_path_factory.mktemp('damage') / whole.name
    path.write_bytes(data)
    check_never_surprises(path)


def sample_file(tmp_path_factory: pytest.TempPathFactory, storage: str) -> Path:
    """The file of the sample recording, written once."""
    folder = tmp_path_factory.getbasetemp() / f'whole-{storage}'
    if not folder.exists():
        write_bag(folder, sample_messages(100), storage=storage)
    return next(path for path in folder.iterdir() if path.suffix in ('.mcap', '.db3'))


def check_never_surprises(path: Path) -> None:
    message = path.name
    try:
        with Bag(path) as bag:
            bag.info()
            list(bag.read())
    except ArmorError as error:
        message = str(error)
    assert path.name in message


def test_a_damaged_chunk_is_left_out_and_counted(
    large_files: dict[str, Path], tmp_path: Path
) -> None:
    data = bytearray(large_files['chunk'].read_bytes())
    chunk = data.index(ZSTD_MAGIC, len(data) // 2)
    data[chunk : chunk + 8] = bytes(8)
    (tmp_path / 'damaged.mcap').write_bytes(data)
    with Bag(tmp_path / 'damaged.mcap') as bag:
        assert 10 <= len(list(bag.read())) < 20
        assert any('a chunk is damaged and left out' in problem for problem in bag.problems)


def test_a_chunk_that_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    bomb = zstd.compress(bytes(1 << 22))
    body = struct.pack('<QQQI', 1, 2, 1 << 40, 0) + struct.pack('<I', 4) + b'zstd'
    body += struct.pack('<Q', len(bomb)) + bomb
    header = struct.pack('<I', 4) + b'ros2' + struct.pack('<I', 0)
    path = tmp_path / 'bomb.mcap'
    path.write_bytes(
        b'\x89MCAP0\r\n'
        + struct.pack('<BQ', 1, len(header))
        + header
        + struct.pack('<BQ', 6, len(body))
        + body
    )
    with Bag(path) as bag:
        assert list(bag.read()) == []
        assert any('it claims 1099511627776 bytes' in problem for problem in bag.problems)


def write_mcap_without_chunks(path: Path, source: Path) -> None:
    """The same messages as records outside chunks and without an index (fast-write profile)."""
    with BagReader(source) as reader:
        names = sorted({(topic.name, topic.type) for topic in reader.topics})
        records = [(1, struct.pack('<I', 4) + b'ros2' + struct.pack('<I', 0))]
        for key, (topic, kind) in enumerate(names, 1):
            # As rosbag2 wrote types in its first years, and no definition of the type.
            old = kind.replace('/msg/', '/').encode()
            schema = struct.pack('<HI', key, len(old)) + old + struct.pack('<II', 0, 0)
            channel = struct.pack('<HHI', key, key, len(topic)) + topic.encode()
            channel += struct.pack('<I', 3) + b'cdr' + struct.pack('<I', 0)
            records += [(3, schema), (4, channel)]
        for message in reader.messages():
            key = 1 + names.index((message.topic, message.type))
            head = struct.pack('<HIQQ', key, 0, message.log_ns, message.log_ns)
            records.append((5, head + bytes(message.data)))
    records += [(15, struct.pack('<I', 0)), (2, struct.pack('<QQI', 0, 0, 0))]
    body = b''.join(struct.pack('<BQ', kind, len(data)) + data for kind, data in records)
    path.write_bytes(b'\x89MCAP0\r\n' + body + b'\x89MCAP0\r\n')


def test_mcap_without_chunks_index_and_definitions(sample_bag: Path, tmp_path: Path) -> None:
    write_mcap_without_chunks(tmp_path / 'plain.mcap', sample_bag)
    with Bag(tmp_path / 'plain.mcap') as bag:
        assert comparable(list(bag.read(ALL))) == comparable(sample_messages())
        assert bag.info().message_count == 40
        assert not bag.problems


def test_old_sqlite_schema_with_old_type_names(tmp_path: Path) -> None:
    messages = sample_messages()
    write_bag(tmp_path / 'bag', messages, storage='sqlite3')
    old = sqlite3.connect(tmp_path / 'old.db3')
    old.execute('CREATE TABLE topics(id INTEGER, name TEXT, type TEXT, serialization_format TEXT)')
    old.execute(
        'CREATE TABLE messages(id INTEGER, topic_id INTEGER, timestamp INTEGER, data BLOB)'
    )
    new = sqlite3.connect(next((tmp_path / 'bag').glob('*.db3')))
    for row in new.execute('SELECT id, name, type, serialization_format FROM topics'):
        old.execute('INSERT INTO topics VALUES(?, ?, replace(?, "/msg/", "/"), ?)', row)
    for row in new.execute('SELECT * FROM messages'):
        old.execute('INSERT INTO messages VALUES(?, ?, ?, ?)', row)
    old.commit()
    old.close()
    new.close()
    assert comparable(list(read_bag(tmp_path / 'old.db3', ALL))) == comparable(messages)


def test_a_recording_cut_off_in_its_journal_is_read(tmp_path: Path) -> None:
    write_bag(tmp_path / 'bag', sample_messages(), storage='sqlite3')
    path = next((tmp_path / 'bag').glob('*.db3'))
    writer = sqlite3.connect(path)
    writer.execute('PRAGMA journal_mode=WAL')
    writer.execute(
        'INSERT INTO messages SELECT id + 1000, topic_id, timestamp, data FROM messages'
    )
    writer.commit()
    crashed = tmp_path / 'crashed.db3'
    shutil.copy(path, crashed)
    shutil.copy(path.with_name(path.name + '-wal'), tmp_path / 'crashed.db3-wal')
    writer.close()
    assert len(list(read_bag(crashed, ALL))) == 2 * len(sample_messages())


def test_garbage_messages_are_counted_not_fatal(tmp_path: Path) -> None:
    garbage = [b'', b'\x00', b'\x00\x01\x00\x00', b'\xff' * 40, b'\x00\x01\x00\x00' + b'\xff' * 60]
    with BagWriter(tmp_path / 'bag') as writer:
        for index, data in enumerate(garbage):
            for topic, kind in [
                (RAW_TOPIC, 'sensor_msgs/msg/Image'),
                (JPEG_TOPIC, 'sensor_msgs/msg/CompressedImage'),
                ('/arm/_action/status', 'action_msgs/msg/GoalStatusArray'),
                ('/armor/task_event', 'armor_msgs/msg/TaskEvent'),
                ('/clock', 'rosgraph_msgs/msg/Clock'),
            ]:
                writer.write_raw(topic, kind, START + index, data)
    with Bag(tmp_path / 'bag') as bag:
        found = list(bag.read())
        assert [message for message in found if not isinstance(message, BagImage | BagClock)] == []
        images = [message for message in found if isinstance(message, BagImage)]
        assert len(images) == 2 * len(garbage)
        assert {len(bytes(message.image.data)) for message in images} == {0}
        assert bag.problems[f'{RAW_TOPIC}: a message cannot be read as sensor_msgs/msg/Image'] == 5
        assert any('/armor/task_event' in problem for problem in bag.problems)


def test_a_cut_zstd_message_is_counted(sample_bag: Path, tmp_path: Path) -> None:
    with BagReader(sample_bag) as reader, BagWriter(tmp_path / 'bag') as writer:
        for message in reader.messages([JPEG_TOPIC]):
            packed = zstd.compress(bytes(message.data))
            writer.write_raw(message.topic, message.type, message.log_ns, packed[:-3])
    with Bag(tmp_path / 'bag') as bag:
        assert list(bag.read()) == []
        assert sum(bag.problems.values()) == 12


def test_a_cut_zstd_file_is_read_to_its_end(tmp_path: Path) -> None:
    write_bag(tmp_path / 'bag', sample_messages(2000), compression='file')
    whole = next((tmp_path / 'bag').glob('*.zstd'))
    path = cut(whole, tmp_path / 'cut.mcap.zstd', whole.stat().st_size * 3 // 4)
    with Bag(path) as bag:
        assert list(bag.read())
        assert 'cut.mcap.zstd: the compressed file ends early' in bag.problems
        assert 'cut.mcap.zstd: the file ends early (a recording that was cut off)' in bag.problems


def test_times_before_1970_count_as_no_stamp(tmp_path: Path) -> None:
    image = CompressedImage('jpeg', b'x')
    write_bag(tmp_path / 'bag', [BagImage(JPEG_TOPIC, 5, -3 * SECOND, image)])
    (found,) = read_bag(tmp_path / 'bag')
    assert isinstance(found, BagImage)
    assert found.stamp_ns == 0


def test_a_task_event_without_a_phase_is_counted(tmp_path: Path) -> None:
    event = TaskEvent(TaskPhase.START, 'a', START)
    write_bag(tmp_path / 'bag', [BagTaskEvent('/armor/task_event', 5, event)])
    with BagReader(tmp_path / 'bag') as reader:
        (message,) = reader.messages()
    data = bytearray(message.data)
    # Encapsulation, stamp, empty frame id with its length: the phase is byte 17.
    assert data[17] == 1
    data[17] = 9
    with BagWriter(tmp_path / 'other') as writer:
        writer.write_raw(message.topic, message.type, 5, bytes(data))
    with Bag(tmp_path / 'other') as bag:
        assert list(bag.read()) == []
        assert bag.problems == {'/armor/task_event: a TaskEvent is neither START nor END': 1}


def test_errors_name_file_cause_and_remedy(tmp_path: Path) -> None:
    def fails(name: str, pattern: str) -> None:
        with pytest.raises(ArmorError, match=pattern) as caught:
            Bag(tmp_path / name)
        assert name in str(caught.value)

    (tmp_path / 'empty.mcap').touch()
    (tmp_path / 'empty.db3').touch()
    (tmp_path / 'noise.mcap').write_bytes(b'no recording at all')
    (tmp_path / 'noise.db3').write_bytes(b'no recording at all')
    (tmp_path / 'noise.db3.zstd').write_bytes(b'no recording at all')
    (tmp_path / 'old.bag').write_bytes(b'#ROSBAG V2.0')
    (tmp_path / 'film.mp4').touch()
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'several' / 'one').mkdir(parents=True)
    (tmp_path / 'several' / 'one' / 'metadata.yaml').touch()
    database = sqlite3.connect(tmp_path / 'other.db3')
    database.execute('CREATE TABLE messages(id INTEGER)')
    database.commit()
    database.close()
    fails('absent', 'does not exist; give a rosbag2 directory')
    fails('empty.mcap', r'is empty \(0 bytes\)')
    fails('empty.db3', r'is empty \(0 bytes\)')
    fails('noise.mcap', 'is no MCAP file')
    fails('noise.db3', 'is no sqlite3 file')
    fails('noise.db3.zstd', 'cannot be decompressed')
    fails('old.bag', 'ROS 1 bag; convert it first: rosbags-convert')
    fails('film.mp4', 'is no rosbag2 file')
    fails('folder', 'holds no recording')
    fails('several', 'holds several bags; give one of them: one')
    fails('other.db3', 'no recording of rosbag2')


def test_the_writer_refuses_what_exists_and_what_it_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(ArmorError, match='exists already'):
        BagWriter(tmp_path)
    with pytest.raises(ArmorError, match=r"storage 'bag' .* choose one of mcap, sqlite3"):
        BagWriter(tmp_path / 'bag', storage='bag')
    with pytest.raises(ArmorError, match="compression 'gzip'"):
        BagWriter(tmp_path / 'bag', compression='gzip')


def test_scratch_files_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bag(tmp_path / 'bag', sample_messages(), compression='file')
    scratch = tmp_path / 'scratch'
    scratch.mkdir()
    monkeypatch.setattr('tempfile.tempdir', str(scratch))
    with Bag(tmp_path / 'bag') as bag:
        assert list(scratch.iterdir())
        assert bag.info().message_count == 40
    assert not list(scratch.iterdir())


def test_qos_of_old_and_new_recorders() -> None:
    old = '- history: 1\n  depth: 5\n  reliability: 2\n  durability: 1\n'
    new = '- depth: 5\n  reliability: best_effort\n  durability: transient_local\n'
    assert parse_qos(old) == parse_qos(new)
    assert parse_qos(new)[0].reliability == 'best_effort'
    for nonsense in ('', '{', 'a', '- 3', '- depth: x\n  reliability: [1]', None, 3):
        assert all(profile.depth == 0 for profile in parse_qos(nonsense))


def test_find_cameras_prefers_compressed_unless_it_is_empty(tmp_path: Path) -> None:
    raw = RawImage('mono8', 1, 1, 1, False, b'x')
    jpeg = CompressedImage('jpeg', b'x')
    with BagWriter(tmp_path / 'bag') as writer:
        writer.write(BagImage('/a/image_raw', 1, 1, raw))
        writer.write(BagImage('/a/image_raw/compressed', 2, 2, jpeg))
        writer.write(BagImage('/b/image_raw', 1, 1, raw))
        writer.write(BagImage('/a/depth/image_raw', 1, 1, raw))
        writer.write(BagImage('/a/image_raw/compressedDepth', 1, 1, jpeg))
        writer._connection('/b/image_raw/compressed', 'sensor_msgs/msg/CompressedImage')
    assert [(camera.name, camera.topic) for camera in find_cameras(tmp_path / 'bag')] == [
        ('a', '/a/image_raw/compressed'),
        ('b', '/b/image_raw'),
    ]


def test_a_damaged_time_index_is_passed_by(tmp_path: Path) -> None:
    messages = sample_messages(400)
    write_bag(tmp_path / 'bag', messages, storage='sqlite3')
    path = next((tmp_path / 'bag').glob('*.db3'))
    database = sqlite3.connect(path)
    ((page_size,),) = database.execute('PRAGMA page_size').fetchall()
    query = "SELECT rootpage FROM sqlite_master WHERE name = 'timestamp_idx'"
    ((page,),) = database.execute(query).fetchall()
    database.close()
    data = bytearray(path.read_bytes())
    data[(page - 1) * page_size : page * page_size] = b'\xff' * page_size
    path.write_bytes(data)
    with Bag(path) as bag:
        assert comparable(list(bag.read(ALL))) == comparable(messages)
        assert any('the file is damaged' in problem for problem in bag.problems)


def test_a_cut_sqlite_file_is_read_to_its_end(tmp_path: Path) -> None:
    messages = sample_messages(800)
    write_bag(tmp_path / 'bag', messages, storage='sqlite3')
    whole = next((tmp_path / 'bag').glob('*.db3'))
    path = cut(whole, tmp_path / 'cut.db3', whole.stat().st_size // 2)
    with Bag(path) as bag:
        found = comparable(list(bag.read(ALL)))
        assert len(found) > len(messages) // 4
        assert found == comparable(messages)[: len(found)]
        assert bag.info().message_count >= len(found)
        assert any('the file is damaged' in problem for problem in bag.problems)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_split_bag_whose_last_part_is_cut_is_read_to_its_end(
    tmp_path: Path, storage: str
) -> None:
    messages = sample_messages(200)
    half = len(messages) // 2
    for number, part in enumerate((messages[:half], messages[half:])):
        write_bag(tmp_path / str(number), part, storage=storage)
    folder = tmp_path / 'split'
    folder.mkdir()
    suffix = {'mcap': '.mcap', 'sqlite3': '.db3'}[storage]
    for number in (0, 1):
        (file,) = (tmp_path / str(number)).glob(f'*{suffix}')
        shutil.copy(file, folder / f'part_{number}{suffix}')
    last = folder / f'part_1{suffix}'
    last.write_bytes(last.read_bytes()[: last.stat().st_size * 2 // 3])
    with Bag(folder) as bag:
        found = comparable(list(bag.read(ALL)))
        assert bag.problems
    assert half < len(found) < len(messages)
    whole = comparable(messages)
    assert found[:half] == whole[:half]
    # a database's pages need not lie in the order of time: some may be missing in between
    assert storage == 'sqlite3' or found == whole[: len(found)]
    rest = iter(whole)
    assert all(message in rest for message in found)


def test_messages_with_impossible_log_times_are_counted(tmp_path: Path) -> None:
    with BagWriter(tmp_path / 'bag') as writer:
        for log_ns in (START, 2**63 + 5):
            data = bytes(4) + START.to_bytes(8, 'little')
            writer.write_raw('/clock', 'rosgraph_msgs/msg/Clock', log_ns, data)
    with BagReader(tmp_path / 'bag') as reader:
        assert [message.log_ns for message in reader.messages()] == [START]
        assert reader.problems == {'/clock: a message has an impossible log time': 1}
