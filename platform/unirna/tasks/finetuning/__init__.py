"""From a table and an encoder to a predictor."""
