# SPDX-License-Identifier: Apache-2.0
"""Products of large weights are those of torch, whatever becomes of the weights."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn

from armor_ros.model import products
from armor_ros.model.products import copied_bytes, forget_copies, linear

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason='torch was built without oneDNN'
)


@pytest.fixture(autouse=True)
def _alone() -> object:
    """Count the copies of each test alone, without gradients."""
    torch.manual_seed(0)
    forget_copies()
    with torch.no_grad():
        yield
    forget_copies()


@pytest.mark.parametrize('has_bias', [True, False])
@pytest.mark.parametrize('rows', [1, 3, 70])
@pytest.mark.parametrize('shape', [(512, 2048), (512, 256), (16, 16)])
def test_products(shape: tuple[int, int], rows: int, has_bias: bool) -> None:
    module = nn.Linear(*shape, bias=has_bias)
    inputs = torch.randn(rows, shape[0])
    for _ in range(2):
        torch.testing.assert_close(linear(module, inputs), module(inputs))


@needs_onednn
def test_what_is_held_twice() -> None:
    large, small = nn.Linear(512, 256), nn.Linear(64, 64)
    for module in (large, small, large):
        linear(module, torch.ones(1, module.in_features))
    assert copied_bytes() == 512 * 256 * 4
    del module, large
    gc.collect()
    assert copied_bytes() == 0, 'it goes with the weight'


@needs_onednn
def test_a_limit_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, '_MOST_BYTES', 2 * 512 * 1024 * 4)
    modules = [nn.Linear(512, 1024) for _ in range(3)]
    inputs = torch.randn(3, 512)
    for _ in range(2):
        for module in modules:
            torch.testing.assert_close(linear(module, inputs), module(inputs))
        assert copied_bytes() == products._MOST_BYTES


def step_of_an_optimizer(module: nn.Linear) -> None:
    with torch.enable_grad():
        module(torch.ones(1, module.in_features)).sum().backward()
    torch.optim.SGD(module.parameters(), lr=0.1).step()


def loaded_weights(module: nn.Linear) -> None:
    module.load_state_dict(nn.Linear(module.in_features, module.out_features).state_dict())


def other_storage(module: nn.Linear) -> None:
    for _ in range(2):  # the second perhaps where the first weight was
        module.weight.data = torch.randn_like(module.weight) / 16


def other_parameter(module: nn.Linear) -> None:
    module.weight = nn.Parameter(torch.randn_like(module.weight) / 16)


@pytest.mark.parametrize(
    'change', [step_of_an_optimizer, loaded_weights, other_storage, other_parameter]
)
def test_weights_may_change(change: object) -> None:
    module = nn.Linear(512, 256)
    inputs = torch.randn(3, 512)
    before = linear(module, inputs)
    change(module)  # type: ignore[operator]
    torch.testing.assert_close(linear(module, inputs), module(inputs))
    assert not torch.allclose(before, module(inputs))


def test_a_model_in_training_gets_its_gradients() -> None:
    module = nn.Linear(512, 256)
    inputs = torch.randn(3, 512)
    linear(module, inputs)
    with torch.enable_grad():
        linear(module, inputs).sum().backward()
    assert module.weight.grad is not None
    torch.testing.assert_close(module.weight.grad, inputs.sum(0).expand(256, -1))


def test_other_precisions() -> None:
    module = nn.Linear(512, 256, dtype=torch.bfloat16)
    inputs = torch.randn(3, 512, dtype=torch.bfloat16)
    assert torch.equal(linear(module, inputs), module(inputs))
    assert copied_bytes() == 0


def test_weights_made_for_inference_alone() -> None:
    with torch.inference_mode():
        module = nn.Linear(512, 2048)
        inputs = torch.randn(3, 512)
        torch.testing.assert_close(linear(module, inputs), module(inputs))
    assert copied_bytes() == 0


def test_other_kinds_of_layers_run_themselves() -> None:
    class Doubled(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(inputs)

    module = Doubled(1024, 1024)
    inputs = torch.randn(2, 1024)
    assert torch.equal(linear(module, inputs), module(inputs))
