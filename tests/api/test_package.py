"""What the package itself promises: light imports, documented names, true examples."""

import doctest
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ddpm_codec
from ddpm_codec import picture
from ddpm_codec.api import archive, coding, facts
from ddpm_codec.api import progressive as progressive_module
from ddpm_codec.codecs import description, session
from ddpm_codec.diffusion import bound as bound_module
from ddpm_codec.models import registry

Pixels = NDArray[np.uint8]


def test_names_load_what_they_need_and_no_more() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import ddpm_codec; took = time.perf_counter() - start\n"
        "heavy = {'torch', 'numpy', 'PIL', 'constriction'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert set(ddpm_codec.__all__) <= set(dir(ddpm_codec))\n"
        "import numpy as np; ddpm_codec.list_models()\n"
        "data = ddpm_codec.encode(np.zeros((9, 9, 3), np.uint8), model='none')\n"
        "assert ddpm_codec.info(data).images == 1 and not ddpm_codec.decode(data).any()\n"
        "assert 'torch' not in sys.modules\n"
        "print([type(getattr(ddpm_codec, name)).__name__ for name in ddpm_codec.__all__] and 'all there')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout.strip()) == (0, "all there"), done.stderr
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ddpm_codec.nothing


@pytest.mark.parametrize(
    "module",
    [ddpm_codec, coding, archive, progressive_module, facts, session, description, bound_module, registry, picture],
    ids=lambda module: module.__name__,
)
def test_examples_in_docstrings_are_true(module: Any) -> None:  # noqa: ANN401 - modules
    result = doctest.testmod(module)
    assert result.attempted >= 3
    assert result.failed == 0


def test_every_public_name_has_an_example() -> None:
    bare = {"Image", "Source", "__version__", *(name for name in ddpm_codec.__all__ if name.endswith("Error"))}
    without = [n for n in ddpm_codec.__all__ if n not in bare and ">>>" not in (getattr(ddpm_codec, n).__doc__ or "")]
    assert without == []
