"""Boxes and grids, the world-unit similarity, reading, checking and writing meshes, exact distance to them. No learning."""
