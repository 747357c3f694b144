"""Scenes: what a file says, the fields made of it, and the way back."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from random_trees import random_tree
from tiny_runs import learn_run

from sdfnet.fields import Bent, Box, Cylinder, Field, HalfSpace, MeshField, Sphere, Twisted, X, orient
from sdfnet.geometry.similarity import Similarity
from sdfnet.latents.analysis import make_space
from sdfnet.latents.statistics import fit_components
from sdfnet.mesh.io.read import read_mesh
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.topology import check_closed, components_and_genus
from sdfnet.morphs import MorphConfig
from sdfnet.runs import RunShape, load_run
from sdfnet.runs.space import load_space, placed_codes, save_space
from sdfnet.scenes import (
    KINDS,
    Node,
    Parameter,
    SceneFile,
    build_scene,
    describe_field,
    extract_built,
    format_scene,
    load_scene,
    morph_scene,
    parse_scene,
    save_scene,
    scene_of,
)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two balls, whose sources stand away from the origin."""
    shapes = [
        RunShape(name, Similarity([4.0, 5.0, 6.0], 0.25), f"{name}.obj", content_hash="", closed=True)
        for name in ("one", "two balls")
    ]
    return learn_run(tmp_path_factory.mktemp("runs") / "balls", shapes, [Sphere(0.5), Sphere(0.6)])


PLATE = """
parameters:
  width: {value: 40, range: [20, 80], about: outer width}
  hole: 3
shape:
  difference:
    - {box: [width / 2, 2, 10], name: plate, color: steelblue}
    - cylinder: {radius: hole, half_height: 3}
      move: [width / 4, 0, 0]
"""


def field_of(text: str, **values: float) -> Field:
    return build_scene(parse_scene(text), values).field


def points(number: int = 500) -> torch.Tensor:
    return 3 * torch.randn(number, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_scene_is_the_field_that_its_words_say() -> None:
    there = 10 * points()
    plate, hole = Box([20, 2, 10]), Cylinder(3.0, 3.0, center=[10, 0, 0])
    torch.testing.assert_close(field_of(PLATE)(there), (plate - hole)(there), rtol=0, atol=1e-12)
    narrow = Box([10, 2, 10]) - Cylinder(4.0, 3.0, center=[5, 0, 0])
    torch.testing.assert_close(field_of(PLATE, width=20, hole=4)(there), narrow(there), rtol=0, atol=1e-12)


def test_scale_orient_rotate_and_move_act_in_this_order_however_they_are_written() -> None:
    text = "shape: {sphere: {radius: 1, center: [1, 0, 0]}, move: [0, 0, 5], rotate: {axis: z, degrees: 90}, scale: 2}"
    np.testing.assert_allclose(field_of(text).bounds.center, [0, 2, 5], atol=1e-12)
    text = "shape: {cylinder: [1], move: [1, 0, 0], rotate: [{axis: z, degrees: 90}, {axis: [0, 0, 1], degrees: 90}]}"
    text = text.replace("[1],", "{radius: 1, half_height: 4},")
    assert field_of(text).bounds.upper[0] == pytest.approx(2)
    text = "shape: {cylinder: {radius: 1, half_height: 4}, orient: x}"
    np.testing.assert_array_equal(field_of(text).bounds.upper, [4, 1, 1])


def test_the_operators_write_booleans_and_a_file_holds_them_exactly(tmp_path: Path) -> None:
    holes = [orient(Cylinder(0.5, 2.0), axis) for axis in (X, (0, 1, 0), (0, 0, 1))]
    solid = (Sphere(1.0) & Box([0.75] * 3)) - (holes[0] | holes[1] | holes[2])
    save_scene(scene_of(solid), tmp_path / "solid.yaml")
    back = build_scene(load_scene(tmp_path / "solid.yaml")).field
    assert torch.equal(back(points()), solid(points()))
    assert describe_field(back) == describe_field(solid)


def test_operators_refuse_what_is_no_field() -> None:
    for combine in (lambda a, b: a & b, lambda a, b: a | b, lambda a, b: a - b):
        with pytest.raises(TypeError, match="unsupported operand"):
            combine(Sphere(1.0), 2)


def test_every_field_that_needs_no_file_is_described_and_made_again_exactly(example) -> None:
    field = example.make()
    if example.name in ("mesh", "neural", "grid", "cut_grid", "nearest_part"):
        with pytest.raises(ValueError, match=f"no node of a scene makes a {type(field).__name__}; give its node"):
            describe_field(field)
        return
    scene = scene_of(field)
    back = parse_scene(format_scene(scene))
    assert back == scene
    built = build_scene(back).field
    assert torch.equal(built(points()), field(points()))
    assert built.accuracy == field.accuracy
    np.testing.assert_array_equal(built.bounds.lower, field.bounds.lower)


@pytest.mark.parametrize("seed", range(12))
def test_a_random_tree_is_closed_and_the_same_after_a_round_trip(seed: int) -> None:
    scene = SceneFile(random_tree(seed))
    back = parse_scene(format_scene(scene))
    assert back == scene
    first, second = (extract_built(build_scene(each), resolution=20) for each in (scene, back))
    assert check_closed(first.mesh).is_clean
    np.testing.assert_array_equal(first.mesh.vertices, second.mesh.vertices)
    np.testing.assert_array_equal(first.mesh.faces, second.mesh.faces)
    field = build_scene(scene).field
    again = build_scene(scene_of(field)).field  # from the fields, where placings are matrices
    assert torch.equal(again(points()), field(points()))


def test_random_trees_hold_every_kind_that_needs_no_file() -> None:
    seen = {node.kind for seed in range(150) for node in random_tree(seed).walk()}
    assert set(KINDS) - seen == {"mesh", "learned", "half_space", "text"}


def test_a_bent_bar_keeps_its_length_and_a_twisted_one_its_volume() -> None:
    bar = Box([2.0, 0.2, 0.3])
    mesh = extract_built(build_scene(scene_of(Bent(bar, radius=1.5))), resolution=96).mesh
    assert mesh.signed_volume == pytest.approx(4 * 0.4 * 0.6, rel=0.01)  # by the theorem of Pappus
    assert check_closed(mesh).is_clean
    mesh = extract_built(build_scene(scene_of(Twisted(Box([0.4, 1.0, 0.2]), degrees_per_unit=90))), resolution=96).mesh
    assert mesh.signed_volume == pytest.approx(0.8 * 2 * 0.4, rel=0.01)  # a twist moves no slice up or down


def test_a_row_and_a_ring_are_unions_of_copies() -> None:
    row = field_of("shape: {row: {of: {sphere: {radius: 0.5}}, count: 3, step: [2, 0, 0]}}")
    copies = field_of("shape: {union: [{sphere: 0.5}, {sphere: 0.5, move: [2, 0, 0]}, {sphere: 0.5, move: [4, 0, 0]}]}")
    assert torch.equal(row(points()), copies(points()))
    ring = "shape: {ring: {of: {sphere: {radius: 0.5, center: [2, 0, 0]}}, count: 2, axis: z, degrees: 90}}"
    torch.testing.assert_close(
        field_of(ring)(points()),
        (Sphere(0.5, center=[2, 0, 0]) | Sphere(0.5, center=[0, 2, 0]))(points()),
        rtol=0,
        atol=1e-12,
    )


def test_a_mesh_and_a_learned_shape_are_nodes_whose_paths_start_at_the_file(tiny_run: Path, tmp_path: Path) -> None:
    run = load_run(tiny_run)
    box = extract_built(build_scene(parse_scene("shape: {box: [1, 1, 1]}")), resolution=8).mesh
    save_mesh(box, tmp_path / "box.ply")
    name = run.names[0]
    text = f"shape: {{union: [{{mesh: box.ply}}, {{learned: {{run: {tiny_run}, shape: {name!r}}}}}]}}"
    (tmp_path / "both.yaml").write_text(text)
    scene = load_scene(tmp_path / "both.yaml")
    built = build_scene(scene)
    mesh, learned = (below.field for below in built.operands)
    assert torch.equal(mesh(points()), MeshField(read_mesh(tmp_path / "box.ply"))(points()))
    unit = (points(50) / 9).clamp(-1, 1)
    there = torch.from_numpy(run.similarity(name).to_world(unit.numpy()))
    values = run.field(name)(unit) / run.similarity(name).scale
    torch.testing.assert_close(learned(there), values, rtol=0, atol=1e-4 / run.similarity(name).scale)
    assert built.field.accuracy == "approximate"
    known = {below.field: below.node for below in built.operands}
    assert describe_field(built.field, known) == scene.shape


def test_a_mix_of_learned_shapes_is_a_node(tiny_run: Path) -> None:
    first, second = load_run(tiny_run).names[:2]
    node = Node("learned", arguments={"run": str(tiny_run), "shape": f"0.5*'{first}' + 0.5*'{second}'"})
    assert build_scene(SceneFile(node)).field.bounds.is_finite
    with pytest.raises(ValueError, match="learned: shape must be given, or scores; "):
        build_scene(SceneFile(Node("learned", arguments={"run": str(tiny_run)})))
    with pytest.raises(ValueError, match="learned: shape must be one shape, but '\\*' are"):
        build_scene(SceneFile(Node("learned", arguments={"run": str(tiny_run), "shape": "*"})))


def test_a_learned_shape_can_be_given_by_scores_that_are_parameters(tiny_run: Path) -> None:
    run = load_run(tiny_run)
    codes = placed_codes(run)
    save_space(make_space(run.names, codes, fit_components(codes[:, : run.latents.shape[1]])), tiny_run)
    score = float(load_space(run).scores(codes[0])[0])
    text = f"parameters: {{bend: {score}}}\nshape: {{learned: {{run: {tiny_run}, scores: [bend], frame: unit}}}}"
    inside = (points(50) / 9).clamp(-1, 1)
    torch.testing.assert_close(field_of(text)(inside), run.field(run.names[0])(inside), rtol=0, atol=1e-3)
    near = text.replace("scores", f"shape: {run.names[0]}, scores")
    torch.testing.assert_close(field_of(near)(inside), run.field(run.names[0])(inside), rtol=0, atol=1e-3)
    assert not torch.allclose(field_of(text, bend=0.0)(inside), field_of(text)(inside))


def test_a_learned_shape_is_positive_and_continuous_beyond_its_cube(tiny_run: Path) -> None:
    text = f"shape: {{learned: {{run: {tiny_run}, shape: one, frame: unit}}}}"
    field = field_of(text)
    along = torch.linspace(0.95, 1.3, 3000, dtype=torch.float64)
    for direction in ([1.0, 0, 0], [0, -1.0, 0.5]):
        values = field(along[:, None] * torch.tensor(direction, dtype=torch.float64))
        assert (values.diff().abs() < 0.01).all()
    far = field(torch.tensor([[5.0, 0, 0], [-2.0, 3.0, 1.0]]))
    torch.testing.assert_close(far, torch.tensor([4.0, 5**0.5]))


def test_a_direction_stays_the_same_through_any_number_of_round_trips() -> None:
    field = HalfSpace([1, 2, 3])
    for _ in range(3):
        again = build_scene(scene_of(field)).field
        np.testing.assert_array_equal(again.normal, field.normal)
        field = again


def test_colors_are_those_of_the_nodes_whose_surface_it_is() -> None:
    text = """
    shape:
      difference:
        - union:
            - {box: [1, 1, 1], color: red}
            - {sphere: {radius: 1}, color: "#0000ff", move: [3, 0, 0]}
            - {row: {of: {sphere: {radius: 0.5}, color: lime}, count: 2, step: [2, 0, 0]}, move: [0, 4, 0]}
        - {cylinder: {radius: 0.5, half_height: 2}, color: [1, 1, 0]}
        - {cylinder: {radius: 0.3, half_height: 2}, move: [3, 0, 0]}
      color: white
    """
    found = extract_built(build_scene(parse_scene(text)), resolution=40)
    vertices, colors = found.mesh.vertices, found.vertex_colors
    drilled = np.hypot(vertices[:, 0], vertices[:, 2]) < 0.52
    assert colors is not None
    for where, color in (
        (drilled & (np.abs(vertices[:, 1]) < 0.6), [1, 1, 0]),
        (vertices[:, 0] < -0.95, [1, 0, 0]),
        (vertices[:, 0] > 2.5, [0, 0, 1]),
        (vertices[:, 1] > 3, [0, 1, 0]),
    ):
        assert where.any()
        np.testing.assert_array_equal(colors[where], np.broadcast_to(color, (where.sum(), 3)))


def test_a_smooth_blend_mixes_its_colors_and_a_scene_without_colors_has_none() -> None:
    text = "shape: {smooth_union: {of: [{sphere: 1, color: red}, {sphere: 1, color: blue, move: [1, 0, 0]}], width: 1}}"
    found = extract_built(build_scene(parse_scene(text)), resolution=40)
    middle = np.abs(found.mesh.vertices[:, 0] - 0.5) < 1e-3
    np.testing.assert_allclose(
        found.vertex_colors[middle], np.broadcast_to([0.5, 0, 0.5], (middle.sum(), 3)), atol=0.01
    )
    assert extract_built(build_scene(parse_scene("shape: {sphere: 1}")), resolution=10).vertex_colors is None


def test_a_scene_with_sharp_edges_has_them() -> None:
    mesh = extract_built(build_scene(parse_scene("shape: {box: [1, 0.7, 0.5]}")), resolution=24, sharp=True).mesh
    assert mesh.signed_volume == pytest.approx(8 * 0.35, rel=1e-5)


def test_a_scene_of_infinite_bounds_is_refused_with_the_cure() -> None:
    with pytest.raises(ValueError, match="infinite bounds, as half spaces and complements have; intersect it with a b"):
        extract_built(build_scene(parse_scene("shape: {half_space: [0, 1, 0]}")))


REFUSED = [
    ("shape: {sphere: {radios: 1}}", "line 1: sphere has no key radios; did you mean radius? It takes radius, center"),
    ("shape:\n  spere: 1", "line 2: a node has no key spere; did you mean sphere?"),
    ("shape:\n  {sphere: 1, box: [1, 1, 1]}", "line 2: a node has one kind, such as sphere or union, this one has sph"),
    ("shape:\n  {color: red}", "line 2: a node has one kind, such as sphere or union, this one has none"),
    ("shape:\n  union: 3", "line 2: union takes nodes, got '3'"),
    ("shape:\n  union: []", "line 2: union: it takes 1 or more under `of`, got 0"),
    ("shape:\n  complement: [{sphere: 1}, {sphere: 1}]", "line 2: complement: it takes 1 under `of`, got 2"),
    ("shape:\n  sphere: wide", "line 2: sphere: radius: unknown parameter 'wide' in 'wide'; the scene has none"),
    ("parameters: {w: 1}\nshape: {sphere: w +}", "line 2: sphere: radius: expected a number or arithmetic on parame"),
    ("parameters: {w: 1}\nshape: {sphere: w.real}", "line 2: sphere: radius: expected a number or arithmetic"),
    ("shape: {sphere: open(3)}", "line 1: sphere: radius: unknown function 'open(3)'; known are abs, atan2"),
    ("shape: {sphere: true}", "line 1: sphere: radius must be a number, got 'true'"),
    ("shape: {sphere: [1]}", "line 1: sphere: radius must be one number, got a list"),
    ("shape: {sphere: .inf}", "line 1: sphere: radius must be a number or a text, got '.inf'"),
    ("shape: {cylinder: {radius: 1}}", "line 1: cylinder needs half_height"),
    ("shape:\n  mirrored:\n    of: {sphere: 1}\n    axis: w", "line 4: mirrored: axis must be one of x, y, z, got 'w'"),
    ("shape: {tube: {curve: [[0,0,0],[1,0,0]], radius: 1, closed: 1}}", "closed must be true or false, got '1'"),
    ("shape: {sphere: 1, color: reed}", "line 1: color: 'reed' is no color; give a name or #rrggbb"),
    ("shape: {sphere: 1, color: [2, 0, 0]}", "line 1: color must be a name, #rrggbb or three numbers from 0 to 1"),
    ("shape: {sphere: 1, move: 3}", "line 1: move must be three numbers, got '3'"),
    ("shape: {sphere: 1, orient: up}", "line 1: orient must be x, y, z or a direction, got 'up'"),
    ("shape: {sphere: 1, rotate: {degrees: 3}}", "line 1: rotate takes axis and degrees, got degrees"),
    ("shape: {sphere: 1, sphere: 2}", "line 1: sphere stands twice"),
    ("shape: {sphere: 1}\nparameter: {}", "line 2: a scene has no key parameter; did you mean parameters?"),
    ("parameters: {w: {value: 9, range: [1, 2]}}\nshape: {sphere: 1}", "line 1: w must be from 1 to 2, got 9"),
    ("parameters: {w: {value: 9, range: 3}}\nshape: {sphere: 1}", "line 1: the range of w must be two numbers"),
    ("parameters: {w: {range: [1, 2]}}\nshape: {sphere: 1}", "line 1: the parameter w needs a value"),
    ("parameters: {w: tall}\nshape: {sphere: 1}", "line 1: w must be a number, got 'tall'"),
    ("parameters: {sin: 3}\nshape: {sphere: 1}", "line 1: a parameter's name must be a word that is no function, got"),
    ("parameters: {w: 1}", "shape must be given, the node of the whole scene"),
    ("- 1", "expected the keys parameters and shape"),
    ("shape: {sphere: [", "line 1: no YAML: "),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_a_wrong_file_is_refused_with_its_line_and_its_key(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(ValueError) as refused:  # noqa: PT011 (the message is compared below)
        load_scene(tmp_path / "wrong.yaml")
    assert str(refused.value).startswith(str(tmp_path / "wrong.yaml"))
    assert message in str(refused.value)


BUILT = [
    (
        "shape:\n  union:\n    - sphere:\n        radius: -1",
        "line 4: sphere: radius must be positive and finite, got -1",
    ),
    ("parameters: {w: 0}\nshape: {sphere: 1 / w}", "line 2: sphere: radius: '1 / w' has no value: division by zero"),
    ("shape:\n  {sphere: 1,\n  scale: -1}", "line 3: sphere: scale must be positive and finite, got -1"),
    ("shape: {sphere: 1, rotate: [[1, 0, 0]]}", "line 1: sphere: rotation must be an orthogonal (3, 3) matrix"),
    ("shape: {mesh: nowhere.obj}", "line 1: mesh: there is no file "),
    ("shape: {learned: {run: nowhere, shape: a}}", "line 1: learned: "),
    ("shape: {bent: {of: {box: [9, 1, 1]}, radius: 2}}", "line 1: bent: radius must be above 2.86479, so that its c"),
    ("shape: {bent: {of: {box: [1, 3, 1]}, radius: 2}}", "line 1: bent: radius must be above 3, the highest y of wh"),
    ("shape: {twisted: {of: {half_space: [0, 1, 0]}, degrees_per_unit: 3}}", "field must have finite bounds to be tw"),
    ("shape: {row: {of: {sphere: 1}, count: 1.5, step: [1, 0, 0]}}", "line 1: row: count must be a whole number, got"),
    ("shape: {row: {of: {sphere: 1}, count: 0, step: [1, 0, 0]}}", "line 1: row: count must be from 1 to 1000 copies"),
]


@pytest.mark.parametrize(("text", "message"), BUILT)
def test_a_node_that_cannot_be_made_is_refused_with_its_line_and_its_key(text: str, message: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        build_scene(parse_scene(text, file="wrong.yaml"))
    assert str(refused.value).startswith("wrong.yaml, line ") or message.startswith("field")
    assert message in str(refused.value)


def test_parameters_outside_their_range_and_unknown_ones_are_refused() -> None:
    with pytest.raises(ValueError, match="width must be from 20 to 80, got 90"):
        field_of(PLATE, width=90)
    with pytest.raises(ValueError, match="unknown parameter 'height'; the scene has width, hole"):
        field_of(PLATE, height=1)
    assert parse_scene(PLATE).parameters[0] == Parameter("width", 40, (20, 80), "outer width")


def test_a_file_keeps_every_digit_colors_names_and_parameters(tmp_path: Path) -> None:
    node = Node("sphere", arguments={"radius": 1e-5 / 3}, color=(0.1, 0.2, 0.3), name="a: b", placing={"scale": 1e300})
    scene = SceneFile(Node("union", (node, Node("sphere", arguments={"radius": "w*2"}))), (Parameter("w", 1 / 7),))
    save_scene(scene, tmp_path / "deep" / "s.yaml")
    assert load_scene(tmp_path / "deep" / "s.yaml") == scene


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "docs" / "scenes").glob("*.yaml")))
def test_a_scene_of_the_documentation_is_closed_at_every_end_of_its_ranges(path: Path) -> None:
    scene = load_scene(path)
    ranges = [parameter.range or (parameter.value,) for parameter in scene.parameters]
    for values in itertools.product(*ranges):
        given = dict(zip([parameter.name for parameter in scene.parameters], values, strict=True))
        assert check_closed(extract_built(build_scene(scene, given), resolution=40).mesh).is_clean


def test_a_killed_morph_of_a_scene_continues_and_equals_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = parse_scene("parameters: {width: 2}\nshape: {box: [width / 2, 1, 1], color: tomato}")
    sets = [{"width": 2.0}, {"width": 3.0}]
    config = MorphConfig(frames=4, resolution=12, format=("obj", "glb", "html"), width=48, height=32)
    files = morph_scene(scene, sets, tmp_path / "whole", config=config)
    made: list[float] = []

    def stopped(built: object, **options: object) -> object:
        made.append(built.field.bounds.extent[0])  # type: ignore[attr-defined]
        if len(made) == 3:
            raise KeyboardInterrupt
        return extract_built(built, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("sdfnet.scenes.morph.extract_built", stopped)
    with pytest.raises(KeyboardInterrupt):
        morph_scene(scene, sets, tmp_path / "killed", config=config)
    (tmp_path / "killed" / "frame_0001.obj").write_text("half a fi")
    again = morph_scene(scene, sets, tmp_path / "killed", config=config)
    assert made[3:] == [*made[1:3], 3.0]  # the frame whose file is damaged, and the missing ones
    assert [path.name for path in again] == [path.name for path in files]
    for mine, other in zip(again, files, strict=True):
        assert mine.read_bytes() == other.read_bytes(), mine.name
    morph_scene(scene, sets, tmp_path / "killed", config=config)
    assert len(made) == 6  # nothing is left to do


def test_text_has_the_holes_and_the_size_of_its_letters() -> None:
    scene = parse_scene("shape: {text: {text: B8i, height: 7, half_depth: 0.5}}")
    mesh = extract_built(build_scene(scene), resolution=128, sharp=True).mesh
    assert check_closed(mesh).is_clean
    found = components_and_genus(mesh)
    assert (found.num_components, found.genus) == (4, 4)  # an i has a dot; B and 8 have two holes each
    np.testing.assert_allclose(mesh.bounds.upper[2], 0.5, atol=1e-3)
    letter = extract_built(build_scene(parse_scene("shape: {text: H}")), resolution=96, sharp=True).mesh
    assert letter.bounds.upper[1] == pytest.approx(1.0, abs=0.01)  # a capital letter
    assert letter.bounds.lower[1] == pytest.approx(0.0, abs=0.01)
    for text, message in (('" "', "visible letters"), ("\U0001f9ff", "the font lacks")):
        with pytest.raises(ValueError, match=message):
            build_scene(parse_scene(f"shape: {{text: {text}}}"))
