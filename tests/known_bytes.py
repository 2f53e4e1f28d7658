"""A store whose artifacts hold known bytes."""

from __future__ import annotations


class KnownBytes:
    """Manifests of artifacts by the digest of their one file: {id: digest}."""

    def __init__(self, digests):
        self.digests = digests

    def manifest(self, id):
        return {"files": {"rows": {"sha256": self.digests[id]}}}
