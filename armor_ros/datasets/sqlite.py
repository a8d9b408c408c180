# SPDX-License-Identifier: Apache-2.0
"""Reading the sqlite3 files of rosbag2 (.db3), whole or damaged."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from armor_ros.datasets.storage import Problems, RawMessage, Topic, parse_qos
from armor_ros.datasets.typestore import normalize_type
from armor_ros.errors import ArmorError

_MAGIC = b'SQLite format 3\x00'
# A damaged file gives rise to texts, error messages included, that are no UTF-8.
_DATABASE_ERRORS = (sqlite3.Error, UnicodeDecodeError)


class SqliteFile:
    """One .db3 file, see ``Storage``. Damage is told in ``problems``, of the file ``shown``."""

    def __init__(self, path: Path, problems: Problems, shown: Path | None = None) -> None:
        self._path = shown or path
        self._problems = problems
        _check_magic(path, self._path)
        self._database = self._connect(path)
        self._database.text_factory = lambda data: data.decode(errors='replace')
        try:
            self._accept_cut()
            self._check_columns()
            self._counts, self.start_ns, self.end_ns = self._read_extent()
            self._topics = self._read_topics()
        except _DATABASE_ERRORS as error:
            self.close()
            raise ArmorError(
                f'{self._path} cannot be read as a recording: {error}; '
                'it may still be written to, or was cut off'
            ) from error

    @property
    def topics(self) -> tuple[Topic, ...]:
        """The file's topics, in the order of their ids."""
        return tuple(self._topics.values())

    def messages(self, topics: Collection[str] | None) -> Iterator[RawMessage]:
        """Yield the messages of some topics (None: all) in log order."""
        keys = [
            key for key, topic in self._topics.items() if topics is None or topic.name in topics
        ]
        count = 0
        # A damaged time index is passed by: the table itself is in the order of writing.
        for source in ('messages', 'messages NOT INDEXED'):
            try:
                for row in self._select(keys, source):
                    count += 1
                    message = self._message(row)
                    if message is not None:
                        yield message
                return
            except _DATABASE_ERRORS as error:
                self._note(f'the file is damaged: {error}')
                if count:
                    return

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _connect(self, path: Path) -> sqlite3.Connection:
        uri = f'file:{quote(str(path.resolve()))}?mode=ro'
        journal = path.with_name(path.name + '-wal')
        try:
            if journal.is_file() and journal.stat().st_size:
                try:
                    database = sqlite3.connect(uri, uri=True, check_same_thread=False)
                    database.execute('SELECT count(*) FROM sqlite_master').fetchone()
                    return database
                except _DATABASE_ERRORS:
                    self._note(f'{journal.name} cannot be read; its messages are missing')
            # immutable: no lock, no journal, so that a read-only medium will do.
            return sqlite3.connect(uri + '&immutable=1', uri=True, check_same_thread=False)
        except (sqlite3.Error, OSError) as error:
            raise ArmorError(f'cannot open {self._path}: {error}') from error

    def _columns(self, table: str) -> set[str]:
        return {row[1] for row in self._database.execute(f'PRAGMA table_info({table})')}

    def _accept_cut(self) -> None:
        """Have sqlite read a file that is shorter than its head says; it would refuse."""
        try:
            self._database.execute('SELECT count(*) FROM sqlite_master').fetchone()
        except _DATABASE_ERRORS:
            self._database.execute('PRAGMA writable_schema=ON')

    def _check_columns(self) -> None:
        missing = {'id', 'name', 'type', 'serialization_format'} - self._columns('topics')
        missing |= {'id', 'topic_id', 'timestamp', 'data'} - self._columns('messages')
        if missing:
            raise ArmorError(
                f'{self._path} is a database, but no recording of rosbag2: it has no column '
                + ', '.join(sorted(missing))
            )

    def _read_topics(self) -> dict[int, Topic]:
        columns = self._columns('topics')
        qos = 'offered_qos_profiles' if 'offered_qos_profiles' in columns else "''"
        rows = self._database.execute(
            f'SELECT id, name, type, serialization_format, {qos} FROM topics ORDER BY id'
        )
        return {
            key: Topic(
                str(name),
                normalize_type(str(kind)),
                self._counts[key],
                parse_qos(profiles),
                str(form),
            )
            for key, name, kind, form, profiles in rows
        }

    def _read_extent(self) -> tuple[Counter[int], int, int]:
        """Return the messages of each topic, and the first and last log time (0 without)."""
        execute = self._database.execute
        try:
            counts = Counter(
                dict(execute('SELECT topic_id, count(*) FROM messages GROUP BY topic_id'))
            )
            times = execute('SELECT min(timestamp), max(timestamp) FROM messages').fetchone()
        except _DATABASE_ERRORS:
            counts, times = self._scan()
        start, end = times
        if not isinstance(start, int) or not isinstance(end, int):
            return counts, 0, 0
        return counts, start, end

    def _scan(self) -> tuple[Counter[int], tuple[int | None, int | None]]:
        """Count message by message, as far as a damaged file can be read; reading tells of it."""
        counts: Counter[int] = Counter()
        start = end = None
        rows = self._database.execute('SELECT topic_id, timestamp FROM messages NOT INDEXED')
        with contextlib.suppress(*_DATABASE_ERRORS):
            for key, log_ns in rows:
                counts[key] += 1
                if isinstance(log_ns, int):
                    start = log_ns if start is None else min(start, log_ns)
                    end = log_ns if end is None else max(end, log_ns)
        return counts, (start, end)

    def _select(self, keys: list[int], source: str) -> Iterator[tuple[Any, Any, Any]]:
        marks = ','.join('?' * len(keys))
        order = 'timestamp, id' if source == 'messages' else 'rowid'
        return iter(
            self._database.execute(
                f'SELECT topic_id, timestamp, data FROM {source} '
                f'WHERE topic_id IN ({marks}) ORDER BY {order}',
                keys,
            )
        )

    def _message(self, row: tuple[Any, Any, Any]) -> RawMessage | None:
        key, log_ns, data = row
        topic = self._topics.get(key)
        if topic is None or not isinstance(log_ns, int) or not isinstance(data, bytes):
            self._note('a row is no message')
            return None
        return RawMessage(topic.name, topic.type, log_ns, memoryview(data))

    def _note(self, problem: str) -> None:
        self._problems[f'{self._path.name}: {problem}'] += 1


def _check_magic(path: Path, shown: Path) -> None:
    try:
        with path.open('rb') as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        raise ArmorError(f'cannot open {shown}: {error.strerror}') from error
    if not magic:
        raise ArmorError(f'{shown} is empty (0 bytes); nothing was recorded into it')
    if magic != _MAGIC:
        raise ArmorError(
            f'{shown} is no sqlite3 file: it starts with {magic!r}; check that it was copied whole'
        )
