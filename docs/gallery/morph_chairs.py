"""A morph between three chairs: one animated GLB, a page that plays it offline, and a contact sheet.

python docs/gallery/morph_chairs.py demo/run gallery
"""

import shutil
import sys

import sdfnet
from sdfnet.morphs import MorphConfig

run, out = sdfnet.load_run(sys.argv[1]), sys.argv[2]
config = MorphConfig(frames=12, resolution=64, format=("glb", "html"), width=320, height=240)
sdfnet.make_morph(run, ["chair_00", "chair_10", "chair_02"], f"{out}/morph", config=config)
shutil.copy(f"{out}/morph/contact_sheet.png", f"{out}/morph_chairs.png")
