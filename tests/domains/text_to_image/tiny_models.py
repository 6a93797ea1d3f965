"""The real architectures, small and with random weights, saved as a user would find them.

Weights are drawn far larger than a network is initialised with: at the usual scale every answer has the same
probability whatever the image or the question, and a test would not notice a mask or a position that is wrong.
"""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn

CHARACTERS = [chr(code) for code in range(33, 127)]
CHAT_TEMPLATE = (
    "{% for m in messages %}USER: {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>\n{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
}
LANGUAGE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}


def stirred(network: nn.Module, seed: int = 0, scale: float = 2.0) -> nn.Module:
    """Matrices drawn with standard deviation ``scale`` / √fan-in, embeddings with ``scale``; returns the network."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.ndim > 1:
                    fan_in = 1 if isinstance(module, nn.Embedding) else parameter[0].numel()
                    parameter.normal_(0, scale / fan_in**0.5, generator=generator)
                elif name == "bias":
                    parameter.normal_(0, 0.1, generator=generator)
    return network


def byte_tokenizer(*special: str):
    """A byte-level tokenizer with a few words, as decoder-only models have."""
    from transformers import PreTrainedTokenizerFast

    vocabulary = {symbol: number for number, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [("Y", "e"), ("Ye", "s"), ("N", "o"), ("y", "e"), ("ye", "s")]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        bos_token="<s>",
        unk_token="<unk>",
        additional_special_tokens=list(special),
    )


def t5_tokenizer():
    """T5's tokenizer class with a vocabulary of characters and four words."""
    from transformers import T5Tokenizer

    words = [("\u2581", -2.0), ("\u2581Yes", -1.0), ("\u2581yes", -1.0), ("\u2581a", -1.5), ("\u2581No", -1.0)]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    return T5Tokenizer(vocab=special + words + [(character, -4.0) for character in CHARACTERS])


def _ids(tokenizer) -> dict[str, int]:
    return {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}


def llava(folder: Path) -> None:
    """A decoder-only model with a chat template."""
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = byte_tokenizer("<image>")
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=LlamaConfig(**LANGUAGE, vocab_size=len(tokenizer), **_ids(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
    )
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    stirred(LlavaForConditionalGeneration(config)).save_pretrained(folder)
    processor.save_pretrained(folder)


def paligemma(folder: Path) -> None:
    """A decoder-only model whose prompt is read in both directions; without a chat template."""
    from transformers import (
        GemmaConfig,
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessorPil,
        SiglipVisionConfig,
    )

    tokenizer = byte_tokenizer("<image>")
    images = SiglipImageProcessorPil(size={"height": 28, "width": 28})
    images.image_seq_length = 4
    processor = PaliGemmaProcessor(images, tokenizer)
    config = PaliGemmaConfig(
        vision_config=SiglipVisionConfig(**VISION, vision_use_head=False),
        text_config=GemmaConfig(**LANGUAGE, vocab_size=len(tokenizer), **_ids(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=32,
    )
    stirred(PaliGemmaForConditionalGeneration(config)).save_pretrained(folder)
    processor.save_pretrained(folder)


def instructblip(folder: Path) -> None:
    """An encoder-decoder with a Q-Former; without a chat template."""
    from transformers import (
        BertTokenizer,
        BlipImageProcessorPil,
        InstructBlipConfig,
        InstructBlipForConditionalGeneration,
        InstructBlipProcessor,
        InstructBlipQFormerConfig,
        InstructBlipVisionConfig,
        T5Config,
    )

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *CHARACTERS, *(f"##{c}" for c in CHARACTERS)]
    reader = BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)})
    processor = InstructBlipProcessor(
        BlipImageProcessorPil(size={"height": 28, "width": 28}), t5_tokenizer(), reader, num_query_tokens=4
    )
    vocabulary = len(processor.tokenizer)
    config = InstructBlipConfig(
        vision_config=InstructBlipVisionConfig(**{**VISION, "hidden_size": 32}),
        qformer_config=InstructBlipQFormerConfig(
            vocab_size=len(reader),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
            encoder_hidden_size=32,
            cross_attention_frequency=1,
        ),
        text_config=T5Config(**T5, vocab_size=vocabulary, tie_word_embeddings=False),
        num_query_tokens=4,
        image_token_index=processor.tokenizer.convert_tokens_to_ids("<image>"),
    )
    stirred(InstructBlipForConditionalGeneration(config)).save_pretrained(folder)
    processor.save_pretrained(folder)


def clip_flant5(folder: Path) -> None:
    """CLIP-FlanT5 with the published image size: 336 pixels in patches of 14, hence 576 image tokens.

    Written by hand in the published layout, with the image encoder's weights elsewhere, as the authors' code finds it.
    """
    import json

    from safetensors.torch import save_file
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel, T5Config
    from transformers import T5ForConditionalGeneration as Language

    tokenizer = t5_tokenizer()
    vision = stirred(CLIPVisionModel(CLIPVisionConfig(**{**VISION, "image_size": 336})), seed=1)
    vision.save_pretrained(folder / "clip-vit-336")
    CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}).save_pretrained(
        folder / "clip-vit-336"
    )
    # Flan-T5 has more rows than its tokenizer has tokens, and a head apart from its embeddings
    config = T5Config(**T5, vocab_size=len(tokenizer) + 28, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    t5 = Language(config)
    t5.lm_head.weight = nn.Parameter(torch.empty_like(t5.shared.weight))
    weights = {name: tensor.clone() for name, tensor in stirred(t5, seed=2).state_dict().items()}
    weights["embed_tokens.weight"] = weights["shared.weight"].clone()
    generator = torch.Generator().manual_seed(3)
    for name, shape in {"0.weight": (32, 16), "0.bias": (32,), "2.weight": (32, 32), "2.bias": (32,)}.items():
        weights[f"mm_projector.{name}"] = torch.randn(shape, generator=generator) / 4
    save_file(weights, folder / "model.safetensors")
    published = {
        **{key: value for key, value in config.to_dict().items() if key != "scale_decoder_outputs"},
        "tie_word_embeddings": False,
        "model_type": "clip_t5",
        "architectures": ["CLIPT5ForConditionalGeneration"],
        "mm_vision_tower": str(folder / "clip-vit-336"),
        "mm_hidden_size": 16,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
    }
    (folder / "config.json").write_text(json.dumps(published, default=str))
    tokenizer.save_pretrained(folder)


def clip(folder: Path) -> None:
    """CLIP with its own tokenizer class, 77 tokens, 28 pixels."""
    import json

    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("")
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=77)
    text = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": len(words),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    network = CLIPModel(CLIPConfig(text_config=text, vision_config={**VISION}, projection_dim=24))
    stirred(network).save_pretrained(folder)
    images = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    CLIPProcessor(images, tokenizer).save_pretrained(folder)


def siglip(folder: Path) -> None:
    """SigLIP, whose text encoder sees padding."""
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel, SiglipProcessor

    tokenizer = t5_tokenizer()
    text = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 64,
        "pad_token_id": 1,
    }
    stirred(SiglipModel(SiglipConfig(text_config=text, vision_config=VISION))).save_pretrained(folder)
    images = SiglipImageProcessorPil(size={"height": 28, "width": 28})
    SiglipProcessor(images, tokenizer).save_pretrained(folder)
