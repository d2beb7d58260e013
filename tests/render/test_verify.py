"""The checks of a file."""

from pathlib import Path

from toolkit.render.verify import verify_document, verify_lines
from toolkit.verbs.verify import VerifyResult
from toolkit.verification.check import Check, Outcome

CHECKS = (
    Check("tensors", Outcome.PASS, "21 tensors", "equal"),
    Check("weights", Outcome.FAIL, "as the source's", "blk.0.attn_q.weight differs", "a sample of rows"),
    Check("first logits", Outcome.UNKNOWN, "close", "not computed"),
)
RESULT = VerifyResult(Path("m.gguf"), "./model", CHECKS)


def test_a_check_is_a_line_with_what_was_found_where_that_is_not_what_was_expected():
    assert verify_lines(RESULT) == [
        "PASS     tensors       21 tensors",
        "FAIL     weights       as the source's; found: blk.0.attn_q.weight differs (a sample of rows)",
        "UNKNOWN  first logits  close; found: not computed",
    ]


def test_a_script_reads_all_checks_and_whether_one_failed():
    document = verify_document(RESULT)
    assert (document["model"], document["source"], document["faithful"]) == ("m.gguf", "./model", False)
    assert [(check["name"], check["outcome"]) for check in document["checks"]] == [
        ("tensors", "PASS"),
        ("weights", "FAIL"),
        ("first logits", "UNKNOWN"),
    ]
    assert verify_document(VerifyResult(Path("m.gguf"), "./model", CHECKS[::2]))["faithful"]
