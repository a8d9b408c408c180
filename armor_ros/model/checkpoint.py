# SPDX-License-Identifier: Apache-2.0
"""
Loading and saving a checkpoint folder.

The folder is the backbone as ``save_pretrained`` writes it, which plain transformers can load,
and beside it the classification head (armor_head.safetensors) and our own configuration
(armor_config.json). Weights are safetensors only; no code from a checkpoint is ever run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

from armor_ros.episodes.diagnosis import ModelInfo
from armor_ros.errors import ArmorError
from armor_ros.model.armor import ArmorModel
from armor_ros.model.calibration import calibration_for
from armor_ros.model.config import (
    RELEASED_POSITIONS,
    ArmorConfig,
    HeadConfig,
    PositionConvention,
    config_to_json,
    position_convention,
    read_config,
)
from armor_ros.model.head import ClassificationHead
from armor_ros.model.quantization import quantization_config
from armor_ros.model.weights import (
    CONFIG_FILE,
    HEAD_FILE,
    CheckpointFolder,
    check_weights,
    find_checkpoint,
    hash_weights,
)

_DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


def load_checkpoint(
    path: str | Path,
    *,
    quantization: str = 'none',
    device: str = 'auto',
    dtype: str = 'auto',
    head_seed: int = 0,
    positions: PositionConvention | str | None = None,
) -> ArmorModel:
    """
    Load a checkpoint for inference (in eval mode).

    ``path`` is a local folder, or a hub model as "owner/name[@revision]". A plain Qwen2.5-VL
    without our files gets a new head from ``head_seed`` and ``info.trained`` False.
    ``quantization`` is 'none', '8bit' or '4bit'; ``device`` 'auto' (CUDA if there is one), 'cpu',
    'cuda' or 'cuda:N'; ``dtype`` 'float32', 'bfloat16', 'float16' or 'auto': as stored, but
    float32 where neither a GPU nor a processor with instructions for bf16 is to compute.

    The convention of M-RoPE is the one that the checkpoint records. A plain Qwen2.5-VL is taken
    for what its release was trained with, whatever version of transformers wrote or reads it;
    ``positions`` says otherwise for one that was trained on with another. With a checkpoint that
    records its convention, ``positions`` must be the same.

    Raises ArmorError that names the path, what is wrong and the remedy.
    """
    target = choose_device(device)
    if dtype != 'auto' and dtype not in _DTYPES:
        raise ArmorError(f'dtype is {dtype!r}; it must be auto, {", ".join(_DTYPES)}')
    quantizer = quantization_config(quantization, target)
    widens = dtype == 'auto' and quantizer is None and not multiplies_bf16(target)
    found = find_checkpoint(str(path))
    check_weights(found.path)
    config = _read_config(found, positions)
    wanted = torch.float32 if widens else _DTYPES.get(dtype, 'auto')
    backbone = _load_backbone(found.path, target, wanted, quantizer)
    tokenizer = _load_tokenizer(found.path)
    hidden_size = backbone.config.text_config.hidden_size
    if (found.path / HEAD_FILE).is_file():
        head = _load_head(found.path / HEAD_FILE, hidden_size, config.head)
    else:
        head = new_head(hidden_size, config.head, head_seed)
    info = ModelInfo(
        model_id=config.model_id or found.model_id,
        revision=config.revision or found.revision,
        quantization=quantization,
        weights_hash=hash_weights(found.path),
        trained=config.trained,
    )
    calibration, reason = calibration_for(found.path, info)
    if calibration is not None:
        info = dataclasses.replace(
            info,
            calibration=calibration.identity,
            rounds=calibration.rounds,
            trajectories=calibration.trajectories,
        )
    head.to(target, dtype=torch.float32 if widens else None)
    model = ArmorModel(backbone, head, tokenizer, config, info)
    model.calibration, model.why_uncalibrated = calibration, reason
    return model.eval()


def save_checkpoint(model: ArmorModel, path: str | Path, *, overwrite: bool = False) -> Path:
    """
    Write a checkpoint folder; an interrupted write leaves no half folder behind.

    Raises ArmorError for a quantized model, and when the folder exists and ``overwrite`` is off.
    """
    target = Path(path).expanduser()
    if model.info.quantization != 'none':
        raise ArmorError(
            f'the model is quantized to {model.info.quantization}; load it with quantization '
            '"none" to save it'
        )
    if target.exists() and not overwrite:
        raise ArmorError(f'{target} exists; choose another folder or ask to overwrite it')
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f'.{target.name}-', dir=target.parent))
    old = partial.with_name(f'{partial.name}-old')
    try:
        with _no_progress_bars():
            model.backbone.save_pretrained(partial)
        model.tokenizer.save_pretrained(partial)
        head = {name: value.contiguous() for name, value in model.head.state_dict().items()}
        save_file(head, partial / HEAD_FILE, metadata={'format': 'pt'})
        (partial / CONFIG_FILE).write_text(config_to_json(model.config), encoding='utf-8')
        partial.chmod(0o755)
        for file in partial.iterdir():
            file.chmod(0o644)  # safetensors are written for nobody else to read
        if target.exists():
            target.rename(old)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
    return target


def choose_device(device: str) -> torch.device:
    """Return the device meant by 'auto', 'cpu', 'cuda' or 'cuda:N'; raises ArmorError."""
    if device == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in ('cpu', 'cuda'):
        raise ArmorError(f'device is {device!r}; it must be auto, cpu, cuda or cuda:N')
    if chosen.type == 'cuda' and (chosen.index or 0) >= torch.cuda.device_count():
        raise ArmorError(
            f'device is {device!r}, but this machine has {torch.cuda.device_count()} CUDA '
            'devices that torch can use; choose auto or cpu'
        )
    return chosen


def multiplies_bf16(device: torch.device) -> bool:
    """
    Tell whether a device multiplies bf16 in hardware.

    A processor that does not makes a product of many instructions: a training step of a small
    model took twelve times as long as in float32.
    """
    if device.type == 'cuda':
        return bool(torch.cuda.is_bf16_supported())
    # older versions of torch cannot tell
    capabilities: Mapping[str, Any] = getattr(torch.cpu, 'get_capabilities', dict)()
    return any(capabilities.get(name) for name in ('avx512_bf16', 'amx_bf16', 'bf16'))


def new_head(hidden_size: int, config: HeadConfig, seed: int) -> ClassificationHead:
    """Return an untrained head whose weights are a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ClassificationHead(hidden_size, config)


def _read_config(
    found: CheckpointFolder, positions: PositionConvention | str | None
) -> ArmorConfig:
    """Read our configuration, or make a default one for a plain backbone."""
    has_config = (found.path / CONFIG_FILE).is_file()
    has_head = (found.path / HEAD_FILE).is_file()
    if has_config != has_head:
        present, absent = (CONFIG_FILE, HEAD_FILE) if has_config else (HEAD_FILE, CONFIG_FILE)
        raise ArmorError(
            f'{found.path} has {present} but no {absent}; copy the whole checkpoint, or remove '
            f'{present} to start from the plain backbone'
        )
    wanted = None if positions is None else position_convention(positions)
    if not has_config:
        return ArmorConfig(
            model_id=found.model_id,
            revision=found.revision,
            trained=False,
            positions=wanted or RELEASED_POSITIONS,
        )
    config = read_config(found.path / CONFIG_FILE)
    if wanted is not None and wanted is not config.positions:
        raise ArmorError(
            f'{found.path} was trained with the positions of {config.positions.value}, not '
            f'{wanted.value}; leave the choice to the checkpoint'
        )
    return config


def _load_backbone(
    folder: Path, device: torch.device, dtype: torch.dtype | str, quantizer: Any | None
) -> Any:
    """Load Qwen2.5-VL; raises ArmorError when the weights do not make a whole model."""
    try:
        kind = json.loads((folder / 'config.json').read_text(encoding='utf-8')).get('model_type')
    except (ValueError, AttributeError) as error:
        raise ArmorError(f'{folder}/config.json is not valid: {error}') from error
    if kind != 'qwen2_5_vl':
        raise ArmorError(
            f'{folder} holds a model of type {kind!r}; the backbone must be "qwen2_5_vl"'
        )
    # Quantized layers are made on their device, others are loaded and then moved.
    placement = {'': str(device)} if quantizer is not None else None
    loader: Any = Qwen2_5_VLForConditionalGeneration
    try:
        with _no_progress_bars():
            backbone, report = loader.from_pretrained(
                folder,
                dtype=dtype,
                attn_implementation='sdpa',
                quantization_config=quantizer,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                device_map=placement,
            )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ArmorError(f'{folder} cannot be loaded as Qwen2.5-VL: {error}') from error
    absent = sorted(report['missing_keys']) + sorted(map(str, report['mismatched_keys']))
    if absent:
        raise ArmorError(
            f'{folder} lacks {len(absent)} weights of the backbone (or has them in another '
            f'shape), first {absent[0]}; copy the whole checkpoint'
        )
    return backbone if quantizer is not None else backbone.to(device)


def _load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer that lies beside the weights."""
    try:
        return AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_fast=True
        )
    # transformers reports a missing or malformed file by many kinds of exception.
    except Exception as error:
        raise ArmorError(
            f'{folder} has no tokenizer that can be loaded ({error}); copy tokenizer.json and '
            'tokenizer_config.json of Qwen2.5-VL into it'
        ) from error


def _load_head(file: Path, hidden_size: int, config: HeadConfig) -> ClassificationHead:
    """Load the classification head in the precision it was saved in."""
    try:
        state = load_file(file)
        head = new_head(hidden_size, config, seed=0)
        head.to(state['cls_token'].dtype).load_state_dict(state)
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise ArmorError(
            f'{file} does not fit a head of hidden size {hidden_size}: {error}; use the '
            'file saved with this backbone'
        ) from error
    return head


def with_config(model: ArmorModel, config: ArmorConfig) -> ArmorModel:
    """Return a model that shares the weights of ``model`` but follows another config."""
    info = dataclasses.replace(
        model.info,
        model_id=config.model_id,
        revision=config.revision,
        trained=config.trained,
        calibration='',
        rounds=0,
        trajectories=0,
    )
    other = ArmorModel(model.backbone, model.head, model.tokenizer, config, info)
    return other.train(model.training)


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing progress bars into a log."""
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()
