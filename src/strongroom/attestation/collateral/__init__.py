"""Collateral: what the vendor of a TEE states about its platforms, found by whoever relies on it.

    source = open_source(folder, pccs=INTEL_PCS, kds=AMD_KDS)
    evidence = complete(evidence, source, now)

`needs` reads from a quote which items it needs, `pccs` and `kds` fetch them, `folder` keeps them, `validity`
says until when they hold, `source` puts these together under limits, and `complete` adds to evidence what it
lacks. Nothing here verifies anything: the verifiers do, each time, so that a false statement can only refuse
(docs/how-to/collateral-offline.md).
"""
