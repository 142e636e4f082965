"""How long to wait after failures in a row: doubled each time, up to a bound."""


def backoff_s(first_s: float, failures: int, longest_s: float) -> float:
    """The pause after so many failures (0 or more). The exponent is bounded, so that no number overflows."""
    return min(longest_s, first_s * 2.0 ** min(failures, 64))
