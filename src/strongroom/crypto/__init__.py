"""HPKE contexts, Oblivious HTTP, signatures, sealed files. Pure; randomness is a parameter."""
