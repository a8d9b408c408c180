# SPDX-License-Identifier: Apache-2.0
"""Goals and task events: what becomes a task, and what does not."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from armor_ros.episodes.goal_tracker import GoalState, GoalTracker
from armor_ros.episodes.settings import EpisodeSettings
from armor_ros.episodes.task import TaskEvent, TaskPhase, TaskStatus
from armor_ros.errors import ArmorError

SECOND = 1_000_000_000
MS = 1_000_000
START = 1_700_000_000 * SECOND
ACCEPTED, EXECUTING, CANCELING, SUCCEEDED, CANCELED, ABORTED = 1, 2, 3, 4, 5, 6


def goal(number: int, status: int, stamp: int = START) -> GoalState:
    return GoalState(number.to_bytes(16, 'big'), stamp, status)


def make(**changes: object) -> GoalTracker:
    return GoalTracker(EpisodeSettings(**changes))


def kinds(events: list[TaskEvent]) -> list[str]:
    return [f'{event.phase.name} {int(event.task_id[-32:], 16)}' for event in events]


def event(phase: TaskPhase, task_id: str = 'a', stamp: int = START, **more: object) -> TaskEvent:
    return TaskEvent(phase, task_id, stamp, **more)


def test_a_goal_becomes_a_start_and_an_end() -> None:
    tracker = make(instructions=(('/pick*', 'pick up the blue can'),))
    assert tracker.update_status('/pick_can', [goal(7, ACCEPTED)], START + 1) == [
        TaskEvent(
            TaskPhase.START,
            '/pick_can/00000000000000000000000000000007',
            START,
            name='/pick_can',
            instruction='pick up the blue can',
        )
    ]
    assert tracker.update_status('/pick_can', [goal(7, EXECUTING)], START + 2) == []
    assert tracker.update_status('/pick_can', [goal(7, CANCELING)], START + 3) == []
    assert len(tracker.open_tasks) == 1
    [end] = tracker.update_status('/pick_can', [goal(7, ABORTED)], START + 4)
    assert (end.phase, end.stamp_ns, end.status) == (TaskPhase.END, START + 4, TaskStatus.ABORTED)
    assert (end.name, end.instruction) == ('/pick_can', 'pick up the blue can')
    assert tracker.open_tasks == ()


def test_the_topic_names_the_action_too() -> None:
    [start] = make().update_status('/pick/_action/status', [goal(1, EXECUTING)], START)
    assert start.name == '/pick'


def test_a_goal_without_a_stamp_starts_when_it_is_received() -> None:
    [start] = make().update_status('/pick', [goal(1, EXECUTING, 0)], START + 5)
    assert start.stamp_ns == START + 5


def test_what_is_terminal_in_the_first_array_is_history() -> None:
    tracker = make()
    first = [goal(1, SUCCEEDED), goal(2, EXECUTING), goal(3, ABORTED)]
    assert kinds(tracker.update_status('/pick', first, START)) == ['START 2']
    for index in range(1, 5):
        assert tracker.update_status('/pick', first, START + index * SECOND) == []
    assert tracker.counters()['history_goals'] == 2
    # A later action has a history of its own.
    assert tracker.update_status('/place', [goal(9, SUCCEEDED)], START + 9 * SECOND) == []


def test_what_was_accepted_since_the_monitor_watches_is_no_history() -> None:
    tracker = GoalTracker(EpisodeSettings(), since_ns=START)
    states = [goal(1, SUCCEEDED, START - 1), goal(2, SUCCEEDED, START)]
    assert kinds(tracker.update_status('/pick', states, START + 9)) == ['START 2', 'END 2']


def test_a_hundred_goals_too_short_to_be_seen_active() -> None:
    tracker = make()
    tracker.update_status('/pick', [], START)
    ended = []
    for index in range(100):
        states = [goal(n, SUCCEEDED, START + n * 5 * MS) for n in range(index + 1)]
        ended += tracker.update_status('/pick', states, START + index * 5 * MS + 4 * MS)
    assert kinds(ended) == [f'{kind} {n}' for n in range(100) for kind in ('START', 'END')]
    assert [e.stamp_ns for e in ended[::2]] == [START + n * 5 * MS for n in range(100)]
    assert tracker.counters()['ended'] == 100


def test_a_hundred_short_goals_in_one_array() -> None:
    tracker = make()
    tracker.update_status('/pick', [goal(0, SUCCEEDED)], START)
    ended = tracker.update_status('/pick', [goal(n, SUCCEEDED) for n in range(101)], START + MS)
    assert Counter(e.phase for e in ended) == {TaskPhase.START: 100, TaskPhase.END: 100}


def test_numbers_that_are_no_status_are_counted_and_ignored() -> None:
    tracker = make()
    tracker.update_status('/pick', [], START)
    for status in (-59, -91, 127, 7, -1):
        assert tracker.update_status('/pick', [goal(1, status)], START + 1) == []
    assert tracker.update_status('/pick', [goal(1, 0)], START + 1) == []
    assert tracker.counters()['ignored_statuses'] == 5


@pytest.mark.parametrize('memory', [64, 2048])
def test_arrays_of_a_thousand_goals_again_and_again(memory: int) -> None:
    tracker = make(goal_memory=memory)
    tracker.update_status('/pick', [goal(n, SUCCEEDED, START + n) for n in range(1000)], START)
    rng = random.Random(0)
    events = []
    for index in range(1, 21):
        count = 1000 + index
        states = [goal(n, SUCCEEDED, START + n) for n in range(count)]
        rng.shuffle(states)
        events += tracker.update_status('/pick', states, START + index * SECOND)
        assert len(tracker._goals) <= memory
    ended = [each for each in events if each.phase is TaskPhase.END]
    assert kinds(ended) == [f'END {n}' for n in range(1000, 1020)]
    assert len(events) == 2 * len(ended)


@settings(deadline=None, max_examples=50)
@given(st.randoms(use_true_random=False), st.integers(1, 8))
def test_repeated_and_overtaken_arrays_give_one_end_a_goal(rng: random.Random, goals: int) -> None:
    history: list[list[GoalState]] = [[]]
    states: dict[int, int] = {}
    for step in range(goals * 3):
        number = rng.randrange(goals)
        states[number] = min(SUCCEEDED, states.get(number, 0) + 1 + step % 2)
        history.append([goal(n, status) for n, status in states.items()])
    for number in range(goals):
        states[number] = SUCCEEDED
    history.append([goal(n, status) for n, status in states.items()])
    arrays = history + rng.choices(history, k=10)
    late = arrays[1:]
    rng.shuffle(late)
    late.append(history[-1])
    tracker = make()
    tracker.update_status('/pick', [], START)
    events = []
    for index, array in enumerate(late):
        rng.shuffle(array)
        events += tracker.update_status('/pick', array, START + index * 5 * MS)
    expected = Counter(f'{kind} {n}' for n in range(goals) for kind in ('START', 'END'))
    assert Counter(kinds(events)) == expected


def test_a_goal_active_again_is_a_new_run() -> None:
    """A bag that loops, played without its clock."""
    tracker = make()
    events = []
    for loop in range(10):
        begin = START + loop * 8 * SECOND
        events += tracker.update_status('/pick', [goal(1, EXECUTING)], begin + SECOND)
        events += tracker.update_status('/pick', [goal(1, SUCCEEDED)], begin + 6 * SECOND)
    assert kinds(events) == ['START 1', 'END 1'] * 10


@pytest.mark.parametrize('pause', [0, SECOND // 10])
def test_every_loop_of_a_bag_with_its_clock(pause: int) -> None:
    """Goal 1 is history, 2 is seen active, 3 is over before it is seen."""
    tracker = make()
    events = []
    for _ in range(10):
        at = START + pause
        events += tracker.update_status('/pick', [goal(1, SUCCEEDED)], at)
        states = [goal(1, SUCCEEDED), goal(2, EXECUTING)]
        begun = tracker.update_status('/pick', states, at + SECOND)
        assert kinds(begun) == ['START 2']
        events += begun
        states = [goal(1, SUCCEEDED), goal(2, ABORTED)]
        events += tracker.update_status('/pick', states, at + 5 * SECOND)
        states.append(goal(3, SUCCEEDED))
        events += tracker.update_status('/pick', states, at + 7 * SECOND)
    assert kinds(events) == ['START 2', 'END 2', 'START 3', 'END 3'] * 10
    assert tracker.counters()['clock_jumps'] == 9


def test_a_step_of_the_clock_repeats_no_end() -> None:
    tracker = make()
    tracker.update_status('/pick', [], START)
    tracker.update_status('/pick', [goal(1, SUCCEEDED)], START + 100 * SECOND)
    tracker.update_status('/pick', [goal(2, EXECUTING)], START + 101 * SECOND)
    # Five seconds back: goal 1 ended three seconds in the future.
    states = [goal(1, SUCCEEDED), goal(2, SUCCEEDED)]
    events = tracker.update_status('/pick', states, START + 97 * SECOND)
    events += tracker.update_status('/pick', states, START + 98 * SECOND)
    assert kinds(events) == ['END 2']


def test_a_goal_that_its_server_forgot_ends_unknown() -> None:
    tracker = make()
    tracker.update_status('/pick', [goal(1, EXECUTING)], START)
    # One array may have been overtaken, and a young goal may be missing from old arrays.
    assert tracker.update_status('/pick', [], START + SECOND) == []
    assert tracker.update_status('/pick', [], START + SECOND) == []
    [end] = tracker.update_status('/pick', [goal(2, 0)], START + 60 * SECOND)
    assert (end.phase, end.status) == (TaskPhase.END, TaskStatus.UNKNOWN)
    assert 'no longer lists' in end.message
    assert tracker.open_tasks == ()


def test_one_array_without_a_goal_does_not_end_it() -> None:
    tracker = make()
    tracker.update_status('/pick', [goal(1, EXECUTING)], START)
    assert tracker.update_status('/pick', [], START + 60 * SECOND) == []
    assert tracker.update_status('/pick', [goal(1, EXECUTING)], START + 61 * SECOND) == []
    assert tracker.update_status('/pick', [], START + 99 * SECOND) == []
    assert kinds(tracker.update_status('/pick', [], START + 99 * SECOND)) == ['END 1']


def test_a_goal_lost_at_a_jump_back_ends_unknown() -> None:
    tracker = make()
    tracker.update_status('/pick', [goal(1, EXECUTING)], START + 100 * SECOND)
    assert tracker.update_status('/pick', [], START) == []
    assert kinds(tracker.update_status('/pick', [], START + 3 * SECOND)) == ['END 1']


def test_only_the_outermost_action_is_a_task() -> None:
    tracker = make()
    events = tracker.update_status('/tidy', [goal(1, EXECUTING, START)], START)
    events += tracker.update_status('/pick', [goal(2, EXECUTING, START + 1)], START + 1)
    events += tracker.update_status('/pick', [goal(2, SUCCEEDED, START + 1)], START + 2)
    events += tracker.update_status('/move', [goal(4, SUCCEEDED, START + 1)], START + 2)
    events += tracker.update_status('/move', [goal(5, SUCCEEDED, START + 1)], START + 2)
    # Another goal of the same action runs beside the first, not inside it.
    events += tracker.update_status('/tidy', [goal(1, EXECUTING), goal(3, EXECUTING)], START + 3)
    events += tracker.update_status('/tidy', [goal(1, SUCCEEDED), goal(3, ABORTED)], START + 4)
    assert kinds(events) == ['START 1', 'START 3', 'END 1', 'END 3']
    assert tracker.counters()['nested_goals'] == 2
    again = tracker.update_status('/pick', [goal(6, EXECUTING, START + 5)], START + 5)
    assert kinds(again) == ['START 6']


def test_an_inner_goal_heard_of_first_does_not_hide_the_outer_one() -> None:
    tracker = make()
    tracker.update_status('/pick', [goal(2, EXECUTING, START + 1)], START + 1)
    events = tracker.update_status('/tidy', [goal(1, EXECUTING, START)], START + 2)
    assert kinds(events) == ['START 1']


def test_nested_goals_are_tasks_when_asked_for() -> None:
    tracker = make(outermost_only=False)
    tracker.update_status('/tidy', [goal(1, EXECUTING, START)], START)
    events = tracker.update_status('/pick', [goal(2, EXECUTING, START + 1)], START + 1)
    assert kinds(events) == ['START 2']


def test_actions_are_chosen_by_globs() -> None:
    tracker = make(actions=('/arm/*', '!*/home'))
    assert tracker.update_status('/arm/pick', [goal(1, EXECUTING)], START)
    assert tracker.update_status('/arm/home', [goal(2, EXECUTING)], START) == []
    assert tracker.update_status('/base/move', [goal(3, EXECUTING)], START) == []
    assert tracker.counters()['ignored_actions'] == 2
    assert make(actions=('!/arm/*',)).update_status('/base', [goal(1, EXECUTING)], START)


def test_more_active_goals_than_are_remembered() -> None:
    tracker = make(goal_memory=4, max_open_tasks=4)
    events = tracker.update_status('/pick', [goal(n, EXECUTING) for n in range(50)], START)
    assert len(tracker._goals) <= 4
    # Each that was started is ended, but for the last four.
    assert Counter(e.phase for e in events) == {TaskPhase.START: 50, TaskPhase.END: 46}
    assert len(tracker.open_tasks) == 4


def test_task_events_pass_with_what_the_end_leaves_out() -> None:
    tracker = make()
    [start] = tracker.update_event(
        event(
            TaskPhase.START,
            name='place',
            instruction='put it there',
            cameras=('front',),
            context=(('robot', 'r1'), ('order', '5')),
        )
    )
    assert start.stamp_ns == START
    [end] = tracker.update_event(
        event(TaskPhase.END, stamp=0, status=TaskStatus.SUCCEEDED, context=(('order', '6'),)),
        receive_ns=START + 9,
    )
    assert end == TaskEvent(
        TaskPhase.END,
        'a',
        START + 9,
        name='place',
        instruction='put it there',
        status=TaskStatus.SUCCEEDED,
        cameras=('front',),
        context=(('robot', 'r1'), ('order', '6')),
    )


def test_repeated_events_are_ignored() -> None:
    tracker = make()
    assert tracker.update_event(event(TaskPhase.START))
    assert tracker.update_event(event(TaskPhase.START)) == []
    assert tracker.update_event(event(TaskPhase.START, stamp=START + 5)) == []
    assert tracker.update_event(event(TaskPhase.END, stamp=START + 9))
    assert tracker.update_event(event(TaskPhase.END, stamp=START + 9)) == []
    assert tracker.update_event(event(TaskPhase.END, stamp=START + 99 * SECOND)) == []
    assert tracker.update_event(event(TaskPhase.START, stamp=START + 100 * SECOND))
    assert tracker.update_event(event(TaskPhase.END, stamp=START + 101 * SECOND))
    counters = tracker.counters()
    assert (counters['repeated_starts'], counters['repeated_ends']) == (2, 2)


def test_a_start_stamped_earlier_or_after_a_jump_back_begins_anew() -> None:
    tracker = make()
    tracker.update_event(event(TaskPhase.START, stamp=START + SECOND))
    assert tracker.update_event(event(TaskPhase.START, stamp=START), START + SECOND)
    tracker.advance(START - 60 * SECOND)
    assert tracker.update_event(event(TaskPhase.START, stamp=START - 59 * SECOND))
    assert tracker.open_tasks == ('a',)


def test_the_same_start_comes_again_with_every_loop() -> None:
    tracker = make()
    for _ in range(3):
        assert tracker.update_event(event(TaskPhase.START, stamp=START))
        tracker.advance(START + 60 * SECOND)
        tracker.advance(START - SECOND)


def test_the_same_end_comes_again_with_every_loop() -> None:
    tracker = make()
    for _ in range(3):
        tracker.advance(START - 50 * SECOND)
        assert tracker.update_event(event(TaskPhase.END, 'early', stamp=START - 50 * SECOND))
        assert tracker.update_event(event(TaskPhase.END))
        assert tracker.update_event(event(TaskPhase.END)) == []
        tracker.advance(START - 60 * SECOND)


def test_an_end_without_a_start_takes_effect_once() -> None:
    tracker = make()
    assert tracker.update_event(event(TaskPhase.END))
    assert tracker.update_event(event(TaskPhase.END)) == []
    assert tracker.counters()['ends_without_start'] == 1


def test_tasks_without_ids_are_told_apart_by_their_stamps() -> None:
    tracker = make()
    for index in range(3):
        [end] = tracker.update_event(event(TaskPhase.END, task_id='', stamp=START + index))
        assert end.task_id == 'unnamed'
        assert tracker.update_event(event(TaskPhase.END, task_id='', stamp=START + index)) == []


def test_too_many_open_tasks_end_the_oldest() -> None:
    tracker = make(max_open_tasks=3)
    for name in 'abc':
        tracker.update_event(event(TaskPhase.START, name))
    end, start = tracker.update_event(event(TaskPhase.START, 'd', START + 5))
    assert (end.phase, end.task_id, end.stamp_ns) == (TaskPhase.END, 'a', START + 5)
    assert end.status is TaskStatus.UNKNOWN
    assert 'more than 3' in end.message
    assert (start.phase, start.task_id) == (TaskPhase.START, 'd')
    assert tracker.open_tasks == ('b', 'c', 'd')
    assert tracker.update_event(event(TaskPhase.END, 'a', START + 6)) == []


def test_a_task_open_for_too_long_ends() -> None:
    tracker = make(max_task_seconds=100.0)
    tracker.update_event(event(TaskPhase.START))
    assert tracker.advance(START + 100 * SECOND) == []
    [end] = tracker.advance(START + 100 * SECOND + 1)
    assert end.task_id == 'a'
    assert '100 s' in end.message


def test_a_task_of_an_action_may_be_ended_by_an_event() -> None:
    tracker = make()
    [start] = tracker.update_status('/pick', [goal(1, EXECUTING)], START)
    assert tracker.update_event(event(TaskPhase.END, start.task_id, START + 5))
    assert tracker.update_status('/pick', [goal(1, SUCCEEDED)], START + 6) == []


def test_the_memory_of_ended_tasks_is_bounded() -> None:
    tracker = make(goal_memory=20)
    for index in range(1000):
        tracker.update_event(event(TaskPhase.END, f'task {index}', START + index))
    assert len(tracker._registry._ended) == 20


def test_a_phase_that_is_none_is_refused() -> None:
    with pytest.raises(ArmorError, match='phase'):
        make().update_event(event(3))  # type: ignore[arg-type]


def test_reset_forgets_goals_and_tasks() -> None:
    tracker = make()
    tracker.update_status('/pick', [goal(1, EXECUTING)], START)
    tracker.reset()
    assert tracker.open_tasks == ()
    assert tracker.update_status('/pick', [goal(1, SUCCEEDED)], START) == []
    assert kinds(tracker.update_status('/pick', [goal(1, EXECUTING)], START)) == ['START 1']
