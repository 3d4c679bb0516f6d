"""Symbols of print, from the names that sentences have for them: "mu_L", "N_D^-0.31", "R-hat", "chi squared".

Sentences are plain text wherever they are made, so that a terminal and a test can read them; a page passes each of them
through `markup`. Words between backticks are code, and stay as they are.
"""

import html
import re

_GREEK = {"mu": "μ", "sigma": "σ", "eps": "ε", "lam": "λ", "lambda": "λ", "chi": "χ", "phi": "φ"}

_WITH_INDEX = ("mu_L", "sigma_L", "sigma_E", "sigma_pop", "eps_L", "eps_pop", "N_D", "N_T", "N_0", "N_1", "lam_0",
               "lam_1", "lambda_max", "C_W", "C_b", "N0", "N1", "E0")  # fmt: skip

_NAMES = {
    "Qb": "<i>Q̄</i>",
    "R-hat": "<i>R̂</i>",
    "chi squared": "<i>χ</i><sup>2</sup>",
    "chi2": "<i>χ</i><sup>2</sup>",
    "phi": "<i>φ</i>",
    "sqrt": "√",
}


def _indexed(name: str) -> str:
    base, index = name.split("_") if "_" in name else (name[:-1], name[-1])
    upright = len(index) > 1 or index.isdigit()  # a word or a number; a letter is a symbol too
    return f"<i>{_GREEK.get(base, base)}</i><sub>{index if upright else f'<i>{index}</i>'}</sub>"


NAMES = _NAMES | {name: _indexed(name) for name in _WITH_INDEX}
"""What stands on a page for each name: every name that a sentence may use for a quantity, and no other word."""

_NUMBER = r"\d[\d,]*(?:\.\d+)?"

_TOKEN = re.compile(
    "|".join(
        (
            r"(?P<code>`[^`]+`)",
            r"(?P<arxiv>\barXiv:\d{4}\.\d{4,5}\b)",
            rf"(?P<name>(?<![\w.])(?:{'|'.join(sorted(map(re.escape, NAMES), key=len, reverse=True))})(?!\w|\.\w))",
            r"\^(?P<power>[-+]?\d+(?:\.\d+)?|[A-Za-z]\w*)",
            r"(?P<mantissa>(?<![\w.])\d+(?:\.\d+)?)e(?P<exponent>[-+]\d{1,3})(?!\w|\.\d)",
            rf"(?P<low>(?<![\w./-]){_NUMBER})-(?P<high>{_NUMBER}(?![\w/-]|\.\d))",
            r"(?P<minus>(?<![\w)\].,%/+-])-(?=\.?\d)|(?<=[(\[])-(?=\w))",
            r"(?P<less>(?<=[\w)\]]) - (?=[\w(|]))",
            r"(?P<times>(?<=\d) x (?=\d))",
            r"(?P<about>(?<=\s)~(?=\s))",
            r"(?P<sign>\+-|<=|>=)",
        )
    )
)

_SIGNS = {"+-": "±", "<=": "≤", ">=": "≥"}


def markup(words: str) -> str:
    """The words as HTML, with symbols for names, superscripts for powers, true minus signs, dashes between ends."""
    parts, end = [], 0
    for token in _TOKEN.finditer(words):
        parts += [html.escape(words[end : token.start()]), _printed(token)]
        end = token.end()
    return "".join([*parts, html.escape(words[end:])])


def _printed(token: re.Match[str]) -> str:
    kind, text = str(token.lastgroup), token.group()
    match kind:
        case "code":
            return f"<code>{html.escape(text[1:-1])}</code>"
        case "arxiv":
            return f'<a href="https://arxiv.org/abs/{text.removeprefix("arXiv:")}">{text}</a>'
        case "name":
            return NAMES[text]
        case "power":
            return f"<sup>{_signed(token['power'])}</sup>"
        case "exponent":
            mantissa = "" if token["mantissa"] == "1" else f"{token['mantissa']} × "
            return f"{mantissa}10<sup>{_signed(str(int(token['exponent'])))}</sup>"
        case "high":
            return f"{token['low']}–{token['high']}"
        case "minus":
            return "−"
        case "less":
            return "\N{NO-BREAK SPACE}−\N{NO-BREAK SPACE}"
        case "times":
            return " × "
        case "about":
            return "∼"
        case _:
            return _SIGNS[text]


def _signed(number: str) -> str:
    return number.replace("-", "−").removeprefix("+")
