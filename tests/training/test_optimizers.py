import subprocess
import sys

import numpy as np
import pytest
import torch

from pipeline.training.optimizers import build_optimizer, take_step
from tests.conftest import PROJECT
from tests.training.conftest import train_params


@pytest.mark.parametrize(("name", "expected"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_the_optimizer_that_params_name_gets_every_parameter_and_spares_the_biases(name, expected, make_model):
    model = make_model(layers=2, embedding_dim=5)
    optimizer = build_optimizer(model, train_params(optimizer=name, learning_rate=0.3, weight_decay=0.25))
    assert type(optimizer) is expected
    decay = {id(weight): group["weight_decay"] for group in optimizer.param_groups for weight in group["params"]}
    assert {name: decay.pop(id(weight)) for name, weight in model.named_parameters()} == {
        "E": 0.25,
        "layers.0.U": 0.25,
        "layers.0.W": 0.25,
        "layers.0.b": 0.0,
        "layers.1.U": 0.25,
        "layers.1.W": 0.25,
        "layers.1.b": 0.0,
        "V": 0.25,
        "c": 0.0,
    }
    assert not decay
    assert all(group["lr"] == 0.3 for group in optimizer.param_groups)


def adamw(w: np.ndarray, gradients: list[np.ndarray], rate: float, decay: float) -> np.ndarray:
    """Loshchilov and Hutter 2019, algorithm 2; as torch has it, the decay too is in units of the learning rate."""
    beta1, beta2, epsilon = 0.8, 0.99, 1e-8
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        w = w - rate * (m_hat / (np.sqrt(v_hat) + epsilon) + decay * w)
    return w


def sgd(w: np.ndarray, gradients: list[np.ndarray], rate: float, decay: float) -> np.ndarray:
    for g in gradients:
        w = w - rate * (g + decay * w)
    return w


@pytest.mark.parametrize(("optimizer_name", "formula"), [("adamw", adamw), ("sgd", sgd)])
@pytest.mark.parametrize("steps", [1, 5])
def test_steps_equal_the_published_formula(optimizer_name, formula, steps):
    generator = np.random.default_rng(0)
    model = torch.nn.Linear(3, 2).double()
    before = {name: weight.detach().numpy().copy() for name, weight in model.named_parameters()}
    gradients = {name: [generator.normal(size=w.shape) for _ in range(steps)] for name, w in before.items()}
    changes = {"learning_rate": 0.1, "weight_decay": 0.5, "betas": [0.8, 0.99]}
    optimizer = build_optimizer(model, train_params(optimizer=optimizer_name, **changes))
    for step in range(steps):
        for name, weight in model.named_parameters():
            weight.grad = torch.from_numpy(gradients[name][step])
        optimizer.step()
    for name, weight in model.named_parameters():
        expected = formula(before[name], gradients[name], 0.1, 0.5 if name == "weight" else 0.0)
        np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_step_is_that_of_torch(optimizer):
    ours, theirs = (torch.nn.Linear(3, 2) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    for model in (ours, theirs):
        built = build_optimizer(model, train_params(optimizer=optimizer))
        for _ in range(3):
            model.zero_grad()
            model(torch.ones(3)).square().sum().backward()
            take_step(built) if model is ours else built.step()
    assert all(map(torch.equal, ours.parameters(), theirs.parameters()))


def test_torch_does_not_import_its_compiler():
    code = """
import sys, torch
from pipeline.training.optimizers import build_optimizer, take_step
from tests.conftest import PROJECT
from tests.training.conftest import train_params
model = torch.nn.Linear(3, 2)
optimizer = build_optimizer(model, train_params())
model(torch.ones(3)).sum().backward()
take_step(optimizer)
optimizer.load_state_dict(optimizer.state_dict())
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
