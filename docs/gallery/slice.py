"""Signed distance on a slice through a learned chair, with its level lines. Zero is the surface.

python docs/gallery/slice.py demo/run gallery
"""

import sys

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import torch

import sdfnet

LEVELS = [step / 200 for step in range(-12, 13)]  # every 0.005; the network learns distances up to 0.05

run, out = sdfnet.load_run(sys.argv[1]), sys.argv[2]
ticks = torch.linspace(-1, 1, 300)
y, z = torch.meshgrid(ticks, ticks, indexing="ij")
points = torch.stack([torch.full_like(y, 0.1), y, z], dim=-1)  # the plane x = 0.1, (300, 300, 3)
sdf = sdfnet.evaluate(run.field("chair_03"), points)

figure, axes = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
shades = axes.contourf(z, y, sdf, levels=LEVELS, cmap="RdBu_r", extend="both")
axes.contour(z, y, sdf, levels=[0], colors="black")
axes.set(xlabel="z", ylabel="y", aspect="equal", title="signed distance at x = 0.1, unit frame")
figure.colorbar(shades)
figure.savefig(f"{out}/slice.png", dpi=100)
