"""The models of a predictor, and the detector of what it was not made for."""
