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
        "What can make eps_L flatten. Left: on N_T test points eps_L contains the fluctuation of single points, which "
        "more training data do not remove; lines are exact at infinite width, dots the widest ensemble on as many "
        "points, black what an endless test set would show. Right: a fixed number of steps learns a fixed number of "
        "modes, and what it leaves unlearned keeps its spread; steps that grow with N_D, or training to the end, have "
        "no such floor."
    ),
    "distribution": (
        "How the losses of single networks are distributed (steps), against the exact distribution at infinite width "
        "for the same steps and samples (black). p is the Kolmogorov-Smirnov probability of a larger distance."
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
        "errors between sizes and between draws of the training set included. Below: the exact curves over their own "
        "power laws, in per cent: no statistical error, so this is how far they are from being power laws."
    ),
}
