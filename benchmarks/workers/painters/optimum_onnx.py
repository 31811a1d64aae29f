"""optimum-onnx: ONNX Runtime behind a diffusers pipeline, on what its own command exported."""

from __future__ import annotations

import torch
from onnxruntime import SessionOptions
from optimum.onnxruntime import ORTStableDiffusionPipeline

from benchmarks.workers.painters.torch_diffusers import DiffusersPainter
from benchmarks.workers.painting import Job


def open_painter(job: Job) -> DiffusersPainter:
    """Load the exported folder on the CPU."""
    torch.set_num_threads(job.threads)
    options = SessionOptions()
    options.intra_op_num_threads = job.threads
    pipe = ORTStableDiffusionPipeline.from_pretrained(job.model, local_files_only=True, session_options=options, safety_checker=None)
    return DiffusersPainter(pipe, job.guidance, torch.float32)
