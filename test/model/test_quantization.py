# SPDX-License-Identifier: Apache-2.0
"""8 and 4 bit on a CPU: the decoder is quantized, and nothing else."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from armor_ros.errors import ArmorError
from armor_ros.model import quantization
from armor_ros.model.armor import ArmorModel
from armor_ros.model.checkpoint import load_checkpoint, save_checkpoint
from armor_ros.model.preprocessing import clip_input
from armor_ros.model.tiny import TinySize, make_tiny_checkpoint

pytest.importorskip('bitsandbytes')


@pytest.fixture(scope='module')
def even_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint whose random weights do not blow rounding up."""
    folder = tmp_path_factory.mktemp('even') / 'tiny'
    return make_tiny_checkpoint(folder, seed=1, size=TinySize(spread=0.05))


def last_logits(model: ArmorModel) -> torch.Tensor:
    """Return the language logits after a clip's prefix."""
    frames = np.random.default_rng(0).integers(0, 256, (4, 112, 112, 3), dtype=np.uint8)
    with torch.inference_mode():
        prefix = model.prefill(
            model.prompts.prefix('pick up the red cube'),
            clip_input(frames, 5.0, 112, model.geometry),
        )
        ids = torch.tensor([model.prompts.encode_text('\nPlease give your reasoning.')])
        count = ids.shape[1]
        positions = torch.arange(count).expand(3, 1, -1) + prefix.next_position
        mask = torch.ones(count, prefix.length + count, dtype=torch.bool).tril(prefix.length)
        output = model.decode(model.embed(ids), positions, mask[None, None], prefix.fork(1))
        return model.language_logits(output.hidden[0, -1])


@pytest.mark.parametrize(('bits', 'cosine'), [('8bit', 0.999), ('4bit', 0.9)])
def test_decoder_only(
    even_path: Path,
    bits: str,
    cosine: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        model = load_checkpoint(even_path, quantization=bits)
        logits = last_logits(model)
    layers = {
        name: type(module).__name__
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    quantized = {name for name, kind in layers.items() if 'bit' in kind.lower()}
    decoder = {name for name in layers if '.language_model.' in name}
    assert quantized == decoder
    assert len(decoder) == 6 * 7
    assert any('visual.merger' in name for name in layers)
    assert model.info.quantization == bits
    expected = last_logits(load_checkpoint(even_path))
    assert torch.cosine_similarity(logits, expected, dim=0) > cosine
    assert not torch.equal(logits, expected)
    assert not caplog.records


def test_quantized_models_are_not_saved(tiny_path: Path, tmp_path: Path) -> None:
    model = load_checkpoint(tiny_path, quantization='4bit')
    with pytest.raises(ArmorError, match='quantized to 4bit; load it with quantization "none"'):
        save_checkpoint(model, tmp_path / 'x')


def test_no_compiled_code_is_fetched() -> None:
    script = (
        'import sys, types, torch\n'
        'fetched = []\n'
        "kernels = types.ModuleType('kernels')\n"
        'kernels.get_kernel = lambda *a, **k: fetched.append(a)\n'
        "sys.modules['kernels'] = kernels\n"
        'from armor_ros.model.quantization import quantization_config\n'
        "quantization_config('4bit', torch.device('cpu'))\n"
        "assert not fetched and sys.modules['kernels'] is kernels\n"
    )
    result = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert 'kernels' not in result.stderr


def test_without_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ArmorError, match='needs bitsandbytes: pip install bitsandbytes'):
        quantization.quantization_config('8bit', torch.device('cpu'))
