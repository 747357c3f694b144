"""A learned chair on a plinth with a twisted column: one scene of learned and analytic shapes, saved as a file.

python docs/gallery/scene_chair.py demo/run gallery
"""

import sys
from pathlib import Path

from sdfnet.rendering import PaintedMesh, render_mesh, save_image
from sdfnet.scenes import build_scene, extract_built, load_scene

run, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
(out / "scene_chair.yaml").write_text(f"""
parameters: {{turn: 120}}
shape:
  union:
    - {{learned: {{run: {run}, shape: chair_03, frame: unit}}, color: goldenrod, move: [0, 1.05, 0]}}
    - difference:
        - {{cylinder: {{radius: 1.1, half_height: 0.12, rounding: 0.04}}, color: slategray}}
        - {{ring: {{of: {{sphere: {{radius: 0.12, center: [0.95, 0.1, 0]}}}}, count: 12}}}}
    - twisted: {{of: {{box: {{half_extents: [0.45, 0.8, 0.45], rounding: 0.08}}}}, degrees_per_unit: turn}}
      color: "#b04a3a"
      move: [0, -0.9, 0]
""")
built = build_scene(load_scene(out / "scene_chair.yaml"), {"turn": 60})
found = extract_built(built, resolution=160, sharp=True)
picture = PaintedMesh(found.mesh, vertex_colors=found.vertex_colors)
save_image(render_mesh(picture, size=(640, 480)), out / "scene_chair.png")
