"""What importing the attestation layer costs: nothing heavy, and dcap-qvl only when a quote is verified."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import json, sys
import strongroom.attestation.serving, strongroom.attestation.policy, strongroom.attestation.verify
print(json.dumps(sorted(name.partition(".")[0] for name in sys.modules)))
"""


def test_the_layer_imports_light() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True, timeout=60)
    loaded = set(json.loads(done.stdout))
    heavy = {
        "dcap_qvl",
        "cryptography",
        "pyrage",
        "numpy",
        "openvino",
        "httpx",
        "redis",
        "strongroom_simulator",
    }
    assert "strongroom" in loaded
    assert not loaded & heavy
