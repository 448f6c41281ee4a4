"""Writes pre-tokenizers.json: how the `tokenizers` package (0.23.3) cuts difficult texts by the pre-tokenizer of a model's own tokenizer.json.

    python pre-tokenizers.py llama-bpe=PATH qwen2=PATH deepseek-v3=PATH > pre-tokenizers.json

The paths are tokenizer.json of Llama 3, Qwen 3 and DeepSeek-V3. GPT-2's and SmolLM's pre-tokenizers are built in; `default` and
`deepseek-llm` are cut by the patterns of llama.cpp's llama-vocab.cpp.
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

# As code points: some of these letters don't survive normalisation.
CASED = """
41-5a 61-7a b5 c0-d6 d8-f6 f8-1ba 1bc-1bf 1c4-293 295-2af 370-373 376-377 37b-37d 37f 386 388-38a 38c 38e-3a1 3a3-3f5
3f7-481 48a-52f 531-556 10a0-10c5 13a0-13f5 13f8-13fd 1c90-1cba 1cbd-1cbf 1d00-1d2b 1d6b-1d77 1d79-1d9a 1e00-1f15
1f18-1f1d 1f20-1f45 1f48-1f4d 1f50-1f57 1f59 1f5b 1f5d 1f5f-1f7d 1f80-1fb4 1fb6-1fbc 1fbe 1fc2-1fc4 1fc6-1fcc
1fd0-1fd3 1fd6-1fdb 1fe0-1fec 1ff2-1ff4 1ff6-1ffc 2102 2107 210a-2113 2115 2119-211d 2124 2126 2128 212a-212d
212f-2134 2139 213c-213f 2145-2149 214e 2183-2184 2c00-2c7b 2c7e-2ce4 2ceb-2cee 2cf2-2cf3 a640-a66d a680-a69b
a722-a76f a771-a787 a78b-a78e ab70-abbf fb00-fb06 fb13-fb17 ff21-ff3a ff41-ff5a 10400-1044f 104b0-104d3 104d8-104fb
10c80-10cb2 10cc0-10cf2 118a0-118df 1e900-1e943
"""
CASED = "".join("-".join(chr(int(code, 16)) for code in range_.split("-")) for range_ in CASED.split())
DEEPSEEK_LLM = [
    "[\r\n]", rf"\s?[{CASED}]+", "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", r"\s+$",
    "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", r"\p{N}+",
]

ByteLevel = pre_tokenizers.ByteLevel


def splits(patterns):
    steps = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    return pre_tokenizers.Sequence([*steps, ByteLevel(add_prefix_space=False, use_regex=False)])


OTHERS = {
    "gpt-2": ByteLevel(add_prefix_space=False),
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]),
    "default": splits(DEFAULT),
    "deepseek-llm": splits(DEEPSEEK_LLM),
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
