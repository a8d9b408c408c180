# SPDX-License-Identifier: Apache-2.0
"""What the model is compared with: other models, the robot's own word, and constants."""

from __future__ import annotations

from collections.abc import Sequence

from armor_ros.episodes.diagnosis import InputMode
from armor_ros.errors import ArmorError
from armor_ros.evaluation.baselines.answer import Answer, Baseline, Example, parse_answer
from armor_ros.evaluation.baselines.constant import ConstantBaseline, StatusBaseline
from armor_ros.evaluation.baselines.few_shot import Candidate, select_examples

__all__ = [
    'Answer',
    'Baseline',
    'Candidate',
    'Example',
    'make_baseline',
    'parse_answer',
    'select_examples',
    'takes_examples',
]

SPECS = (
    'always-success, always-failure, status, hf:FOLDER, hf:OWNER/NAME, anthropic:MODEL, '
    'openai:MODEL, openai:MODEL@URL'
)
# Enough for models that think before they answer.
MAX_NEW_TOKENS = 1024


def takes_examples(spec: str) -> bool:
    """Tell whether a baseline can be shown examples; the others are constant or zero-shot."""
    return spec.partition(':')[0] in ('anthropic', 'openai')


def make_baseline(
    spec: str,
    *,
    mode: InputMode | None = None,
    camera: str = '',
    examples: Sequence[Example] = (),
    device: str = 'auto',
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> Baseline:
    """
    Return the baseline of a spec, one of ``SPECS``.

    ``mode`` is what a model is shown: one camera's clip or the collage of all. None means the
    clip for a local model and the collage behind an API; a ready collage is always shown as it
    is. ``camera`` '' means the first with frames (clip) or all (collage). ``examples`` make the
    few-shot prompt. ``device`` is that of ``load_checkpoint``, of a local model.

    A local model is loaded here; a model behind an API is asked nothing before ``check``, which
    is to be called before a long run. Raises ArmorError for an unknown spec, and for a model that
    cannot be loaded.
    """
    if examples and not takes_examples(spec):
        raise ArmorError(f'baseline {spec!r} takes no examples; leave them out')
    if spec in ('always-success', 'always-failure'):
        return ConstantBaseline(spec, failed=spec == 'always-failure')
    if spec == 'status':
        return StatusBaseline()
    kind, _, model = spec.partition(':')
    if kind == 'hf' and model:
        from armor_ros.evaluation.baselines.hugging_face import HuggingFaceBaseline

        return HuggingFaceBaseline(
            model,
            mode=mode,
            camera=camera,
            device=device,
            max_new_tokens=max_new_tokens,
        )
    if kind in ('anthropic', 'openai'):
        from armor_ros.evaluation.apis import make_api_model
        from armor_ros.evaluation.baselines.hosted import HostedBaseline

        return HostedBaseline(
            make_api_model(spec),
            mode=mode,
            camera=camera,
            examples=examples,
            max_new_tokens=max_new_tokens,
        )
    raise ArmorError(f'baseline {spec!r} is not known; give one of {SPECS}')
