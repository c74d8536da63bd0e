"""Characters to numbers and back, with errors that say which character and where."""

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Int, Int32

from genai_course import _check


def _text(name: str, value) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {type(value).__name__} ({value!r:.60})")
    return value


@dataclass(frozen=True)
class Vocabulary:
    """One id for each distinct character, ``pad`` and ``unknown`` ids (on request) before the sorted characters.

    Raises ``ValueError`` if there is nothing to encode, or a character twice.
    """

    characters: str
    pad: bool = False
    unknown: bool = False

    def __post_init__(self):
        if not _text("characters", self.characters) or len(set(self.characters)) < len(self.characters):
            raise ValueError(f"characters must be one or more distinct characters, got {self.characters!r:.60}")
        for name, value in ("pad", self.pad), ("unknown", self.unknown):
            if not isinstance(value, bool):
                raise TypeError(f"{name} must be True or False, got {value!r:.60}")
        object.__setattr__(self, "characters", "".join(sorted(self.characters)))

    @classmethod
    def of(cls, text: str, *, pad: bool = False, unknown: bool = False) -> "Vocabulary":
        """Return the vocabulary of the characters that occur in ``text``."""
        return cls("".join(set(_text("text", text))), pad, unknown)

    @property
    def pad_id(self) -> int | None:
        """Id that fills a sequence up to its length: 0, if asked for."""
        return 0 if self.pad else None

    @property
    def unknown_id(self) -> int | None:
        """Id of every character that is not in the vocabulary, if asked for."""
        return int(self.pad) if self.unknown else None

    def __len__(self) -> int:
        return len(self.characters) + self.pad + self.unknown

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {c: i for i, c in enumerate(self.characters, self.pad + self.unknown)}

    def encode(self, text: str, length: int | None = None) -> Int32[np.ndarray, " n"]:
        """Return the id of each character, filled up with ``pad_id`` to ``length`` if one is given.

        Raises ``ValueError`` for a character that is not in the vocabulary, and for a text longer than ``length``.
        """
        ids = [self._ids.get(c, self.unknown_id) for c in _text("text", text)]
        if None in ids:
            at = ids.index(None)
            raise ValueError(f"text must use the vocabulary's characters, but has {text[at]!r} at position {at}")
        if length is not None:
            if not self.pad:
                raise ValueError("length needs a vocabulary with pad=True")
            if _check.integer("length", length, least=0) < len(ids):
                raise ValueError(f"length must be at least that of text, {len(ids)}, got {length}")
            ids += [self.pad_id] * (length - len(ids))
        return np.array(ids, np.int32)

    def decode(self, ids: Int[Array, " n"] | Int[np.ndarray, " n"]) -> str:
        """Return the text of ``ids``: nothing for ``pad_id``, U+FFFD for ``unknown_id``; raises for any other id."""
        ids = np.asarray(_check.array("ids", ids, ndim=1))
        if not np.issubdtype(ids.dtype, np.integer):
            raise TypeError(f"ids must be integers, got dtype {ids.dtype}")
        if bad := [i for i in ids.tolist() if not 0 <= i < len(self)][:1]:
            raise ValueError(f"ids must be from 0 to {len(self) - 1}, got {bad[0]}")
        symbols = [""] * self.pad + ["\ufffd"] * self.unknown + list(self.characters)
        return "".join(symbols[i] for i in ids.tolist())
