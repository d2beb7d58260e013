"""Classes of config.json that are refused, with the reason: those that no family has."""

_ENCODER = "a vision or audio encoder, which llama.cpp reads from a file of its own (mmproj) that is not made here"
_DRAFT = "a draft model, which lives off the vocabulary and embeddings of another"
_CODE = "its special tokens stand in Python code of the checkpoint, which is never run"
_FAILS = "llama.cpp's converter fails on it, or reads its vocabulary wrongly, so that there is nothing to compare with"
_OTHER_HEAD = "llama.cpp's head for classes has tanh where this class has ReLU: its scores would be others"
_NOT_YET = "not written here yet; --converter PATH has llama.cpp's own converter read it"

_BY_REASON = {
    _ENCODER: (
        "DeepseekOCR2ForCausalLM", "GlmasrModel", "InternVisionModel", "Lfm25AudioTokenizer",
        "NemotronH_Nano_VL_V2", "PaddleOCRVisionModel", "RADIOModel", "UltravoxModel",
    ),
    _DRAFT: (
        "DeepseekV4DSparkModel", "DFlash2DraftModel", "DFlashDraftModel", "DSparkDraftModel", "DSparkSpeculator",
        "Eagle3DraftModel", "Eagle3LlamaForCausalLM", "Eagle3Speculator", "Gemma4AssistantForCausalLM",
        "Gemma4DSparkModel", "Gemma4UnifiedAssistantForCausalLM", "Lfm2DSparkDraftModel", "LingDSparkModel",
        "LlamaForCausalLMEagle3", "MuseGlimmerAssistantModel", "Qwen3DSparkModel",
    ),
    _CODE: ("ChatGLMForConditionalGeneration", "ChatGLMModel", "HunYuanMoEV1ForCausalLM"),
    _FAILS: ("BaichuanForCausalLM", "BaiChuanForCausalLM", "CamembertModel"),
    _OTHER_HEAD: ("DistilBertForSequenceClassification",),
    _NOT_YET: (
        "ArcticForCausalLM", "BailingMoeV3ForCausalLM", "BailingMoeV3VLForConditionalGeneration",
        "BambaForCausalLM", "BitnetForCausalLM", "BitNetForCausalLM", "ChameleonForConditionalGeneration",
        "CodeShellForCausalLM", "CogVLMForCausalLM", "Cohere2MoeForCausalLM", "DeepseekOCRForCausalLM",
        "DeepseekV32ForCausalLM", "DeepseekV4ForCausalLM", "Dots3NoteForCausalLM",
        "Dots3NoteForConditionalGeneration", "Dots3NoteTextForCausalLM", "Glm5NextForConditionalGeneration",
        "GlmMoeDsaForCausalLM", "GPTRefactForCausalLM", "GraniteMoeSWAForCausalLM", "GraniteSWAForCausalLM",
        "GraniteSwitchForCausalLM", "Grok1ForCausalLM", "GrokForCausalLM", "GroveMoeForCausalLM",
        "HrmTextForCausalLM", "HYV3ForCausalLM", "HYV4ForCausalLM", "JAISLMHeadModel", "JinaEmbeddingsV5Model",
        "KimiK25ForConditionalGeneration", "KimiK3ForConditionalGeneration", "KORMoForCausalLM",
        "LagunaForCausalLM", "Lfm2Model", "LLaDAModelLM", "LLaDAMoEModel", "LLaDAMoEModelLM",
        "LlavaStableLMEpochForCausalLM", "MambaLMHeadModel", "MapleForCausalLM", "MiMoV2FlashForCausalLM",
        "MiMoV2ForCausalLM", "MiniMaxM3SparseForCausalLM", "MiniMaxM3SparseForConditionalGeneration",
        "MiniMaxText01ForCausalLM", "MuseGlimmerForConditionalGeneration", "NemotronHPuzzleForCausalLM", "NeoBERT",
        "NeoBERTForSequenceClassification", "NeoBERTLMHead", "OpenELMForCausalLM", "Plamo2ForCausalLM",
        "PLaMo2ForCausalLM", "Plamo3ForCausalLM", "PLaMo3ForCausalLM", "PlamoForCausalLM", "PLMForCausalLM",
        "PocketTTSModel", "Qwen3ASRForConditionalGeneration", "Qwen3TTSForConditionalGeneration",
        "Qwen4ExpForCausalLM", "Qwen4ExpForConditionalGeneration", "RND1", "RuGPT3XLForCausalLM",
        "Rwkv6ForCausalLM", "RWKV6Qwen2ForCausalLM", "Rwkv7ForCausalLM", "RWKV7ForCausalLM",
        "RwkvHybridForCausalLM", "Sarashina2VisionForCausalLM", "SarvamMoEForCausalLM", "SolarOpenForCausalLM",
        "Spark2_5ForCausalLM", "Step3p5ForCausalLM", "Step3p7ForConditionalGeneration", "TalkieForCausalLM",
        "UnlimitedOCRForCausalLM", "WavTokenizerDec", "XverseForCausalLM", "YoutuVLForConditionalGeneration",
    ),
}  # fmt: skip

REFUSED = {name: reason for reason, names in _BY_REASON.items() for name in names}
"""Classes that llama.cpp's converter knows (commit 0c1e570) and that do not convert here, with the reason.

Multimodal classes around a language model that converts are not in it: what their `text_config` names decides."""
