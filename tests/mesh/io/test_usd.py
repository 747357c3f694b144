"""Moving meshes as USD, read back by Pixar's own library."""

from pathlib import Path

import numpy as np
import pytest

from sdfnet.mesh.io.usd import save_usd
from sdfnet.mesh.sequence import MovingMesh

pytest.importorskip("pxr", reason="usd-core is not installed: pip install -e '.[usd]'")

TETRAHEDRON = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=float)
OUTWARD = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def moving(place: float) -> list[MovingMesh]:
    growing = [TETRAHEDRON * (1 + frame) + place for frame in range(3)]
    return [MovingMesh(0, growing, OUTWARD), MovingMesh(3, [TETRAHEDRON[:3] + place], OUTWARD[:1])]


@pytest.mark.parametrize("suffix", ["usd", "usda"])
def test_every_frame_is_where_it_was_far_from_the_origin(suffix: str, tmp_path: Path) -> None:
    from pxr import Usd, UsdGeom, UsdValidation

    path, order = tmp_path / f"a.{suffix}", [0, 1, 2, 3, 2, 1]
    save_usd(moving(1e6), path, order=order, fps=12, keys=[(0, "small"), (3, "flat")], up_axis="z")
    stage = Usd.Stage.Open(str(path))
    assert (stage.GetTimeCodesPerSecond(), stage.GetStartTimeCode(), stage.GetEndTimeCode()) == (12, 0, 5)
    assert UsdGeom.GetStageUpAxis(stage) == "Z"
    assert dict(stage.GetDefaultPrim().GetCustomDataByKey("frame_names")) == {
        "frame_0000": "small",
        "frame_0003": "flat",
    }
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/morph/surface"))
    for time, frame in enumerate(order):
        piece = moving(1e6)[frame // 3]
        to_world = np.array(mesh.ComputeLocalToWorldTransform(time)).T
        points = np.array(mesh.GetPointsAttr().Get(time), dtype=float) @ to_world[:3, :3].T + to_world[:3, 3]
        assert np.abs(points - piece.vertices[frame - piece.start]).max() < 1e-6
        assert (np.array(mesh.GetFaceVertexIndicesAttr().Get(time)).reshape(-1, 3) == piece.faces).all()
        assert np.abs(np.array(mesh.GetNormalsAttr().Get(time)) - piece.normals[frame - piece.start]).max() < 1e-6
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    assert [error.GetMessage() for error in UsdValidation.ValidationContext(validators).Validate(stage)] == []


def test_colors_are_sampled_linear(tmp_path: Path) -> None:
    from pxr import Usd, UsdGeom, UsdValidation

    tints = np.repeat([[[0.0, 0.5, 1.0]], [[1.0, 0.25, 0.0]], [[0.5, 0.5, 0.5]]], 4, axis=1)
    plain = moving(0)
    pieces = [
        MovingMesh(0, plain[0].vertices, OUTWARD, colors=tints),
        MovingMesh(3, plain[1].vertices, OUTWARD[:1], colors=tints[0, :3]),
    ]
    save_usd(pieces, tmp_path / "a.usd", order=[0, 1, 2, 3])
    stage = Usd.Stage.Open(str(tmp_path / "a.usd"))
    primvar = UsdGeom.Mesh(stage.GetPrimAtPath("/morph/surface")).GetDisplayColorPrimvar()
    assert primvar.GetInterpolation() == "vertex"
    linear = [[0, 0.21404114, 1], [1, 0.05087609, 0], [0.21404114] * 3, [0, 0.21404114, 1]]  # the sRGB curve
    for time, expected in enumerate(linear):
        assert np.array(primvar.Get(time)) == pytest.approx(np.tile(expected, (4 if time < 3 else 3, 1)), abs=1e-6)
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    assert [error.GetMessage() for error in UsdValidation.ValidationContext(validators).Validate(stage)] == []
    with pytest.raises(ValueError, match="all pieces have colors or none has, but the one from frame 3 differs"):
        save_usd([pieces[0], plain[1]], tmp_path / "b.usd", order=range(4))


def test_the_same_pieces_give_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        save_usd(moving(0), tmp_path / f"{name}.usd", order=range(4))
    assert (tmp_path / "a.usd").read_bytes() == (tmp_path / "b.usd").read_bytes()


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"format usd needs the package usd-core: pip install 'sdfnet\[usd\]'"):
        save_usd(moving(0), tmp_path / "a.usd", order=range(4))


def test_what_cannot_be_written_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="up_axis must be y or z in USD, got 'x'"):
        save_usd(moving(0), tmp_path / "a.usd", order=range(4), up_axis="x")
    with pytest.raises(ValueError, match="got 4 at place 4"):
        save_usd(moving(0), tmp_path / "a.usd", order=range(5))
    with pytest.raises(ValueError, match=r"the suffix must be \.usd, \.usda or \.usdc"):
        save_usd(moving(0), tmp_path / "a.abc", order=range(4))
    assert not any(tmp_path.iterdir())
