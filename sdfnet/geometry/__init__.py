"""Arrays, boxes, lattices, and the map between world frame and unit frame."""
