"""Serving: pictures over HTTP. A queue, batches, worker processes and the APIs around them; painting itself is the runtime's."""
