# SPDX-License-Identifier: Apache-2.0
"""Dataclass trees from plain values: what fits, and what is refused by its dotted name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from armor_ros.configuration import (
    config_from_dict,
    config_from_yaml,
    first_change,
    read_yaml_config,
)
from armor_ros.errors import ArmorError


@dataclass(frozen=True)
class Leaf:
    size: int
    shares: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Tree:
    leaves: dict[str, Leaf] = field(default_factory=dict)
    kind: Literal['oak', 'elm'] = 'oak'
    names: tuple[str, ...] = ()
    note: str | None = None
    extra: Any = None


@dataclass
class Empty:
    """Takes nothing."""


def test_every_kind_of_field_is_read() -> None:
    text = 'leaves: {a: {size: 1, shares: {x: 1, y: 0.5}}}\nkind: elm\nnames: [p, q]\nnote: hi\n'
    tree = config_from_yaml(Tree, text, 'x.yaml')
    assert tree == Tree({'a': Leaf(1, {'x': 1.0, 'y': 0.5})}, 'elm', ('p', 'q'), 'hi')
    assert type(tree.leaves['a'].shares['x']) is float
    assert config_from_dict(Tree, {'note': None, 'extra': [1]}) == Tree(extra=[1])
    assert config_from_yaml(Tree, '', 'x.yaml') == Tree()


@pytest.mark.parametrize(
    ('text', 'part'),
    [
        ('quite: else', "unknown key 'quite'; the keys here are extra, kind, leaves, names, note"),
        ('leafs: {}', "unknown key 'leafs'; did you mean 'leaves'?"),
        ('leaves: {a: {sice: 1}}', "unknown key 'leaves.a.sice'; did you mean 'leaves.a.size'?"),
        ('leaves: {a: {}}', "'leaves.a.size' is missing"),
        ('leaves: {1: {size: 1}}', 'leaves has the key 1'),
        ('leaves: [1]', 'leaves is [1]; it must be a mapping'),
        ('leaves: {a: {size: 1, shares: {x: much}}}', "leaves.a.shares.x is 'much'"),
        ('leaves: {a: {size: 1, shares: {x: 1e-3}}}', "x is '1e-3'; it must be of type float, "),
        ('kind: ash', "kind is 'ash'; it must be one of oak, elm"),
        ('names: p', "names is 'p'; it must be a list"),
        ('note: 3', 'note is 3; it must be of type str'),
        ('a: [', 'is not valid YAML'),
        ('- a', "the config is ['a']"),
    ],
)
def test_refused_with_a_sentence(text: str, part: str) -> None:
    with pytest.raises(ArmorError) as caught:
        config_from_yaml(Tree, text, 'x.yaml')
    assert str(caught.value).startswith('x.yaml')
    assert part in str(caught.value)


def test_a_config_that_takes_nothing_says_so() -> None:
    with pytest.raises(ArmorError, match="unknown key 'foo'; no key is taken here"):
        config_from_dict(Empty, {'foo': 1})


@pytest.mark.parametrize(
    ('before', 'after', 'said'),
    [
        ({'a': [{'b': 1}]}, {'a': [{'b': 1}]}, ''),
        ({'a': [{'b': 1}]}, {'a': [{'b': 2}]}, 'a.0.b was 1, and is 2'),
        ({'a': [1]}, {'a': [1, 2]}, 'a had 1 entries, and has 2'),
        ({'a': 1}, {'b': 1}, 'a was 1, and is None'),
        ({'a': {'c': 1}}, {'a': None}, "a was {'c': 1}, and is None"),
        ({'a': 1, 'b': 'x'}, {'a': 1, 'b': 'y'}, "b was 'x', and is 'y'"),
    ],
)
def test_the_first_change_is_said(before: object, after: object, said: str) -> None:
    assert first_change(before, after) == said


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArmorError, match=r'none\.yaml'):
        read_yaml_config(Tree, tmp_path / 'none.yaml')
    (tmp_path / 'x.yaml').write_bytes(b'\xff\xfe\xff')
    with pytest.raises(ArmorError, match=r'x\.yaml'):
        read_yaml_config(Tree, tmp_path / 'x.yaml')
