"""Changing weights: learners behind the verbs of `banty.records.Learner`."""
