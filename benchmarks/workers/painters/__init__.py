"""One module per peer: `open_painter(job)` loads a model and gives a `Painter`. Each runs in the venv of its own peer and imports
its library when it is opened, so that loading is timed with everything that belongs to it."""
