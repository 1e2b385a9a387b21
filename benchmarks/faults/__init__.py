"""Faults and healthy trainings with known answers: what is caught, where, how soon, and at what price.

    python -m benchmarks.faults --set design        # from the root of the repository
    python -m benchmarks.faults --set design --quick
    python -m benchmarks.faults --set design --observer baselines
    python -m benchmarks.faults.compare --set design

Every case is a training of some seconds. A healthy one must raise nothing, however odd its
schedule; a faulty one must be named, with its kind and the layer where it began. Design,
calibration and test sets share no architecture and no seed. An oracle, which sees no observer, tells
which faults did anything; other monitors' published rules are run beside ours.
"""
