"""Names of resources: `repository/type/tag`, as the KBS protocol has them.

In a path: `default/model/lite0`. As a URI, in init-data and documents: `kbs:///default/model/lite0`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

from strongroom.broker.errors import RESOURCE_PATH
from strongroom.errors import BrokerError

URI_PREFIX: Final = "kbs:///"
MODEL_TYPE: Final = "model"
SERVICE_KEY_TYPE: Final = "service-key"
SERVICE_KEY_TAG: Final = "current"

_MAX_LENGTH: Final = 256
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Resource:
    """The name of one resource.

    Attributes:
        repository: Whose it is; for a service key, the service's name.
        type: What it is, for example `model`.
        tag: Which one.
    """

    repository: str
    type: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a path or a URI.

        Raises:
            BrokerError: `resource-path-invalid`.
        """
        if len(text) > _MAX_LENGTH:
            raise BrokerError(RESOURCE_PATH, "too long", expected=f"at most {_MAX_LENGTH} characters")
        segments = text.removeprefix(URI_PREFIX).split("/")
        if len(segments) != 3:
            raise BrokerError(RESOURCE_PATH, found=f"{len(segments)} segments", expected="3")
        for segment in segments:
            if not _SEGMENT.fullmatch(segment) or segment in {".", ".."}:
                raise BrokerError(
                    RESOURCE_PATH, "a segment has other characters than letters, digits and ._-"
                )
        return cls(*segments)

    @classmethod
    def service_key(cls, service: str) -> Self:
        """The service key of a service."""
        return cls(service, SERVICE_KEY_TYPE, SERVICE_KEY_TAG)

    @property
    def path(self) -> str:
        """As in a URL's path."""
        return f"{self.repository}/{self.type}/{self.tag}"

    @property
    def uri(self) -> str:
        """As in init-data."""
        return URI_PREFIX + self.path
