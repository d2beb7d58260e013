"""What is known of the classes that config.json names: which were compared with llama.cpp's converter, which are refused.

A class that converts and stands in neither list has the rules of one that was compared.
"""

COMPARED = frozenset({
    "AfmoeForCausalLM", "ApertusForCausalLM", "ArceeForCausalLM", "BailingMoeForCausalLM",
    "BailingMoeV2ForCausalLM", "BertModel", "BloomForCausalLM", "Cohere2ForCausalLM", "CohereForCausalLM",
    "DbrxForCausalLM", "DeciLMForCausalLM", "DeepseekForCausalLM", "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM",
    "DistilBertModel", "Dots1ForCausalLM", "DotsOCRForCausalLM", "DreamModel", "Ernie4_5_MoeForCausalLM",
    "Ernie4_5ForCausalLM", "EuroBertModel", "Exaone4_5_ForConditionalGeneration", "Exaone4ForCausalLM",
    "ExaoneForCausalLM", "ExaoneMoEForCausalLM", "FalconForCausalLM", "FalconH1ForCausalLM",
    "FalconMambaForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM", "Gemma3ForConditionalGeneration",
    "Gemma3nForCausalLM", "Gemma3TextModel", "Gemma4ForCausalLM", "Gemma4ForConditionalGeneration",
    "Gemma4UnifiedForConditionalGeneration", "GemmaForCausalLM", "Glm4ForCausalLM", "Glm4MoeForCausalLM",
    "Glm4MoeLiteForCausalLM", "Glm4vForConditionalGeneration", "Glm4vMoeForConditionalGeneration", "GlmForCausalLM",
    "GlmOcrForConditionalGeneration", "GPT2LMHeadModel", "GPTBigCodeForCausalLM", "GPTNeoXForCausalLM",
    "GptOssForCausalLM", "GraniteForCausalLM", "GraniteMoeForCausalLM", "GraniteMoeHybridForCausalLM",
    "HunYuanDenseV1ForCausalLM", "HunYuanVLForConditionalGeneration", "InternLM2ForCausalLM",
    "InternLM3ForCausalLM", "Jais2ForCausalLM", "JambaForCausalLM", "JanusForConditionalGeneration",
    "JinaBertForMaskedLM", "KimiLinearForCausalLM", "Lfm2BidirectionalModel", "Lfm2ForCausalLM",
    "Lfm2MoeForCausalLM", "Llama4ForCausalLM", "Llama4ForConditionalGeneration", "LlamaBidirectionalModel",
    "LlamaForCausalLM", "MaincoderForCausalLM", "Mamba2ForCausalLM", "MambaForCausalLM", "MellumForCausalLM",
    "MiniCPM3ForCausalLM", "MiniCPMForCausalLM", "MiniCPMV4_6ForConditionalGeneration", "MiniMaxM2ForCausalLM",
    "Ministral3ForCausalLM", "Mistral3ForConditionalGeneration", "MistralForCausalLM", "MistralTransformer",
    "MixtralForCausalLM", "ModernBertForSequenceClassification", "ModernBertModel", "MPTForCausalLM",
    "NanbeigeForCausalLM", "NemotronForCausalLM", "NemotronHForCausalLM", "NomicBertModel", "Olmo2ForCausalLM",
    "Olmo3ForCausalLM", "OlmoeForCausalLM", "OlmoForCausalLM", "OrionForCausalLM",
    "PaddleOCRVLForConditionalGeneration", "PanguEmbeddedForCausalLM", "Phi3ForCausalLM", "Phi4ForCausalLMV",
    "PhiForCausalLM", "PhiMoEForCausalLM", "Qwen2_5_VLForConditionalGeneration", "Qwen2_5OmniModel",
    "Qwen2ForCausalLM", "Qwen2MoeForCausalLM", "Qwen3_5ForCausalLM", "Qwen3_5MoeForCausalLM", "Qwen3ForCausalLM",
    "Qwen3MoeForCausalLM", "Qwen3NextForCausalLM", "Qwen3OmniMoeForConditionalGeneration",
    "Qwen3VLForConditionalGeneration", "Qwen3VLMoeForConditionalGeneration", "QWenLMHeadModel", "RobertaModel",
    "SeedOssForCausalLM", "SmallThinkerForCausalLM", "SmolLM3ForCausalLM", "StableLmForCausalLM",
    "Starcoder2ForCausalLM", "StepVLForConditionalGeneration", "T5EncoderModel", "T5ForConditionalGeneration",
    "VLlama3ForCausalLM", "XLMRobertaForSequenceClassification", "XLMRobertaModel", "YoutuForCausalLM",
})  # fmt: skip
"""Of these a checkpoint was converted by both, and every key and tensor is equal (or the difference is named in a test)."""

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

Multimodal classes around a language model that converts are in neither list: what their `text_config` names decides."""
