"""Families of generative models, one a file, all with the same verbs: ``loss``, ``sample``, ``log_prob``."""
