"""The compiled search tree behind distances and winding numbers."""
