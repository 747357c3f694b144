"""From a file to a solid: reading a folder, what is inside, and the report on each shape."""
