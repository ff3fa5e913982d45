"""Masking: takes the text of secrets out of what is written, also where it comes in pieces."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from .values import File, Value

__all__ = ["MASK", "SHORTEST", "Masker", "StreamMasker", "masked"]

MASK = "*****"
SHORTEST = 6
"""Shorter values are not masked: ``1`` as a secret would make every text unreadable."""


class Masker:
    """Replaces the exact text of secrets; shared by all that one task writes.

    Parameters
    ----------
    secrets : iterable of str
        Their values, each line of them by itself, too; what has fewer than 6 characters is left alone.

    Examples
    --------
    >>> Masker(["hunter2!"]).text("login with hunter2! failed")
    'login with ***** failed'
    """

    __slots__ = ("_json", "secrets")

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # The longest first: a secret that contains another one disappears whole. A message may be cut after a line.
        parts = {part for secret in secrets for part in (secret, *secret.splitlines()) if len(part) >= SHORTEST}
        self.secrets = tuple(sorted(parts, key=lambda s: (-len(s), s)))
        forms = {form for s in self.secrets for form in (json.dumps(s)[1:-1], json.dumps(s, ensure_ascii=False)[1:-1])}
        self._json = tuple(sorted(forms, key=lambda s: (-len(s), s)))

    @classmethod
    def of_environment(cls, names: Iterable[str], environment: Mapping[str, str]) -> Masker:
        """Give the masker for the values of environment variables; names that are not set are passed over.

        Examples
        --------
        >>> Masker.of_environment(["TOKEN", "ABSENT"], {"TOKEN": "s3cr3t-value"}).secrets
        ('s3cr3t-value',)
        """
        return cls(environment[name] for name in names if name in environment)

    def __bool__(self) -> bool:
        """Tell whether there is anything to mask."""
        return bool(self.secrets)

    def text(self, text: str) -> str:
        """Give the text without the secrets."""
        for secret in self.secrets:
            text = text.replace(secret, MASK)
        return text

    def json(self, text: str) -> str:
        """Give JSON text without the secrets, however their characters are escaped in it.

        Examples
        --------
        >>> Masker(['pass"word']).json('{"password": "pass\\\\"word"}')
        '{"password": "*****"}'
        """
        for form in self._json:
            text = text.replace(form, MASK)
        return text

    def stream(self) -> StreamMasker:
        """Give a masker for one stream, whose chunks may cut a secret in two."""
        return StreamMasker(self)


class StreamMasker:
    """Masks a text that comes in chunks; holds back what may be the beginning of a secret.

    Examples
    --------
    >>> stream = Masker(["hunter2!"]).stream()
    >>> stream.feed("it is hun"), stream.feed("ter2!, hun"), stream.rest()
    ('it is ', '*****, ', 'hun')
    """

    __slots__ = ("_held", "_masker")

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._held = ""

    def feed(self, chunk: str) -> str:
        """Give what of the text so far can be written."""
        if not self._masker.secrets:
            return chunk
        text = self._masker.text(self._held + chunk)
        keep = max(_overlap(text, secret) for secret in self._masker.secrets)
        cut = len(text) - keep
        self._held = text[cut:]
        return text[:cut]

    def rest(self) -> str:
        """Give what was held back: the stream ends here."""
        held, self._held = self._held, ""
        return held


def masked(value: Value, masker: Masker, saved: Mapping[str, File]) -> Value:
    """Give a value without secrets: a text or number that contains one is text with the mask, never half a number.

    Parameters
    ----------
    value : Value
        What a result is.
    masker : Masker
        Knows the secrets.
    saved : mapping
        The references to files that were written again without them, by path.

    Examples
    --------
    >>> masked({"pin": 12345678, "n": 1}, Masker(["345678"]), {})
    {'pin': '12*****', 'n': 1}
    """
    if isinstance(value, dict):
        return {masker.text(name): masked(part, masker, saved) for name, part in value.items()}
    if isinstance(value, list):
        return [masked(part, masker, saved) for part in value]
    if isinstance(value, File):
        return saved.get(value.path, value)
    if isinstance(value, (str, int, float)):
        before = str(value)
        after = masker.text(before)
        return value if after == before else after
    return value


def _overlap(text: str, secret: str) -> int:
    """Give the length of the longest end of the text with which the secret begins."""
    for size in range(min(len(secret) - 1, len(text)), 0, -1):
        if text.endswith(secret[:size]):
            return size
    return 0
