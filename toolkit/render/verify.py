"""A verification as text and as JSON."""

from dataclasses import asdict
from typing import Any

from toolkit.verbs.verify import VerifyResult


def verify_lines(result: VerifyResult) -> list[str]:
    """Return a line a check: outcome, name, what was expected, what was found, and how it was checked."""
    width = max(len(check.name) for check in result.checks)
    lines = []
    for check in result.checks:
        outcome = "" if check.outcome == "PASS" and check.observed == "equal" else f"; found: {check.observed}"
        evidence = f" ({check.evidence})" if check.evidence else ""
        lines.append(f"{check.outcome:<7}  {check.name:<{width}}  {check.expected}{outcome}{evidence}")
    return lines


def verify_document(result: VerifyResult) -> dict[str, Any]:
    """Return the JSON document of a verification."""
    return {
        "model": str(result.gguf),
        "source": result.source,
        "faithful": not result.failed,
        "checks": [asdict(check) for check in result.checks],
    }
