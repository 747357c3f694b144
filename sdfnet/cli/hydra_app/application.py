"""One command as a Hydra application: composing, sweeps, errors in one sentence, and exit codes.

Hydra composes the configuration from `conf/` and drives sweeps; its own output folders and log files are switched off
(each command's YAML says so), and the working directory is never changed.

A sweep (`-m`) needs a folder, into which Hydra writes `multirun.yaml`. With `run=runs/lr -m training.lr=1e-3,3e-3`, the
folder is `runs/lr`, and the jobs write to `runs/lr/training.lr=1e-3` and so on. If the key of the results is itself
swept, or is written with a swept key (`run=runs/seed${seed}`), each job has its own folder already, and `multirun.yaml`
goes to a temporary folder. `cli/main.py` imports this module, which loads Hydra, only when a command is called.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import traceback
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sdfnet.cli.hydra_app.arguments import Line, parse_line, quote_texts
from sdfnet.cli.hydra_app.command import Command, UsageError, load_command
from sdfnet.cli.hydra_app.conf import command_groups, conf_folder
from sdfnet.cli.hydra_app.help import format_help
from sdfnet.cli.hydra_app.output import complain, configure_logging, did_you_mean, one_line, say
from sdfnet.cli.hydra_app.schema import build, check_values, missing_keys, text_keys, unknown_key

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

_GREEDY = "resolution, sampler.num_samples or training.batch_points, or close other programs"
"""The keys that decide how much memory a command needs."""


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
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # The second is torch's way.
        complain(f"sdfnet {name}: error: the memory is full ({one_line(str(error))}). Lower {_GREEDY}")
        return EXIT_FAILED
    if isinstance(error, ValueError | OSError):
        message = str(error)
        if isinstance(error, OSError) and error.strerror:  # The file and the reason, without `[Errno 13]`.
            message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        complain(f"sdfnet {name}: error: {one_line(message)}")
        return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "sdfnet" in frame.filename]
    where = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    complain(
        f"sdfnet {name}: unexpected {type(error).__name__}{where}: {one_line(str(error))} (SDFNET_DEBUG=1 shows more)"
    )
    return EXIT_FAILED


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
            with explained(command.name), sweep_overrides(overrides, command.output_key) as extra:
                hydra.multirun(name, task, [*overrides, *extra, "hydra.mode=MULTIRUN"])
        else:
            with explained(command.name):
                hydra.run(name, task, [*overrides, "hydra.mode=RUN"])
        return max(failures, default=0)


def _run_job(command: Command, config: DictConfig) -> int:
    """Run one job and return its exit code. Its error is printed here, so that the other jobs of a sweep go on."""
    try:
        job = check_complete(command, to_document(config))
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
    say(format_help(name, groups, chosen, to_document(config, resolve=False)))
    return 0


def _show(command: Command, config: DictConfig, line: Line) -> int:
    """Print the configuration. Unknown keys and wrong types are refused; missing values are allowed."""
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


@contextlib.contextmanager
def hydra_for(name: str, flags: Namespace) -> Iterator[Hydra]:
    """Yield a Hydra that composes the command `name` from `--config-dir`, if given, and from `conf/`."""
    version.setbase("1.3")
    search_path = create_config_search_path(str(conf_folder()))
    if flags.config_dir is not None:
        folder = Path(flags.config_dir).expanduser().resolve()
        if not folder.is_dir():
            raise UsageError(f"--config-dir {flags.config_dir} is not a folder")
        assert isinstance(search_path, ConfigSearchPathImpl)
        search_path.prepend("command-line", f"file://{folder}", anchor=SearchPathQuery(provider="main"))
    GlobalHydra.instance().clear()
    try:
        yield Hydra.create_main_hydra2(task_name=name, config_search_path=search_path)
    finally:
        GlobalHydra.instance().clear()


def compose(hydra: Hydra, name: str, overrides: Sequence[str]) -> DictConfig:
    """Return the composed configuration, Hydra's own node included, or raise a UsageError of one sentence."""
    with explained():
        return hydra.compose_config(config_name=name, overrides=list(overrides), run_mode=RunMode.RUN)


def to_document(config: DictConfig, *, resolve: bool = True) -> dict[str, Any]:
    """Return the job's part of a configuration as plain values, interpolations filled in where asked for."""
    with explained():
        job_part = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        document = OmegaConf.to_container(job_part, resolve=resolve)
    assert isinstance(document, dict)
    return {str(key): value for key, value in document.items()}


def check_complete(command: Command, document: dict[str, Any]) -> Any:
    """Return the command's dataclass, or raise a UsageError that names every value still to be given."""
    job = build(command.config, document)
    missing = missing_keys(document)
    if missing:
        raise UsageError(
            f"{' and '.join(missing)} must be given: {' '.join(f'{key}=…' for key in missing)}. "
            f"See sdfnet {command.name} --help"
        )
    return job


@contextlib.contextmanager
def explained(command: str | None = None) -> Iterator[None]:
    """Turn errors of Hydra and OmegaConf inside the block into UsageErrors of one sentence.

    An unknown key is answered with the groups of the `command`, if it is given.
    """
    try:
        yield
    except OverrideParseException as error:
        raise UsageError(
            f"cannot read {error.override!r}: {_before(error.message, 'See https')}. "
            "Quote a text with special characters twice, once for the shell: 'key=\"a, b\"'"
        ) from error
    except MissingConfigException as error:
        raise UsageError(_explain_missing(error)) from error
    except ConfigCompositionException as error:
        raise UsageError(_explain_composition(error, command)) from error
    except OmegaConfBaseException as error:
        where = f"{error.full_key}: " if error.full_key else ""
        raise UsageError(f"{where}{str(error).splitlines()[0]}") from error
    except HydraException as error:
        raise UsageError(_explain_several(str(error)) or one_line(str(error))) from error


def _explain_several(text: str) -> str | None:
    """Return what to write in place of `key=a,b`, if that is what Hydra's error is about."""
    found = re.search(r"Ambiguous value for argument '([^=']+)=(.*)'$", text.splitlines()[0] if text else "")
    if found is None:
        return None
    return f"several values need brackets: '{found[1]}=[{found[2]}]' (-m runs once for each instead)"


def _explain_missing(error: MissingConfigException) -> str:
    options = [option for option in error.options or [] if option]
    wanted = error.missing_cfg_file or ""
    group, _, name = wanted.rpartition("/")
    if group and options:
        return f"unknown {group}={name}{did_you_mean(name, options)} Choose one of: {', '.join(sorted(options))}"
    return one_line(_before(str(error), "Config search path"))


def _explain_composition(error: ConfigCompositionException, command: str | None) -> str:
    text = str(error)
    if several := _explain_several(text):
        return several
    refused = re.search(r"Could not override '([^']*)'", text)
    if refused is None:
        return one_line(_before(text, "Config search path"))
    key = refused.group(1)
    cause = error.__cause__
    node = getattr(cause, "parent_node", None)
    if isinstance(node, DictConfig):
        where = node._get_full_key(None)  # The part of the key that is known.
        where = f"{where}." if where else ""
        leaf = key.removeprefix(where).split(".")[0]
        names = [f"{name!s}" for name in node if name != "hydra"]
        groups = {} if where else {name: list(node[name]) for name in names if OmegaConf.is_dict(node._get_node(name))}
        off = [] if where or command is None else [name for name in command_groups(command) if name not in names]
        return str(unknown_key(leaf, [*names, *off], where, groups=groups))
    return f"unknown key {key}. Keys are listed by --help"


def _before(text: str, marker: str) -> str:
    return one_line(text.split(marker)[0]).rstrip(".")


@contextlib.contextmanager
def sweep_overrides(overrides: Sequence[str], output_key: str | None) -> Iterator[list[str]]:
    """Yield the overrides of each job of a sweep, with a separate folder for each; refuse jobs that share a folder."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    given = {str(override.key_or_group): override for override in parsed}
    swept = [key for key, override in given.items() if override.is_sweep_override()]
    # Each job has a folder of its own already if the key of the results, or the run that holds them, is swept.
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
