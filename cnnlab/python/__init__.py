"""cnnlab from Python: opens runs and studies, predicts, configures experiments and trains them.

    run = cnnlab.load("runs/lenet5_digits-…/seed_0")
    run.predict(images).classes

A mistake raises an error of cnnlab/errors.py, whose text says what is wrong and how to mend it. The names are those of
cnnlab/__init__.py; the modules import jax where they need it and not before.
"""
