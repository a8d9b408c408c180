# SPDX-License-Identifier: Apache-2.0
"""Reading the sqlite3 files of rosbag2 (.db3), whole or damaged."""

from __future__ import annotations

import sqlite3
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
            self._topics = self._read_topics()
            self.start_ns, self.end_ns = self._read_times()
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
        for order in ('timestamp, id', 'id'):
            try:
                for row in self._select(keys, order):
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

    def _read_topics(self) -> dict[int, Topic]:
        columns = self._columns('topics')
        missing = {'id', 'name', 'type', 'serialization_format'} - columns
        missing |= {'id', 'topic_id', 'timestamp', 'data'} - self._columns('messages')
        if missing:
            raise ArmorError(
                f'{self._path} is a database, but no recording of rosbag2: it has no column '
                + ', '.join(sorted(missing))
            )
        qos = 'offered_qos_profiles' if 'offered_qos_profiles' in columns else "''"
        counts = dict(
            self._database.execute('SELECT topic_id, count(*) FROM messages GROUP BY topic_id')
        )
        rows = self._database.execute(
            f'SELECT id, name, type, serialization_format, {qos} FROM topics ORDER BY id'
        )
        return {
            key: Topic(
                str(name),
                normalize_type(str(kind)),
                counts.get(key, 0),
                parse_qos(profiles),
                str(form),
            )
            for key, name, kind, form, profiles in rows
        }

    def _read_times(self) -> tuple[int, int]:
        start, end = self._database.execute(
            'SELECT min(timestamp), max(timestamp) FROM messages'
        ).fetchone()
        return (
            (int(start), int(end)) if isinstance(start, int) and isinstance(end, int) else (0, 0)
        )

    def _select(self, keys: list[int], order: str) -> Iterator[tuple[Any, Any, Any]]:
        marks = ','.join('?' * len(keys))
        return iter(
            self._database.execute(
                'SELECT topic_id, timestamp, data FROM messages '
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
