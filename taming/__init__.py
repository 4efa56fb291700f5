"""Multi-task image synthesis with a VQGAN and an any-order transformer."""
