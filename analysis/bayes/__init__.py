"""The report of a study of kind `bayes`: theory of the posterior beside samples of it."""
