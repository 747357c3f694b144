"""Losses, schedule, the loop: an auto-decoder learns a family of shapes."""

from sdfnet.training.config import TrainingConfig as TrainingConfig
from sdfnet.training.config import parse_duration as parse_duration
from sdfnet.training.loop import TrainingInterrupted as TrainingInterrupted
from sdfnet.training.loop import train as train
