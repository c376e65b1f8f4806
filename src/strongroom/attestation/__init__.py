"""Evidence to claims to verdict, under the relying party's policy (RFC 9334)."""
