"""What a page of a report must not have: sentences that introduce what is left out."""

import re

INTRODUCED = re.compile(r"<(ul|ol|table|figure|details|dl|div)\b")


def dangling(page: str) -> list[str]:
    """Paragraphs of HTML that end in a colon or a comma without a list, table or figure behind them, and headings with
    nothing below them."""
    found = []
    for paragraph in re.finditer(r"<p\b[^>]*>(.*?)</p>\s*", page, re.DOTALL):
        said = re.sub("<[^>]*>", "", paragraph[1]).strip()
        if said.endswith((":", ",")) and not INTRODUCED.match(page, paragraph.end()):
            found.append(said)
    return found + re.findall(r"<h2[^>]*>((?:(?!</h2>).)*)</h2>\s*(?=<h2|</body|$)", page, re.DOTALL)
