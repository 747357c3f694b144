"""Train an auto-decoder on a family of shapes: losses, batches, optimizers, and the training loop."""

from sdfnet.training.checkpoint import known_decoder as known_decoder
from sdfnet.training.checkpoint import refuse_another_run as refuse_another_run
from sdfnet.training.choice import decoder_for as decoder_for
from sdfnet.training.config import TrainingConfig as TrainingConfig
from sdfnet.training.config import parse_duration as parse_duration
from sdfnet.training.distributed import Processes as Processes
from sdfnet.training.distributed import TrainingInterrupted as TrainingInterrupted
from sdfnet.training.distributed import do_first as do_first
from sdfnet.training.distributed import join_processes as join_processes
from sdfnet.training.metrics import Verdict as Verdict
from sdfnet.training.metrics import verdict as verdict
from sdfnet.training.trainer import check_one_shape as check_one_shape
from sdfnet.training.trainer import train as train
