# SPDX-License-Identifier: Apache-2.0
"""All registered tasks and failures keep what their base classes promise."""

import inspect
from collections import Counter

import numpy as np
import pytest

from armor_ros.errors import ArmorError
from armor_ros.simulation import tasks
from armor_ros.simulation.domain import DOMAINS, PLAIN
from armor_ros.simulation.episode import draw_setup, relabel, run_episode
from armor_ros.simulation.failures import FAILURES, NOMINAL, Failure, failure_of, modes_of
from armor_ros.simulation.failures.base import register as register_failure
from armor_ros.simulation.outcomes import HEADER, outcomes_of, table_row
from armor_ros.simulation.plan import sample_plan
from armor_ros.simulation.tasks.base import register as register_task

TASKS = tasks.TASKS
PAIRS = [(task, mode) for task in TASKS for mode in TASKS[task].modes]


def draw(name: str, seed: int, domain: str = 'train') -> tasks.Task:
    return TASKS[name].draw(np.random.default_rng(seed), DOMAINS[domain])


def test_there_are_transport_and_five_table_top_tasks():
    assert 'transport' in TASKS
    assert len(TASKS) >= 6


@pytest.mark.parametrize('name', TASKS)
def test_tasks_are_documented_and_registered_by_their_name(name):
    assert TASKS[name].name == name
    assert len(inspect.getdoc(TASKS[name])) > 40
    assert len(set(TASKS[name].modes)) == len(TASKS[name].modes) >= 3
    assert set(TASKS[name].modes) <= set(FAILURES)


@pytest.mark.parametrize('domain', DOMAINS)
@pytest.mark.parametrize('name', TASKS)
def test_scenes_name_their_items_apart_and_use_only_the_domains_colors(name, domain):
    for seed in range(15):
        task = draw(name, seed, domain)
        names = [item.name for item in task.items]
        assert len(set(names)) == len(names)
        assert task.named.name in task.instruction
        assert {item.color for item in task.items} <= set(DOMAINS[domain].colors)
        assert task.drop is not None


@pytest.mark.parametrize('name', TASKS)
def test_same_seed_same_scene_and_other_seed_another(name):
    assert draw(name, 3) == draw(name, 3)
    assert len({draw(name, seed).instruction for seed in range(12)}) > 6


@pytest.mark.parametrize('name', TASKS)
def test_alternatives_are_other_instructions_for_the_same_scene(name):
    task = draw(name, 1)
    others = task.alternatives()
    words = [other.instruction for other in others]
    assert len(others) >= 1
    assert task.instruction not in words
    assert len(set(words)) == len(words)
    assert all(other.items == task.items for other in others)


@pytest.mark.parametrize('name', TASKS)
def test_nothing_is_done_before_the_robot_begins(name):
    episode = run_episode(draw_setup(0, NOMINAL, name))
    first = {f: v[:1] for f, v in _arrays(episode.log).items()}
    before = type(episode.log)(**first)
    for task in (episode.setup.scene, *episode.setup.scene.alternatives()):
        assert not task.succeeded(before), task.instruction


def _arrays(log) -> dict:
    return {field: getattr(log, field) for field in type(log).__dataclass_fields__}


@pytest.mark.parametrize('name', TASKS)
def test_a_success_fails_under_another_instruction(name):
    episode = run_episode(draw_setup(0, NOMINAL, name))
    assert episode.judgement.success, episode.explanation
    twins = relabel(episode, np.random.default_rng(0))
    assert len(twins) == len(episode.setup.scene.alternatives())
    assert not twins[0].success
    assert twins[0].instruction != episode.setup.scene.instruction
    assert '{' not in twins[0].explanation


def test_taking_the_wrong_item_succeeds_under_the_instruction_that_names_it():
    episode = run_episode(draw_setup(0, 'wrong_object', 'pick_and_lift'))
    assert not episode.judgement.success
    twin = relabel(episode, np.random.default_rng(0))[0]
    assert twin.success
    taken = episode.setup.scene.items[episode.judgement.cause.item].name
    assert taken in twin.instruction


@pytest.mark.parametrize('mode', FAILURES)
def test_failures_are_documented_and_used(mode):
    failure = FAILURES[mode]
    assert failure.name == mode
    assert failure.family
    assert failure.kinds
    assert inspect.getdoc(failure)
    assert any(mode in task.modes for task in TASKS.values())


@pytest.mark.parametrize(('task', 'mode'), PAIRS)
def test_every_mode_spoils_the_plan_and_nothing_else(task, mode):
    setup = draw_setup(2, mode, task)
    rng = np.random.default_rng(np.random.SeedSequence(2).spawn(4)[1])
    assert setup.plan != sample_plan(rng, setup.scene, setup.domain)
    assert setup == draw_setup(2, mode, task)


def test_unknown_names_are_refused_with_those_that_exist():
    with pytest.raises(ArmorError, match=r"'sulk'.*nominal, slip"):
        failure_of('sulk', 'transport')
    with pytest.raises(ArmorError, match=r"'juggle'.*transport"):
        modes_of('juggle')
    with pytest.raises(ArmorError, match=r"'moon'.*plain, train"):
        draw_setup(0, NOMINAL, 'transport', 'moon')
    with pytest.raises(ArmorError, match=r"'goal_offset'.*transport"):
        failure_of('goal_offset', 'transport')


def test_two_of_one_name_are_refused():
    with pytest.raises(ArmorError, match='transport'):
        register_task(tasks.Transport)
    with pytest.raises(ArmorError, match='slip'):
        register_failure(FAILURES['slip'])
    assert issubclass(FAILURES['slip'], Failure)


def test_the_plain_domain_always_looks_the_same_and_the_others_differ():
    looks = {
        name: [domain.draw_look(np.random.default_rng(seed)) for seed in range(6)]
        for name, domain in DOMAINS.items()
    }
    assert len(set(looks['plain'])) == 1
    for name in set(DOMAINS) - {'plain'}:
        assert len(set(looks[name])) == 6
    assert {look.tote for look in looks['train']}.isdisjoint(
        {look.tote for look in looks['unseen_workspace']}
    )
    assert set(DOMAINS['unseen_objects'].shapes) - set(DOMAINS['train'].shapes)


def test_habits_vary_in_the_train_domain_alone():
    plain, train = (
        [draw_setup(seed, NOMINAL, 'transport', name).plan for seed in range(8)]
        for name in ('plain', 'train')
    )
    assert {plan.pause for plan in plain} == {0.0}
    assert len({plan.pause for plan in train}) == 8
    assert all(0.25 <= plan.carry_height <= 0.32 for plan in plain)


def test_outcomes_count_what_the_judge_says():
    row = outcomes_of('transport', 'wrong_object', range(2), PLAIN.name)
    assert row.counts == Counter({'wrong_object': 2})
    assert row.share == 1.0
    line = table_row(row)
    assert line == '| transport | wrong_object | wrong object | 100 % | wrong_object 2 |'
    assert {text.count('|') for text in (line, *HEADER.splitlines())} == {6}
    assert outcomes_of('transport', NOMINAL, [0], PLAIN.name).share == 1.0
