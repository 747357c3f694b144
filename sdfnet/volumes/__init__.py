"""Label volumes: read them with their place in the world, and turn a label into a smooth closed surface."""

from sdfnet.volumes.label_volume import LabelVolume as LabelVolume
from sdfnet.volumes.label_volume import read_label_volume as read_label_volume
from sdfnet.volumes.surface import LabelSurface as LabelSurface
from sdfnet.volumes.surface import label_surface as label_surface
