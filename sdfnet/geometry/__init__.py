"""Boxes and grids, the map to the unit frame, reading, checking and writing meshes, exact distances. No learning."""
