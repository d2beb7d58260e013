"""Rules in words."""

from collections.abc import Sequence

from toolkit.quant_profile.profile import LAYER_SETS, Rule


def describe_rule(rule: Rule) -> str:
    """Return a rule as a sentence: `Q6_K for attn_v in the first two layers`."""
    return f"{rule.type.name} for {describe_conditions(rule)}"


def describe_conditions(rule: Rule) -> str:
    """Return when a rule applies: which tensors, where, and in which models."""
    return " ".join(part for part in (_tensors(rule), _place(rule), _model(rule)) if part)


def _tensors(rule: Rule) -> str:
    words = list_words(rule.role) if rule.role else "every tensor"
    if rule.stacked is not None:
        words += " of all experts together" if rule.stacked else " that holds a single matrix"
    if rule.name is not None:
        words += f" whose name matches {rule.name.pattern!r}"
    if rule.row_length_not_multiple_of is not None:
        words += f" with rows that are no multiple of {rule.row_length_not_multiple_of}"
    return words


def _place(rule: Rule) -> str:
    words = []
    if rule.layers is not None:
        words.append(f"in {LAYER_SETS[rule.layers].words}")
    if rule.tensors is not None:
        words.append(f"in {LAYER_SETS[rule.tensors].words}, counted by tensors")
    if rule.blocks:
        words.append(f"in block{'s' if len(rule.blocks) > 1 else ''} {number_ranges(rule.blocks)}")
    return " ".join(words)


def _model(rule: Rule) -> str:
    conditions = (
        (rule.architecture, f"the architecture is {list_words(rule.architecture, 'or')}"),
        (rule.architecture_not, f"the architecture is not {list_words(rule.architecture_not, 'or')}"),
        (rule.model_size, f"the model is a {rule.model_size}"),
        (rule.gqa_at_least, f"{rule.gqa_at_least} or more heads share a KV head"),
        (rule.experts, f"there are exactly {rule.experts} experts"),
        (rule.experts_at_least, f"there are {rule.experts_at_least} or more experts"),
        (rule.imatrix is True, "there is an importance matrix"),
        (rule.imatrix is False, "there is no importance matrix"),
        (rule.tied is True, "embeddings are tied"),
        (rule.tied is False, "embeddings are not tied"),
    )
    words = [text for is_set, text in conditions if is_set]
    return f"if {' and '.join(words)}" if words else ""


def list_words(items: tuple[str, ...], last: str = "and") -> str:
    """Return `a`, `a and b` or `a, b and c`."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def number_ranges(blocks: Sequence[int]) -> str:
    """Return `0-3, 7` for 0, 1, 2, 3, 7."""
    runs: list[list[int]] = []
    for block in sorted(blocks):
        if runs and block == runs[-1][1] + 1:
            runs[-1][1] = block
        else:
            runs.append([block, block])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)
