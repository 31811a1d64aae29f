"""What Ray Serve is told of the deployment of replicas: how many, what each may take, and how long one that ends may still paint."""

from __future__ import annotations

from typing import Any

from sd2rt.serve.ray_settings import RaySettings

CONSTRUCTIONS = 2  # that may fail before the deployment does
HEALTH_CHECK_S = 5.0  # between looks whether a replica lives
GRACE_S, SCALED_GRACE_S = 2.0, 900.0  # for what replicas paint that end: all of them, or some for want of work
UPSCALE_S, DOWNSCALE_S = 3.0, 120.0  # that there is too much or too little work before replicas are started or ended


def deployment_options(ray: RaySettings, target: str) -> dict[str, Any]:
    """Return the options. Ray ends the newest replicas first, whether they paint or not, so those that come and go have long to end."""
    low, high = ray.replicas
    scaling = {
        "min_replicas": low,
        "max_replicas": high,
        "target_ongoing_requests": 1,
        "upscale_delay_s": UPSCALE_S,
        "downscale_delay_s": DOWNSCALE_S,
    }
    return {
        **({"num_replicas": low} if low == high else {"autoscaling_config": scaling}),
        "ray_actor_options": {"num_cpus": ray.cpus_for(), "num_gpus": ray.gpus_for(target)},
        "max_ongoing_requests": 1,
        "max_queued_requests": 2 * high,  # those of lost replicas wait beside as many others
        "max_constructor_retry_count": CONSTRUCTIONS,
        "health_check_period_s": HEALTH_CHECK_S,
        "graceful_shutdown_timeout_s": GRACE_S if low == high else SCALED_GRACE_S,
        "graceful_shutdown_wait_loop_s": 0.2,
        "logging_config": {"log_level": "ERROR", "enable_access_log": False},
    }
