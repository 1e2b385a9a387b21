"""Why something of a model is not seen, in words for the person who trains it."""

from __future__ import annotations

#: Steps after which a layer that was never called is named.
PATIENCE = 3

NEVER = (
    f"it was not called in the first {PATIENCE} steps. Unused modules, calls of .forward() itself, "
    "functional use of its weight, and code that was compiled before watch() are not seen, nor are "
    "branches, loops and function transforms inside of compiled code"
)
GONE = "it is no part of the model any more"
FRESH = (
    "it came after watch(). To see it, close() and watch() again once the model has its new layers"
)
NOTHING = (
    "NO LAYER WAS CALLED in the first step, so no activation and no gradient is seen. Give watch() "
    "the very model that is trained, and let it not be called through .forward()"
)
COMPILED = (
    "IT WAS COMPILED BEFORE, and what is compiled runs no new hooks: activations and gradients are "
    "not seen, parameters and updates are. To see all, call watch() before the compiled model is "
    "called for the first time, or torch._dynamo.reset() after watch(): it is compiled once more"
)
REPLAYED = (
    "it was recorded into a CUDA graph, and a replay runs no hooks: outputs, inputs, gradients and "
    "the optimizer's own step are not seen in it, nor are its losses unless step(loss=) is given "
    "them. Weights are, with all that changed in a step as its update"
)
ROUNDED = (
    "compiled in half precision, where what lies between two kernels is not rounded; to look at it "
    "would round it, and change the result. Linear and convolutional layers are seen, with inputs"
)
