"""What a publication that uses a run should cite: the papers behind what was computed, and this software.

Each is named where it is used: by a source of data, or by a part of a study. A report prints them, with BibTeX.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ntkhpc.version import __version__


@dataclass(frozen=True)
class Reference:
    """One entry of a bibliography.

    authors: "Given names Family name" each. `kind` is an entry type of BibTeX, `where` its field for what the work
    appeared in: ("journal", name), ("booktitle", name) or ("institution", name). `arxiv` is the number alone.
    """

    key: str
    title: str
    authors: tuple[str, ...]
    year: int
    kind: str = "article"
    where: tuple[str, str] = ("", "")
    volume: str = ""
    pages: str = ""
    arxiv: str = ""
    doi: str = ""
    version: str = ""

    @property
    def link(self) -> str:
        """Where the work can be read: arXiv, or else its publisher. Empty if neither is known."""
        if self.arxiv:
            return f"https://arxiv.org/abs/{self.arxiv}"
        return f"https://doi.org/{self.doi}" if self.doi else ""

    @property
    def link_name(self) -> str:
        """What stands for the link in a text."""
        if "/" in self.arxiv:  # of the old scheme, which names its archive itself
            return self.arxiv
        return f"arXiv:{self.arxiv}" if self.arxiv else f"doi:{self.doi}" if self.doi else ""

    def cited(self) -> str:
        """Authors, title, place and year, in words; without the link."""
        *others, last = (name.strip("{}") for name in self.authors)
        names = f"{', '.join(others)} and {last}" if others else last
        place = " ".join(one for one in (self.where[1], self.volume, self.pages) if one)
        place += f", version {self.version}" if self.version else ""
        return f"{names}, {self.title}{f', {place}' if place else ''}, {self.year}".replace(", , ", ", ")

    def bibtex(self) -> str:
        """The entry for BibTeX, its title protected from changes of case."""
        fields = {
            "author": " and ".join(self.authors),
            "title": f"{{{self.title}}}",
            self.where[0]: self.where[1],
            "volume": self.volume,
            "pages": self.pages.replace("-", "--"),
            "year": str(self.year),
            "version": self.version,
            "doi": self.doi,
            "eprint": self.arxiv,
            "archiveprefix": "arXiv" if self.arxiv else "",
        }
        lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if name and value]
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}"])


def unique(references: Iterable[Reference]) -> tuple[Reference, ...]:
    """Each of them once, in the order in which they come first."""
    return tuple(dict.fromkeys(references))


SOFTWARE = Reference(
    key="ntkhpc",
    title="ntkhpc",
    authors=("{The ntkhpc developers}",),
    year=2026,
    kind="software",
    version=__version__,
)

EHK = Reference(
    key="Elsharkawy2025",
    title="Uncertainty quantification from (ensemble variance) scaling laws in deep neural networks",
    authors=("Ibrahim Elsharkawy", "Benjamin Hooberman", "Yonatan Kahn"),
    year=2025,
    where=("journal", "Machine Learning: Science and Technology"),
    arxiv="2503.05938",
    doi="10.1088/2632-2153/adf7fe",
)

PAP = Reference(
    key="Pacelli2023",
    title="A statistical mechanics framework for Bayesian deep neural networks beyond the infinite-width limit",
    authors=("Rosalba Pacelli", "Sebastiano Ariosto", "Mauro Pastore", "Francesco Ginelli", "Marco Gherardi",
             "Pietro Rotondo"),
    year=2023,
    where=("journal", "Nature Machine Intelligence"),
    volume="5",
    pages="1497-1507",
    arxiv="2209.04882",
    doi="10.1038/s42256-023-00767-6",
)  # fmt: skip

LEE = Reference(
    key="Lee2019",
    title="Wide neural networks of any depth evolve as linear models under gradient descent",
    authors=("Jaehoon Lee", "Lechao Xiao", "Samuel S. Schoenholz", "Yasaman Bahri", "Roman Novak",
             "Jascha Sohl-Dickstein", "Jeffrey Pennington"),
    year=2019,
    kind="inproceedings",
    where=("booktitle", "Advances in Neural Information Processing Systems"),
    volume="32",
    arxiv="1902.06720",
)  # fmt: skip

NEURAL_TANGENTS = Reference(
    key="Novak2020",
    title="Neural Tangents: Fast and Easy Infinite Neural Networks in Python",
    authors=("Roman Novak", "Lechao Xiao", "Jiri Hron", "Jaehoon Lee", "Alexander A. Alemi", "Jascha Sohl-Dickstein",
             "Samuel S. Schoenholz"),
    year=2020,
    kind="inproceedings",
    where=("booktitle", "International Conference on Learning Representations"),
    arxiv="1912.02803",
)  # fmt: skip

LAZY_TRAINING = Reference(
    key="Chizat2019",
    title="On Lazy Training in Differentiable Programming",
    authors=("Lénaïc Chizat", "Edouard Oyallon", "Francis Bach"),
    year=2019,
    kind="inproceedings",
    where=("booktitle", "Advances in Neural Information Processing Systems"),
    volume="32",
    arxiv="1812.07956",
)

FEATURE_LEARNING = Reference(
    key="Yang2021",
    title="Tensor Programs IV: Feature Learning in Infinite-Width Neural Networks",
    authors=("Greg Yang", "Edward J. Hu"),
    year=2021,
    kind="inproceedings",
    where=("booktitle", "International Conference on Machine Learning"),
    arxiv="2011.14522",
)

LAYERWISE_RATES = Reference(
    key="Yang2022",
    title="Tensor Programs V: Tuning Large Neural Networks via Zero-Shot Hyperparameter Transfer",
    authors=("Greg Yang", "Edward J. Hu", "Igor Babuschkin", "Szymon Sidor", "Xiaodong Liu", "David Farhi",
             "Nick Ryder", "Jakub Pachocki", "Weizhu Chen", "Jianfeng Gao"),
    year=2022,
    kind="misc",
    arxiv="2203.03466",
)  # fmt: skip

FEATURE_STRENGTH = Reference(
    key="Atanasov2025",
    title="The Optimization Landscape of SGD Across the Feature Learning Strength",
    authors=("Alexander Atanasov", "Alexandru Meterez", "James B. Simon", "Cengiz Pehlevan"),
    year=2025,
    kind="inproceedings",
    where=("booktitle", "International Conference on Learning Representations"),
    arxiv="2410.04642",
)

GRINDHAMMER_PETERS = Reference(
    key="Grindhammer2000",
    title="The parameterized simulation of electromagnetic showers in homogeneous and sampling calorimeters",
    authors=("Guenter Grindhammer", "Stefan Peters"),
    year=2000,
    kind="misc",
    arxiv="hep-ex/0001020",
)

MNIST = Reference(
    key="LeCun1998",
    title="Gradient-based learning applied to document recognition",
    authors=("Yann LeCun", "Léon Bottou", "Yoshua Bengio", "Patrick Haffner"),
    year=1998,
    where=("journal", "Proceedings of the IEEE"),
    volume="86",
    pages="2278-2324",
    doi="10.1109/5.726791",
)

CIFAR10 = Reference(
    key="Krizhevsky2009",
    title="Learning multiple layers of features from tiny images",
    authors=("Alex Krizhevsky",),
    year=2009,
    kind="techreport",
    where=("institution", "University of Toronto"),
)

RANK_R_HAT = Reference(
    key="Vehtari2021",
    title="Rank-normalization, folding, and localization: an improved R-hat for assessing convergence of MCMC",
    authors=("Aki Vehtari", "Andrew Gelman", "Daniel Simpson", "Bob Carpenter", "Paul-Christian Bürkner"),
    year=2021,
    where=("journal", "Bayesian Analysis"),
    volume="16",
    pages="667-718",
    arxiv="1903.08008",
    doi="10.1214/20-BA1221",
)

ADAM = Reference(
    key="Kingma2015",
    title="Adam: a method for stochastic optimization",
    authors=("Diederik P. Kingma", "Jimmy Ba"),
    year=2015,
    kind="inproceedings",
    where=("booktitle", "International Conference on Learning Representations"),
    arxiv="1412.6980",
)

ADAMW = Reference(
    key="Loshchilov2019",
    title="Decoupled weight decay regularization",
    authors=("Ilya Loshchilov", "Frank Hutter"),
    year=2019,
    kind="inproceedings",
    where=("booktitle", "International Conference on Learning Representations"),
    arxiv="1711.05101",
)
