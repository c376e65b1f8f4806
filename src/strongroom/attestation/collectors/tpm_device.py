"""A TPM 2.0 through tpm2-pytss (the extra `tpm`), as far as collectors need it.

Objects live only as long as the connection: nothing is left in the TPM.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from strongroom.attestation import tpm_forms
from strongroom.attestation.collectors.errors import (
    COLLECTOR_ABSENT,
    COLLECTOR_ANSWER,
    COLLECTOR_FAILED,
    COLLECTOR_RACED,
)
from strongroom.attestation.tpm import Credential
from strongroom.attestation.tpm_structures import TpmQuote, TpmSignature
from strongroom.errors import EvidenceError

MADE_ANEW: Final = 0
"""Stands for the key that is made from the TPM's seed each time."""

EK_CERTIFICATE: Final = 0x01C00002
"""NV index of the RSA-2048 EK's certificate (TCG EK Credential Profile, section 2.2.1.4)."""

DEFAULT: Final = "device:/dev/tpmrm0"
"""The kernel's resource manager."""

_BANK: Final = "sha256"
_AT_ONCE: Final = 8
"""Registers that one answer holds."""

_TRIES: Final = 3
_CHUNK: Final = 1024
"""Bytes of an NV index that every TPM reads at once."""

_T = TypeVar("_T")


class TpmDevice:
    """An open TPM. Get one from `opened`.

    Args:
        esys: The connection, `tpm2_pytss.ESAPI`.
    """

    def __init__(self, esys: Any) -> None:
        self._esys = esys

    @contextmanager
    def key(self, handle: int) -> Iterator[Any]:
        """The attestation key at a handle, or the one that is made anew for `MADE_ANEW`.

        Raises:
            EvidenceError: `collector-absent` or `collector-failed`.
        """
        if handle != MADE_ANEW:
            yield self.persistent_key(handle)
            return
        with self.made_key() as made:
            yield made

    @contextmanager
    def made_key(self) -> Iterator[Any]:
        """An attestation key that is made anew from the TPM's seed, the same one each time, and then dropped.

        It is a restricted ECDSA P-256 key in the endorsement hierarchy. It is another one only after the
        TPM's owner has given the TPM another endorsement seed.

        Raises:
            EvidenceError: `collector-failed`.
        """
        from tpm2_pytss.constants import ESYS_TR, TPMA_OBJECT
        from tpm2_pytss.types import TPM2B_PUBLIC

        attributes = (
            TPMA_OBJECT.FIXEDTPM
            | TPMA_OBJECT.FIXEDPARENT
            | TPMA_OBJECT.SENSITIVEDATAORIGIN
            | TPMA_OBJECT.USERWITHAUTH
            | TPMA_OBJECT.RESTRICTED
            | TPMA_OBJECT.SIGN_ENCRYPT
        )
        template = TPM2B_PUBLIC.parse("ecc256:ecdsa-sha256:null", objectAttributes=attributes)
        make = functools.partial(self._esys.create_primary, None, template, ESYS_TR.ENDORSEMENT)
        key = self._do("attestation key", make)[0]
        try:
            yield key
        finally:
            self._esys.flush_context(key)

    def persistent_key(self, handle: int) -> Any:
        """A key that is in the TPM.

        Raises:
            EvidenceError: `collector-absent`: there is none.
        """
        try:
            return self._do(f"key at {handle:#x}", lambda: self._esys.tr_from_tpmpublic(handle))
        except EvidenceError as error:
            raise EvidenceError(COLLECTOR_ABSENT, f"the TPM has no key at {handle:#x}") from error

    def public_key(self, key: Any) -> bytes:
        """Its public part, SubjectPublicKeyInfo in DER.

        Raises:
            EvidenceError: `collector-failed`.
        """
        public = self._do("public key", lambda: self._esys.read_public(key)[0])
        return bytes(public.publicArea.to_der())

    def public_area(self, key: Any) -> bytes:
        """Its public part, TPMT_PUBLIC.

        Raises:
            EvidenceError: `collector-failed`.
        """
        return bytes(self._do("public key", lambda: self._esys.read_public(key)[0]).publicArea.marshal())

    def ek_certificate(self) -> bytes:
        """The certificate of the endorsement key RSA-2048, in DER, as the TPM's maker has put it there.

        Raises:
            EvidenceError: `collector-absent`: there is none.
        """
        found = self.read_nv(EK_CERTIFICATE)
        # An index may be larger than what is in it; DER says how long it is.
        length = int.from_bytes(found[2:4]) + 4 if found[:2] == b"\x30\x82" else 0
        if not 4 < length <= len(found):
            raise EvidenceError(COLLECTOR_ANSWER, f"certificate in NV index {EK_CERTIFICATE:#x}")
        return found[:length]

    def activate(self, key: Any, credential: Credential) -> bytes:
        """Decrypt a secret that is for this TPM's endorsement key and for `key`.

        Raises:
            EvidenceError: `collector-failed`: it is for another TPM or key.
        """
        from tpm2_pytss.constants import ESYS_TR, TPM2_ALG, TPM2_SE
        from tpm2_pytss.types import TPM2B_ENCRYPTED_SECRET, TPM2B_ID_OBJECT, TPMT_SYM_DEF
        from tpm2_pytss.utils import NVReadEK, create_ek_template

        def work() -> bytes:
            blob = TPM2B_ID_OBJECT.unmarshal(credential.id_object)[0]
            secret = TPM2B_ENCRYPTED_SECRET.unmarshal(credential.encrypted_secret)[0]
            template = create_ek_template("EK-RSA2048", NVReadEK(self._esys))[1]
            ek = self._esys.create_primary(None, template, ESYS_TR.ENDORSEMENT)[0]
            try:
                session = self._esys.start_auth_session(
                    ESYS_TR.NONE, ESYS_TR.NONE, TPM2_SE.POLICY, TPMT_SYM_DEF(TPM2_ALG.NULL), TPM2_ALG.SHA256
                )
                try:
                    self._esys.policy_secret(ESYS_TR.ENDORSEMENT, session, b"", b"", b"", 0)
                    return bytes(self._esys.activate_credential(key, ek, blob, secret, session2=session))
                finally:
                    self._esys.flush_context(session)
            finally:
                self._esys.flush_context(ek)

        return self._do("credential", work)

    def quote(self, key: Any, nonce: bytes) -> tpm_forms.Quote:
        """A quote over all registers of the bank SHA-256.

        The registers are read one by one before; if one has changed until the quote, all are read again.

        Args:
            key: Of this object's methods.
            nonce: 1 to 64 bytes.

        Raises:
            EvidenceError: `collector-failed`, or `collector-raced`: registers change all the time.
        """
        selection = f"{_BANK}:" + ",".join(str(number) for number in range(tpm_forms.PCRS))
        for _ in range(_TRIES):
            pcrs = dict(enumerate(self._registers()))
            attest, signature = self._do("quote", lambda: self._esys.quote(key, selection, nonce))
            made = tpm_forms.Quote(bytes(attest), bytes(signature.marshal()), pcrs)
            if _covers(made):
                return made
        raise EvidenceError(COLLECTOR_RACED, "registers of the TPM")

    def read_nv(self, index: int) -> bytes:
        """The content of an NV index that its owner may read.

        Raises:
            EvidenceError: `collector-absent`: there is no such index.
        """
        from tpm2_pytss.constants import ESYS_TR

        try:
            handle = self._do("NV index", lambda: self._esys.tr_from_tpmpublic(index))
        except EvidenceError as error:
            raise EvidenceError(COLLECTOR_ABSENT, f"the TPM has no NV index {index:#x}") from error
        size = int(self._do("NV index", lambda: self._esys.nv_read_public(handle)[0].nvPublic.dataSize))
        found = bytearray()
        while len(found) < size:
            count = min(_CHUNK, size - len(found))
            read = functools.partial(self._esys.nv_read, handle, count, len(found), auth_handle=ESYS_TR.OWNER)
            found += bytes(self._do("NV index", read))
        return bytes(found)

    def _registers(self) -> list[bytes]:
        found: list[bytes] = []
        while len(found) < tpm_forms.PCRS:
            numbers = ",".join(str(len(found) + offset) for offset in range(_AT_ONCE))
            values = self._do("registers", functools.partial(self._esys.pcr_read, f"{_BANK}:{numbers}"))[2]
            if len(values) != _AT_ONCE:
                raise EvidenceError(COLLECTOR_FAILED, "the TPM has no bank of registers for SHA-256")
            found += [bytes(value) for value in values]
        return found

    def _do(self, what: str, call: Callable[[], _T]) -> _T:
        from tpm2_pytss import TSS2_Exception

        try:
            return call()
        except TSS2_Exception as error:
            raise EvidenceError(COLLECTOR_FAILED, f"{what} of the TPM: {error}") from error


@contextmanager
def opened(tcti: str = DEFAULT) -> Iterator[TpmDevice]:
    """Connect to a TPM.

    Args:
        tcti: How to reach it, in the words of tpm2-tss, for example `device:/dev/tpmrm0`.

    Raises:
        EvidenceError: `collector-absent`: no TPM, or tpm2-pytss is not installed.
    """
    os.environ.setdefault("TSS2_LOG", "all+none")  # what fails is in the error; the library would print it
    try:
        from tpm2_pytss import ESAPI, TSS2_Exception
    except ImportError as error:
        raise EvidenceError(
            COLLECTOR_ABSENT, "tpm2-pytss is not installed; install strongroom[tpm] and Debian's libtss2-dev"
        ) from error
    try:
        esys = ESAPI(tcti)
    except TSS2_Exception as error:
        raise EvidenceError(COLLECTOR_ABSENT, f"TPM at {tcti}: {error}") from error
    with esys:
        yield TpmDevice(esys)


def _covers(quote: tpm_forms.Quote) -> bool:
    """Whether the registers were those that were read."""
    values = b"".join(value for _, value in sorted(quote.pcrs.items()))
    digest = TpmSignature.parse(quote.signature).digest.digest(values)
    return TpmQuote.parse(quote.attest).pcr_digest == digest
