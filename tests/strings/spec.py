"""What strings decide: a vocabulary of characters, and the lengths that batches are padded to."""

import hashlib
from dataclasses import dataclass

from vision_jax.types import UserError, fingerprint_of

VOCABULARY = "vocabulary.txt"


@dataclass(frozen=True)
class StringSpec:
    """A `DataSpec`: the vocabulary is a file of its own beside the record.

    Attributes:
        vocabulary: characters in the order of their tokens, learned from training strings alone.
        lengths: of the buckets, in tokens, ascending.
    """

    vocabulary: tuple[str, ...]
    lengths: tuple[int, ...]

    def to_json(self, folder):
        content = "\n".join(self.vocabulary).encode()
        (folder / VOCABULARY).write_bytes(content)
        named = {"file": VOCABULARY, "sha256": hashlib.sha256(content).hexdigest()}
        return {"vocabulary": named, "lengths": list(self.lengths)}

    @classmethod
    def from_json(cls, content, folder):
        path = folder / content["vocabulary"]["file"]
        text = path.read_bytes() if path.exists() else b""
        if hashlib.sha256(text).hexdigest() != content["vocabulary"]["sha256"]:
            raise UserError(f"{path} is not the vocabulary that the run was trained with: put that back")
        return cls(tuple(text.decode().split("\n")), tuple(content["lengths"]))

    def fingerprint(self):
        return fingerprint_of({"vocabulary": self.vocabulary, "lengths": self.lengths})

    def describe(self):
        lengths = ", ".join(map(str, self.lengths))
        return f"{len(self.vocabulary)} characters, strings of up to {lengths}"

    def tokens(self, text):
        """Refuses characters that are not in the vocabulary."""
        unknown = sorted(set(text) - set(self.vocabulary))
        if unknown:
            raise UserError(f"the character {unknown[0]!r} of {text!r} is not in the vocabulary of the run")
        return [self.vocabulary.index(character) for character in text]
