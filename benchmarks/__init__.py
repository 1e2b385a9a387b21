"""Scripts that measure; ``benchmarks.faults`` is a package of its own."""
