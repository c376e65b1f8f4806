"""The examples of docs/reference/bundle.md are what the code takes and gives, and it leaves nothing out."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from strongroom.codec import jcs
from strongroom.models import errors
from strongroom.models.manifest import MANIFEST_NAME, Manifest, TensorSpec, parse_manifest
from strongroom.models.preprocess import PRESETS, ImagePreprocess, parse_preprocess

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "bundle.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- example: ([a-z-]+) -->\n```[a-z]*\n(.*?)```\n", TEXT, re.DOTALL))


def test_the_manifest_is_valid_and_has_the_digest_shown() -> None:
    manifest = parse_manifest(jcs.canonical(json.loads(EXAMPLES["manifest"])))
    assert manifest.digest == EXAMPLES["manifest-digest"].strip()
    assert manifest.files["labels.txt"].sha256 == hashlib.sha256(b"cat\ndog\n").hexdigest()


@pytest.mark.parametrize("line", EXAMPLES["preprocess"].splitlines())
def test_the_preprocessing_is_accepted(line: str) -> None:
    assert parse_preprocess(line).width in {200, 224}


def test_every_member_is_described() -> None:
    members = {*Manifest.__struct_fields__, *TensorSpec.__struct_fields__, *ImagePreprocess.__struct_fields__}
    for name in (*members, *PRESETS, MANIFEST_NAME):
        assert f"`{name}`" in TEXT, name


def test_every_code_of_the_layer_is_listed() -> None:
    codes = {kind.code for kind in vars(errors).values() if hasattr(kind, "code")} - {"state-dict-invalid"}
    assert all(f"`{code}`" in TEXT for code in codes)
