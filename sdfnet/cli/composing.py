"""Composition of one command's configuration: schemas into Hydra's store, `conf/` on the path, errors in one line."""

from __future__ import annotations

import contextlib
import re
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sdfnet.cli.command import Command, UsageError
from sdfnet.cli.resources import conf_folder
from sdfnet.cli.schema import build, default_values, missing_keys, unknown_key
from sdfnet.cli.wording import did_you_mean, one_line


@contextlib.contextmanager
def hydra_for(command: Command, flags: Namespace) -> Iterator[Hydra]:
    """Yield a Hydra that composes `command` from `conf/`, and from `--config-dir` before it."""
    version.setbase("1.3")
    _store_schemas(command)
    search_path = create_config_search_path(str(conf_folder()))
    if flags.config_dir is not None:
        folder = Path(flags.config_dir).expanduser().resolve()
        if not folder.is_dir():
            raise UsageError(f"--config-dir {flags.config_dir} is not a folder")
        assert isinstance(search_path, ConfigSearchPathImpl)
        search_path.prepend("command-line", f"file://{folder}", anchor=SearchPathQuery(provider="main"))
    GlobalHydra.instance().clear()
    try:
        yield Hydra.create_main_hydra2(task_name=command.name, config_search_path=search_path)
    finally:
        GlobalHydra.instance().clear()


def compose(hydra: Hydra, name: str, overrides: Sequence[str], *, mode: RunMode = RunMode.RUN) -> DictConfig:
    """Return the composed configuration, Hydra's own node included.

    Raises
    ------
    UsageError
        A line that cannot be read, an unknown key or option: one sentence.
    """
    with explained():
        return hydra.compose_config(config_name=name, overrides=list(overrides), run_mode=mode)


def to_document(config: DictConfig) -> dict[str, Any]:
    """Return the job's part of a configuration as plain values, interpolations filled in."""
    with explained():
        job_part = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        document = OmegaConf.to_container(job_part, resolve=True)
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
def explained() -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise inside the block into one-sentence UsageErrors."""
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
        raise UsageError(_explain_composition(error)) from error
    except OmegaConfBaseException as error:
        where = f"{error.full_key}: " if error.full_key else ""
        raise UsageError(f"{where}{str(error).splitlines()[0]}") from error
    except HydraException as error:
        raise UsageError(one_line(str(error))) from error


def _store_schemas(command: Command) -> None:
    """Register the defaults of the command's dataclasses as `schema/…`, which the YAML files name first."""
    store = ConfigStore.instance()
    store.store(group="schema", name=command.name, node=default_values(command.config), package="_global_")
    for group, options in command.choices.items():
        for option, config_type in options.items():
            store.store(group=f"schema/{group}", name=option, node=default_values(config_type))


def _explain_missing(error: MissingConfigException) -> str:
    options = [option for option in error.options or [] if option]
    wanted = error.missing_cfg_file or ""
    group, _, name = wanted.rpartition("/")
    if group and options:
        return f"unknown {group}={name}{did_you_mean(name, options)} Choose one of: {', '.join(sorted(options))}"
    return one_line(_before(str(error), "Config search path"))


def _explain_composition(error: ConfigCompositionException) -> str:
    text = str(error)
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
        return str(unknown_key(leaf, [f"{name!s}" for name in node if name != "hydra"], where))
    return f"unknown key {key}. Keys are listed by --help"


def _before(text: str, marker: str) -> str:
    return one_line(text.split(marker)[0]).rstrip(".")
