"""Speech to motion to picture: the models, and the one pipeline class that serving uses.

Nothing runs and nothing heavy is imported here; import the module that you need.
"""
