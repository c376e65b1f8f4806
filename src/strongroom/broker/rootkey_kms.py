"""A root key in AWS KMS. Needs the extra `kms`; credentials come from where boto3 looks for them.

The context is the encryption context, `{"strongroom": CONTEXT}`: KMS authenticates it, writes it into
CloudTrail, and a key policy can demand it.
"""

from __future__ import annotations

from typing import Any, Final, Self

from strongroom.broker.errors import ROOT_KEY_CONFIG, ROOT_KEY_UNAVAILABLE, SECRET_UNREADABLE
from strongroom.errors import BrokerError, ConfigError

CONNECT_SECONDS: Final = 5
READ_SECONDS: Final = 10
_FOREIGN: Final = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})


class KmsRootKey:
    """A symmetric key of KMS.

    Args:
        key: Its ARN.
        client: A boto3 client of KMS.
    """

    def __init__(self, key: str, client: Any) -> None:
        self._key = key
        self._client = client
        self.name = f"kms:{key}"

    @classmethod
    def connect(cls, key: str, *, region: str = "", endpoint: str = "") -> Self:
        """Make the client.

        Args:
            key: The key's ARN.
            region: The region; empty for the one that boto3 finds.
            endpoint: Address of the service; empty for AWS's own.

        Raises:
            ConfigError: `root-key-config`: the extra is not installed, or there is no region.
        """
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
        except ImportError:
            raise ConfigError(ROOT_KEY_CONFIG, "kms", expected="strongroom[kms]") from None
        settings = Config(
            connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries={"max_attempts": 3}
        )
        try:
            client = boto3.client(
                "kms", region_name=region or None, endpoint_url=endpoint or None, config=settings
            )
        except (BotoCoreError, ValueError) as error:
            raise ConfigError(ROOT_KEY_CONFIG, f"kms: {error}") from error
        return cls(key, client)

    def wrap(self, secret: bytes, context: str) -> bytes:
        """As `RootKey.wrap`."""
        answer = self._call("encrypt", context, Plaintext=secret)
        wrapped: bytes = answer["CiphertextBlob"]
        return wrapped

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """As `RootKey.unwrap`."""
        answer = self._call("decrypt", context, CiphertextBlob=wrapped)
        secret: bytes = answer["Plaintext"]
        return secret

    def _call(self, operation: str, context: str, **arguments: bytes) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer: dict[str, Any] = getattr(self._client, operation)(
                KeyId=self._key, EncryptionContext={"strongroom": context}, **arguments
            )
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            kind = SECRET_UNREADABLE if code in _FOREIGN else ROOT_KEY_UNAVAILABLE
            raise BrokerError(kind, f"{self.name}: {operation}: {code}") from error
        except BotoCoreError as error:
            raise BrokerError(ROOT_KEY_UNAVAILABLE, f"{self.name}: {operation}: {error}") from error
        return answer
