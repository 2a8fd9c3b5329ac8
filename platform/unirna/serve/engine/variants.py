"""Scores of variants as the service gives its answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, get_args

from unirna.model import Model
from unirna.model.variants import Method, VariantError, heat_map, parse_variant, score_variants, substitutions
from unirna.serve.errors import FieldError, RequestError, bad_field

METHODS: Final = get_args(Method)


class Variants:
    """Scores variants with the service's model.

    Args:
        model: of the service. most: passes over a sequence times its length, of one request.
    """

    def __init__(self, model: Model, most: int) -> None:
        self.model, self.most = model, most

    def check(self, sequence: str, variants: Sequence[str] | None, method: str) -> None:
        """See that variants of a checked sequence can be scored.

        Raises:
            RequestError: variants that are not valid, or that would take too many passes (422); a model without a
                language-model head (409).
        """
        if method not in METHODS:
            raise bad_field("method", f"expected {' or '.join(METHODS)}, got {method!r}")
        if variants is not None and (isinstance(variants, str) or not isinstance(variants, Sequence) or not variants):
            raise bad_field("variants", "expected a list of variants such as A10G, or none for all single substitutions")
        sites = 0
        errors: list[FieldError] = []
        for i, text in enumerate(variants or ()):
            try:
                sites += len(parse_variant(text if isinstance(text, str) else repr(text), sequence).sites)
            except VariantError as error:
                errors.append(FieldError(f"variants[{i}]", str(error)))
        if errors:
            raise RequestError(422, f"{errors[0].field}: {errors[0].message}", *errors[:100])
        passes = sites or len(sequence)
        if method != "masked":
            passes = len(sequence) * (1 + (len(variants or ()) or 3 * len(sequence)))
        if passes * len(sequence) > self.most:
            raise bad_field(
                "sequence" if variants is None else "variants",
                f"this takes {passes:,} passes over {len(sequence):,} nucleotides; {self.most:,} nucleotides are the most "
                "(max_variant_nucleotides): send a shorter sequence, fewer variants, or use method masked",
            )
        if self.model.encoder.lm_head is None:
            raise RequestError(409, f"{self.model.name} has no language-model head, which scores variants")

    def score(self, sequence: str, variants: Sequence[str] | None, method: str, *, drawing: bool) -> dict[str, Any]:
        """Scores of checked variants."""
        chosen: Method = "masked" if method == "masked" else "pseudo-likelihood"
        scored = score_variants(self.model, sequence, variants, method=chosen)
        return {
            "sequence": sequence,
            "model": self.model.name,
            "method": method,
            "variants": [{"variant": variant.name, "score": score} for variant, score in scored],
            "svg": heat_map(sequence, substitutions(scored, len(sequence))) if drawing and variants is None else None,
        }
