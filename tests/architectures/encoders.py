"""Encoders, embedders and classifiers that the kit lacks, each made of one of its cases."""

import json

import numpy
from architectures.made_up_tensors import blocks, copy_tokenizer, float32, made_up, replace_all
from editable_checkpoint import EditableCheckpoint
from tokenizer.unigram_file import write_xlm_roberta_json

DISTILLED = {
    "encoder.layer": "transformer.layer", "attention.self.query": "attention.q_lin", "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin", "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm", "intermediate.dense": "ffn.lin1", "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}  # fmt: skip
"""BERT's names -> DistilBERT's, the longer ones first."""


def distilbert(checkpoint: EditableCheckpoint) -> None:
    checkpoint.config = {
        "architectures": ["DistilBertModel"], "model_type": "distilbert", "activation": "gelu", "dim": 256,
        "hidden_dim": 256, "n_heads": 4, "n_layers": 1, "max_position_embeddings": 128, "vocab_size": 390,
        "pad_token_id": 0, "torch_dtype": "float32",
    }  # fmt: skip
    for old, new in DISTILLED.items():
        checkpoint.tensors = {name.replace(old, new): one for name, one in checkpoint.tensors.items()}
    checkpoint.tensors = {
        f"distilbert.{name}": one
        for name, one in checkpoint.tensors.items()
        if not name.startswith(("pooler.", "embeddings.token_type"))
    }
    random = numpy.random.RandomState(2)
    checkpoint.tensors["vocab_transform.weight"] = float32(random, (256, 256))


def roberta(checkpoint: EditableCheckpoint) -> None:
    copy_tokenizer(checkpoint, "gpt2")
    with_roberta_template(checkpoint)
    checkpoint.config |= {
        "architectures": ["RobertaModel"], "model_type": "roberta", "pad_token_id": 1, "layer_norm_eps": 1e-5,
        "bos_token_id": 0, "eos_token_id": 2,
    }  # fmt: skip
    checkpoint.rename("", "roberta.")


def with_roberta_template(checkpoint: EditableCheckpoint) -> None:
    path = checkpoint.directory / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    end = content["added_tokens"][0]
    content["post_processor"] = {
        "type": "RobertaProcessing", "sep": [end["content"], end["id"]], "cls": [end["content"], end["id"]],
        "trim_offsets": True, "add_prefix_space": False,
    }  # fmt: skip
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def xlm_roberta_classifier(checkpoint: EditableCheckpoint) -> None:
    """A reranker: one class, with the head's two matrices."""
    checkpoint.config |= {"architectures": ["XLMRobertaForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    checkpoint.tensors = {name: one for name, one in checkpoint.tensors.items() if not name.startswith("pooler.")}
    checkpoint.rename("", "roberta.")
    random = numpy.random.RandomState(4)
    checkpoint.tensors |= {
        "classifier.dense.weight": float32(random, (128, 128)), "classifier.dense.bias": float32(random, (128,)),
        "classifier.out_proj.weight": float32(random, (1, 128)), "classifier.out_proj.bias": float32(random, (1,)),
    }  # fmt: skip


def keep_only_unigram_json(checkpoint: EditableCheckpoint) -> None:
    """Leave the vocabulary in tokenizer.json only; the reference takes two flags from where they mean something else."""
    write_xlm_roberta_json(checkpoint.directory)
    (checkpoint.directory / "sentencepiece.bpe.model").unlink()
    config = checkpoint.directory / "tokenizer_config.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    settings |= {"add_prefix_space": True, "clean_up_tokenization_spaces": True}
    config.write_text(json.dumps(settings), encoding="utf-8")


def bert_classifier(checkpoint: EditableCheckpoint) -> None:
    """A classifier of three classes; the reference forgets its pooler, so there is no fingerprint."""
    checkpoint.config |= {
        "architectures": ["BertForSequenceClassification"], "id2label": {"0": "no", "1": "maybe", "2": "yes"},
    }  # fmt: skip
    checkpoint.rename("", "bert.")
    random = numpy.random.RandomState(7)
    checkpoint.tensors |= {
        "classifier.weight": float32(random, (3, 256)), "classifier.bias": float32(random, (3,)),
    }  # fmt: skip


def nomic_bert_moe(checkpoint: EditableCheckpoint) -> None:
    """Nomic's second version: experts in every other block, a unigram vocabulary."""
    copy_tokenizer(checkpoint, "xlm_roberta")
    keep_only_unigram_json(checkpoint)
    checkpoint.config |= {
        "activation_function": "gelu", "qkv_proj_bias": True, "mlp_fc1_bias": True, "mlp_fc2_bias": True,
        "n_positions": 2048, "moe_every_n_layers": 2, "moe_top_k": 2, "num_experts": 4, "pad_token_id": 1,
        "type_vocab_size": 1, "vocab_size": 400, "rotary_emb_base": 10000,
    }  # fmt: skip
    tensors = checkpoint.tensors
    random = numpy.random.RandomState(5)
    tensors["embeddings.word_embeddings.weight"] = float32(random, (400, 128))
    tensors["embeddings.token_type_embeddings.weight"] = float32(random, (1, 128))
    for layer in range(2):
        prefix = f"encoder.layers.{layer}"
        for name in ("fc11", "fc12", "fc2"):
            del tensors[f"{prefix}.mlp.{name}.weight"]
        tensors[f"{prefix}.attn.Wqkv.bias"] = float32(random, (384,))
        tensors[f"{prefix}.attn.out_proj.bias"] = float32(random, (128,))
    tensors |= {
        "encoder.layers.0.mlp.fc1.weight": float32(random, (128, 128)), "encoder.layers.0.mlp.fc1.bias": float32(random, (128,)),
        "encoder.layers.0.mlp.fc2.weight": float32(random, (128, 128)), "encoder.layers.0.mlp.fc2.bias": float32(random, (128,)),
        "encoder.layers.1.mlp.router.layer.weight": float32(random, (4, 128)),
        "encoder.layers.1.mlp.experts.mlp.w1": float32(random, (512, 128)),
        "encoder.layers.1.mlp.experts.mlp.w2": float32(random, (512, 128)),
        "encoder.layers.1.mlp.experts.bias": float32(random, (128,)),
    }  # fmt: skip


def modern_bert(checkpoint: EditableCheckpoint) -> None:
    copy_tokenizer(checkpoint, "gpt2")
    block = {
        "attn_norm.weight": (128,), "attn.Wqkv.weight": (384, 128), "attn.Wo.weight": (128, 128), "mlp_norm.weight": (128,),
        "mlp.Wi.weight": (192, 128), "mlp.Wo.weight": (128, 96),
    }  # fmt: skip
    shapes = {
        "embeddings.tok_embeddings.weight": (390, 128), "embeddings.norm.weight": (128,), "final_norm.weight": (128,),
        **blocks("layers", 4, block, skip=("attn_norm.weight",)),
    }  # fmt: skip
    config = {
        "architectures": ["ModernBertModel"], "model_type": "modernbert", "hidden_size": 128, "intermediate_size": 96,
        "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 390, "max_position_embeddings": 256,
        "norm_eps": 1e-5, "layer_norm_eps": 1e-5, "local_attention": 16, "global_attn_every_n_layers": 3, "global_rope_theta": 160000.0,
        "local_rope_theta": 10000.0, "hidden_activation": "gelu", "attention_bias": False, "mlp_bias": False,
        "norm_bias": False, "pad_token_id": 389, "cls_token_id": 389, "sep_token_id": 389, "torch_dtype": "float32",
        "classifier_pooling": "mean",
    }  # fmt: skip
    replace_all(checkpoint, config, made_up(11, shapes, "F32"))


def qwen3_embedding(checkpoint: EditableCheckpoint) -> None:
    """Qwen3-Embedding: the decoder without its prefix, and the files of sentence-transformers."""
    checkpoint.rename("model.", "")
    pool(checkpoint, "pooling_mode_lasttoken")


def embedding_gemma(checkpoint: EditableCheckpoint) -> None:
    checkpoint.rename("model.", "")
    checkpoint.config |= {"architectures": ["Gemma3TextModel"], "use_bidirectional_attention": True}
    pool(checkpoint, "pooling_mode_mean_tokens")


def pool(checkpoint: EditableCheckpoint, mode: str) -> None:
    """Write the files of sentence-transformers that say how embeddings are pooled."""
    modules = [{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
               {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]  # fmt: skip
    (checkpoint.directory / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (checkpoint.directory / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 256, "pooling_mode_max_tokens": False, mode: True}
    (checkpoint.directory / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")


def modern_bert_classifier(checkpoint: EditableCheckpoint) -> None:
    """A reranker: the head of training, and one class."""
    modern_bert(checkpoint)
    checkpoint.config |= {"architectures": ["ModernBertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    checkpoint.rename("", "model.")
    shapes = {
        "head.dense.weight": (128, 128), "head.norm.weight": (128,), "classifier.weight": (1, 128), "classifier.bias": (1,),
    }  # fmt: skip
    checkpoint.tensors |= made_up(19, shapes, "F32")


def eurobert(checkpoint: EditableCheckpoint) -> None:
    block = {
        "input_layernorm.weight": (128,), "post_attention_layernorm.weight": (128,), "self_attn.q_proj.weight": (128, 128),
        "self_attn.k_proj.weight": (64, 128), "self_attn.v_proj.weight": (64, 128), "self_attn.o_proj.weight": (128, 128),
        "mlp.gate_proj.weight": (96, 128), "mlp.up_proj.weight": (96, 128), "mlp.down_proj.weight": (128, 96),
    }  # fmt: skip
    shapes = {"embed_tokens.weight": (400, 128), "norm.weight": (128,), **blocks("layers", 2, block)}
    config = {
        "architectures": ["EuroBertModel"], "model_type": "eurobert", "hidden_size": 128, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 400,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 250000.0, "hidden_act": "silu",
        "attention_bias": False, "mlp_bias": False, "torch_dtype": "bfloat16", "clf_pooling": "late",
    }  # fmt: skip
    replace_all(checkpoint, config, made_up(20, shapes))


def jina_bert(checkpoint: EditableCheckpoint) -> None:
    """Jina's embeddings v2; their config says that they are BERT."""
    checkpoint.config |= {
        "architectures": ["JinaBertForMaskedLM"], "position_embedding_type": "alibi", "feed_forward_type": "geglu",
        "emb_pooler": "mean",
    }  # fmt: skip
    kept = {
        name: one
        for name, one in checkpoint.tensors.items()
        if "position_embeddings" not in name and "intermediate" not in name and ".output.dense" not in name
    }
    kept = {name.replace("layer.0.output.LayerNorm", "layer.0.mlp.layernorm"): one for name, one in kept.items()}
    attention = {name: one for name, one in checkpoint.tensors.items() if ".attention.output.dense" in name}
    random = numpy.random.RandomState(21)
    checkpoint.tensors = kept | attention | {
        "encoder.layer.0.mlp.gated_layers.weight": float32(random, (512, 256)),
        "encoder.layer.0.mlp.wo.weight": float32(random, (256, 256)), "encoder.layer.0.mlp.wo.bias": float32(random, (256,)),
    }  # fmt: skip


def llama_embed(checkpoint: EditableCheckpoint) -> None:
    checkpoint.config |= {"architectures": ["LlamaBidirectionalModel"], "model_type": "llama_bidirec", "pooling": "avg"}
    checkpoint.rename("model.", "")
    del checkpoint.tensors["lm_head.weight"]
    checkpoint.config["tie_word_embeddings"] = True


def lfm2_embedding(checkpoint: EditableCheckpoint) -> None:
    checkpoint.config |= {"architectures": ["Lfm2BidirectionalModel"]}
    checkpoint.rename("model.", "")


def qwen3_reranker(checkpoint: EditableCheckpoint) -> None:
    """A reranker is told by its model card; its vocabulary has both answers."""
    (checkpoint.directory / "README.md").write_text("# Qwen3-Reranker-0.6B\n", encoding="utf-8")
    with_answers(checkpoint)


def with_answers(checkpoint: EditableCheckpoint) -> None:
    path = checkpoint.directory / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
    content["added_tokens"] += [{"id": 390, "content": "no", **flags}, {"id": 391, "content": "yes", **flags}]
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


ENCODERS = {
    "qwen3_reranker": ("qwen3", qwen3_reranker),
    "llama_embed": ("llama3", llama_embed),
    "lfm2_embedding": ("lfm2", lfm2_embedding),
    "modern_bert_classifier": ("bert", modern_bert_classifier),
    "eurobert": ("llama3", eurobert),
    "jina_bert": ("bert", jina_bert),
    "modern_bert": ("bert", modern_bert),
    "distilbert": ("bert", distilbert),
    "roberta": ("bert", roberta),
    "nomic_bert_moe": ("nomic_bert", nomic_bert_moe),
    "xlm_roberta_classifier": ("xlm_roberta", xlm_roberta_classifier),
    "embedding_gemma": ("gemma3", embedding_gemma),
    "qwen3_embedding": ("qwen3", qwen3_embedding),
}
