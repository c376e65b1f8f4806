"""The conformance kit: accepted evidence, and cases that differ from it in one property and must be refused.

Each case is a JSON object that says all that an appraisal needs, and the code with which it must end. So any
implementation can be tried with them, and this one with anybody's cases.
"""
