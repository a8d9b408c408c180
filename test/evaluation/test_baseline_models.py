# SPDX-License-Identifier: Apache-2.0
"""Zero-shot baselines: small models of each architecture, loaded and run as real ones are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from some_episodes import make_episode
from tiny_vlms import (
    QWEN_TEMPLATE,
    make_llama,
    make_llava,
    make_llava_next_video,
    make_qwen,
)
from transformers import AutoModelForImageTextToText

from armor_ros.episodes.diagnosis import InputMode
from armor_ros.errors import ArmorError
from armor_ros.evaluation.baselines import adapters, make_baseline
from armor_ros.evaluation.baselines.adapters import make_adapter
from armor_ros.evaluation.baselines.hugging_face import HuggingFaceBaseline
from armor_ros.evaluation.baselines.prompts import SYSTEM
from armor_ros.evaluation.hugging_face import chat_prompt, load_model
from armor_ros.inference.episode_input import Sight, look
from armor_ros.model.config import ArmorConfig
from armor_ros.model.mrope import VisionGrid, vision_positions

SAYS = '<think>The robot dropped it.</think><answer>No</answer>'
MAKERS = {'qwen': make_qwen, 'llava_next_video': make_llava_next_video, 'llava': make_llava}
LIMIT = 16


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Return a function that makes each model once."""
    root = tmp_path_factory.mktemp('models')

    def make(kind: str, says: str = '') -> Path:
        path = root / f'{kind}-{"planned" if says else "random"}'
        return path if path.exists() else MAKERS[kind](path, says)

    return make


def baseline(path: Path, **options: Any) -> HuggingFaceBaseline:
    made = make_baseline(f'hf:{path}', device='cpu', max_new_tokens=LIMIT, **options)
    assert isinstance(made, HuggingFaceBaseline)
    return made


@pytest.mark.parametrize('kind', list(MAKERS))
@pytest.mark.parametrize('mode', list(InputMode))
def test_reads_answer_and_probability(
    kind: str, mode: InputMode, folder: Callable[[str, str], Path]
) -> None:
    path = folder(kind, SAYS)
    answer = baseline(path, mode=mode).answer(make_episode())
    assert (answer.failed, answer.explanation) == (True, 'The robot dropped it.')
    assert answer.raw == (SAYS,)
    # "No" was made much more likely than "Yes" at that place, and only there
    assert answer.failure_probability is not None
    assert 0.9 < answer.failure_probability < 1.0


def test_name_tells_no_path(folder: Callable[[str, str], Path]) -> None:
    path = folder('llava', SAYS)
    assert baseline(path).name == 'hf:llava-planned'


@pytest.mark.parametrize('kind', list(MAKERS))
@pytest.mark.parametrize('mode', list(InputMode))
def test_what_is_seen_matters_and_repeats(
    kind: str, mode: InputMode, folder: Callable[[str, str], Path]
) -> None:
    loaded = load_model(str(folder(kind, '')), AutoModelForImageTextToText, 'cpu')
    adapter = make_adapter(loaded)
    logits = []
    for color in ((10, 20, 30), (10, 20, 30), (230, 30, 30)):
        sight = look(make_episode(color=color), ArmorConfig(), mode)
        inputs = adapter.inputs(sight, 5.0, SYSTEM, 'Did it?', LIMIT)
        with torch.inference_mode():
            logits.append(loaded.model(**inputs).logits[0, -1])
    assert torch.equal(logits[0], logits[1])
    assert (logits[0] - logits[2]).abs().max() > 1e-3


def test_a_random_model_answers_unparsably(folder: Callable[[str, str], Path]) -> None:
    model = baseline(folder('llava', ''))
    answer = model.answer(make_episode())
    assert answer == model.answer(make_episode())
    assert (answer.failed, answer.unparsable, answer.failure_probability) == (None, True, None)
    assert len(answer.raw) == 1


def test_a_models_own_sampling_settings_do_not_count(
    folder: Callable[[str, str], Path], tmp_path: Path
) -> None:
    path = tmp_path / 'llava'
    shutil.copytree(folder('llava', ''), path)
    settings = json.loads((path / 'generation_config.json').read_text())
    settings |= {'do_sample': True, 'temperature': 5.0, 'repetition_penalty': 9.0, 'top_k': 5}
    (path / 'generation_config.json').write_text(json.dumps(settings))
    plain = baseline(folder('llava', '')).answer(make_episode())
    assert baseline(path).answer(make_episode()) == plain


def test_qwen_is_given_the_positions_it_was_trained_with(
    folder: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = baseline(folder('qwen', ''))
    loaded = model._loaded
    seen: list[torch.Tensor] = []
    forward = loaded.model.model.language_model.forward

    def spy(*args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs['position_ids'])
        return forward(*args, **kwargs)

    monkeypatch.setattr(loaded.model.model.language_model, 'forward', spy)
    # 20 frames are 10 steps of 11 x 11 tokens, 0.4 s apart
    model.answer(make_episode(frames=20))
    grid = VisionGrid(10, 11, 11, 0.4)
    prompt = seen[0][:, 0]
    inputs = model._adapter.inputs(
        look(make_episode(frames=20), ArmorConfig()), 5.0, SYSTEM, 'Did it?', LIMIT
    )
    start = inputs['input_ids'][0].tolist().index(loaded.model.config.video_token_id)
    expected, follows = vision_positions(start, grid, ArmorConfig().positions, 2)
    assert prompt.shape[0] == 4
    assert torch.equal(prompt[1:, :start], torch.arange(start).expand(3, -1))
    assert torch.equal(prompt[1:, start : start + grid.tokens], expected)
    after = prompt[1:, start + grid.tokens :]
    assert torch.equal(after, torch.arange(follows, follows + after.shape[1]).expand(3, -1))
    # the first generated token follows the last of the prompt
    assert torch.equal(seen[1][1:, 0], after[:, -1:] + 1)


def test_llava_frames_are_those_of_its_own_image_processor(
    folder: Callable[[str, str], Path],
) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (3, 15, 20, 3), dtype=np.uint8).repeat(6, 1).repeat(6, 2)
    processor = CLIPImageProcessorPil(
        size={'shortest_edge': 56}, crop_size={'height': 56, 'width': 56}
    )
    theirs = processor(list(frames), return_tensors='pt')['pixel_values']
    ours = adapters._resize_and_crop(frames, 56)
    assert ours.shape == theirs.shape
    # Pillow rounds to whole numbers between its two passes: two of 255 levels at most.
    assert (ours - theirs).abs().max() < 2.5 / 255 / 0.26


def test_llava_shows_as_many_frames_as_fit(folder: Callable[[str, str], Path]) -> None:
    loaded = load_model(str(folder('llava_next_video', '')), AutoModelForImageTextToText, 'cpu')
    adapter = make_adapter(loaded)
    sight = look(make_episode(frames=50), ArmorConfig())

    def shown(room: int) -> int:
        inputs = adapter.inputs(sight, 5.0, SYSTEM, 'Did it?', room)
        assert inputs['input_ids'].shape[1] + room <= 2048
        return int(inputs['pixel_values_videos'].shape[1])

    assert shown(16) == 16
    prompt = adapter.inputs(sight, 5.0, SYSTEM, 'Did it?', 16)['input_ids'].shape[1] - 16 * 4
    # four tokens a frame: room for five frames
    assert shown(2048 - prompt - 20) == 5
    with pytest.raises(ArmorError, match='no room for a frame'):
        shown(2048 - prompt - 3)


def test_a_system_prompt_that_the_template_drops_is_put_before_the_question(
    folder: Callable[[str, str], Path],
) -> None:
    for kind in MAKERS:
        loaded = load_model(str(folder(kind, '')), AutoModelForImageTextToText, 'cpu')
        sight = look(make_episode(), ArmorConfig())
        inputs = make_adapter(loaded).inputs(sight, 5.0, SYSTEM, 'Did it?', LIMIT)
        prompt = loaded.tokenizer.decode(inputs['input_ids'][0])
        assert prompt.count('Please answer the question in the following format') == 1
        assert prompt.index('Please answer') < prompt.index('Did it?')
        assert ('system' in prompt) == (kind == 'qwen')


@pytest.mark.parametrize(
    'system_line',
    [
        "{{ message['content'] }}\n",
        "{{ raise_exception('no system prompt') }}",
        "{{ message['content'] + 'text' }}",
    ],
    ids=['printed as a list', 'refused', 'an error'],
)
def test_a_template_without_system_prompts_of_parts(
    system_line: str, folder: Callable[[str, str], Path]
) -> None:
    loaded = load_model(str(folder('llava_next_video', '')), AutoModelForImageTextToText, 'cpu')
    template = loaded.tokenizer.chat_template.replace(
        "{% if message['role'] == 'user' %}",
        "{% if message['role'] == 'system' %}"
        f"{system_line}{{% endif %}}{{% if message['role'] == 'user' %}}",
    )
    assert template != loaded.tokenizer.chat_template
    loaded.tokenizer.chat_template = template
    content = [{'type': 'video'}, {'type': 'text', 'text': 'Did it?'}]
    prompt = chat_prompt(loaded, 'Be brief.', content)
    assert prompt == 'USER: <video>\nBe brief.\n\nDid it? ASSISTANT:'


@pytest.mark.parametrize('kind', list(MAKERS))
@pytest.mark.parametrize('mode', list(InputMode))
def test_runs_in_half_precision(
    kind: str, mode: InputMode, folder: Callable[[str, str], Path], tmp_path: Path
) -> None:
    path = tmp_path / 'half'
    shutil.copytree(folder(kind, SAYS), path)
    loaded = load_model(str(path), AutoModelForImageTextToText, 'cpu')
    loaded.model.to(torch.bfloat16).save_pretrained(path)
    model = baseline(path, mode=mode)
    assert model._loaded.model.dtype is torch.bfloat16
    assert model.answer(make_episode()).failed is True


def test_a_ready_collage_is_looked_at_as_it_is(folder: Callable[[str, str], Path]) -> None:
    answer = baseline(folder('qwen', SAYS), mode=InputMode.CLIP).answer(make_episode(collage=True))
    assert answer.failed is True


def test_an_episode_without_frames_is_told(folder: Callable[[str, str], Path]) -> None:
    with pytest.raises(ArmorError, match='no frames'):
        baseline(folder('llava', SAYS)).answer(make_episode(frames=0))


def test_names_a_folder_that_is_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(ArmorError, match='no checkpoint folder'):
        make_baseline(f'hf:{tmp_path / "nothing"}')
    path = make_llama(tmp_path / 'llama')
    with pytest.raises(ArmorError, match=r"of type 'llama'\) cannot be loaded"):
        make_baseline(f'hf:{path}')


def test_names_missing_parts(folder: Callable[[str, str], Path], tmp_path: Path) -> None:
    def broken(name: str, kind: str, change: Callable[[Path], None]) -> str:
        path = tmp_path / name
        shutil.copytree(folder(kind, ''), path)
        change(path)
        return f'hf:{path}'

    def forget_template(path: Path) -> None:
        (path / 'chat_template.jinja').unlink()

    def double_video(path: Path) -> None:
        text = QWEN_TEMPLATE.replace('<|video_pad|>', '<|video_pad|><|video_pad|>')
        (path / 'chat_template.jinja').write_text(text)

    def cut_config(path: Path) -> None:
        config = json.loads((path / 'config.json').read_text())
        config['text_config']['hidden_size'] = 80
        (path / 'config.json').write_text(json.dumps(config))

    with pytest.raises(ArmorError, match='has no chat template'):
        make_baseline(broken('a', 'qwen', forget_template)).answer(make_episode())
    with pytest.raises(ArmorError, match='puts 2 vision tokens'):
        make_baseline(broken('b', 'qwen', double_video)).answer(make_episode())
    with pytest.raises(ArmorError, match=r'cannot be loaded|lacks'):
        make_baseline(broken('c', 'llava_next_video', cut_config))
    with pytest.raises(ArmorError, match='processor of d'):
        make_baseline(broken('d', 'llava', lambda path: (path / 'processor_config.json').unlink()))


def test_a_prompt_that_a_model_cannot_take_is_one_error(
    folder: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = baseline(folder('qwen', ''))
    inputs = model._adapter.inputs(
        Sight(np.zeros((1, 56, 56, 3), np.uint8), None), 5.0, SYSTEM, 'Did it?', LIMIT
    )
    inputs['pixel_values_videos'] = inputs['pixel_values_videos'][:-4]
    monkeypatch.setattr(type(model._adapter), 'inputs', lambda *args: inputs)
    with pytest.raises(ArmorError, match='failed on a prompt of'):
        model.answer(make_episode())
