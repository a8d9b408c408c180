# SPDX-License-Identifier: Apache-2.0
"""What vision tokens are asked about the state: of clips, of parts of them, of variations."""

from __future__ import annotations

import dataclasses
import random
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional

from armor_ros.episodes.diagnosis import InputMode
from armor_ros.errors import ArmorError
from armor_ros.inference.episode_input import Sight, sight_input
from armor_ros.model.armor import ArmorModel
from armor_ros.model.config import CollageConfig
from armor_ros.model.preprocessing import from_patches
from armor_ros.model.tiny import DEFAULT_CONFIG, TinySize, make_tiny_model
from armor_ros.training.auxiliary import StateHead
from armor_ros.training.conditioning import PLACE_ASKED_FOR, THING_ASKED_FOR, Facts, Truth
from armor_ros.training.packing import PackedSample, pack
from armor_ros.training.samples import TrainingSample, make_clip
from armor_ros.training.state_targets import state_facts, state_targets
from armor_ros.training.steps import TrainingModule
from armor_ros.training.time_steps import some_steps
from armor_ros.training.variation import varied

VIEWS = ('front', 'wrist')
COLUMNS, CELL, FRAMES = 4, 112, 9
NAMES = ('red can', 'blue cube')


@pytest.fixture(scope='module')
def model() -> ArmorModel:
    size = TinySize(hidden_size=64, layers=5, vision_layers=2, merge_size=4, windows_only=True)
    layout = CollageConfig(columns=COLUMNS, cell_height=CELL, cell_width=CELL)
    config = dataclasses.replace(DEFAULT_CONFIG, input_mode=InputMode.COLLAGE, collage=layout)
    return make_tiny_model(seed=2, size=size, config=config)


PLACES = ('table', 'left bin', 'right bin', 'red bowl')


def arrays_of(rng: np.random.Generator) -> dict[str, npt.NDArray[Any]]:
    """Return a state in which the places are well inside of their views."""
    places = {f'places_{view}': rng.uniform(0.2, 0.8, (FRAMES, 3, 2)) for view in VIEWS}
    return places | {
        'tcp': rng.random((FRAMES, 3)),
        'yaw': rng.random(FRAMES),
        'width': rng.random(FRAMES) / 20,
        'closing': rng.random(FRAMES),
        'items': rng.random((FRAMES, 2, 3)),
        'touched': rng.random((FRAMES, 2, 2)),
        'above': np.array(PLACES)[rng.integers(len(PLACES), size=FRAMES)],
    }


def make_sample(model: ArmorModel, seed: int = 0, *, places: bool = True) -> TrainingSample:
    """Return a collage with a white dot where the state has the first item, and noise."""
    rng = np.random.default_rng(seed)
    arrays = arrays_of(rng)
    picture = rng.integers(0, 60, (2 * CELL, COLUMNS * CELL, 3), dtype=np.uint8)
    columns = [0, 3, 5, 8]
    for row, view in enumerate(VIEWS):
        for column, frame in enumerate(columns):
            x, y = np.floor(arrays[f'places_{view}'][frame, 1] * CELL).astype(int)
            arrays[f'places_{view}'][frame, 1] = (np.array([x, y]) + 0.5) / CELL
            picture[row * CELL + y, column * CELL + x] = 255
    if not places:
        unknown = ('above', *(f'places_{view}' for view in VIEWS))
        arrays = {name: value for name, value in arrays.items() if name not in unknown}
    shown = sight_input(Sight(picture[None], VIEWS), 5.0, model.config, model.geometry)
    clip = make_clip(model, shown, 'lift the red can')
    state = state_targets(arrays, NAMES, shown, model, VIEWS)
    return TrainingSample(f's{seed}', clip, Truth(True, ''), state)


def test_the_gripper_is_asked_for_in_units_near_1(model: ArmorModel) -> None:
    arrays = arrays_of(np.random.default_rng(3))
    picture = np.zeros((1, 2 * CELL, COLUMNS * CELL, 3), np.uint8)
    shown = sight_input(Sight(picture, VIEWS), 5.0, model.config, model.geometry)
    state = state_targets(arrays, NAMES, shown, model, VIEWS)
    frames = [0, 3, 5, 8]
    yaw, width = arrays['yaw'][frames], arrays['width'][frames]
    wanted = [np.cos(yaw), np.sin(yaw), width * 20, arrays['closing'][frames]]
    assert state.values[:, 0].numpy() == pytest.approx(np.stack(wanted, axis=1), rel=1e-5)
    assert state.known[0].all()
    assert state.known[1:].tolist() == [[False, False, False, True]] * 2


def dots(model: ArmorModel, sample: TrainingSample) -> set[tuple[int, int]]:
    """Return the pixels (y, x) of a sample's picture that are bright in all channels."""
    vision = sample.clip.vision
    pixels = from_patches(vision.patches, vision.grid, model.geometry)[0, :, 0]
    return {(int(y), int(x)) for y, x in (pixels.amin(dim=0) > 1.0).nonzero()}


def told(model: ArmorModel, sample: TrainingSample) -> set[tuple[int, int]]:
    """Return the pixels (y, x) at which the tokens are told that the first item is."""
    state, factor = sample.state, model.geometry.factor
    assert state is not None
    width = sample.clip.vision.grid[2] * model.geometry.patch_size // factor
    found = set()
    for token, (x, y) in enumerate(state.places[:, 1].tolist()):
        if 0 <= x < 1 and 0 <= y < 1:
            row, column = divmod(token, width)
            found.add((int((row + y) * factor), int((column + x) * factor)))
    return found


def test_tokens_are_told_what_they_show(model: ArmorModel) -> None:
    sample = make_sample(model)
    assert len(dots(model, sample)) == 2 * COLUMNS
    assert told(model, sample) == dots(model, sample)


@pytest.mark.parametrize('seed', range(6))
def test_a_varied_sample_is_told_what_it_shows(model: ArmorModel, seed: int) -> None:
    sample = varied(make_sample(model), random.Random(seed), model.geometry)
    shown = dots(model, sample)
    assert len(shown) == 2 * COLUMNS
    assert told(model, sample) == shown


def test_variations_differ_and_keep_words_and_touch(model: ArmorModel) -> None:
    whole = make_sample(model)
    several = [varied(whole, random.Random(seed), model.geometry) for seed in range(8)]
    assert len({frozenset(dots(model, each)) for each in several}) == 8
    assert whole.state is not None
    turns = set()
    for each in several:
        assert each.state is not None
        assert torch.equal(each.state.values[..., 2:], whole.state.values[..., 2:])
        turns.add(bool(each.state.values[0, 0, 1] == whole.state.values[0, 0, 1]))
    assert turns == {True, False}


def test_some_steps_are_a_part_of_all(model: ArmorModel) -> None:
    whole = make_sample(model)
    part = some_steps(whole, 2, random.Random(1))
    assert whole.state is not None
    assert part.state is not None
    chosen = sorted(random.Random(1).sample(range(COLUMNS), 2))
    assert torch.equal(part.state.values, whole.state.values[chosen])
    assert told(model, part) == dots(model, part)
    packed = TrainingModule(model).packed
    seen, all_seen = (packed.encode(pack([PackedSample(each.clip, ())])) for each in (part, whole))
    kept = torch.isin(whole.state.steps, torch.tensor(chosen))
    torch.testing.assert_close(seen, all_seen[kept], rtol=1e-4, atol=1e-4)
    assert some_steps(whole, COLUMNS, random.Random(1)) is whole


@pytest.mark.parametrize('places', [True, False])
def test_the_loss_is_that_of_plain_loops(model: ArmorModel, places: bool) -> None:
    torch.manual_seed(0)
    whole, head = make_sample(model, places=places), StateHead(64)
    samples = [some_steps(whole, 2, random.Random(1)), make_sample(model, 1, places=places)]
    states = [sample.state for sample in samples if sample.state is not None]
    tokens = [torch.randn(len(state.steps), 64) for state in states]
    total, count = head.loss(torch.cat(tokens), states)
    expected, asked = 0.0, 0
    for own, state in zip(tokens, states, strict=True):
        for step in range(len(state.values)):
            members = (state.steps == step).nonzero()[:, 0].tolist()
            for thing in range(len(state.words)):
                asked += 1
                expected += _question(head, own, state, step, thing, members)
    assert count == asked
    for own, state in zip(tokens, states, strict=True):
        assert (head.tag_loss(own, state) > 0) == places
        expected += state.questions * _tags(head, own, state)
    torch.testing.assert_close(total, torch.tensor(expected), rtol=1e-4, atol=1e-4)
    alone = [head.loss(own, [state]) for own, state in zip(tokens, states, strict=True)]
    torch.testing.assert_close(sum(loss for loss, _ in alone), total)


def _tags(head, tokens, state):  # type: ignore[no-untyped-def]
    total, count = 0.0, 0
    for token, step in enumerate(state.steps.tolist()):
        places = state.places[token]
        if bool(places.isnan().all()):
            continue
        count += 1
        shown = [bool((place >= 0).all() and (place < 1).all()) for place in places]
        touched = [bool(value > 0.5) for value in state.values[step, :, 3]]
        things = list(zip(state.words.tolist(), shown, touched, strict=True))
        tagged = (
            {word for words, is_shown, _ in things if is_shown for word in words},
            {word for words, is_shown, is_held in things[1:] if is_shown and is_held
             for word in words},
            set(state.above[step].tolist()) if shown[0] else set(),
        )  # fmt: skip
        logits = head.tags(head.norm(tokens[token])).detach().view(3, 1024)
        for tag, weight in enumerate((1.0, 3.0, 3.0)):
            for word, logit in enumerate(logits[tag].tolist()):
                sign = -1.0 if word in tagged[tag] else 1.0
                total += weight * float(np.log1p(np.exp(sign * logit)))
    return total / max(count, 1)


def test_a_mirror_swaps_left_and_right(model: ArmorModel) -> None:
    whole = make_sample(model)
    assert whole.state is not None
    names = [('left', 'bin'), ('right', 'bin'), ('red', 'bowl'), ('table', 'table')]
    words = [[zlib.crc32(word.encode()) % 1024 for word in name] for name in names]
    state = dataclasses.replace(whole.state, above=torch.tensor(words))
    sample = dataclasses.replace(whole, state=state)
    orders = set()
    for seed in range(8):
        shown = varied(sample, random.Random(seed), model.geometry).state
        assert shown is not None
        mirrored = bool(shown.values[0, 0, 1] != state.values[0, 0, 1])
        order = tuple(words.index(own) for own in shown.above.tolist())
        orders.add((mirrored, order))
    assert orders == {(False, (0, 1, 2, 3)), (True, (1, 0, 2, 3))}


def _question(head, tokens, state, step, thing, members):  # type: ignore[no-untyped-def]
    query = head.words(state.words[thing]).sum(dim=0)
    said, sure = [], []
    place_loss, shown_loss, inside_count = 0.0, 0.0, 0
    for slot, member in enumerate(members):
        token = head.token(head.norm(tokens[member])) + head.places.weight[slot]
        mixed = functional.gelu(token + query) * (1 + head.gate(query))
        answer = head.answer(functional.gelu(head.mix(mixed)))
        said.append(answer[:4])
        sure.append(answer[4])
        x, y = state.places[member, thing].tolist()
        if x != x:
            continue
        inside = 0 <= x < 1 and 0 <= y < 1
        probability = torch.sigmoid(answer[4]).item()
        shown_loss -= float(np.log(probability if inside else 1 - probability)) / len(members)
        if inside:
            inside_count += 1
            wanted = torch.tensor([x, y])
            apart = functional.smooth_l1_loss(answer[5:], wanted, beta=0.1)
            place_loss += float(apart.detach())
    weights = torch.stack(sure).softmax(dim=0)
    found = (weights[:, None] * torch.stack(said)).sum(dim=0)
    known = state.known[thing]
    value = functional.smooth_l1_loss(found[known], state.values[step, thing][known], beta=0.1)
    return float(value.detach()) + 2.0 * (shown_loss + place_loss / max(1, inside_count))


def test_what_cannot_be_varied_is_refused(model: ArmorModel) -> None:
    stateless = dataclasses.replace(make_sample(model), state=None)
    with pytest.raises(ArmorError, match='has no state'):
        varied(stateless, random.Random(0), model.geometry)
    with pytest.raises(ArmorError, match='has no state'):
        some_steps(stateless, 2, random.Random(0))


@pytest.mark.parametrize('held', [True, False])
def test_facts_are_what_is_taken_and_where_it_is_let_go(held: bool) -> None:
    touched = np.zeros((4, 2, 2), np.bool_)
    touched[0, 0, 0] = True  # one finger takes nothing
    touched[1:3, 1] = True
    touched[3, 1] = held
    arrays = {
        'touched': touched,
        'above': np.array(['left bin', 'left bin', 'red bowl', 'left bin']),
        'regions': np.tile(['left bin', 'red bowl'], (4, 1)),
    }
    taken = (('red can', False), ('blue cube', True))
    places = (('above the left bin', False), ('above the red bowl', not held))
    last = 'left bin with the blue cube' if held else 'left bin'
    timeline = ('left bin', 'red bowl with the blue cube', last)
    assert state_facts(arrays, NAMES, (0, 2, 3)) == Facts(taken + places, timeline)
    assert state_facts({'touched': touched}, NAMES, (0, 2)) == Facts(taken)
    nothing = state_facts(arrays | {'touched': np.zeros_like(touched)}, NAMES, (2,))
    assert {true for _, true in nothing.named} == {False}
    assert nothing.timeline == ('red bowl',)


@pytest.mark.parametrize(
    ('instruction', 'thing', 'place'),
    [
        ('move the blue cube from the left bin to the red bowl', True, True),
        ('move the blue cube from the red bowl to the left bin', True, False),
        ('move the red can to the red bowl', False, True),
        ('move the red can beside the blue cube', False, None),
        ('empty the left bin', None, False),
        ('wave', None, None),
    ],
)
def test_what_is_asked_for_is_compared_with_what_is_done(
    instruction: str, thing: bool | None, place: bool | None
) -> None:
    touched = np.zeros((3, 2, 2), np.bool_)
    touched[1, 1] = True
    arrays = {
        'touched': touched,
        'above': np.array(['left bin', 'red bowl', 'left bin']),
        'regions': np.tile(['left bin', 'red bowl'], (3, 1)),
    }
    told = ((THING_ASKED_FOR, thing), (PLACE_ASKED_FOR, place))
    compared = tuple((name, answer) for name, answer in told if answer is not None)
    assert state_facts(arrays, NAMES, (), instruction).compared == compared
    assert state_facts({'touched': touched}, NAMES, (), instruction).compared == tuple(
        each for each in compared if each[0] == THING_ASKED_FOR
    )


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (
            lambda arrays: arrays.pop('yaw'),
            'the state has no yaw; to learn from it takes tcp, yaw',
        ),
        (
            lambda arrays: arrays.update(touched=arrays['touched'][:, :1]),
            r'touched of the state is \(9, 1, 2\); with 2 items it must be \(9, 2, 2\)',
        ),
    ],
)
def test_a_state_that_cannot_be_learned_from_is_refused(
    model: ArmorModel, change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    arrays = arrays_of(np.random.default_rng(0))
    change(arrays)
    picture = np.zeros((1, 2 * CELL, COLUMNS * CELL, 3), np.uint8)
    shown = sight_input(Sight(picture, VIEWS), 5.0, model.config, model.geometry)
    with pytest.raises(ArmorError, match=said):
        state_targets(arrays, NAMES, shown, model, VIEWS)
    with pytest.raises(ArmorError, match='the state has no touched'):
        state_facts({'tcp': arrays['tcp']}, NAMES)
