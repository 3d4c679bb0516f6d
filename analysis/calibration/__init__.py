"""Does every interval cover what it says, and does every test alarm as rarely as it says?

`make calibrate` makes synthetic studies of known truth: ensembles sampled from the exact Gaussian law of real draws of
the calorimeter's training set. It feeds them through the analysis of the report, and prints how often each interval
covers the truth and how often each verdict is a false alarm. `world` holds the truth, `synthetic` makes studies,
`checks` says what is counted, `__main__` runs them. `points` does all of this for the choice of the test points, and
`leapt` for two-level estimates.
"""
