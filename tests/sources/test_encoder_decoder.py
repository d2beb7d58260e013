"""T5 through llama.cpp, encoder and decoder, against the logits of transformers."""

from pathlib import Path

import numpy
from architectures.variants import VARIANTS
from twins import changed_case, convert_edited

from toolkit.llama.native import llama_cpp

GOLDEN = Path(__file__).parents[1] / "golden" / "t5_logits.npz"
EXACT, GELU = 5e-5, 1e-2
"""llama.cpp reads GELU from a float16 table, and four blocks of the kit's T5 use it; the first T5 has ReLU."""


def fill(batch, ids):
    batch.n_tokens = len(ids)
    for position, token in enumerate(ids):
        batch.token[position], batch.pos[position] = int(token), position
        batch.n_seq_id[position], batch.seq_id[position][0], batch.logits[position] = 1, 0, 1


def decoder_logits(file, text, begun):
    """Return float32 [len(begun), vocabulary]: what the decoder says after each token of `begun`, having read `text`."""
    llama = llama_cpp()
    parameters = llama.llama_model_default_params()
    parameters.n_gpu_layers = 0
    model = llama.llama_model_load_from_file(str(file).encode(), parameters)
    options = llama.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = 256
    options.n_threads = options.n_threads_batch = 1
    options.type_k = options.type_v = llama.GGML_TYPE_F32
    options.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama.llama_init_from_model(model, options)
    batch = llama.llama_batch_init(len(text), 0, 1)
    try:
        fill(batch, text)
        assert llama.llama_encode(context, batch) == 0
        fill(batch, begun)
        assert llama.llama_decode(context, batch) == 0
        width = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
        rows = [llama.llama_get_logits_ith(context, i) for i in range(len(begun))]
        return numpy.stack([numpy.ctypeslib.as_array(row, shape=(width,)).copy() for row in rows])
    finally:
        llama.llama_batch_free(batch)
        llama.llama_free(context)
        llama.llama_model_free(model)


def differences(file, case):
    recorded = numpy.load(GOLDEN)
    ours = decoder_logits(file, recorded["token_ids"], recorded["decoder_ids"])
    return numpy.abs(ours - recorded[case]).max(), recorded[case].std()


def test_the_decoder_says_what_transformers_says(tmp_path):
    case, change = VARIANTS["t5_first"]
    largest, spread = differences(convert_edited(changed_case(case, tmp_path, change), "f32"), "t5_first")
    assert largest < EXACT
    assert spread > 0.5


def test_a_decoder_with_a_gated_mlp_says_what_transformers_says(converted):
    largest, spread = differences(converted("t5", "f32"), "t5")
    assert largest < GELU
    assert spread > 0.5
