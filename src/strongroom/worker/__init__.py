"""The enclave: the only code that meets plaintext."""
