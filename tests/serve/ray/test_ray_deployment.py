"""What Ray Serve is told."""

import pytest

from sd2rt.serve.ray_deployment import deployment_options
from sd2rt.serve.ray_settings import RaySettings


@pytest.mark.parametrize(("replicas", "grace_s"), [((2, 2), 2.0), ((1, 2), 900.0)])
def test_replicas_that_come_and_go_have_long_to_end_their_batch(replicas: tuple[int, int], grace_s: float) -> None:
    options = deployment_options(RaySettings(replicas=replicas), "cpu")
    assert options["graceful_shutdown_timeout_s"] == grace_s
    assert ("autoscaling_config" in options) == (replicas == (1, 2))
