"""Morphs: the plan, the files, the report."""

from sdfnet.morphs.config import MorphConfig as MorphConfig
from sdfnet.morphs.morph import MorphResult as MorphResult
from sdfnet.morphs.morph import make_morph as make_morph
from sdfnet.morphs.plan import field_along as field_along
from sdfnet.morphs.plan import plan_frames as plan_frames
from sdfnet.morphs.plan import plan_morph as plan_morph
