"""Mesh files: one module for each format, and one table of all formats in `formats`.

A format's module has a function `parse_*` from bytes to polygons, a function `format_*` from a mesh to bytes, or both.

Why not trimesh's readers: they fan concave polygons, round text vertices of PLY to float32, split vertices by texture
coordinates, ignore sparse and normalised glTF accessors without a word, open images, and refuse UTF-16 and relative
OBJ indices.

Parsers raise ValueError with a reason, without the file's name, which they don't know; `sdfnet.mesh.io.read` adds it.
It catches every other exception too, because damaged bytes lead anywhere; but such a message reads worse.
"""
