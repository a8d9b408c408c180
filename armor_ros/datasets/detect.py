# SPDX-License-Identifier: Apache-2.0
"""Open a data set of any format that is known, told by its layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from armor_ros.configuration import config_from_dict
from armor_ros.datasets.aha import AhaData, AhaOptions, aha_files
from armor_ros.datasets.armbench import ArmbenchData, ArmbenchOptions, is_armbench
from armor_ros.datasets.droid import DroidData, DroidOptions, is_droid
from armor_ros.datasets.failsafe import FailsafeData, FailsafeOptions, is_failsafe
from armor_ros.datasets.importer import Importer
from armor_ros.datasets.lerobot import LerobotData, LerobotOptions
from armor_ros.datasets.lerobot_layout import INFO_FILE
from armor_ros.datasets.manifest import MANIFEST_FILE
from armor_ros.datasets.manifest_source import ManifestData, ManifestOptions
from armor_ros.datasets.robofac import RobofacData, RobofacOptions, robofac_files
from armor_ros.errors import ArmorError


@dataclass(frozen=True, slots=True)
class Format:
    """
    A format: how it is told and opened, and its options.

    ``layout`` says in words what is looked for.
    """

    layout: str
    found: Callable[[Path], bool]
    open: Callable[[Path, Any], Importer]
    options: type


def _is_manifest(path: Path) -> bool:
    return (path / MANIFEST_FILE).is_file() or (path.name == MANIFEST_FILE and path.is_file())


FORMATS: dict[str, Format] = {
    'manifest': Format(MANIFEST_FILE, _is_manifest, ManifestData, ManifestOptions),
    'lerobot': Format(
        INFO_FILE, lambda path: (path / INFO_FILE).is_file(), LerobotData, LerobotOptions
    ),
    'armbench': Format(
        'videos/*.mp4 and annotations/*.json', is_armbench, ArmbenchData, ArmbenchOptions
    ),
    'failsafe': Format(
        'vla_data_*.json, or <task>/<seed>/Ground_Truth/front/*.png',
        is_failsafe,
        FailsafeData,
        FailsafeOptions,
    ),
    'droid': Format(
        '<lab>/{success,failure}/<date>/<time>/metadata_*.json', is_droid, DroidData, DroidOptions
    ),
    'aha': Format(
        'a JSON list of objects with "conversations"',
        lambda path: bool(aha_files(path)),
        AhaData,
        AhaOptions,
    ),
    'robofac': Format(
        'a JSON object of objects with "video" and "annos"',
        lambda path: bool(robofac_files(path)),
        RobofacData,
        RobofacOptions,
    ),
}


def open_data_set(
    path: Path | str,
    format: str = 'auto',  # noqa: A002 - as one says it
    **options: object,
) -> Importer:
    """
    Open a data set; ``format`` 'auto' tells it by its layout.

    ``options`` are those of the format (its ``...Options``) as plain values
    of JSON or YAML. Raises ArmorError when there is nothing at ``path``, its layout is that of no
    format or of several, an option is unknown or wrong, or the description cannot be read.
    """
    path = Path(path)
    try:
        present = path.exists()
    except (OSError, ValueError) as error:
        raise ArmorError(f'cannot read {str(path)!r}: {error}') from error
    if not present:
        raise ArmorError(f'there is nothing at {path}; give the folder or file of a data set')
    name = detect_format(path) if format == 'auto' else format
    if name not in FORMATS:
        raise ArmorError(f'format is {format!r}; it must be auto, {", ".join(FORMATS)}')
    chosen = FORMATS[name]
    if format != 'auto' and not chosen.found(path):
        raise ArmorError(f'{path} is no {name} data set: it has no {chosen.layout}')
    try:
        settings: Any = config_from_dict(chosen.options, options)
    except ArmorError as error:
        raise ArmorError(f'option of {name} data sets: {error}') from error
    return chosen.open(path, settings)


def detect_format(path: Path) -> str:
    """Return the format that a path has by its layout; raises ArmorError for none or several."""
    found = [name for name, one in FORMATS.items() if one.found(path)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ArmorError(
            f'{path} has the layouts of {" and ".join(found)}; say which one is meant with '
            f'format={found[0]}'
        )
    looked_for = '; '.join(f'{one.layout} ({name})' for name, one in FORMATS.items())
    raise ArmorError(f'{path} is no data set of a known format; looked for: {looked_for}')
