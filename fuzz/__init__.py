"""Fuzzing of everything that parses bytes from outside, see docs/reference/fuzzing.md.

python -m fuzz                       every target, one minute each, two at a time
python -m fuzz --seconds 600 policy  one target, ten minutes
python -m fuzz policy FILE           one input again, for a crash or a slow input that was found
"""
