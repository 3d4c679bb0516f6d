"""What each figure shows, for a reader who has not seen the project."""

CAPTIONS = {
    "learning_curves": (
        "Mean test loss and its relative spread over initialisations against the number of training samples. Points: "
        "ensembles of trained networks, with the standard error of their finite number of members. Thick black: the "
        "exact law of infinitely wide networks, trained on the same samples for the same steps. Thin black: the same "
        "steps, mean and spread (band) over draws of the training set, beyond the sizes that were trained. Dashes: the "
        "end of training, another question, in no fit here. Coloured lines: fitted power laws; they need not run "
        "through the middle of the points, whose errors are correlated from size to size (the same initialisations, "
        "nested training sets). Below: ratio of the ensembles to the exact law of their own steps and samples."
    ),
    "flattening": (
        "What can make eps_L flatten. Left, for the samples the ensembles were trained on: on N_T test points eps_L "
        "contains the fluctuation of single points, which more training data do not remove; lines are exact at "
        "infinite width, points the widest ensemble, black what an endless test set would show. Right, mean over draws "
        "of the training set: steps that stay the same while N_D grows learn a fixed number of modes, and what they "
        "leave unlearned keeps its spread; compare the curves of the study's other times."
    ),
    "distribution": (
        "How the losses of single networks are distributed (steps), against the exact distribution at infinite width "
        "for the same steps and samples (black, from 0.5 to 99.5 %). p is the Kolmogorov-Smirnov probability of a "
        "larger distance at this one size; the sentences above test all sizes together."
    ),
    "width_dependence": (
        "How ensembles approach infinite width: values over their exact limit, with the line 1 + a/width through each "
        "training-set size (one free parameter; the limit is not fitted)."
    ),
    "bias_and_variance": (
        "The two parts of the mean loss: the error of the mean prediction, which an average over many networks would "
        "keep, and the variance over initialisations, which it would remove. Lines as in the first figure."
    ),
    "residuals": (
        "What the power laws leave. Above: pulls of the ensembles; p is the probability of a larger chi squared, with "
        "the correlation of errors between sizes (the same initialisations, nested samples) included, so that pulls do "
        "not simply add up, and widths trained on the same samples share their pattern. Below: the exact curves over "
        "their own power laws, in per cent: no statistical error, so this is how far they are from being power laws."
    ),
}
