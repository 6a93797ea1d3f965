"""What an object is, told in plain values: described, digested, and compared with what was told of it before.

Everything that is kept and used again (pools, scores, corrections, the cells of a sweep) stands beside such a
description, so that what was made with something else is never used in silence.

* `describe` says what decides an object's results: class, settings, source text, weights, and what paths point to.
* `describe_users` says of an object that is described key by key what a class of the user's adds: code and settings.
* `digest` and `digest_of` shorten tensors and descriptions to 16 hexadecimal digits.
* `differences` tells two descriptions apart, key by key, and `comparable` is what an old one can be held against.
"""

from graft_lightning.identity.description import describe, describe_users, hide, source_text
from graft_lightning.identity.difference import comparable, differences
from graft_lightning.identity.digests import digest, digest_of, text_digest
from graft_lightning.identity.files import content, file_digest
from graft_lightning.identity.source import is_users

__all__ = [
    "comparable",
    "content",
    "describe",
    "describe_users",
    "differences",
    "digest",
    "digest_of",
    "file_digest",
    "hide",
    "is_users",
    "source_text",
    "text_digest",
]
