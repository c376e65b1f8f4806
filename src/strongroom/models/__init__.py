"""Model bundles, importers and runtimes."""
