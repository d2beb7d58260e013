"""Encoders under a classifier through llama.cpp, against the scores of transformers."""

import json
from pathlib import Path

import numpy
import pytest
from architectures.encoders import (
    bert_classifier,
    modern_bert_classifier,
    qwen3_reranker,
    with_answers,
    xlm_roberta_classifier,
)
from logits import llama_logits, token_ids
from twins import changed_case, convert_edited

from toolkit.errors import TokenizerError
from toolkit.gguf.reader import read_gguf
from toolkit.llama.native import llama_cpp
from toolkit.sources.hf_source import source_from_checkpoint

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "classifier_scores.json").read_text(encoding="utf-8"))
CASES = {
    "bert_classifier": ("bert", bert_classifier),
    "modern_bert_classifier": ("bert", modern_bert_classifier),
    "xlm_roberta_classifier": ("xlm_roberta", xlm_roberta_classifier),
}
TOLERANCE = 2e-3
"""llama.cpp reads GELU from a float16 table."""


def class_scores(file, ids, n_classes, *, causal=False):
    """Return float32 [n_classes]: llama.cpp's scores of a text, as its ranking gives them."""
    llama = llama_cpp()
    parameters = llama.llama_model_default_params()
    parameters.n_gpu_layers = 0
    model = llama.llama_model_load_from_file(str(file).encode(), parameters)
    assert llama.llama_model_n_cls_out(model) == n_classes
    options = llama.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = 64
    options.n_threads = options.n_threads_batch = 1
    options.embeddings, options.pooling_type = True, llama.LLAMA_POOLING_TYPE_RANK
    options.type_k = options.type_v = llama.GGML_TYPE_F32
    options.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama.llama_init_from_model(model, options)
    batch = llama.llama_batch_init(len(ids), 0, 1)
    try:
        batch.n_tokens = len(ids)
        for position, token in enumerate(ids):
            batch.token[position], batch.pos[position] = int(token), position
            batch.n_seq_id[position], batch.seq_id[position][0], batch.logits[position] = 1, 0, 1
        run = llama.llama_decode if causal else llama.llama_encode
        assert run(context, batch) == 0
        return numpy.ctypeslib.as_array(llama.llama_get_embeddings_seq(context, 0), shape=(n_classes,)).copy()
    finally:
        llama.llama_batch_free(batch)
        llama.llama_free(context)
        llama.llama_model_free(model)


@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_transformers(name, tmp_path):
    case, change = CASES[name]
    expected = numpy.array(GOLDEN[name])
    scores = class_scores(convert_edited(changed_case(case, tmp_path, change), "f32"), token_ids(), len(expected))
    assert numpy.abs(scores - expected).max() < TOLERANCE
    assert numpy.abs(expected).max() > 50 * TOLERANCE


def test_a_reranker_scores_what_its_language_model_says_of_both_answers(tmp_path):
    reranker = convert_edited(changed_case("qwen3", tmp_path / "reranker", qwen3_reranker), "f32")
    model = convert_edited(changed_case("qwen3", tmp_path / "model", with_answers), "f32")
    last = llama_logits(model, False, token_ids())[-1, [391, 390]]
    expected = numpy.exp(last - last.max())
    assert numpy.abs(class_scores(reranker, token_ids(), 2, causal=True) - expected / expected.sum()).max() < 1e-5


def test_a_model_whose_card_only_names_a_reranker_is_none(tmp_path):
    def related(checkpoint):
        card = "# Qwen3-Embedding-0.6B\n\n### Qwen3-Reranker\n\nSee \xe9".encode("latin-1")
        (checkpoint.directory / "README.md").write_bytes(card)

    source = source_from_checkpoint(changed_case("qwen3", tmp_path, related))
    assert "cls.output.weight" not in {tensor.name for tensor in source.tensors}


def test_a_reranker_without_its_answers_is_refused(tmp_path):
    def unanswered(checkpoint):
        (checkpoint.directory / "README.md").write_text("# Qwen3-Reranker-4B", encoding="utf-8")

    with pytest.raises(TokenizerError, match="says that this is a reranker, but its vocabulary has no token 'yes'"):
        source_from_checkpoint(changed_case("qwen3", tmp_path, unanswered))


def test_classes_keep_their_names_and_order(tmp_path):
    def shuffled(checkpoint):
        bert_classifier(checkpoint)
        checkpoint.config["id2label"] = {"2": "yes", "10": "never", "0": "no", "1": "maybe"}
        checkpoint.tensors |= {
            "classifier.weight": ("F32", numpy.zeros((4, 256), "<f4")),
            "classifier.bias": ("F32", numpy.zeros(4, "<f4")),
        }

    file = read_gguf(convert_edited(changed_case("bert", tmp_path, shuffled), "f32"))
    assert file.metadata["bert.classifier.output_labels"].value == ("no", "maybe", "yes", "never")
