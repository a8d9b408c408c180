# SPDX-License-Identifier: Apache-2.0
"""Baselines behind an API: what they are shown, over real HTTP."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from chat_server import ChatServer, error, serve
from some_episodes import make_episode

from armor_ros.episodes.diagnosis import InputMode
from armor_ros.errors import ArmorError
from armor_ros.evaluation.baselines import Baseline, Example, make_baseline

RED, BLUE, GREEN = (200, 20, 20), (20, 20, 200), (20, 160, 20)
SYSTEM = (
    'You are observing a video showing embodied agents (robots or humans) demonstrating.\n\n'
    'Please answer the question in the following format:\n'
    '<think>your reasoning</think>\n<answer>Yes/No</answer>.'
)
SLIPPED = '<think>The cube slipped.</think>\n<answer>No</answer>'


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    for variable in ('ANTHROPIC_API_KEY', 'ANTHROPIC_AUTH_TOKEN', 'OPENAI_API_KEY'):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    with serve(ChatServer(text=SLIPPED)) as running:
        yield running


def baseline_at(server: ChatServer, **options: Any) -> Baseline:
    return make_baseline(f'anthropic:claude-some@{server.url}', **options)


def shown(body: dict[str, Any]) -> list[Any]:
    """Return the texts of a request and, for each picture, (height, width, mean color)."""
    parts: list[Any] = []
    for part in body['messages'][0]['content']:
        if part['type'] == 'text':
            parts.append(part['text'])
        else:
            data = np.frombuffer(base64.b64decode(part['source']['data']), np.uint8)
            pixels = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
            parts.append((*pixels.shape[:2], pixels[40:100, 40:100].reshape(-1, 3).mean(0)))
    return parts


def test_zero_shot_shows_one_collage_with_the_general_prompt(server: ChatServer) -> None:
    baseline = baseline_at(server)
    answer = baseline.answer(make_episode(color=RED))
    assert baseline.name == f'anthropic:claude-some@{server.url}'
    assert (answer.failed, answer.explanation) == (True, 'The cube slipped.')
    assert answer.failure_probability is None
    assert answer.raw == (SLIPPED,)
    body = server.requests[0]
    assert body['system'] == SYSTEM
    (height, width, color), question = shown(body)
    # a row for each camera, a column for each of eight time steps
    assert (height, width) == (2 * 168, 8 * 168)
    assert np.abs(color - RED).max() < 12
    assert question == (
        'In the video, the robot is attempting to pick up the red cube. Frames are shown from '
        'multiple views (front, wrist) across timesteps. Did the robot succeed at the subtask?'
    )


def test_frames_of_one_camera_instead(server: ChatServer) -> None:
    baseline = baseline_at(server, mode=InputMode.CLIP, camera='wrist')
    baseline.answer(make_episode(frames=40, size=(120, 160)))
    *frames, question = shown(server.requests[0])
    assert [picture[:2] for picture in frames] == [(120, 160)] * 16
    # evenly spread: brighter and brighter
    brightness = [picture[2].mean() for picture in frames]
    assert brightness == sorted(brightness)
    assert brightness[-1] - brightness[0] > 100
    assert question == (
        'In the video, the robot is attempting to pick up the red cube.\n'
        'Did the robot successfully pick up the red cube?'
    )


def test_a_ready_collage_is_shown_as_it_is(server: ChatServer) -> None:
    for mode in (None, InputMode.CLIP):
        baseline_at(server, mode=mode).answer(make_episode(collage=True))
        picture, question = shown(server.requests[-1])
        assert picture[:2] == (60, 120)
        assert 'views (front, wrist, overhead)' in question


def test_few_shot_shows_examples_before_the_question(server: ChatServer) -> None:
    examples = [
        Example(make_episode(color=BLUE, instruction='plug the charger in'), failed=False),
        Example(make_episode(color=GREEN), failed=True, explanation='No, it moved too far left.'),
    ]
    baseline = baseline_at(server, examples=examples)
    assert baseline.name == f'anthropic:claude-some@{server.url} (2-shot)'
    baseline.answer(make_episode(color=RED))
    parts = shown(server.requests[0])
    colors = [part[2] for part in parts if not isinstance(part, str)]
    assert all(
        np.abs(color - wanted).max() < 12
        for color, wanted in zip(colors, (BLUE, GREEN, RED), strict=True)
    )
    texts = [part if isinstance(part, str) else '' for part in parts]
    assert texts[0].endswith('Here are some examples:')
    assert texts[1:3] == ['Example 1:', '']
    assert 'attempting to plug the charger in' in texts[3]
    assert texts[3].endswith(
        '\n<think>The robot succeeded at the sub-task.</think>\n<answer>yes</answer>'
    )
    assert texts[6].endswith('\n<think>No, it moved too far left.</think>\n<answer>no</answer>')
    assert texts[7:9] == ['Now answer the following question:', '']
    assert texts[9].startswith('Question: In the video, the robot is attempting to pick up')
    assert len(texts) == 10


def test_texts_of_a_task_are_cleaned(server: ChatServer) -> None:
    baseline_at(server).answer(make_episode(instruction='lift\n\x1b[31m<|im_end|> it. '))
    assert 'attempting to lift [31m<im_end> it. Frames' in shown(server.requests[0])[1]


def test_an_answer_in_another_format_is_unparsable(server: ChatServer) -> None:
    server.text = 'The robot dropped the cube.'
    answer = baseline_at(server).answer(make_episode())
    assert (answer.failed, answer.unparsable) == (None, True)
    assert answer.explanation == 'The robot dropped the cube.'


def test_an_episode_without_frames_is_not_asked_about(server: ChatServer) -> None:
    with pytest.raises(ArmorError, match='no frames'):
        baseline_at(server).answer(make_episode(frames=0))
    assert server.requests == []


def test_errors_name_the_server(server: ChatServer) -> None:
    server.script = [error(400, 'image too large')]
    with pytest.raises(ArmorError, match=r'127\.0\.0\.1.*image too large'):
        baseline_at(server).answer(make_episode())


def test_check_asks_the_server(server: ChatServer) -> None:
    server.script = [error(401, 'no such key')]
    baseline = baseline_at(server)
    with pytest.raises(ArmorError, match='the key is refused'):
        baseline.check()
    baseline.check()


def test_constants_refuse_examples() -> None:
    with pytest.raises(ArmorError, match='takes no examples'):
        make_baseline('status', examples=[Example(make_episode(), failed=False)])
