"""The tasks that are defined: a module each, with a tuple `DEFINITIONS`. A new one needs no line elsewhere."""
