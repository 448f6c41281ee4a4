"""Writes pre-tokenizers.json: how the `tokenizers` package (0.23.3) cuts difficult texts by the pre-tokenizer of a model's own tokenizer.json.

    python pre-tokenizers.py llama-bpe=PATH qwen2=PATH deepseek-v3=PATH > pre-tokenizers.json

The paths are tokenizer.json of Llama 3, Qwen 3 and DeepSeek-V3. GPT-2's and SmolLM's pre-tokenizers are built in; `default` is cut by
the patterns of llama.cpp's llama-vocab.cpp.
"""

import json
import sys

from tokenizers import Regex, Tokenizer, pre_tokenizers

TEXTS = [
    "Hello, world! It's 2024.", "I'LL we'Re they've Don'T x'y 'tis", "1 12 123 1234 12345 1234567890", "3.14159, -2e10, 0x1F, ½ ² ٣٤ 五",
    "  leading", "trailing   ", "a  b   c", "tab\tand\t\ttabs", "line\nline\n\n\nline", "crlf\r\n\r\n  indented\r\n", " \n \n x", "\n", " ", "a \n",
    "def f(x):\n    return x**2  # done\n", "foo_bar.baz->qux::<T>() != [1,2,3];", "$100 + €20 = £90 <= 5^2~|`", "...!!!???\n\n", "(a)(b) \"q\" 'q'",
    "你好,世界。今天是2024年", "こんにちは カタカナ ひらがな", "안녕하세요 세계 123", "Привет, мир! Ёж", "naïve café Ångström", "e\u0301 A\u030a o\u0308x",
    "हिन्दी में लिखा", "ไทย ภาษา", "مرحبا بالعالم", "שלום 12", "👋🏽 👨‍👩‍👧 🇫🇷 x🙂y", "a\u00a0b\u2003c\u3000d", "zero\u200bwidth\u200djoiner",
    "https://example.com/a?b=c&d=1#e", "<|im_start|>user\n", "CamelCaseWords ALLCAPS mixedCASE", "'s 't're I'm you'd we'll", "𝔘𝔫𝔦 𐐀𐐨 𠀀",
]
DEFAULT = [
    r"[\p{P}\$\+<=>\^~\|]+", r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)", r"\p{N}+", "[0-9][0-9][0-9]",
]

ByteLevel = pre_tokenizers.ByteLevel
OTHERS = {
    "gpt-2": ByteLevel(add_prefix_space=False),
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]),
    "default": pre_tokenizers.Sequence(
        [*(pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in DEFAULT), ByteLevel(add_prefix_space=False, use_regex=False)]
    ),
}


def cut(pre_tokenizer, clean=str):
    return [[text, [piece for piece, _ in pre_tokenizer.pre_tokenize_str(clean(text))]] for text in TEXTS]


result = {}
for name, path in (argument.split("=", 1) for argument in sys.argv[1:]):
    tokenizer = Tokenizer.from_file(path)
    result[name] = cut(tokenizer.pre_tokenizer, tokenizer.normalizer.normalize_str if tokenizer.normalizer else str)
for name, pre_tokenizer in OTHERS.items():
    result[name] = cut(pre_tokenizer)
print(json.dumps(result, ensure_ascii=False))
