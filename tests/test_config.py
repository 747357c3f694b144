"""Every file of conf/ composes and builds, and nothing that is not in a dataclass is let in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from sdfnet.cli.hydra_app.application import check_complete, compose, hydra_for, to_document
from sdfnet.cli.hydra_app.arguments import parse_line
from sdfnet.cli.hydra_app.command import COMMANDS, UsageError, load_command
from sdfnet.cli.hydra_app.conf import command_examples, command_groups, conf_folder, key_comments
from sdfnet.cli.hydra_app.conf_files import conf_files
from sdfnet.cli.hydra_app.schema import default_values, missing_keys
from sdfnet.decoders import DECODERS, decoder_configs
from sdfnet.sampling.shape_samples import SamplerConfig, deepsdf_config

CONF = conf_folder()
FILES = sorted(CONF.rglob("*.yaml"))
OPTIONS = [path for path in FILES if path.parent != CONF]


def compose_document(name: str, *overrides: str) -> dict[str, Any]:
    """Compose a command's configuration; what must be given, and the meshes, are given as `x`."""
    with hydra_for(name, parse_line([]).flags) as hydra:
        document = to_document(compose(hydra, name, list(overrides)))
    places = {key: "x" for key in ("meshes", "out") if key in document}
    if "scene" in document and "meshes" not in document:  # one source must be given
        places |= {key: "x" for key in ("run", "shapes") if key in document}
    if name == "evaluate":  # a run, or a reference
        places["run"] = "x"
    if "landmarks" in document:  # one of several inputs must be given
        places["landmarks"] = "x"
    return document | dict.fromkeys(missing_keys(document), "x") | places


def users_of(group: str) -> list[str]:
    return [name for name in COMMANDS if group in load_command(name).groups]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_file_that_composes_and_builds(name: str) -> None:
    command = load_command(name)
    assert isinstance(check_complete(command, compose_document(name)), command.config)


@pytest.mark.parametrize("path", OPTIONS, ids=[str(path.relative_to(CONF)) for path in OPTIONS])
def test_every_option_of_every_group_composes_and_builds(path: Path) -> None:
    group = path.parent.relative_to(CONF).as_posix()
    names = users_of(group)
    assert names, f"no command uses the group {group}"
    for name in names:
        check_complete(load_command(name), compose_document(name, f"{group}={path.stem}"))


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(CONF)) for path in FILES])
def test_a_file_says_what_it_is_for(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("#")


def test_every_file_belongs_to_a_command_or_a_group() -> None:
    assert {path.stem for path in FILES if path.parent == CONF} == {*COMMANDS, "program"}


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_key_is_refused_with_and_without_force(name: str) -> None:
    with pytest.raises(UsageError, match="unknown key nonsense"):
        compose_document(name, "nonsense=1")
    for force in ("+", "++"):
        with pytest.raises(UsageError, match="unknown key nonsense"):
            check_complete(load_command(name), compose_document(name, f"{force}nonsense=1"))


@pytest.mark.parametrize("name", COMMANDS)
def test_hydra_makes_no_folder_and_no_log_of_its_own(name: str) -> None:
    with hydra_for(name, parse_line([]).flags) as hydra:
        settings = compose(hydra, name, []).hydra
    assert settings.job.name == name
    assert settings.job.chdir is False
    assert settings.output_subdir is None
    assert settings.run.dir == "."
    assert settings.job_logging.root is None
    assert settings.hydra_logging.root is None


def test_the_sampler_files_are_the_default_sampler_and_that_of_deepsdf() -> None:
    assert {path.stem for path in (CONF / "sampler").glob("*.yaml")} == {"default", "deepsdf"}
    for name, expected in (("default", SamplerConfig()), ("deepsdf", deepsdf_config())):
        sampler = check_complete(load_command("sample"), compose_document("sample", f"sampler={name}")).sampling.sampler
        assert sampler == expected


def test_the_seed_reaches_the_sampler() -> None:
    assert check_complete(load_command("sample"), compose_document("sample", "seed=7")).sampling.sampler.seed == 7


def test_what_stands_on_top_of_train_reaches_its_parts() -> None:
    document = compose_document("train", "seed=7", "budget=90s", "steps=12", "sampler.num_samples=1000")
    job = check_complete(load_command("train"), document)
    assert (job.sampling.sampler.seed, job.training.seed, job.sampling.sampler.num_samples) == (7, 7, 1000)
    assert (job.training.budget, job.training.steps) == ("90s", 12)


def test_the_decoder_is_chosen_by_default() -> None:
    assert check_complete(load_command("train"), compose_document("train")).decoder.kind == "auto"
    assert "  - decoder: auto\n" in (CONF / "train.yaml").read_text(encoding="utf-8")


def test_the_decoder_files_are_the_decoders_and_their_values_the_dataclasses() -> None:
    assert {path.stem for path in (CONF / "decoder").glob("*.yaml")} == {"auto", *DECODERS}
    for name, config_type in decoder_configs().items():
        job = check_complete(load_command("train"), compose_document("train", f"decoder={name}"))
        assert job.decoder == config_type()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["decoder=siren", "decoder.channels=[3]"], "unknown key decoder.channels"),
        (["decoder.width=8"], "unknown key decoder.width"),
        (["decoder=volume", "decoder.width=wide"], "decoder.width must be a whole number, got 'wide'"),
        (["decoder=volume", "decoder.width=0"], "decoder: width must be at least 1, got 0"),
        (["budget=soon"], "budget must be a number with s, min or h, such as 90s, got 'soon'"),
        (["steps=0"], "training: steps must be at least 1, got 0"),
        (
            ["training.precision=float8"],
            "training.precision must be one of 'auto', 'float32', 'bfloat16', got 'float8'",
        ),
        (["decoder={kind:cube}"], f"decoder.kind must be one of auto, {', '.join(DECODERS)}, got 'cube'"),
    ],
)
def test_a_wrong_value_of_a_component_is_refused_by_name(overrides: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        check_complete(load_command("train"), compose_document("train", *overrides))


WRITTEN = conf_files()


def values_in(path: Path) -> dict[str, Any]:
    values = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


@pytest.mark.parametrize("path", [path for path in WRITTEN if "/" in path])
def test_the_head_of_a_group_file_names_its_choice_once(path: str) -> None:
    group, option = Path(path).with_suffix("").parts
    assert WRITTEN[path].splitlines()[0].count(f"{group}={option}") == 1


@pytest.mark.parametrize("path", WRITTEN)
def test_a_file_that_is_written_from_a_dataclass_is_up_to_date(path: str) -> None:
    assert (CONF / path).read_text(encoding="utf-8") == WRITTEN[path], "run python -m sdfnet.cli.hydra_app.conf_files"


@pytest.mark.parametrize("path", WRITTEN)
def test_every_value_has_a_comment_of_one_line(path: str) -> None:
    values = values_in(CONF / path)
    groups = {"defaults", "hydra"} | {key for key, value in values.items() if isinstance(value, dict)}
    comments = key_comments(path)
    assert [key for key in values if key not in groups and not 0 < len(comments.get(key, "")) <= 118] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_values_of_a_command_are_those_of_its_dataclass(name: str) -> None:
    command = load_command(name)
    values = values_in(CONF / f"{name}.yaml")
    plain = {key: value for key, value in default_values(command.config).items() if key not in command.groups}
    assert {key: values[key] for key in plain} == plain
    assert set(values) <= {*plain, *command.groups, "defaults", "hydra"}
    assert command_groups(name) == [*command.groups]
    assert f"sdfnet {name} " in command_examples(name)[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_values_of_a_group_are_those_of_its_dataclass(name: str) -> None:
    for group, options in load_command(name).groups.items():
        for option, config_type in options.items():
            assert values_in(CONF / group / f"{option}.yaml") == default_values(config_type)


def test_a_preset_says_only_what_differs_from_the_default_of_its_group() -> None:
    for path in OPTIONS:
        group = path.parent.name
        if path.relative_to(CONF).as_posix() in WRITTEN or group == "experiment":
            continue
        values = values_in(path)
        base, own = values.pop("defaults")
        assert own == "_self_"
        default = values_in(path.with_name(f"{base}.yaml"))
        assert values, path
        assert not [key for key, value in values.items() if default[key] == value]


def test_budget_steps_and_seed_work_from_python_as_from_the_command_line() -> None:
    from sdfnet.cli.commands.sample import SamplingKeys
    from sdfnet.cli.commands.train import TrainCommand
    from sdfnet.training import TrainingConfig

    here = {"run": Path("r"), "meshes": Path("m")}
    command = TrainCommand(**here, budget="90s", steps=12, sampling=SamplingKeys(seed=7))
    assert (command.training.budget, command.training.steps, command.training.seed) == ("90s", 12, 7)
    assert command.sampling.sampler.seed == 7
    command = TrainCommand(**here, steps=12, training=TrainingConfig(steps=30, budget="1h"))
    assert (command.training.budget, command.training.steps) == ("1h", 30)
