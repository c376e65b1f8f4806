"""The changes to the queue that must be whole or not at all, as Lua scripts that the server runs.

A script is one transaction: nothing else runs between its commands, and all of it reaches the append-only
file at once. Each works on keys of one hash tag only. The `#!lua` line needs Valkey or Redis 7.0; with it, a
script that is not marked `allow-oom` is refused as a whole when memory is used up, and changes nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the SHA-1 digest under which servers keep it."""

    text: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "digest", digest)


ADDED: Final = 1
KNOWN: Final = 0
FULL: Final = -1

SUBMIT: Final = Script(
    """#!lua
-- KEYS: requests, marker. ARGV: most entries, life of the marker in ms, then the fields of the record.
-- Returns 1 added, 0 was added before, -1 full.
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then return -1 end
redis.call('XADD', KEYS[1], '*', unpack(ARGV, 3))
redis.call('SET', KEYS[2], '', 'PX', ARGV[2])
return 1
"""
)

ANSWER: Final = Script(
    """#!lua flags=allow-oom
-- KEYS: requests, replies. ARGV: group, entry, life of the replies in ms, then the fields of the reply.
-- Returns 1 if this was the first answer, else 0. The reply is stored first: if that fails, nothing changes.
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 4))
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
return 1
"""
)

BURY: Final = Script(
    """#!lua flags=allow-oom
-- KEYS: requests, dead, and replies if there is somebody to answer. ARGV: group, entry, most dead letters,
-- life of the replies in ms, how many values make up the dead letter, these, the fields of the reply.
-- Returns 1 if the entry was still pending, else 0.
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) == 0 then return 0 end
local last = 5 + ARGV[5]
redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[3], '*', unpack(ARGV, 6, last))
if KEYS[3] then
  redis.call('XADD', KEYS[3], '*', unpack(ARGV, last + 1))
  redis.call('PEXPIRE', KEYS[3], ARGV[4])
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
return 1
"""
)

TOUCH: Final = Script(
    """#!lua flags=allow-oom
-- KEYS: requests. ARGV: group, consumer, idle time to set in ms, then entries.
-- For each entry that is still this consumer's: set its idle time and return 1, else 0.
local kept = {}
for i = 4, #ARGV do
  kept[i - 3] = 0
  if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2]) == 1 then
    kept[i - 3] = #redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'IDLE', ARGV[3], 'JUSTID')
  end
end
return kept
"""
)

PUBLISH: Final = Script(
    """#!lua
-- KEYS: document, index. ARGV: life in ms, name, document.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('ZADD', KEYS[2], now + ARGV[1], ARGV[2])
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[2], ARGV[1]) end
return 1
"""
)
