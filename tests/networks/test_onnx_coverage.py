"""Every family exports to ONNX; minutes a family, so it is not part of the default run."""

import pytest

from pipeline.networks.families import FAMILIES
from tests.benchmarks.onnx_coverage import cover

pytestmark = pytest.mark.slow

TOLERANCE = 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_every_profile_of_every_family_agrees_with_onnxruntime(family, tmp_path):
    row = cover(family, tmp_path)
    assert [row.separate, row.together] == pytest.approx([0, 0], abs=TOLERANCE)
