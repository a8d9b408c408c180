# SPDX-License-Identifier: Apache-2.0
"""Models that grade explanations against references: LLM fuzzy match."""

from __future__ import annotations

import os

from armor_ros.errors import ArmorError
from armor_ros.evaluation.judges.cache import GradeCache
from armor_ros.evaluation.judges.judge import ChatJudge, Judge, Pair

__all__ = ['Judge', 'Pair', 'make_judge']

SPECS = 'none, hf:FOLDER, hf:OWNER/NAME, anthropic:MODEL, openai:MODEL, openai:MODEL@URL'


def make_judge(
    spec: str, cache_folder: str | os.PathLike[str] | None = None, *, device: str = 'auto'
) -> Judge | None:
    """
    Return the judge of a spec, one of ``SPECS``; None for 'none'.

    ``cache_folder`` keeps its grades; None keeps none. ``device`` is for a local model, which is
    loaded here. An API is asked nothing before ``check`` (to be called before a long run) or the
    first score that is not known: grades that are kept need neither key nor network. Raises
    ArmorError for an unknown spec and a model that cannot be loaded.
    """
    if spec == 'none':
        return None
    cache = None if cache_folder is None else GradeCache(cache_folder)
    kind, _, model = spec.partition(':')
    if kind == 'hf' and model:
        from armor_ros.evaluation.judges.local import LocalChatModel

        return ChatJudge(LocalChatModel(model, device), cache)
    if kind in ('anthropic', 'openai'):
        from armor_ros.evaluation.apis import make_api_model

        return ChatJudge(make_api_model(spec), cache)
    raise ArmorError(f'judge {spec!r} is not known; give one of {SPECS}')
