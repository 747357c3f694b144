"""Mean and covariance of the codes of a run: those of the learned shapes alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from moved_ball import moved_balls


def test_the_distribution_is_that_of_the_learned_codes(tmp_path: Path) -> None:
    run = moved_balls(tmp_path).run
    shapes = tuple(
        dataclasses.replace(shape, source=f"{shape.name}.obj", learned=shape.name != "two") for shape in run.shapes
    )
    mean, covariance = dataclasses.replace(run, shapes=shapes).code_distribution()
    codes = run.latents[:3].double().numpy()
    np.testing.assert_allclose(mean.numpy(), codes.mean(axis=0))
    np.testing.assert_allclose(covariance.numpy(), np.cov(codes.T))
    assert covariance.dtype == torch.float64
