"""NVIDIA's reference values: a real RIM verifies; of made ones each check alone refuses."""

from __future__ import annotations

import base64
import hashlib
import random
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mutants import mutate_bytes
from strongroom.attestation import certificates
from strongroom.attestation.gpu import GpuClaims
from strongroom.attestation.gpu_rim import (
    MAX_NAMESPACES,
    MAX_RIM,
    NVDEC0_INDEX,
    NVIDIA_RIM_ROOT_SHA256,
    Rim,
    match,
    match_claims,
    verify_rim,
)
from strongroom.errors import EvidenceError

etree = pytest.importorskip("lxml.etree")

REAL_NOW = 1_735_689_600  # the first day of 2025
NOW = 1_800_000_000
DAY = 24 * 3600
TIME = datetime.fromtimestamp(NOW, UTC)
DS = "http://www.w3.org/2000/09/xmldsig#"
C14N = "http://www.w3.org/2006/12/xml-c14n11"
ECDSA = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"
SHA384 = "http://www.w3.org/2001/04/xmldsig-more#sha384"
ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
ROOT_KEY, LEAF_KEY = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
ONE, TWO = "11" * 48, "22" * 48
CodeOf = Callable[..., str | None]


# ---- what NVIDIA makes


def certificate(name: str, key: Any, issuer: str, signer: Any, *, ca: bool, days: int) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(TIME - timedelta(days=1))
        .not_valid_after(TIME + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
        .sign(signer, hashes.SHA384())
    )


def leaf_for(key: Any, signer: Any = ROOT_KEY) -> x509.Certificate:
    return certificate("signer", key, "root", signer, ca=False, days=10)


ROOT = certificate("root", ROOT_KEY, "root", ROOT_KEY, ca=True, days=100)
LEAF = leaf_for(LEAF_KEY)
ROOTS = {certificates.sha256(ROOT)}


def resource(index: object, *digests: str, active: str = "True", **changes: str) -> str:
    """One measurement; `changes` replace attributes, and `extra` is put after them."""
    extra = changes.pop("extra", "")
    kind = changes.pop("element", "ns0:Resource")
    values = {"type": "Measurement", "index": str(index), "active": active, "size": "48"}
    values |= {"alternatives": str(len(digests))} | changes
    listed = {f"ns2:Hash{number}": digest for number, digest in enumerate(digests)}
    attributes = " ".join(f'{name}="{value}"' for name, value in (values | listed).items())
    return f"<{kind} {attributes} {extra}/>"


RESOURCES = resource(0, ONE) + resource(1, ONE, TWO) + resource(2, ONE, active="False")
META = '<ns0:Meta colloquialVersion="550.90.07" product="GH100"/>'


def document(
    payload: str = RESOURCES,
    *,
    meta: str = META,
    tag: str = "SoftwareIdentity",
    attributes: str = 'tagId="5a"',
) -> str:
    """A tag without its signature."""
    return (
        f'<{tag} xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd"'
        ' xmlns:ns0="http://standards.iso.org/iso/19770/-2/2015/schema.xsd"'
        f' xmlns:ns2="http://www.w3.org/2001/04/xmlenc#sha384" {attributes}>\n'
        f"{meta}\n <ns0:Payload>{payload}</ns0:Payload>\n\n</{tag}>"
    )


def signed_info(digest: bytes, changes: dict[str, str]) -> str:
    text = (
        f'<ds:SignedInfo><ds:CanonicalizationMethod Algorithm="{C14N}"/>'
        f'<ds:SignatureMethod Algorithm="{ECDSA}"/><ds:Reference URI="">'
        f'<ds:Transforms><ds:Transform Algorithm="{ENVELOPED}"/><ds:Transform Algorithm="{C14N}"/>'
        f'</ds:Transforms><ds:DigestMethod Algorithm="{SHA384}"/>'
        f"<ds:DigestValue>{base64.b64encode(digest).decode()}</ds:DigestValue></ds:Reference></ds:SignedInfo>"
    )
    for old, new in changes.items():
        assert text.count(old) >= 1
        text = text.replace(old, new, 1)
    return text


def c14n(element: Any) -> bytes:
    return bytes(etree.tostring(element, method="c14n"))


def sign(
    text: str | None = None,
    *,
    key: Any = LEAF_KEY,
    chain: tuple[x509.Certificate, ...] = (LEAF, ROOT),
    digest: bytes | None = None,
    cut: int = 96,
    **changes: str,
) -> str:
    """A signed tag; `changes` replace parts of what is signed (`info_...`) or of the whole afterwards."""
    text = document() if text is None else text
    info = {old: new for old, new in changes.items() if old in signed_info(b"", {})}
    body = hashlib.sha384(c14n(etree.fromstring(text))).digest() if digest is None else digest
    listed = "".join(
        f"<ds:X509Certificate>{base64.encodebytes(each.public_bytes(Encoding.DER)).decode()}"
        "</ds:X509Certificate>"
        for each in chain
    )
    head, last, end = text.rpartition("\n")
    whole = (
        f'{head}<ds:Signature xmlns:ds="{DS}">{signed_info(body, info)}<ds:SignatureValue>VALUE'
        f"</ds:SignatureValue><ds:KeyInfo><ds:X509Data>{listed}</ds:X509Data></ds:KeyInfo></ds:Signature>"
        f"{last}{end}"
    )
    element = etree.fromstring(whole).find(f"{{{DS}}}Signature/{{{DS}}}SignedInfo")
    r, s = decode_dss_signature(key.sign(c14n(element), ec.ECDSA(hashes.SHA384())))
    size = (key.curve.key_size + 7) // 8
    value = (r.to_bytes(size) + s.to_bytes(size))[:cut]
    return whole.replace("VALUE", base64.b64encode(value).decode())


def check(text: str | bytes, *, now: int = NOW, roots: Any = ROOTS) -> Rim:
    return verify_rim(text.encode() if isinstance(text, str) else text, now=now, roots=roots)


GOOD = sign()


# ---- a real RIM


@pytest.fixture(scope="module")
def real(testdata: Path) -> bytes:
    return (testdata / "vectors/evidence/nvidia_rim_1010_0200_882.swidtag").read_bytes()


def test_a_real_rim_verifies(real: bytes) -> None:
    rim = verify_rim(real, now=REAL_NOW)
    assert (rim.product, rim.version) == ("GH100", "96.00.5E.00.01")
    assert rim.root_sha256 == NVIDIA_RIM_ROOT_SHA256
    assert rim.tag_id.startswith("560b6686b372407d")
    assert sorted(rim.golden) == [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13]
    assert [len(rim.golden[index]) for index in (4, 13)] == [1, 4]
    assert rim.golden[4][0].startswith("73bbf35822549e28")
    assert rim.expires == 1_750_584_633


def test_a_real_rim_is_refused_under_another_root_or_time(real: bytes, code_of: CodeOf) -> None:
    assert code_of(verify_rim, real, now=REAL_NOW, roots=ROOTS) == "evidence-untrusted-root"
    assert code_of(verify_rim, real, now=REAL_NOW, roots=()) == "evidence-untrusted-root"
    assert code_of(verify_rim, real, now=1_750_584_634) == "evidence-expired"
    assert code_of(verify_rim, real, now=1_680_000_000) == "evidence-expired"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b"c3f65ef79a19c029", b"c3f65ef79a19c028", "evidence-signature"),  # an accepted digest
        (b'index="1"', b'index="70"', "evidence-signature"),
        (b'active="False"', b'active="True"', "evidence-signature"),
        (b'alternatives="4"', b'alternatives="3"', "evidence-signature"),
        (b"96.00.5E.00.01", b"96.00.9F.00.01", "evidence-signature"),
        (b"<ds:DigestValue>D3B", b"<ds:DigestValue>D3C", "evidence-signature"),
        (b"<ds:SignatureValue>s5J", b"<ds:SignatureValue>s5K", "evidence-signature"),
        (
            b"<ds:X509Certificate>MIICkTCCAhagAwIBAgIJAOgR",
            b"<ds:X509Certificate>MIICkTCCAhagAwIBAgIJAOgS",
            "evidence-chain",
        ),
        (b"    </ns0:Payload>", b"   </ns0:Payload>", "evidence-signature"),
        (b"</ds:Signature></S", b"</ds:Signature> </S", "evidence-signature"),
    ],
)
def test_a_real_rim_that_was_changed_is_refused(
    real: bytes, old: bytes, new: bytes, code: str, code_of: CodeOf
) -> None:
    assert old in real
    assert code_of(verify_rim, real.replace(old, new, 1), now=REAL_NOW) == code


def test_no_byte_of_the_payload_of_a_real_rim_can_change(real: bytes) -> None:
    end = real.index(b"<ds:Signature ")
    for place in range(0, end, 23):
        data = bytearray(real)
        data[place] ^= 1
        with pytest.raises(EvidenceError):
            verify_rim(bytes(data), now=REAL_NOW)


# ---- a made RIM, and each check alone


def test_a_made_rim_verifies() -> None:
    rim = check(GOOD)
    assert rim.golden == {1: (ONE,), 2: (ONE, TWO)}
    assert (rim.product, rim.version, rim.tag_id) == ("GH100", "550.90.07", "5a")
    assert rim.expires == NOW + 10 * DAY
    assert check('<?xml version="1.0" encoding="utf-8"?>' + GOOD) == rim


def test_the_place_of_the_signature_among_the_members_is_free() -> None:
    """Also as the first one, and with the white space that is after it."""
    bare = GOOD.replace(SIGNATURE, "")
    start = bare.index(">") + 1
    assert check(bare[:start] + SIGNATURE + bare[start:]) == check(GOOD)


@pytest.mark.parametrize(
    "changed",
    [
        '<!DOCTYPE SoftwareIdentity [<!ENTITY a "b">]>' + GOOD,
        "<!DOCTYPE SoftwareIdentity>" + GOOD,
        '<?xml version="1.0"?><!DOCTYPE SoftwareIdentity>' + GOOD,
        "<!-- -->" + GOOD,
        GOOD + "<!-- -->",
        GOOD.replace("<ns0:Payload>", "<ns0:Payload><!-- -->"),
        GOOD.replace("<ds:DigestValue>", "<ds:DigestValue>AAAA<!-- -->"),
        GOOD.replace("<ns0:Payload>", "<ns0:Payload><![CDATA[]]>"),
        GOOD.replace("<ns0:Payload>", "<ns0:Payload><?pi?>"),
        "<?pi?>" + GOOD,
        GOOD + "<?pi?>",
        GOOD.replace("<ns0:Payload>", "<ns0:Payload>&a;"),
        GOOD.replace('tagId="5a"', 'tagId="5a" xml:lang="en"'),
        GOOD.replace("<ds:SignedInfo>", '<ds:SignedInfo xml:space="preserve">'),
        GOOD + GOOD,
        GOOD[:-1],
        "",
        "\0",
        "<a>" * 1000,
        "<a/>" * 2,
    ],
)
def test_what_is_not_plain_xml_is_refused(changed: str, code_of: CodeOf) -> None:
    assert code_of(check, changed) == "evidence-malformed"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "cp037"])
@pytest.mark.parametrize("declared", [False, True])
def test_a_document_type_does_not_hide_in_another_encoding(
    encoding: str, declared: bool, code_of: CodeOf
) -> None:
    head = f'<?xml version="1.0" encoding="{encoding}"?>' if declared else ""
    text = f'{head}<!DOCTYPE SoftwareIdentity [<!ENTITY a "b">]>{GOOD}'
    data = text.encode(encoding).replace(b"<!", b"+ADwAIQ-") if encoding == "utf-7" else text.encode(encoding)
    assert code_of(check, data) == "evidence-malformed"


def test_another_document_is_refused(code_of: CodeOf) -> None:
    assert code_of(check, "<a/>") == "evidence-format"
    assert code_of(check, sign(document(tag="Software"))) == "evidence-format"


def test_a_document_is_bounded(code_of: CodeOf) -> None:
    padding = " " * (MAX_RIM - len(sign(document(" " + RESOURCES))))
    assert check(sign(document(" " + padding + RESOURCES))).version == "550.90.07"
    assert code_of(check, sign(document("  " + padding + RESOURCES))) == "evidence-too-large"


@pytest.mark.parametrize(
    "part",
    [
        "".join(f'<a xmlns:n{number}="u"/>' for number in range(MAX_NAMESPACES)),
        "<a " + " ".join(f'xmlns:n{number}="u:{number}"' for number in range(60_000)) + "/>",
        "<a " + " ".join(f'n{number}="u"' for number in range(150_000)) + "/>",
        "<a/>" * 200_000,
        "<ds:a>" * 200 + "</ds:a>" * 200,
    ],
)
def test_a_hostile_document_takes_no_long_time(part: str) -> None:
    begun = time.process_time()
    with pytest.raises(EvidenceError):
        check(GOOD.replace("<ns0:Payload>", f"<ns0:Payload>{part}"))
    assert time.process_time() - begun < 2


# Wrapping: the values that are read must be the ones that were signed.

SIGNATURE = GOOD[GOOD.index("<ds:Signature ") : GOOD.index("</ds:Signature>") + len("</ds:Signature>")]
EVIL = document(resource(0, TWO))


@pytest.mark.parametrize(
    "changed",
    [
        GOOD.replace(SIGNATURE, SIGNATURE * 2),
        GOOD.replace(SIGNATURE, ""),
        GOOD.replace(SIGNATURE, f"<ns0:Link>{SIGNATURE}</ns0:Link>"),
        GOOD.replace("</ns0:Payload>", f"{SIGNATURE}</ns0:Payload>").replace(f"{SIGNATURE}\n\n", ""),
        GOOD.replace("<ds:KeyInfo>", f"<ds:KeyInfo>{SIGNATURE}"),
        GOOD.replace("</ds:Signature>", f"<ds:Object>{document()}</ds:Object></ds:Signature>"),
        GOOD.replace("</ds:Signature>", "<ds:Object/></ds:Signature>"),
        EVIL.replace("\n\n", f"\n<ns0:Link>{GOOD}</ns0:Link>\n"),
        EVIL.replace("\n\n", f"{SIGNATURE}\n\n"),
    ],
)
def test_a_signature_elsewhere_or_of_something_else_is_refused(changed: str, code_of: CodeOf) -> None:
    assert code_of(check, changed) in {"evidence-malformed", "evidence-signature"}


TRANSFORM = f'<ds:Transform Algorithm="{C14N}"/>'


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ('URI=""', 'URI="#a"', "evidence-malformed"),
        (' URI=""', "", "evidence-malformed"),
        ('URI=""', 'URI="" Id="a"', "evidence-malformed"),
        ("</ds:Reference>", "</ds:Reference><ds:Reference/>", "evidence-malformed"),
        (TRANSFORM, "", "evidence-malformed"),
        (TRANSFORM, TRANSFORM * 2, "evidence-malformed"),
        (f'<ds:Transform Algorithm="{ENVELOPED}"/>', TRANSFORM, "evidence-algorithm"),
        (
            TRANSFORM,
            '<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xslt-19991116"/>',
            "evidence-algorithm",
        ),
        (TRANSFORM, f'<ds:Transform Algorithm="{C14N}"><ds:XPath/></ds:Transform>', "evidence-algorithm"),
        (f'"{C14N}"', f'"{C14N}#WithComments"', "evidence-algorithm"),
        (ECDSA, ECDSA.replace("384", "256"), "evidence-algorithm"),
        (ECDSA, "http://www.w3.org/2000/09/xmldsig#hmac-sha1", "evidence-algorithm"),
        (SHA384, SHA384.replace("384", "224"), "evidence-algorithm"),
        ("<ds:DigestValue>", "<ds:DigestValue>!", "evidence-malformed"),
        ("<ds:DigestValue>", "<ds:DigestValue><ds:a/>", "evidence-malformed"),
        ("</ds:SignedInfo>", "<ds:a/></ds:SignedInfo>", "evidence-malformed"),
    ],
)
def test_another_profile_is_refused_though_well_signed(
    old: str, new: str, code: str, code_of: CodeOf
) -> None:
    assert code_of(check, sign(**{old: new})) == code


def test_the_digest_and_the_signature_must_be_right(code_of: CodeOf) -> None:
    assert code_of(check, sign(digest=bytes(48))) == "evidence-signature"
    assert code_of(check, sign(digest=b"")) == "evidence-signature"
    assert code_of(check, sign(key=ROOT_KEY)) == "evidence-signature"
    assert code_of(check, sign(cut=95)) == "evidence-signature"
    start = GOOD.index("<ds:SignatureValue>") + len("<ds:SignatureValue>")
    value = base64.b64decode(GOOD[start : start + 128])
    longer = base64.b64encode(value[:48] + b"\0" + value[48:]).decode()
    assert code_of(check, GOOD[:start] + longer + GOOD[start + 128 :]) == "evidence-signature"
    assert code_of(check, GOOD.replace("<ds:SignatureValue>", "<ds:SignatureValue>-")) == "evidence-malformed"


def test_each_check_of_the_chain_refuses_alone(code_of: CodeOf) -> None:
    small = ec.generate_private_key(ec.SECP256R1())
    stranger = certificate("root", LEAF_KEY, "root", LEAF_KEY, ca=True, days=100)
    no_ca = certificate("root", ROOT_KEY, "root", ROOT_KEY, ca=False, days=100)
    below = certificate("below", small, "signer", LEAF_KEY, ca=False, days=10)
    assert code_of(check, sign(key=small, chain=(leaf_for(small), ROOT))) == "evidence-key"
    assert code_of(check, sign(chain=(LEAF, stranger))) == "evidence-untrusted-root"
    assert code_of(check, sign(chain=(leaf_for(LEAF_KEY, LEAF_KEY), ROOT))) == "evidence-chain"
    assert code_of(check, sign(chain=(LEAF, no_ca)), roots={certificates.sha256(no_ca)}) == "evidence-chain"
    assert code_of(check, sign(key=small, chain=(below, LEAF, ROOT))) == "evidence-chain"
    assert code_of(check, sign(chain=(ROOT, LEAF)), roots={certificates.sha256(LEAF)}) == "evidence-chain"
    assert code_of(check, sign(chain=(ROOT,))) == "evidence-certificate"
    assert code_of(check, sign(chain=())) == "evidence-certificate"
    assert code_of(check, sign(chain=(*(LEAF,) * 8, ROOT))) == "evidence-certificate"
    assert code_of(check, GOOD, now=NOW + 11 * DAY) == "evidence-expired"
    assert code_of(check, GOOD, now=NOW - 2 * DAY) == "evidence-expired"
    assert code_of(check, GOOD, now=-1) == "evidence-expired"
    assert code_of(check, GOOD, roots=()) == "evidence-untrusted-root"


@pytest.mark.parametrize(
    "text",
    [
        document(""),
        document(resource(0, ONE, active="False")),
        document(resource(0, ONE) * 2),
        document(resource(0, ONE) + resource(0, TWO, active="False")),
        document(resource(0)),
        document(resource(0, ONE, alternatives="2")),
        document(resource(0, ONE, TWO, alternatives="1")),
        document(resource(0, *[ONE] * 65)),
        document(resource(0, ONE, extra=f'ns2:Hash="{TWO}"')),
        document(resource(0, ONE[1:])),
        document(resource(0, ONE + "1")),
        document(resource(0, "GG" * 48)),
        document(resource(0, "AA" * 48)),
        document(resource(0, ONE, size="32")),
        document(resource(0, ONE, type="File")),
        document(resource(0, ONE, active="true")),
        document(resource(0, ONE, element="ns0:File")),
        document(resource(-1, ONE)),
        document(resource("01", ONE)),
        document(resource("\u0661", ONE)),
        document(resource(239, ONE)),
        document(resource("9" * 5000, ONE)),
        document(meta=""),
        document(meta=META * 2),
        document(meta=META.replace("product", "produce")),
        document(meta=META.replace("GH100", "GH 100")),
        document(meta=META.replace("550.90.07", "")),
        document(attributes=""),
        document(attributes='tagId="5a" ' + " ".join(f'n{number}=""' for number in range(96))),
        document().replace("<ns0:Payload>", "<ns0:Payload/><ns0:Payload>"),
        document().replace("</ns0:Payload>", "</ns0:Payload><ns0:Payload/>"),
    ],
)
def test_reference_values_of_another_form_are_refused(text: str, code_of: CodeOf) -> None:
    assert code_of(check, sign(text)) == "evidence-malformed"


def test_without_lxml_a_rim_is_refused(monkeypatch: pytest.MonkeyPatch, code_of: CodeOf) -> None:
    monkeypatch.setitem(sys.modules, "lxml.etree", None)
    assert code_of(check, GOOD) == "evidence-format"


def test_mutants_raise_only_our_errors(survey: Callable[..., Any]) -> None:
    """What is accepted says the same: changes of white space, or outside of what is read."""
    rng = random.Random(22)
    expected = check(GOOD)
    found = survey(check, (mutate_bytes(rng, GOOD.encode()) for _ in range(20_000)))
    assert all(rim == expected for _, rim in found.accepted)
    assert {"evidence-malformed", "evidence-signature"} <= set(found.codes)


# ---- the match


def rim(version: str, golden: dict[int, tuple[str, ...]], product: str = "GH100") -> Rim:
    return Rim("00", product, version, "tag", golden, NOW)


def test_measurements_match_one_of_the_accepted_values() -> None:
    driver, vbios = rim("1", {1: (ONE,), 2: (ONE, TWO)}), rim("2", {4: (TWO,)})
    found = match({1: ONE, 2: TWO, 3: ONE, 4: TWO}, [driver, vbios])
    assert (found.matched, found.mismatched, found.unreferenced) == ((1, 2, 4), (), (3,))
    assert found.good
    found = match({1: TWO, 2: TWO, 4: TWO}, [driver, vbios])
    assert (found.matched, found.mismatched) == ((2, 4), (1,))
    assert not found.good
    found = match({1: ONE, 2: TWO}, [driver, vbios])
    assert (found.mismatched, found.good) == ((4,), False)


def test_nothing_compared_is_no_match() -> None:
    assert not match({1: ONE}, []).good
    assert not match({}, []).good
    assert not match({36: ONE}, [rim("1", {NVDEC0_INDEX: (ONE,)})], nvdec0_enabled=False).good


def test_the_decoders_measurement_counts_unless_the_decoder_is_off() -> None:
    both = [rim("1", {1: (ONE,), NVDEC0_INDEX: (ONE,)})]
    measured = {1: ONE, NVDEC0_INDEX: TWO}
    assert match(measured, both).mismatched == (NVDEC0_INDEX,)
    assert match(measured, both, nvdec0_enabled=None).mismatched == (NVDEC0_INDEX,)
    found = match(measured, both, nvdec0_enabled=False)
    assert (found.skipped, found.mismatched, found.good) == ((NVDEC0_INDEX,), (), True)


def test_two_rims_for_one_measurement_are_refused(code_of: CodeOf) -> None:
    two = [rim("1", {1: (ONE,)}), rim("2", {1: (ONE,)})]
    assert code_of(match, {1: ONE}, two) == "evidence-binding"


CLAIMS = GpuClaims(
    root_sha256="00",
    nonce=bytes(32),
    measurements={1: ONE, 2: TWO},
    driver_version="550.90.07",
    vbios_version="96.00.9F.00.01",
    product="GH100",
    hardware_model="GH100 A01 GSP BROM",
    device="",
    ueid="1",
    device_key_sha256="00",
    fwid="",
    board_id="",
    project="",
    project_sku="",
    chip_sku="",
    chip_sku_mod="",
    nvdec0_enabled=None,
    protected_pcie=None,
    expires=NOW,
)
DRIVER, VBIOS = rim("550.90.07", {1: (ONE,)}), rim("96.00.9f.00.01", {2: (TWO,)})


def test_a_gpu_matches_the_rims_of_its_own_driver_and_vbios(code_of: CodeOf) -> None:
    other = rim("550.90.08", {1: (ONE,), 2: (ONE,)})
    assert match_claims(CLAIMS, [other, VBIOS, DRIVER]).good
    assert not match_claims(replace(CLAIMS, measurements={1: ONE, 2: ONE}), [VBIOS, DRIVER]).good
    assert code_of(match_claims, CLAIMS, [VBIOS]) == "evidence-binding"
    assert code_of(match_claims, CLAIMS, [DRIVER]) == "evidence-binding"
    assert code_of(match_claims, CLAIMS, [DRIVER, DRIVER, VBIOS]) == "evidence-binding"
    assert code_of(match_claims, CLAIMS, [other, VBIOS]) == "evidence-binding"
    assert code_of(match_claims, CLAIMS, [DRIVER, replace(VBIOS, product="GB100")]) == "evidence-binding"


def test_the_decoder_of_the_claims_counts() -> None:
    claims = replace(CLAIMS, nvdec0_enabled=False)
    driver = rim("550.90.07", {1: (ONE,), NVDEC0_INDEX: (ONE,)})
    assert match_claims(claims, [driver, VBIOS]).good
    assert not match_claims(CLAIMS, [driver, VBIOS]).good
