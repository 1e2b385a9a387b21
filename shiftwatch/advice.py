"""Advice: what to look at first, per kind of alert, usual causes in order."""

from __future__ import annotations

#: Metric to what is said in place of the kind's, where its number tells more.
BY_METRIC = {
    "loss": "Compare a few targets with their inputs by eye: labels that belong to other samples, "
    "renumbered classes and a loss that is applied twice all look like this. If the updates grew "
    "too, look at momentum, weight decay and the sign of the loss.",
    "attention": "Look at the mask that this batch came with, at the code that builds it, and at the axis "
    "of the softmax. If they are as they were, look at the scale of queries and keys: logits that "
    "grow leave each query one key (Zhai et al. 2023); normalise both, or lower the rate.",
    "unit_shift": "Other data enter than before. Compare a few inputs from before and after by eye: "
    "preprocessing, normalisation constants, the order of channels or columns, and one class alone "
    "because the shuffling failed.",
    "distinct": "Samples of a batch repeat. Look at the sampler and the loader: an index that does not "
    "advance, workers that share a seed, a cache that always gives the same item.",
    "equal_steps": "A sum has lost all its parts but one. Look for a shortcut or a branch that is skipped "
    "or detached, or whose factor became zero.",
    "zero_gap": "Look for a cast to whole numbers, rounding, or a quantiser that was switched on here. "
    "Where that is meant, as in quantisation-aware training, nothing is wrong.",
    "passed": "Look at the rate of this dropout and at what schedules it: what follows learns from the "
    "little that passes. Rates above a half are rarely of use.",
    "mode": "Call model.train() after every evaluation. If some layers are to stay in evaluation "
    "mode, as in fine-tuning, set those layers alone, from the start.",
}

#: Kind to two or three sentences.
ADVICE = {
    "nonfinite": "Look at the inputs of this layer at that step: a division by zero, a logarithm "
    "of zero or an overflow in half precision are usual. Lower the learning rate or clip the "
    "gradient if the values had been growing; check the batch if they had not.",
    "dead": "These units pass no gradient and will not come back by themselves. Usual causes are "
    "a learning rate that was too high for a moment, a large negative bias, or a lost "
    "normalisation; a lower rate, He initialisation or a leaky activation prevent it.",
    "saturation": "The activation works in its flat part, where hardly any gradient passes. Look at "
    "the scale of the weights and inputs before it: initialise smaller (Glorot), normalise before "
    "the activation, or lower the learning rate.",
    "mean_shift": "The layer's values moved by more than its weight updates explain. Look for "
    "something that changed at that step: weights loaded or edited, a module switched between "
    "training and evaluation, a changed preprocessing.",
    "variance_shift": "The layer's scale changed by more than its weight updates explain. Look for "
    "something that changed at that step: input scaling, weights loaded or edited, dropout or "
    "normalisation switched.",
    "distribution_shift": "The shape of the layer's distribution changed. Compare the histograms "
    "before and after in the report, and look for a change of data, masking or activation.",
    "exploding": "Values grow faster than training can use. Lower the learning rate, clip the "
    "gradient, or add a normalisation before this layer; check the initialisation if it began early.",
    "vanishing": "Hardly any signal is left here. Look for saturated or dead layers behind it, a "
    "scale that was lost, or an initialisation too small for the depth; residual connections and "
    "normalisation are the usual cures.",
    "batchnorm": "Training and evaluation see different normalisations. Check momentum and batch "
    "size, and whether the running averages were collected on the same kind of data.",
    "frozen": "The weight gets a gradient and does not move. Check that the optimizer holds this "
    "very parameter (was the model rebuilt after the optimizer?) and that it is not detached.",
    "update": "The optimizer's step is out of line with its own history. Look at the learning rate "
    "schedule, gradient clipping, and the batch of that step; go back to the last checkpoint if "
    "units died or values exploded after it.",
    "collapse": "Different samples now give (almost) the same values. Look for constant batches, a "
    "layer whose weights went to zero, or a representation that collapsed.",
    "corruption": "A weight changed and no optimizer step explains it. Look for code that writes "
    "into parameters (loading, re-initialising, clipping), and for a hardware fault if there is none.",
}
