"""One command as a Hydra application: flags, sweeps, errors in one line, and exit codes.

Hydra composes the configuration and drives sweeps; its own output folders and log files are switched off (each
command's YAML says so), and the working directory is never changed.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from sdfnet.cli.hydra_app.arguments import Line, parse_line, quote_texts
from sdfnet.cli.hydra_app.command import Command, UsageError, load_command
from sdfnet.cli.hydra_app.composing import check_complete, compose, explained, hydra_for, sweep_overrides, to_document
from sdfnet.cli.hydra_app.conf import command_groups
from sdfnet.cli.hydra_app.help import format_help
from sdfnet.cli.hydra_app.output import complain, configure_logging, one_line, say
from sdfnet.cli.hydra_app.schema import check_values, text_keys

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def run_command(name: str, words: Sequence[str]) -> int:
    """Run the command of that name with the rest of its command line and return the exit code."""
    try:
        line = parse_line(words)
        return _help(name, line) if line.flags.help else _run(load_command(name), line)
    except KeyboardInterrupt as interrupt:
        complain(f"\nsdfnet {name}: interrupted. {one_line(str(interrupt))}")
        return EXIT_INTERRUPTED
    except Exception as error:
        return report(error, name)


def report(error: BaseException, name: str) -> int:
    """Print an error as one line and return its exit code; SDFNET_DEBUG=1 or HYDRA_FULL_ERROR=1 adds the traceback."""
    if isinstance(error, BrokenPipeError):
        sys.stderr.close()  # The reader of our output has gone; nobody is left to be told.
        return EXIT_FAILED
    if "1" in (os.environ.get("SDFNET_DEBUG"), os.environ.get("HYDRA_FULL_ERROR")):
        traceback.print_exception(error)
    if isinstance(error, ValueError | OSError):
        complain(f"sdfnet {name}: error: {one_line(_message(error))}")
        return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "sdfnet" in frame.filename]
    where = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    complain(
        f"sdfnet {name}: unexpected {type(error).__name__}{where}: {one_line(str(error))} (SDFNET_DEBUG=1 shows more)"
    )
    return EXIT_FAILED


def _message(error: Exception) -> str:
    """Return the message of an error; of an OSError, the file and the reason without `[Errno 13]`."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _run(command: Command, line: Line) -> int:
    flags = line.flags
    overrides = line.overrides if flags.multirun else quote_texts(line.overrides, dict(text_keys(command.config)))
    name = flags.config_name or command.name
    with hydra_for(command.name, flags) as hydra:
        if flags.info:
            hydra.show_info(flags.info, config_name=name, overrides=overrides)
            return 0
        if flags.cfg:
            return _show(command, compose(hydra, name, overrides), line)
        configure_logging()
        failures: list[int] = []

        def task(config: DictConfig) -> None:
            failures.append(_run_job(command, config))

        if flags.multirun:
            with explained(), sweep_overrides(overrides, command.output_key) as extra:
                hydra.multirun(name, task, [*overrides, *extra, "hydra.mode=MULTIRUN"])
        else:
            with explained():
                hydra.run(name, task, [*overrides, "hydra.mode=RUN"])
        return max(failures, default=0)


def _run_job(command: Command, config: DictConfig) -> int:
    """Run one job and return its exit code. Its error is printed here, so that the other jobs of a sweep go on."""
    try:
        document = to_document(config)
        job = check_complete(command, document)
    except UsageError as error:
        return report(error, command.name)
    try:
        command.run(job)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(str(interrupt) or command.interrupted(job)) from None
    except Exception as error:
        return report(error, command.name)
    return 0


def _help(name: str, line: Line) -> int:
    """Print the help of a command. Without overrides, only `conf/` is read; the command itself is not imported."""
    overrides = quote_texts(line.overrides, dict(text_keys(load_command(name).config))) if line.overrides else []
    with hydra_for(name, line.flags) as hydra:
        config = compose(hydra, line.flags.config_name or name, overrides)
        groups = {group: sorted(hydra.config_loader.get_group_options(group)) for group in command_groups(name)}
    chosen = {group: option for group, option in config.hydra.runtime.choices.items() if group in groups}
    document = OmegaConf.to_container(config, resolve=False)
    assert isinstance(document, dict)
    say(format_help(name, groups, chosen, {str(key): value for key, value in document.items() if key != "hydra"}))
    return 0


def _show(command: Command, config: DictConfig, line: Line) -> int:
    """Print the configuration, refusing unknown keys and wrong types, but not values that are still to be given."""
    HydraConfig.instance().set_config(config)
    check_values(command.config, to_document(config))
    shown: Any = config
    if line.flags.cfg == "job":
        OmegaConf.set_struct(config, False)
        del config["hydra"]
    elif line.flags.cfg == "hydra":
        shown = OmegaConf.create({"hydra": config.hydra})
    if line.flags.resolve:
        with explained():
            OmegaConf.resolve(shown)
    if line.flags.package:
        shown = OmegaConf.select(shown, line.flags.package)
        if shown is None:
            raise UsageError(f"--package {line.flags.package} is no part of the configuration")
    say(OmegaConf.to_yaml(shown).rstrip() if OmegaConf.is_config(shown) else str(shown))
    return 0
