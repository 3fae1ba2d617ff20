"""Forms of convolution and pooling for CPUs, each chosen by measurement where it is faster than jax.lax.

Only ops/convolve.py and ops/pooling.py, which read the same on any backend, import these forms, and engine/remat.py the name of
their results; models convolve through models/layers.Conv. forms.py chooses a form from the shapes and holds the measurements;
dense.py, depthwise.py and transpose.py are the forms; pooling.py pools from slices; passes.py gives a form its gradients;
chunks.py cuts a batch into parts that fit the caches.
"""
