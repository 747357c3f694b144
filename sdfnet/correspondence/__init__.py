"""Points matched across a family: a mesh advected along a path of fields."""
