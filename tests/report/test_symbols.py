"""Symbols of print: names of quantities, powers and signs are set as such, and nothing else is touched."""

import html
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.report.symbols import NAMES, markup


def shown(words: str) -> str:
    """What a reader sees: without tags, subscripts as _, superscripts as ^."""
    tagged = markup(words).replace("<sub>", "_").replace("<sup>", "^")
    return html.unescape(re.sub("<[^>]*>", "", tagged)).replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        ("mu_L, sigma_L/mu_L and eps_pop.", "μ_L, σ_L/μ_L and ε_pop."),
        ("eps_L ~ N_D^-0.31 on N_T points", "ε_L ∼ N_D^−0.31 on N_T points"),
        ("value ~ N_D^exponent", "value ∼ N_D^exponent"),
        ("(f - y)^2/2 and sigma_L^2", "(f − y)^2/2 and σ_L^2"),
        ("y^T (T+K)^-1 K", "y^T (T+K)^−1 K"),
        ("-0.69 (+0.03 -0.02), -34.0 +- 1.0 %", "−0.69 (+0.03 −0.02), −34.0 ± 1.0 %"),
        ("N_D 32-256, 1,024-65,536", "N_D 32–256, 1,024–65,536"),
        ("p <= 1e-6, 2.5e+03 >= 1", "p ≤ 10^−6, 2.5 × 10^3 ≥ 1"),
        ("chi squared 3 and chi2/dof; R-hat 1.01; Qb > 1", "χ^2 3 and χ^2/dof; R̂ 1.01; Q̄ > 1"),
        ("exp(-SSE/(2 T) - lam_0 |W|^2/2 - lam_1 |v|^2/2)", "exp(−SSE/(2 T) − λ_0 |W|^2/2 − λ_1 |v|^2/2)"),
        ("2 N_D K/lambda_max, sqrt(C_W/fan-in), N1 = 25", "2 N_D K/λ_max, √(C_W/fan-in), N_1 = 25"),
        ("sigma_E/E with 28 x 28 cells", "σ_E/E with 28 × 28 cells"),
        ("`mu_L^2 - 3` in moments.csv", "mu_L^2 - 3 in moments.csv"),
    ],
)
def test_names_powers_and_signs_are_set_as_symbols(words: str, seen: str) -> None:
    assert shown(words) == seen


@pytest.mark.parametrize(
    "words",
    ["network.weight_variance", 'data.scaling = "feature"', "law_mu_L", "mu_L_stderr", "data.mu_L", "exponents.csv",
    "max-width",
     "2026-11-29", "2026-11-29T02:08:29+00:00", "mnist-light-98bf2df56a", "hep-ex/0001020", "10.1088/2632-2153/adf7fe",
     "sha256 0123456789e7", "well-known", "a - if one may say so -", "x-ray", "jax 0.10.2", "1/512", "12 %", "0.154"],
)  # fmt: skip
def test_code_dates_ids_and_words_are_untouched(words: str) -> None:
    assert shown(words).replace(" − ", " - ") == words


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.one_of(st.integers(min_value=0), st.floats(min_value=0, max_value=9e15, allow_nan=False)),
       st.sampled_from([",", ",.0f", ".1f", ",.3f"]))  # fmt: skip
def test_plain_numbers_are_untouched(number: float, form: str) -> None:
    text = f"{number:{form}}" if not (form == "," and "e" in f"{number:,}") else f"{number:.1f}"
    for words in (text, f"of {text} %", f"({text})"):
        assert markup(words) == words


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.text(alphabet="abcxyzMNLQ <>&'\"_^-+~=.,()/|0123456789e`"))
def test_what_stands_in_code_is_untouched_and_no_text_becomes_markup(words: str) -> None:
    """Whatever is written: tags are those of `markup`, balanced, and nothing of the text is lost."""
    made = markup(words)
    tags = re.findall(r"<(/?)(\w+)[^<>]*>", made)
    assert {name for _, name in tags} <= {"i", "sub", "sup", "code", "a"}
    for name in {name for _, name in tags}:
        assert tags.count(("", name)) == tags.count(("/", name))
    kept = re.sub("<[^>]*>", "", made)
    assert not re.search(r"&(?!amp;|lt;|gt;|#x27;|quot;)", kept)
    for code in re.findall("<code>(.*?)</code>", made):
        assert f"`{html.unescape(code)}`" in words
    others = "[^acyzM&|]"  # of no name, sign or times
    assert re.sub(others, "", html.unescape(kept)) == re.sub(others, "", words)


def test_every_name_of_a_quantity_becomes_a_symbol() -> None:
    for name, symbol in NAMES.items():
        assert markup(name) == markup(f" {name} ").strip() == symbol
        assert name not in symbol
