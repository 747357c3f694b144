"""The names that `import sdfnet` promises are there and are what they say."""

from __future__ import annotations

import subprocess
import sys

import pytest

import sdfnet


@pytest.mark.parametrize("name", sdfnet.__all__)
def test_every_promised_name_loads(name):
    assert getattr(sdfnet, name) is not None
    assert name in dir(sdfnet)


@pytest.mark.parametrize("name", [name for name in sdfnet.__all__ if name != "__version__"])
def test_every_promised_name_has_a_running_example(name):
    assert ">>> " in (getattr(sdfnet, name).__doc__ or "")
    assert "+SKIP" not in getattr(sdfnet, name).__doc__


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'laod_run'"):
        _ = sdfnet.laod_run


def test_importing_the_package_loads_no_heavy_library():
    program = (
        "import sys, sdfnet; "
        "print(sorted({'torch', 'hydra', 'pyrender', 'trimesh', 'matplotlib', 'igl'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
