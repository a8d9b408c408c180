# SPDX-License-Identifier: Apache-2.0
"""Finding a checkpoint's files, refusing unsafe ones, and hashing its weights."""

from __future__ import annotations

import hashlib
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from armor_ros.errors import ArmorError

CONFIG_FILE = 'armor_config.json'
HEAD_FILE = 'armor_head.safetensors'

_HUB_ID = re.compile(r'[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w.-]+)?')
_PICKLED = ('.bin', '.pt', '.pth', '.ckpt', '.pkl')
_HUB_FILES = ['*.json', '*.safetensors', 'merges.txt', '*.jinja']
_READ_BYTES = 1 << 22
_BUNDLED = Path(__file__).parent / 'checkpoints'


@dataclass(frozen=True, slots=True)
class CheckpointFolder:
    """A checkpoint's folder on this machine, and the model id and revision it was asked by."""

    path: Path
    model_id: str
    revision: str


def find_checkpoint(path: str) -> CheckpointFolder:
    """
    Return the folder of a local path, of a model of the Hugging Face hub, or of one that is here.

    The name of a folder in ``armor_ros/model/checkpoints`` is that of a model that comes with this
    package, unless there is a folder of that name where the process runs.
    A hub model is written "owner/name" or "owner/name@revision"; it is fetched unless
    HF_HUB_OFFLINE is set, which leaves what was fetched before. Raises ArmorError.
    """
    folder = Path(path).expanduser()
    if path and folder.is_dir():
        return CheckpointFolder(folder, folder.resolve().name, '')
    if path and folder.exists():
        raise ArmorError(f'checkpoint {path!r} is a file; give the folder that contains it')
    if path in _bundled():
        return CheckpointFolder(_BUNDLED / path, path, '')
    if not _HUB_ID.fullmatch(path) or Path(path.split('/')[0]).exists():
        raise ArmorError(
            f'no checkpoint folder {path!r}; give an existing folder, a hub model as '
            f'"owner/name", or one that comes with this package: {", ".join(_bundled())}'
        )
    return _fetch(path)


def _bundled() -> list[str]:
    return sorted(folder.name for folder in _BUNDLED.glob('*') if folder.is_dir())


def check_weights(folder: Path) -> None:
    """
    Check that a folder holds a whole model as safetensors.

    Raises ArmorError that names the folder, what is missing and the remedy.
    """
    if not (folder / 'config.json').is_file():
        raise ArmorError(
            f'{folder} has no config.json, so it is not a model in the layout of '
            'save_pretrained; give the folder that holds config.json and *.safetensors'
        )
    index = folder / 'model.safetensors.index.json'
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text(encoding='utf-8'))['weight_map'].values())
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ArmorError(f'{index} is not a valid index of weights: {error}') from error
        missing = sorted(shard for shard in shards if not (folder / shard).is_file())
        if missing:
            raise ArmorError(
                f'{folder} lacks {len(missing)} of {len(shards)} weight files, first '
                f'{missing[0]}; copy the whole checkpoint'
            )
    elif not (folder / 'model.safetensors').is_file():
        pickled = sorted(file.name for file in folder.iterdir() if file.suffix in _PICKLED)
        if pickled:
            raise ArmorError(
                f'{folder} has its weights in {pickled[0]}, a format that can run code when it '
                'is read; convert them to safetensors (save_pretrained writes them)'
            )
        raise ArmorError(f'{folder} has no model.safetensors; copy the whole checkpoint')


def hash_weights(folder: Path) -> str:
    """Return the SHA-256 (hex) over names and contents of all safetensors files in a folder."""
    files = sorted(folder.glob('*.safetensors'))
    total = hashlib.sha256()
    with ThreadPoolExecutor(max_workers=4) as pool:
        for file, digest in zip(files, pool.map(_hash_file, files), strict=True):
            total.update(f'{file.name}\0{digest}\n'.encode())
    return total.hexdigest()


def _hash_file(file: Path) -> str:
    """Return the SHA-256 (hex) of a file's content."""
    digest = hashlib.sha256()
    buffer = bytearray(_READ_BYTES)
    with file.open('rb') as stream:
        while count := stream.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
    return digest.hexdigest()


def _fetch(name: str) -> CheckpointFolder:
    """Return the local snapshot of a hub model; raises ArmorError when it cannot be had."""
    from huggingface_hub import constants, snapshot_download

    model_id, _, revision = name.partition('@')
    offline = constants.HF_HUB_OFFLINE
    try:
        snapshot = snapshot_download(
            model_id,
            revision=revision or None,
            allow_patterns=_HUB_FILES,
            local_files_only=offline,
        )
    # The hub's client raises its own errors, those of its HTTP library and OSError.
    except Exception as error:
        reason = str(error).strip().split('\n')[0] or type(error).__name__
        remedy = (
            'HF_HUB_OFFLINE is set: unset it, or give a local folder'
            if offline
            else 'check the name and the network, or give a local folder'
        )
        raise ArmorError(
            f'no folder {name!r}, and no such hub model: {reason} ({remedy})'
        ) from error
    return CheckpointFolder(Path(snapshot), model_id, os.path.basename(snapshot))
