"""Losses, schedule, the loop: an auto-decoder learns a family of shapes."""

from sdfnet.training.config import TrainingConfig as TrainingConfig
from sdfnet.training.config import parse_duration as parse_duration
from sdfnet.training.loop import train as train
from sdfnet.training.manifest import refuse_another_run as refuse_another_run
from sdfnet.training.processes import Processes as Processes
from sdfnet.training.processes import TrainingInterrupted as TrainingInterrupted
from sdfnet.training.processes import do_first as do_first
from sdfnet.training.processes import join_processes as join_processes
