"""Mutants: faults in what is delivered and edits in the models, and which test or check catches each."""
