"""The peers of completion: the point model finds what is linear, and its prior decides where nothing is seen."""

import numpy as np

from benchmarks.peers.completion import PointModel


def test_a_point_model_completes_a_linear_family_and_falls_back_to_its_mean() -> None:
    random = np.random.default_rng(0)
    mean, modes = random.normal(size=(50, 3)), random.normal(size=(3, 50, 3))
    family = mean + np.einsum("bm,mvc->bvc", random.normal(size=(40, 3)), modes)
    model = PointModel.of(family, share=0.9999)
    assert len(model.modes) == 3
    truth = mean + np.einsum("m,mvc->vc", [0.5, -1.0, 1.5], modes)
    seen = np.arange(50) < 10
    assert np.allclose(model.complete(seen, truth[seen]), truth, atol=1e-3)
    nothing = np.zeros(50, dtype=bool)
    assert np.allclose(model.complete(nothing, truth[nothing]), family.mean(axis=0))
    assert len(PointModel.of(family, share=0.5).modes) < 3
