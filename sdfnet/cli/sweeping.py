"""Sweeps (`-m`): where each job writes, and where Hydra's note of the sweep goes.

Hydra wants a folder for a sweep and writes `multirun.yaml` into it. Given `run=runs/lr -m training.lr=1e-3,3e-3`, that
folder is `runs/lr` and the jobs are `runs/lr/training.lr=1e-3` and so on. Where the results' key is itself swept, or
written with what is swept (`run=runs/seed${seed}`), each job has its folder already and the note goes nowhere.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser

from sdfnet.cli.command import UsageError


@contextlib.contextmanager
def sweep_overrides(overrides: Sequence[str], output_key: str | None) -> Iterator[list[str]]:
    """Yield the overrides that give every job of the sweep a folder of its own below `output_key`.

    Raises
    ------
    UsageError
        Several jobs would write to one place.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    given = {str(override.key_or_group): override for override in parsed}
    swept = [key for key, override in given.items() if override.is_sweep_override()]
    # Without a place to be shared there is nothing to keep apart: each job's place is swept, or inside its own run.
    place = (given[output_key].input_line or "").partition("=")[2] if output_key in given else ""
    apart = output_key in swept or "${" in place or (output_key not in given and ("run" in swept or "run" not in given))
    if any(key.startswith("hydra.sweep.") for key in given):
        yield []
    elif output_key is None or apart:
        with tempfile.TemporaryDirectory() as folder:
            yield [f"hydra.sweep.dir={folder}", "hydra.sweep.subdir=${hydra.job.num}"]
    elif output_key not in given:
        raise UsageError(f"a sweep needs {output_key}=DIR, below which every job gets a folder of its own")
    else:
        discrete = [given[key] for key in swept if given[key].is_discrete_sweep()]
        alternatives = [str(value) for override in discrete for value in override.sweep_string_iterator()]
        slashes = any("/" in alternative for alternative in alternatives)
        others = [key for key in given if key not in swept]
        yield [
            f"hydra.sweep.dir={place}",
            "hydra.sweep.subdir=" + ("${hydra.job.num}" if slashes else "${hydra.job.override_dirname}"),
            f"hydra.job.config.override_dirname.exclude_keys=[{','.join(others)}]",
            f"{output_key}='${{hydra:sweep.dir}}/${{hydra:sweep.subdir}}'",
        ]
