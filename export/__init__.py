"""From checkpoint to bundle, once: torch, diffusers, transformers and onnx live here and nowhere else."""
