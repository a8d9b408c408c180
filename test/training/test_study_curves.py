# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from armor_ros.training.study_curves import round_curves, training_curves

RECIPES = ['plain', 'SFT', 'later']


def run(steps: int, loss: float = 1.0, detection: float = 1.0) -> list[dict[str, Any]]:
    return [
        {'detection': detection * loss / (1 + step), 'language': loss / (1 + step)}
        for step in range(steps)
    ]


def row(recipe: str, index: int, value: float) -> dict[str, Any]:
    known = {'value': value, 'low': value - 0.1, 'high': value + 0.2}
    unknown = {'value': None, 'low': None, 'high': None}
    figures = {'accuracy': known, 'rouge_l_failures': known, 'entropy': unknown}
    return {'recipe': recipe, 'round': index, 'figures': figures}


def texts(picture: str) -> list[str]:
    """Return what is written in a picture."""
    return [''.join(each.itertext()) for each in ET.fromstring(picture).iter()
            if each.tag.endswith('}text')]  # fmt: skip


def curves(picture: str, color: str) -> list[list[tuple[float, float]]]:
    """Return the points of each line of a colour that goes through more than two."""
    found = []
    panels = picture.split('id="legend_')[0]
    for path, style in re.findall(r'<path d="([^"]*)"[^>]*style="fill: none; ([^"]*)"', panels):
        points = [tuple(map(float, pair.split())) for pair in re.findall(r'[ML] ([^MLz]*)', path)]
        if f'stroke: {color}' in style and len(points) > 2:
            found.append(points)
    return found  # type: ignore[return-value]


FIRST, SECOND = '#1f77b4', '#ff7f0e'


def test_a_curve_is_the_mean_of_groups_of_steps_over_runs() -> None:
    logs = {'plain': [run(400), run(440, loss=3.0)], 'SFT': [run(60, detection=0.0)], 'later': []}
    picture = training_curves(RECIPES, logs)
    assert picture == training_curves(RECIPES, logs)
    assert texts(picture)[-2:] == ['plain', 'SFT']
    detection, language = curves(picture, FIRST)
    # 400 steps that both have, 20 by 20
    assert len(detection) == len(language) == 20
    # points are means, but for the picture's scale; SVG's y goes down
    first, second, third = (sum(1 / (1 + 20 * i + j) for j in range(20)) for i in range(3))
    heights = [-y for _, y in language]
    ratio = (heights[0] - heights[1]) / (heights[1] - heights[2])
    assert ratio == pytest.approx((first - second) / (second - third), rel=1e-3)
    # what was not asked for has no curve, and 60 steps go 3 by 3
    assert [len(points) for points in curves(picture, SECOND)] == [20]
    assert training_curves(RECIPES, {'plain': []}) == ''
    assert training_curves(RECIPES, {'plain': [run(1)]})


def test_many_recipes_can_be_told_apart_and_are_all_named() -> None:
    names = [f'recipe {index}' for index in range(30)]
    picture = training_curves(names, {name: [run(400)] for name in names})
    assert texts(picture)[-30:] == names
    (height,) = re.findall(r'viewBox="0 0 [\d.]+ ([\d.]+)"', picture)
    places = [float(y) for y in re.findall(r'<text [^>]*y="([\d.]+)"', picture)]
    assert len(places) > 30
    assert max(places) < float(height)
    legend = picture.split('id="legend_')[1]
    looks = re.findall(r'fill: none; ((?:stroke-dasharray: [^;]*; stroke-dashoffset: [^;]*; )?'
                       r'stroke: #[0-9a-f]{6})', legend)  # fmt: skip
    assert len(looks) == len(set(looks)) == 30
    assert sum('dash' not in look for look in looks) == 20


def test_rounds_have_a_place_each_and_their_intervals() -> None:
    rows = [row('SFT', index, value) for index, value in enumerate((0.5, 0.7, 0.6))]
    picture = round_curves(RECIPES, rows)
    assert {'0', '1', '2', 'round', 'detection', 'SFT'} <= set(texts(picture))
    # of the three panels, one has nothing that is known
    detection, explanation = curves(picture, SECOND)
    (_, first), (_, second), (_, third) = detection
    assert second < third < first
    assert [y for _, y in explanation] == [y for _, y in detection]
    assert not curves(picture, FIRST)
    assert round_curves(RECIPES, []) == ''
